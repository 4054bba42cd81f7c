import java.io.FileOutputStream;
import java.nio.file.Path;
import org.elasticsearch.bootstrap.ServerArgs;
import org.elasticsearch.common.io.stream.OutputStreamStreamOutput;
import org.elasticsearch.common.settings.KeyStoreWrapper;
import org.elasticsearch.common.settings.Settings;

/** Writes what an Elasticsearch 8 or 9 server reads from standard input at its start: home folder, file to write. Its own launcher is not published. */
public class StartArguments {
    public static void main(String[] arguments) throws Exception {
        var home = Path.of(arguments[0]);
        var settings = Settings.builder().loadFromPath(home.resolve("config/elasticsearch.yml")).put("path.home", arguments[0]).build();
        var start = new ServerArgs(false, false, null, KeyStoreWrapper.create(), settings, home.resolve("config"), home.resolve("logs"));
        try (var file = new FileOutputStream(arguments[1])) {
            var out = new OutputStreamStreamOutput(file);
            start.writeTo(out);
            out.flush();
        }
    }
}
