"""README's first command: snapgate without any configuration serves, is found by its own commands, comes back as it was, and takes a real cluster's snapshots."""

import json
import os
import re
import stat
import subprocess
import tomllib

from rig.check import expect, main, promise
from rig.gateway import program
from rig.life import Life
from rig.node import OpenSearch
from rig.process import Process, accepts, wait_until
from rig.s3 import Account

BUCKET = "snapshots"
ADDRESS = re.compile(r"127\.0\.0\.1:(\d+)")


class Embedded:
    """snapgate started in an empty folder, as a newcomer does; only its ports are free ones instead of 9000 and 9001."""

    def __init__(self, bench):
        self._bench, self.home = bench, bench.folder("newcomer")
        self.data = self.home / "snapgate-data"
        self._env = {name: value for name, value in os.environ.items() if not name.startswith("SNAPGATE_")}
        self._starts = 0

    def start(self):
        self._starts += 1
        log = self._bench.dir / f"snapgate-{self._starts}.log"
        self._process = self._bench.process(Process("snapgate", [program(), "--s3-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"],
                                                    log, self._env, self.home))
        wait_until(lambda: len(self._listening(log)) >= 2, 60, "snapgate listens on two addresses it printed", self._process)
        self.text, ports = log.read_text(), self._listening(log)
        healthy = {port for port in ports if self._status(port) == "200"}
        expect("addresses that answer as the admin API", len(healthy), 1)
        port, = set(ports) - healthy
        self._env["SNAPGATE_ADMIN"] = f"http://127.0.0.1:{healthy.pop()}"  # not the default port; the token is found all the same
        with open(self.data / "credentials.toml", "rb") as file:
            self.keys = tomllib.load(file)
        self.account = Account(port, self.keys["cluster-a"]["id"], self.keys["cluster-a"]["secret"], BUCKET)
        return self

    def _listening(self, log):
        printed = {int(port) for port in ADDRESS.findall(log.read_text(errors="replace")) if port != "0"}
        return [port for port in printed if accepts(port)]

    def _status(self, port):
        return subprocess.run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"http://127.0.0.1:{port}/healthz"],
                              capture_output=True, text=True).stdout

    def command(self, *arguments):
        return subprocess.run([program(), *arguments], cwd=self.home, env=self._env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)

    def stop(self):
        expect("exit code on TERM", self._process.stop(), 0)


@promise
def the_embedded_default_serves_and_comes_back_as_it_was(bench):
    snapgate = Embedded(bench).start()
    keys = snapgate.keys
    expect("clusters with keys", sorted(keys), ["cluster-a", "cluster-b"])
    for secret in ("credentials.toml", "admin-token"):
        expect(f"mode of {secret}", oct(stat.S_IMODE((snapgate.data / secret).stat().st_mode)), "0o600")
    for word in ("_snapshot", "elasticsearch", "opensearch"):
        expect(f"the text to paste names {word}", word in snapgate.text.lower(), True)
    expect("the secrets are not printed to a log", keys["cluster-b"]["secret"] in snapgate.text, False)
    s3 = snapgate.account.boto()
    s3.put_object(Bucket=BUCKET, Key="a-folder/an-object", Body=b"kept over a restart")
    status = snapgate.command("status", "--json")
    expect(f"exit code of status: {status.stderr}", status.returncode, 0)
    expect("status names the repository", "default" in json.dumps(json.loads(status.stdout)), True)
    snapgate.stop()
    snapgate.start()
    expect("the same keys", snapgate.keys, keys)
    expect("the same object", snapgate.account.boto().get_object(Bucket=BUCKET, Key="a-folder/an-object")["Body"].read(), b"kept over a restart")
    snapgate.stop()
    expect("a command without a server", snapgate.command("status").returncode, 3)


@promise
def the_embedded_default_refuses_to_listen_to_the_network(bench):
    snapgate = Embedded(bench)
    refused = snapgate.command("--s3-listen", "0.0.0.0:0", "--admin-listen", "127.0.0.1:0")
    expect("it starts", refused.returncode == 0, False)
    expect("it says why", "loopback" in (refused.stdout + refused.stderr).lower(), True)


@promise
def an_opensearch_snapshots_into_the_embedded_default(bench):
    snapgate = Embedded(bench).start()
    node = OpenSearch(bench, "3.8.0").start({"default": snapgate.account})
    life = Life(node, "snapgate", "first")
    life.register("s3", {"bucket": BUCKET})
    life.create_indices()
    life.add(100)
    life.snapshot("first")
    life.restore_all()
    node.stop()
    snapgate.stop()


main()
