"""Elasticsearch 5 to 9 as single nodes. Their S3 plugins are not published as packages, so they keep repositories of `type: fs`: in a directory
that a gateway then adopts, serves and guards.

Versions 8 and 9 read their start-up arguments from standard input and end when it closes: a pipe stays open for the life of the node.
"""

import json
import os

from rig.node import Node, java
from rig.process import free_port, run

SECURITY_OFF = ("ml", "security", "monitoring", "watcher")  # 6.x carries them in its distribution; 5.x does not
OPENED = ("lucene.codecs.lucene99", "lucene.codecs.hnsw", "lucene.internal.vectorization")


class Elasticsearch(Node):
    def __init__(self, bench, version, name="n1"):
        super().__init__(bench, "elasticsearch", version, name)
        self.major = int(version.split(".")[0])
        self.TYPED = self.major < 7  # documents have a type

    def start(self, directories):
        """`directories`: where its repositories may lie."""
        transport = "transport.port" if self.major >= 6 else "transport.tcp.port"
        lines = [f"cluster.name: rig-{self.name}-{self.version}", f"node.name: {self.name}", "discovery.type: single-node", "network.host: 127.0.0.1",
                 f"http.port: {self.port}", f"{transport}: {free_port()}", f"path.data: {self.home}/data", f"path.logs: {self.home}/logs",
                 f"path.repo: {json.dumps([str(folder) for folder in directories])}", "cluster.routing.allocation.disk.threshold_enabled: false"]
        if self.major == 6:
            lines += [f"xpack.{name}.enabled: false" for name in SECURITY_OFF]
        (self.home / "config/elasticsearch.yml").write_text("\n".join(lines) + "\n")
        (self.home / "data").mkdir(exist_ok=True)
        return self._run(self._modular() if self.major >= 8 else self._classic(), "/_cluster/health?wait_for_status=yellow&timeout=5s")

    def _options(self):
        return ["-Xms512m", "-Xmx512m", "-Xss1m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Djava.awt.headless=true", "-Dfile.encoding=UTF-8",
                "-Djna.nosys=true", f"-Djava.io.tmpdir={self.home}/tmp", f"-Des.path.home={self.home}", "-Dio.netty.noUnsafe=true",
                "-Dio.netty.noKeySetOptimization=true", "-Dio.netty.recycler.maxCapacityPerThread=0", "-Dlog4j.shutdownHookEnabled=false",
                "-Dlog4j2.disable.jmx=true", "-Dlog4j2.formatMsgNoLookups=true"]

    def _classic(self):
        return [java(17, 23), *self._options(), "-Djava.security.manager=allow", "--add-opens=java.base/java.io=ALL-UNNAMED",
                "-Dio.netty.allocator.numDirectArenas=0", f"-Des.path.conf={self.home}/config", "-Des.distribution.flavor=default",
                "-Des.distribution.type=tar", "-Des.bundled_jdk=false", "-cp", f"{self.home}/lib/*", "org.elasticsearch.bootstrap.Elasticsearch"]

    def _modular(self):
        program, arguments = java(21, 99), self.home / "tmp/arguments"
        run(program, "-cp", f"{self.home}/lib/launch:{self.home}/lib/*", "StartArguments", self.home, arguments)
        native = ["org.elasticsearch.nativeaccess", "org.apache.lucene.core", *(["org.elasticsearch.foreign"] if self.major >= 9 else [])]
        bridge = next((self.home / "lib/entitlement-bridge").glob("*.jar"))
        self._stdin = self._pipe(arguments.read_bytes())
        return [program, *self._options(), "-Djava.locale.providers=CLDR", "-Des.distribution.type=tar", "-Des.java.type=other",
                "--add-modules=jdk.incubator.vector", "--illegal-native-access=deny", f"--enable-native-access=ALL-UNNAMED,{','.join(native)}",
                *(f"--add-opens=org.apache.lucene.core/org.apache.{name}=org.elasticsearch.server" for name in OPENED),
                "-XX:+EnableDynamicAgentLoading", "-Djdk.attach.allowAttachSelf=true", f"--patch-module=java.base={bridge}",
                "--add-exports=java.base/org.elasticsearch.entitlement.bridge=org.elasticsearch.entitlement,java.logging,java.net.http,"
                "java.naming,jdk.net,jdk.zipfs,jdk.management.agent",
                "--module-path", self.home / "lib", "--add-modules=jdk.net,jdk.management.agent,ALL-MODULE-PATH",
                "-m", "org.elasticsearch.server/org.elasticsearch.bootstrap.Elasticsearch"]

    def _pipe(self, arguments):
        """The reading end of a pipe that holds the start-up arguments; its writing end closes with the bench."""
        reading, writing = os.pipe()
        os.write(writing, arguments)  # a few hundred bytes: they fit into the pipe
        self._bench.on_end(lambda: os.close(writing))
        return reading
