package org.elasticsearch.io.ansi;

import java.util.function.Supplier;

/** Elasticsearch 8 and 9 look for one console jar in lib/tools/ansi-console; the original is not published. There is no console to colour here. */
public class AnsiConsoleLoader implements Supplier<Object> {
    @Override
    public Object get() {
        return null;
    }
}
