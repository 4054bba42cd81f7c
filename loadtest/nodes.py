"""What several gateways cost: small PUTs on one gateway with SQLite against one and two nodes on one PostgreSQL, and hand-overs without traffic
and under load (both clusters write 1 MiB under names whose content changes, 4 connections each, as fast as one Python process does).

    PYTHONPATH=.ci SNAPGATE_BIN=… ~/.cache/snapgate/python/bin/python loadtest/nodes.py LOADTEST [STORE]

LOADTEST is the program of that name; below STORE (default: /dev/shm) lie the store and the state databases. Each node gets a loadtest of its own with
an equal share of 8 connections, all at once: no proxy is between. Rounds are interleaved, medians printed. CPU time is that of the gateways,
and of the whole PostgreSQL server.
"""

import concurrent.futures
import http.client
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from rig import check
from rig.gateway import BASE, BUCKET, REPOSITORY, Gateway, Store
from rig.postgres import Postgres
from rig.s3 import Client, Refused

ROUNDS, SECONDS, CONNECTIONS = 3, 5, 8
HAND_OVERS, LOADED = 40, 20
BODY = bytes(1 << 20)
TICK = os.sysconf("SC_CLK_TCK")


def cpu(pids):
    """Seconds of CPU that processes used so far."""
    total = 0
    for pid in pids:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICK


def family(pid):
    """A process and its children, whose time a parent is told only when they end."""
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(one for child in children for one in family(int(child)))]


class Site:
    def __init__(self, bench, name, nodes, postgres=None):
        store = Store.directory(bench.folder(f"store-{name}"))
        self.name, self.postgres = name, postgres
        self.nodes = [Gateway(bench, f"{name}-{n}", store, clusters=("prod", "other"), database=postgres.url if postgres else None).start() for n in range(nodes)]

    def load(self, loadtest):
        """(PUTs per second over all nodes, milliseconds of gateway CPU for each, of PostgreSQL's for each)."""
        share = CONNECTIONS // len(self.nodes)

        def one(at):
            node = self.nodes[at]
            command = [loadtest, "run", "--endpoint", f"http://127.0.0.1:{node.port}", "--bucket", BUCKET, "--access", node.account.key, "--secret", node.account.secret,
                       "--prefix", f"{BASE}", "--workload", "put-4k", "--connections", str(share), "--seconds", str(SECONDS), "--json"]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            return json.loads(done.stdout)

        gateways = [node.pid for node in self.nodes]
        before, served = cpu(gateways), cpu(family(self.postgres.pid)) if self.postgres else 0
        with concurrent.futures.ThreadPoolExecutor(len(self.nodes)) as pool:
            told = list(pool.map(one, range(len(self.nodes))))
        rate = sum(rates(one) for one in told)
        used, served = cpu(gateways) - before, (cpu(family(self.postgres.pid)) - served) if self.postgres else 0
        count = rate * SECONDS
        return rate, 1000 * used / count, 1000 * served / count

    def hand_overs_under_load(self):
        """(milliseconds of each, writes that were acknowledged): both clusters go on writing, who holds the lock and who does not."""
        end, written = threading.Event(), []

        def write(account, number):
            client = Client(account)
            while not end.is_set():
                try:
                    client.put(f"{BASE}/unknown-{number}", BODY)
                    written.append(number)
                except Refused as refused:
                    assert refused.status in (403, 503), refused
                    time.sleep(0.01)

        accounts = [account for node in self.nodes for account in node.accounts.values()]
        with concurrent.futures.ThreadPoolExecutor(CONNECTIONS) as pool:
            writers = [pool.submit(write, accounts[number % len(accounts)], number) for number in range(CONNECTIONS)]
            try:
                time.sleep(1)
                took = self.hand_overs(LOADED, pause=0.25)
            finally:
                end.set()
            for writer in writers:
                writer.result()
        return took, len(written)

    def hand_overs(self, count=HAND_OVERS, pause=0.0):
        """Milliseconds of each, asked of the nodes in turn on a connection that is open."""
        took = []
        for turn in range(count):
            time.sleep(pause)
            node = self.nodes[turn % len(self.nodes)]
            connection = http.client.HTTPConnection("127.0.0.1", node.admin, timeout=60)
            connection.connect()
            body = json.dumps({"writer": ("other", "prod")[turn % 2]})
            begin = time.monotonic()
            connection.request("POST", f"/v1/repositories/{REPOSITORY}/lock", body, {"Authorization": f"Bearer {node.token}", "Content-Type": "application/json"})
            answer = connection.getresponse()
            said = answer.read()
            took.append(1000 * (time.monotonic() - begin))
            assert answer.status == 200, said
            connection.close()
        return took


def rates(told):
    """Operations per second, as loadtest tells them."""
    return sum(row["operations_per_second"] for row in told.values())


def main():
    loadtest, store = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "/dev/shm"
    tempfile.tempdir = store
    bench = check.Bench("nodes")
    try:
        lone = Site(bench, "sqlite", 1)
        pairs = {"sqlite": lone}
        for nodes in (1, 2):
            pairs[f"postgres-{nodes}"] = Site(bench, f"postgres-{nodes}", nodes, Postgres(bench, f"postgres-{nodes}").start())
        print(f"{'':12} {'hand-over ms: median':>22} {'longest':>8}")
        for name, site in pairs.items():
            took = site.hand_overs()
            print(f"{name:12} {statistics.median(took):22.1f} {max(took):8.1f}")
        print(f"{'under load':12} {'median':>22} {'longest':>8} {'writes':>8}")
        for name, site in pairs.items():
            took, written = site.hand_overs_under_load()
            print(f"{name:12} {statistics.median(took):22.1f} {max(took):8.1f} {written:8}")
        for site in pairs.values():
            site.nodes[0].command("lock", REPOSITORY, "--writer", "prod")
        measured = {name: [] for name in pairs}
        for _ in range(ROUNDS):
            for name, site in pairs.items():
                measured[name].append(site.load(loadtest))
        base = statistics.median(rate for rate, _, _ in measured["sqlite"])
        print(f"{'':12} {'PUT 4 KiB a second':>22} {'of SQLite':>10} {'gateway ms':>11} {'PostgreSQL ms':>14}")
        for name, rounds in measured.items():
            rate, used, served = (statistics.median(one[at] for one in rounds) for at in range(3))
            print(f"{name:12} {rate:22.0f} {rate / base:10.2f} {used:11.3f} {served:14.3f}")
    finally:
        bench.end()


if __name__ == "__main__":
    main()
