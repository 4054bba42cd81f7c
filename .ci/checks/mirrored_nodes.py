"""Two gateways on one PostgreSQL database mirror to a directory (barrier) and to an S3 service: one of them applies, and whichever dies or stands still, each target restores.

A real OpenSearch takes and deletes snapshots without a pause through the first gateway. The one that applies is killed in the midst of
copying, or stopped until the other has taken over and then woken up again. After each cut what lies on the targets, and nothing else, is read by
`rig.repository`, which shares no line with the gateway; every snapshot that was acknowledged must be on the barrier's target at that moment.
`CYCLES` sets the number of kills (CI: 5), `SEED` repeats a run.
"""

import os
import random
import time

from rig import repository
from rig.check import cycles, expect, main, note, promise
from rig.gateway import BASE, REPOSITORY, Gateway, Store
from rig.history import History
from rig.mirrored import expect_same
from rig.postgres import Postgres
from rig.process import wait_until
from rig.s3 import Client
from rig.stores import BUCKET, Versitygw

TARGETS = ("near", "far")
PAUSES = 2
TAKEN_OVER = 40  # seconds until another node applies at the latest: a node that says nothing for 10 s has lost its duty


class Witnessed(History):
    """Each acknowledged snapshot is on the barrier's target when the cluster hears that it succeeded."""

    def __init__(self, *arguments, near, **named):
        super().__init__(*arguments, **named)
        self._near, self.witnessed = near, 0

    def _take(self):
        before = self.acknowledged
        super()._take()
        if self.acknowledged > before:
            _, root = repository.newest_root(self._near)
            expect(f"{self.kept[-1]} is on the barrier's target", self.kept[-1] in {one["name"] for one in root["snapshots"]}, True)
            self.witnessed += 1


class Rig:
    def __init__(self, bench, seed):
        self.dice, self.source, self.near = random.Random(seed), bench.folder("source"), bench.folder("near")
        self.postgres, self.service = Postgres(bench).start(), Versitygw(bench).start()
        mirrors = {"near": (Store.directory(self.near), 'mode = "barrier"'), "far": (Store.service(self.service.account), "")}
        self.nodes = [Gateway(bench, f"node-{n}", Store.directory(self.source), database=self.postgres.url, mirrors=mirrors).start() for n in range(2)]
        self.folders = {"near": self.near / BASE, "far": self.service.data / BUCKET / BASE}
        self.newest, self.looks, self.taken = dict.fromkeys(TARGETS, -1), 0, 0
        self.history = Witnessed(bench, self.nodes[0].account, seed, raw=20_000, documents=60, near=self.folders["near"])
        self.history.start()
        wait_until(lambda: self.history.acknowledged or self.history.error, 60, "the cluster has a snapshot", pause=0.1)

    def applying(self, target):
        """The node that applies to a target, by what the admin API of a node that lives says; None: nobody does yet."""
        for node in self.nodes:
            told = node.mirror(target).get("applier") or ""
            for other in self.nodes:
                if told == f"127.0.0.1:{other.port} pid {other.pid}":
                    return other
        return None

    def until_applied(self, target, wanted=None):
        """The node that applies, once it is the wanted one, or any."""
        found = []

        def looked():
            found.append(self.applying(target))
            return found[-1] is not None and wanted in (None, found[-1])

        wait_until(looked, TAKEN_OVER, f"a node applies to {target}", pause=0.1)
        return found[-1]

    def other(self, node):
        return self.nodes[1 - self.nodes.index(node)]

    def look(self):
        """At an instant: everybody who writes stands still. Each target restores, and its newest root never went back."""
        for target, folder in self.folders.items():
            self.looks += 1
            try:
                newest = repository.check(folder)
            except repository.Broken as broken:
                raise AssertionError(f"{target}, look {self.looks}: {broken}") from None
            newest = -1 if newest is None else newest
            if newest < self.newest[target]:
                raise AssertionError(f"{target}, look {self.looks}: its newest root was {self.newest[target]} and is {newest}")
            self.newest[target] = newest

    def look_while_all_stand(self, *nodes):
        for process in (*nodes, self.service):
            process.halt()
        try:
            self.look()
        finally:
            for process in (*nodes, self.service):
                process.resume()

    def in_mid_copy(self, target):
        wait_until(lambda: self.nodes[1].mirror(target).get("lag", {}).get("operations"), 60, f"something is copied to {target}", pause=0.005)
        time.sleep(self.dice.uniform(0, 0.2))

    def kill(self):
        target = self.dice.choice(TARGETS)
        victim = self.until_applied(target)
        self.in_mid_copy(target)
        victim.kill()
        self.look_while_all_stand(self.other(victim))
        victim.start()
        self.taken += 1
        if self.history.error:
            raise self.history.error

    def pause(self):
        """The second node, which serves no cluster, stands still until the first has taken over and done something."""
        serving, paused = self.nodes
        for target in TARGETS:
            while self.until_applied(target) is serving:
                serving.kill()
                serving.start()
        self.in_mid_copy("near")
        paused.halt()
        for target in TARGETS:
            self.until_served(target, serving)
        before = serving.mirror("near")["applied_seq"]
        wait_until(lambda: serving.mirror("near")["applied_seq"] > before, 60, "the node that took over gets on", pause=0.1)
        self.look_while_all_stand(serving)
        paused.resume()
        for _ in range(5):  # it wakes up in the midst of what it did
            time.sleep(0.2)
            self.look_while_all_stand(serving, paused)
        self.taken += 1

    def until_served(self, target, node):
        name = f"127.0.0.1:{node.port} pid {node.pid}"
        wait_until(lambda: node.mirror(target).get("applier") == name, TAKEN_OVER, f"{node.name} applies to {target}", pause=0.1)

    def in_sync(self):
        """At rest every node says the same, and source and targets have the same names and bytes."""
        for target, folder in self.folders.items():
            for node in self.nodes:
                wait_until(lambda: node.mirror(target)["state"] == "in_sync", 120, f"mirror {target} has everything", pause=0.2)
            told = [{key: value for key, value in node.mirror(target).items() if key != "seconds_to_catch_up"} for node in self.nodes]
            expect(f"what the nodes say of {target}", told[0], told[1])
            expect_same(target, self.nodes[1].account, self.source / BASE, folder)


@promise
def whichever_node_dies_or_stands_still_each_mirror_restores(bench):
    seed, kills = int(os.environ.get("SEED", time.time_ns() % 1_000_000)), cycles(5)
    note(f"seed {seed}")
    rig = Rig(bench, seed)
    for number in range(kills):
        rig.kill()
        if number in (0, kills // 2) and PAUSES:
            rig.pause()
    rig.history.end()
    rig.in_sync()
    history = rig.history
    note(f"{rig.taken} take-overs, {rig.looks} looks; {history.acknowledged} snapshots and {history.deleted} deletes acknowledged, "
         f"{history.witnessed} of them looked for on the barrier's target, {history.failed} calls of the cluster failed")
    if history.witnessed < 3:
        raise AssertionError("the cluster hardly got on: the cuts were of nothing")
    orders_through_any_node(rig)
    promoted_through_any_node(rig)


def orders_through_any_node(rig):
    applying = rig.until_applied("far")
    asked = rig.other(applying)
    for order, state in (("pause", "paused"), ("resume", "in_sync"), ("resync", "in_sync")):
        code, said = asked.command("mirror", order, REPOSITORY, "far")
        expect(f"mirror {order} through the other node ({said})", code, 0)
        for node in rig.nodes:
            wait_until(lambda: node.mirror("far")["state"] == state, 60, f"mirror far is {state}", pause=0.1)
    for command in (("mirror", "verify", REPOSITORY, "far", "--deep"), ("drill", REPOSITORY, "--store", "far")):
        for node in rig.nodes:
            code, said = node.command(*command)
            expect(f"{' '.join(command)} ({said})", code, 0)


def promoted_through_any_node(rig):
    asked = rig.other(rig.until_applied("near"))
    code, said = asked.command("promote", REPOSITORY, "--store", "near", "--writer", "rig")
    expect(f"promote through the node that does not apply ({said})", code, 0)
    names = [f"{BASE}/indices/0123456789abcdefghijkl/0/__after{n}AAAAAAAAAAAAAAAA" for n in range(len(rig.nodes))]
    for node, name in zip(rig.nodes, names, strict=True):
        refused = []

        def written():
            try:
                Client(node.account).call("PUT", name, body=b"after")
            except Exception as error:  # a node that has not followed yet says 503
                refused.append(error)
                return False
            return True

        wait_until(written, 30, f"{node.name} writes where the repository is", pause=0.2)
        expect("on the new store", (rig.near / name).read_bytes(), b"after")
    for node, name in zip(rig.nodes, names, strict=True):  # both have followed
        expect("through the other node", Client(rig.other(node).account).call("GET", name)[1], b"after")


main()
