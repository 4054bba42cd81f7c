"""A mirror that is cut off, wherever and however, restores.

A real OpenSearch takes and deletes snapshots without a pause through one gateway that mirrors to a directory and to an S3 service. The
gateway is killed, the link is slow and breaks in the middle of objects, the service is killed: after each cut what lies on the target,
and nothing else, is read by `rig.repository`, which shares no line with the gateway; one cut in fifty is restored by an OpenSearch of its
own straight from the target. `CYCLES` sets the number of cuts (CI: 200), `SEED` repeats a run.
"""

import os
import random
import time

from rig import repository
from rig.check import cycles, main, note, promise
from rig.gateway import BASE, Gateway, Store
from rig.history import History, Restorer
from rig.link import Link, sizes
from rig.mirrored import expect_same
from rig.node import give_to_nobody
from rig.process import wait_until
from rig.s3 import Account
from rig.stores import BUCKET, KEY, SECRET, Versitygw

RESTORED = 50  # one cut in so many is restored by a real cluster
SLOW = (None, None, 4_000_000, 700_000)  # bytes per second of the link, changed now and then


class Target:
    """What lies on one target, and what was seen there before."""

    def __init__(self, name, store):
        self.name, self.store, self.folder = name, store, store / BASE
        self.newest, self.roots, self.cuts, self.behind = -1, set(), 0, 0

    def look(self, source):
        """After a cut: it restores, and its newest root never went back."""
        self.cuts += 1
        try:
            newest = repository.check(self.folder)
        except repository.Broken as broken:
            raise AssertionError(f"{self.name}, cut {self.cuts}: {broken}") from None
        newest = -1 if newest is None else newest
        if newest < self.newest:
            raise AssertionError(f"{self.name}, cut {self.cuts}: its newest root was {self.newest} and is {newest}")
        self.newest = newest
        self.roots.add(newest)
        self.behind += newest < max(repository.generations(source / BASE), default=-1)


class Rig:
    def __init__(self, bench, seed):
        self.dice, self.source = random.Random(seed), bench.folder("source")
        self.service = Versitygw(bench).start()
        self.link = Link(bench, self.service.port)
        self.directory = bench.folder("mirror")
        self.far, self.near = Target("s3", self.service.data / BUCKET), Target("directory", self.directory)
        mirrors = {"near": (Store.directory(self.directory), ""), "far": (Store.service(Account(self.link.port, KEY, SECRET, BUCKET)), "")}
        self.gateway = Gateway(bench, "mirrored", Store.directory(self.source), mirrors=mirrors).start()
        self.history = History(bench, self.gateway.account, seed)
        self.restorer = Restorer(bench, self.history.sums, {"default": self.service.account}, [self.directory], self.history.life)
        self.history.start()

    def cut(self, number):
        self.link.throttle(self.dice.choice(SLOW))
        time.sleep(self.dice.uniform(0.05, 0.6))
        restore = number % RESTORED == RESTORED - 1
        self.dice.choices((self.kill_the_gateway, self.cut_the_link, self.kill_the_service), (45, 30, 25))[0](restore)
        if self.history.error:
            raise self.history.error

    def kill_the_gateway(self, restore):
        self.gateway.kill()
        self.service.halt()  # what it had read in full must not happen while we look
        self.near.look(self.source)
        self.far.look(self.source)
        self.service.resume()
        if restore:
            self.restore(self.near)
            self.restore(self.far)
        self.gateway.start()

    def cut_the_link(self, restore):
        self.link.cut_after(sizes(self.dice), patience=1.0)
        self.service.halt()
        self.far.look(self.source)
        self.service.resume()
        if restore:
            self.restore(self.far)
        self.link.heal()

    def kill_the_service(self, restore):
        self.service.kill()
        self.far.look(self.source)
        self.link.cut()
        self.service.start()
        if restore:
            self.restore(self.far)
        self.link.heal()

    def restore(self, target, most=1):
        if target.newest < 0:
            return
        if target is self.near:
            give_to_nobody(self.directory)
            self.restorer.from_directory(self.directory, most)
        else:
            self.restorer.from_service("default", self.service.account, most)

    def expect_equal(self, target):
        """At rest: the names that the gateway shows, with the same bytes as at the source."""
        wait_until(lambda: self.gateway.mirror(target)["state"] == "in_sync", 120, f"mirror {target} has everything", pause=0.2)
        folder = {"near": self.near, "far": self.far}[target].folder
        expect_same(target, self.gateway.account, self.source / BASE, folder)


@promise
def cut_off_at_any_moment_each_mirror_restores(bench):
    seed, count = int(os.environ.get("SEED", time.time_ns() % 1_000_000)), cycles(200)
    note(f"seed {seed}")
    rig = Rig(bench, seed)
    for number in range(count):
        rig.cut(number)
    rig.link.throttle(None)
    rig.history.end()
    for target in ("near", "far"):
        rig.expect_equal(target)
    restored = rig.restorer.restored
    for target in (rig.near, rig.far):
        target.look(rig.source)
        rig.restore(target, most=None)
    history, link = rig.history, rig.link
    note(f"{count} cuts, {rig.near.cuts} looks at the directory ({rig.near.behind} while it was behind), {rig.far.cuts} at S3 ({rig.far.behind} behind), "
         f"{link.cuts_in_mid_body} links cut after a set number of bytes; {restored} snapshots restored at a cut, {rig.restorer.restored - restored} at the end")
    note(f"{history.acknowledged} snapshots and {history.deleted} deletes acknowledged, {history.failed} calls of the cluster failed, "
         f"{len(rig.near.roots)} and {len(rig.far.roots)} roots seen as the newest")
    if min(len(rig.near.roots), len(rig.far.roots)) * 20 < count or not rig.far.behind:
        raise AssertionError("the mirrors hardly moved: the cuts were of nothing")
    rig.gateway.stop()


main()
