"""A single OpenSearch or Elasticsearch node, run from a copy of what `.ci/parts` assembled.

The servers refuse root, so each runs as `nobody` with only its data, logs, configuration and temporary folder writable.
"""

import json
import os
import pathlib
import pwd
import re
import shutil
import subprocess
import urllib.error
import urllib.request

from rig.check import CACHE, CI
from rig.process import Process, free_port, run, wait_until

NOBODY = pwd.getpwnam("nobody").pw_uid


def java(lowest, highest):
    """The bin/java of a JDK in this range."""
    for home in sorted(pathlib.Path("/usr/lib/jvm").iterdir()):
        program = home / "bin/java"
        if program.exists():
            said = subprocess.run([program, "-version"], capture_output=True, text=True, check=True).stderr
            if lowest <= int(re.search(r'version "(\d+)', said)[1]) <= highest:
                return program
    raise AssertionError(f"no JDK {lowest}..{highest} under /usr/lib/jvm")


def give_to_nobody(folder):
    run("chown", "-R", f"{NOBODY}:{NOBODY}", folder)


class Node:
    """What all kinds share: JSON calls, the start, the end."""

    KEYWORDS = True  # 2.x has strings that are not analysed instead

    def __init__(self, bench, kind, version, name="n1"):
        self.version, self.name, self.port = version, name, free_port()
        self.assembled = CACHE / "clusters" / f"{kind}-{version}"
        self.home = bench.dir / f"{kind}-{version}-{name}"
        self._bench, self._process, self._stdin = bench, None, subprocess.DEVNULL
        shutil.copytree(self.assembled, self.home, copy_function=_link)
        for name in ("bin", "config", "data", "logs", "tmp", "fs"):  # some servers want to make an absent bin, and may not
            (self.home / name).mkdir(exist_ok=True)

    def _run(self, command, ready):
        for name in ("config", "data", "logs", "tmp", "fs"):
            give_to_nobody(self.home / name)
        env = {"PATH": os.environ["PATH"], "HOME": str(self.home / "tmp"), "LIBFFI_TMPDIR": str(self.home / "tmp"), "LANG": "C.UTF-8"}
        self._process = self._bench.process(Process(self.home.name, command, self._bench.dir / f"{self.home.name}.log", env, self.home, NOBODY, self._stdin))
        wait_until(lambda: self._answers(ready), 180, f"{self.home.name} answers", self._process, pause=0.25)
        return self

    def _answers(self, path):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return answer.status == 200
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def stop(self):
        self._process.stop()

    def kill(self):
        self._process.kill()

    def call(self, method, path, body=None, allow=()):
        """A JSON call; a status that is neither 2xx nor in `allow` is an error with what the server said."""
        lines = isinstance(body, str)
        data = None if body is None else (body if lines else json.dumps(body)).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, method=method,
                                         headers={"Content-Type": "application/x-ndjson" if lines else "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=300) as answer:
                return json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            said = error.read()
            if error.code in allow:
                return json.loads(said or b"{}")
            raise AssertionError(f"{method} {path} on {self.home.name}: {error.code} {said[:2000].decode(errors='replace')}") from None


class OpenSearch(Node):
    TYPED = False  # documents have no type

    def __init__(self, bench, version, name="n1"):
        super().__init__(bench, "opensearch", version, name)

    def start(self, clients, directories=(), settings=()):
        """`clients`: name -> Account, each usable as the `client` of an s3 repository; `directories`: where `fs` repositories may lie;
        `settings`: more lines of opensearch.yml."""
        lines = [f"cluster.name: rig-{self.name}-{self.version}", f"node.name: {self.name}", "discovery.type: single-node", "network.host: 127.0.0.1",
                 f"http.port: {self.port}", f"transport.port: {free_port()}", f"path.data: {self.home}/data", f"path.logs: {self.home}/logs",
                 f"path.repo: {json.dumps([f'{self.home}/fs', *map(str, directories)])}", "cluster.routing.allocation.disk.threshold_enabled: false",
                 "indices.recovery.max_bytes_per_sec: 500mb", *settings]
        secrets = []
        for name, account in clients.items():
            lines += [f"s3.client.{name}.endpoint: {account.endpoint}", f"s3.client.{name}.path_style_access: true", f"s3.client.{name}.region: us-east-1"]
            secrets += [f"s3.client.{name}.access_key", account.key, f"s3.client.{name}.secret_key", account.secret]
        (self.home / "config/opensearch.yml").write_text("\n".join(lines) + "\n")
        program = java(21, 99)
        run(program, "-cp", f"{self.home}/lib/*", CI / "clients/Keystore.java", self.home / "config", *secrets)
        agent = next(path for path in (self.home / "agent").glob("opensearch-agent-*.jar") if "bootstrap" not in path.name)
        return self._run(
            [program, "-Xms512m", "-Xmx512m", "-Xss1m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dfile.encoding=UTF-8", "-Djava.awt.headless=true",
             f"-Djava.io.tmpdir={self.home}/tmp", "-Djna.nosys=true", f"-Djna.tmpdir={self.home}/tmp", "-Dio.netty.noUnsafe=true",
             "-Dio.netty.noKeySetOptimization=true", "-Dio.netty.recycler.maxCapacityPerThread=0", "-Dio.netty.allocator.numDirectArenas=0",
             "-Dlog4j.shutdownHookEnabled=false", "-Dlog4j2.disable.jmx=true", "-Dlog4j2.formatMsgNoLookups=true",
             f"-javaagent:{agent}", "--add-modules=jdk.incubator.vector", "--enable-native-access=ALL-UNNAMED", "-XX:+IgnoreUnrecognizedVMOptions",
             "--sun-misc-unsafe-memory-access=allow", f"-Dopensearch.path.home={self.home}", f"-Dopensearch.path.conf={self.home}/config",
             "-Dopensearch.distribution.type=tar", "-Dopensearch.bundled_jdk=false", "-cp", f"{self.home}/lib/*", "org.opensearch.bootstrap.OpenSearch"],
            "/_cluster/health?wait_for_status=yellow&timeout=5s")


class Elasticsearch2(Node):
    """2.4.6 with cloud-aws: AWS SDK v1, which signs SigV2 for endpoints it does not know unless told otherwise."""

    TYPED, KEYWORDS = True, False

    def __init__(self, bench):
        super().__init__(bench, "elasticsearch", "2.4.6")

    def start(self, account, directories=()):
        lines = ["cluster.name: rig-2.4.6", "node.name: n1", "network.host: 127.0.0.1", f"http.port: {self.port}", f"transport.tcp.port: {free_port()}",
                 "discovery.zen.ping.multicast.enabled: false", f"path.data: {self.home}/data", f"path.logs: {self.home}/logs",
                 f"path.repo: {json.dumps([f'{self.home}/fs', *map(str, directories)])}", "cluster.routing.allocation.disk.threshold_enabled: false",
                 f"cloud.aws.access_key: {account.key}", f"cloud.aws.secret_key: {account.secret}", f"cloud.aws.s3.endpoint: 127.0.0.1:{account.port}",
                 "cloud.aws.s3.protocol: http", "cloud.aws.s3.region: us-east-1", "cloud.aws.s3.signer: AWSS3V4SignerType"]
        (self.home / "config/elasticsearch.yml").write_text("\n".join(lines) + "\n")
        opened = [f"--add-opens=java.base/{name}=ALL-UNNAMED" for name in
                  ("java.lang", "java.util", "java.nio", "sun.nio.ch", "java.lang.reflect", "java.lang.invoke", "java.net", "java.io")]
        return self._run(
            [java(17, 23), "-Xms512m", "-Xmx512m", "-Xss1m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Djava.awt.headless=true", "-Dfile.encoding=UTF-8",
             "-Djna.nosys=true", f"-Djava.io.tmpdir={self.home}/tmp", f"-Des.path.home={self.home}", *opened, "-Djava.security.manager=allow",
             "-cp", f"{self.home}/lib/elasticsearch-2.4.6.jar:{self.home}/lib/*", "org.elasticsearch.bootstrap.Elasticsearch", "start"],
            "/_cluster/health?wait_for_status=yellow&timeout=5s")


def _link(source, target):
    """A hard link where the file system allows it: the jars of a node are never written."""
    source, target = pathlib.Path(source), pathlib.Path(target)
    if source.suffix == ".jar":
        try:
            os.link(source, target)
            return
        except OSError:
            pass
    shutil.copy2(source, target)
