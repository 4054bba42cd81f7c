import java.nio.file.Path;
import org.opensearch.common.settings.KeyStoreWrapper;

/** Writes a node's keystore: config folder, then name and value pairs. The command-line tool for it is not published. */
public class Keystore {
    public static void main(String[] arguments) throws Exception {
        var set = KeyStoreWrapper.class.getDeclaredMethod("setString", String.class, char[].class);
        set.setAccessible(true);
        try (var store = KeyStoreWrapper.create()) {
            for (int i = 1; i + 1 < arguments.length; i += 2) set.invoke(store, arguments[i], arguments[i + 1].toCharArray());
            store.save(Path.of(arguments[0]), new char[0]);
        }
    }
}
