"""What a mirror says of its lag is what another count finds.

A real OpenSearch takes and deletes snapshots through a gateway whose S3 mirror is throttled, cut off, killed, healed and reconciled. Again and
again both processes are halted right after the mirror's status was read, and the rig counts for itself: the rows of the journal and the
catalog from a copy of the state database, and the files that lie on the target. `CYCLES` sets how
often it goes through all of that (CI: 6, three quarters of a minute; 80 are ten minutes), `SEED` repeats a run.
"""

import datetime
import os
import random
import shutil
import sqlite3
import time

from rig import repository
from rig.check import cycles, expect, main, note, promise
from rig.gateway import BASE, Gateway, Store
from rig.history import History
from rig.link import Link
from rig.process import wait_until
from rig.s3 import Account
from rig.stores import BUCKET, KEY, SECRET, Versitygw

NOTHING = {"restore_points": 0, "seconds": 0, "operations": 0, "bytes": 0}
UNJOURNALLED = 1 << 62  # sequences of what is not journalled begin here


class Counted:
    """The journal and the catalog as a halted gateway had them, and what lay on the target at that moment."""

    def __init__(self, copy, target):
        database = sqlite3.connect(copy)
        self.journal = {sequence: (key.decode(), size, at_ms) for sequence, key, size, at_ms in
                        database.execute("SELECT sequence, key, size, at_ms FROM journal WHERE repository = 1 ORDER BY sequence")}
        self.visible = {key.decode(): (size, sequence) for key, size, sequence in database.execute("SELECT key, size, sequence FROM objects")}
        database.close()
        self.target = repository.files(target, BASE)
        self.newest = max(repository.generations(target / BASE), default=-1)

    def behind(self, applied, source):
        """(restore points, operations, bytes, time of the oldest) that were committed after `applied` up to `source`."""
        rows = [self.journal[sequence] for sequence in range(applied + 1, source + 1)]
        roots = [key for key, size, _ in rows if size is not None and _generation(key) is not None]
        return len(roots), len(rows), sum(size or 0 for _, size, _ in rows), rows[0][2] if rows else None

    def expect_applied(self, applied):
        """All that was committed up to `applied` and not changed since is on the target, and what was removed by then is not."""
        later = {key for sequence, (key, _, _) in self.journal.items() if sequence > applied}
        for key, (size, sequence) in self.visible.items():
            if sequence <= applied and key not in later:
                expect(f"size on the target of {key}, committed as {sequence} of {applied} applied", self.target.get(key.removeprefix(f"{BASE}/")), size)
        for name in self.target:
            key = f"{BASE}/{name}"
            if key not in self.visible and key not in later:
                raise AssertionError(f"{key} is on the target, though it was removed before {applied}")

    def newest_root_at(self, applied):
        """The generation of the newest root that was committed up to `applied`; -1: none."""
        roots = (_generation(key) for sequence, (key, size, _) in self.journal.items() if sequence <= applied and size is not None)
        return max((generation for generation in roots if generation is not None), default=-1)

    def roots_above_the_target(self, source):
        """Roots committed up to `source` that are newer than the newest on the target."""
        rows = (row for sequence, row in self.journal.items() if sequence <= source)
        return sum(size is not None and _generation(key) is not None and _generation(key) > self.newest for key, size, _ in rows)


def _generation(key):
    name = key.removeprefix(f"{BASE}/index-")
    return int(name) if name != key and name.isdigit() else None


class Rig:
    def __init__(self, bench, seed):
        self.dice, self._copy = random.Random(seed), bench.folder("copy") / "state.db"
        self.service = Versitygw(bench).start()
        self.link = Link(bench, self.service.port)
        self._state = bench.folder("state")
        far = Store.service(Account(self.link.port, KEY, SECRET, BUCKET))
        self.gateway = Gateway(bench, "mirrored", Store.directory(bench.folder("source")), state=self._state, mirrors={"far": (far, "")}).start()
        self.history = History(bench, self.gateway.account, seed)
        self.seen, self.exact = {}, 0
        wait_until(lambda: self.status()["state"] == "in_sync", 60, "the mirror has the first moments", pause=0.1)

    def status(self):
        return self.gateway.mirror("far")

    def look(self, still=False):
        """Compares one answer with a count of the same moment; `still`: the target cannot move."""
        asked, status, answered = time.time(), self.status(), time.time()
        self.gateway.halt()
        self.service.halt()
        try:
            for suffix in ("", "-wal"):
                shutil.copyfile(f"{self._state}/state.db{suffix}", f"{self._copy}{suffix}")
            counted = Counted(self._copy, self.service.data / BUCKET)
        finally:
            self.service.resume()
            self.gateway.resume()
        self.seen[status["state"]] = self.seen.get(status["state"], 0) + 1
        self.compare(status, counted, (asked, answered), still)
        return status

    def compare(self, status, counted, between, still):
        lag, applied, source = status["lag"], status["applied_seq"], status["source_seq"]
        if status["state"] == "in_sync":
            expect("lag of a mirror that says it is in sync", lag, NOTHING)
            expect("what it has applied", applied, source)
        else:
            if 0 in (lag["seconds"], lag["operations"]):
                raise AssertionError(f"0 in doubt: {status}")
        roots, operations, size, oldest = counted.behind(applied, source)
        if status["state"] in ("resync", "stalled"):
            told = (lag["restore_points"], lag["operations"], lag["bytes"])
            if any(said < truth for said, truth in zip(told, (roots, operations, size), strict=True)) or 0 in told:
                raise AssertionError(f"less than the truth while it is reconciled: {status}, counted {roots, operations, size}")
            return
        expect(f"operations behind: {status}", lag["operations"], operations)
        expect(f"bytes behind: {status}", lag["bytes"], size)
        expect(f"restore points behind: {status}", lag["restore_points"], roots)
        # Whole seconds, and 1 where it is less; the clock of the journal has milliseconds.
        least, most = (max(int(at - oldest / 1000 + slack), 1) for at, slack in zip(between, (-0.002, 0.002), strict=True)) if oldest else (0, 0)
        if not least <= lag["seconds"] <= most:
            raise AssertionError(f"{lag['seconds']} s behind, counted {least} to {most}")
        counted.expect_applied(applied)
        missing = counted.roots_above_the_target(source)
        if lag["restore_points"] < missing:
            raise AssertionError(f"the target lacks {missing} roots, the status says {lag['restore_points']}")
        if still and counted.newest == counted.newest_root_at(applied):  # no step is half done: a root that lies there is applied
            expect(f"restore points that a still target lacks: {status}", lag["restore_points"], missing)
            self.exact += 1

    def newest_of_the_cluster(self):
        """The snapshot that ended last, as OpenSearch says it."""
        listed = self.history.node.call("GET", "/_snapshot/through/_all")["snapshots"]
        newest = max((one for one in listed if one["state"] != "FAILED"), key=lambda one: one["end_time_in_millis"])
        ended = datetime.datetime.fromtimestamp(newest["end_time_in_millis"] / 1000, datetime.UTC)
        return {"name": newest["snapshot"], "ended_at": f"{ended:%Y-%m-%dT%H:%M:%SZ}"}

    def throttled(self):
        self.link.throttle(self.dice.choice((60_000, 250_000, 1_000_000)))
        for _ in range(4):
            self.look()
            time.sleep(self.dice.uniform(0.1, 0.6))
        self.link.throttle(None)

    def cut(self):
        self.link.cut()
        for _ in range(5):
            time.sleep(self.dice.uniform(0.1, 0.5))
            self.look(still=True)
        self.link.heal()

    def killed(self):
        self.service.kill()
        time.sleep(self.dice.uniform(0.1, 0.8))
        self.service.start()
        self.look()

    def reconciled(self):
        self.link.throttle(250_000)
        self.gateway.ask("mirror", "resync", "rig", "far")
        for _ in range(4):
            self.look()
            time.sleep(0.1)
        self.link.throttle(None)

    def healed(self):
        """Nobody waits: it comes to rest between two snapshots, or lags by what is under way."""
        for _ in range(4):
            self.look()
            time.sleep(self.dice.uniform(0.05, 0.3))


@promise
def lag_figures_are_those_of_an_independent_count_and_never_0_in_doubt(bench):
    seed, rounds = int(os.environ.get("SEED", time.time_ns() % 1_000_000)), cycles(6)
    note(f"seed {seed}")
    rig, begin = Rig(bench, seed), time.monotonic()
    rig.history.start()
    for _ in range(rounds):
        for phase in (rig.throttled, rig.healed, rig.cut, rig.healed, rig.killed, rig.reconciled, rig.healed):
            phase()
        if rig.history.error:
            raise rig.history.error
    looks, seconds = sum(rig.seen.values()), time.monotonic() - begin
    expect("states that were met", {"lagging", "resync"} <= rig.seen.keys(), True)
    rig.history.end()
    wait_until(lambda: rig.status()["state"] == "in_sync", 60, "the mirror has everything", pause=0.2)
    rig.look(still=True)
    expect("the newest root on the target", repository.check(rig.service.data / BUCKET / BASE), rig.status()["newest_restore_point"]["generation"])
    expect("the newest snapshot on the target", rig.status()["newest_restore_point"]["newest_snapshot"], rig.newest_of_the_cluster())
    note(f"{looks} answers compared in {seconds:.0f} s: {rig.seen}; {rig.exact} on a target that could not move; "
         f"{rig.history.acknowledged} snapshots, {rig.history.deleted} deletes, {rig.history.failed} failed calls")
    rig.gateway.stop()


main()
