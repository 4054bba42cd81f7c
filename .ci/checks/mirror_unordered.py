"""The same load, copied in no order: how often such a copy restores, and the mirror beside it.

A real OpenSearch takes and deletes snapshots without a pause through a gateway that mirrors to a directory. Beside it `rclone sync`, over and
over, copies the same source to another directory. Both get the same bandwidth. At random instants both are halted, and what lies on each
is read by `rig.repository`; at some a real OpenSearch tries to restore the newest snapshot of both. `CYCLES` sets the number of instants
(CI: 8), `LINK` the bandwidth of both in rclone's words (CI: 2M; off: no limit), `SEED` repeats a run.
"""

import os
import random
import shutil
import threading
import time

from rig import repository
from rig.check import CACHE, cycles, expect, main, note, promise
from rig.gateway import BASE, Gateway, Store
from rig.history import History, Restorer
from rig.node import give_to_nobody
from rig.process import Process

ASKED = 4  # one instant in so many is asked of a real cluster


class Copier(threading.Thread):
    """`rclone sync` from one directory to another, again as soon as it is done."""

    def __init__(self, bench, source, target, limit):
        super().__init__(daemon=True)
        self._bench, self._over, self._lock, self._process, self.rounds = bench, threading.Event(), threading.Lock(), None, 0
        self._command = [CACHE / "bin/rclone", "--config", "/dev/null", "sync", source, target, "--exclude", "/.snapgate/**", "--retries", "1",
                         "--transfers", "16", *(("--bwlimit", limit) if limit else ())]

    def run(self):
        while not self._over.is_set():
            with self._lock:
                self._process = self._bench.process(Process("rclone", self._command, self._bench.dir / "rclone.log"))
            while not self._process.ended():
                time.sleep(0.01)
            self.rounds += 1

    def halted(self, action):
        """What `action` answers while it stands still."""
        with self._lock:
            self._process.halt()
            try:
                return action()
            finally:
                self._process.resume()

    def end(self):
        self._over.set()
        with self._lock:
            self._process.kill()
        self.join(30)


class Instants:
    def __init__(self, bench, restorer):
        self._bench, self._restorer = bench, restorer
        self.looked, self.whole, self.asked, self.restored = 0, 0, 0, 0

    def look(self, folder, ask):
        """Counts whether what lies there is whole, and if `ask`, whether a cluster restores its newest snapshot."""
        if ask:
            copy = self._bench.dir / "asked" / f"{time.monotonic_ns()}"
            shutil.copytree(folder, copy, ignore=shutil.ignore_patterns(".snapgate"))
        self.looked += 1
        wrong = repository.verdict(folder / BASE)
        self.whole += wrong is None
        return wrong, copy if ask else None

    def ask(self, copy):
        give_to_nobody(copy)
        self.asked += 1
        try:
            self._restorer.from_directory(copy, 1)
            self.restored += 1
        except AssertionError:
            pass
        shutil.rmtree(copy)

    def __str__(self):
        return f"{self.whole} of {self.looked} whole, {self.restored} of {self.asked} restored by OpenSearch"


def side_by_side(bench, bandwidth, limit):
    seed, count = int(os.environ.get("SEED", time.time_ns() % 1_000_000)), cycles(8)
    dice = random.Random(seed)
    source, mirror, synced = (bench.folder(name) for name in ("source", "mirror", "synced"))
    gateway = Gateway(bench, "mirrored", Store.directory(source), mirrors={"near": (Store.directory(mirror), bandwidth)}).start()
    history = History(bench, gateway.account, seed, raw=40_000, documents=30)
    restorer = Restorer(bench, history.sums, {"default": gateway.account}, [bench.folder("asked")], history.life)
    history.start()
    copier = Copier(bench, source, synced, limit)
    copier.start()
    ordered, unordered = Instants(bench, restorer), Instants(bench, restorer)
    time.sleep(10)  # both have copied something: an empty target is no fair instant
    for number in range(count):
        time.sleep(dice.uniform(0.5, 2.5))
        ask = number % ASKED == 0
        gateway.halt()
        wrong, copy = ordered.look(mirror, ask)
        gateway.resume()
        expect("what is wrong on the mirror", wrong, None)
        _, other = copier.halted(lambda: unordered.look(synced, ask))
        if ask:
            ordered.ask(copy)
            unordered.ask(other)
        if history.error:
            raise history.error
    history.end()
    copier.end()
    rounds, taken = copier.rounds, history.acknowledged
    note(f"seed {seed}, link {limit or 'unlimited'}: {count} instants, {taken} snapshots and {history.deleted} deletes, {rounds} rounds of rclone sync")
    note(f"the mirror: {ordered}; rclone sync: {unordered}")
    expect("instants at which OpenSearch restored from the mirror", ordered.restored, ordered.asked)
    gateway.stop()
    return unordered


@promise
def the_mirror_restores_always_and_an_unordered_copy_of_the_same_load_does_not(bench):
    slow = os.environ.get("LINK", "2M")
    limit = None if slow == "off" else slow
    unordered = side_by_side(bench, f'bandwidth = "{limit}B/s"' if limit else "", limit)
    if limit and unordered.whole == unordered.looked:
        raise AssertionError("the unordered copy restored at each instant as well: this check sees nothing")


main()
