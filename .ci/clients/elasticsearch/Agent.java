import java.lang.instrument.Instrumentation;

/** Elasticsearch 8 and 9 look for one agent jar in lib/entitlement-agent; the original is not published. It hands the instrumentation to the class it is told. */
public class Agent {
    public static void agentmain(String initializer, Instrumentation instrumentation) throws Exception {
        Class.forName(initializer).getMethod("initialize", Instrumentation.class).invoke(null, instrumentation);
    }
}
