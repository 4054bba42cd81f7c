"""Two clusters with keys of their own want one repository, both keep snapshotting into it, and the lock moves between them every 20 s.

Exactly the holder succeeds; the other reads, restores, and shows its user the sentence that says who holds the lock. Nothing acknowledged is
lost. The same two clusters straight on an S3 service lose a snapshot: the check bites. `CYCLES` sets the number of hand-overs (CI: 4).
"""

import re
import threading
import time

from rig import stores
from rig.check import cycles, expect, main, note, promise
from rig.gateway import BASE, REPOSITORY, Gateway, Store
from rig.life import Life
from rig.link import Link
from rig.node import OpenSearch
from rig.s3 import Account

HELD = 20  # seconds between two hand-overs
PAUSE = 0.3  # seconds between two attempts of a cluster


class Contender(threading.Thread):
    """A cluster that adds documents and snapshots them again and again, and keeps what it was told about each attempt."""

    def __init__(self, node, name, settings):
        super().__init__(daemon=True)
        self.node, self.name, self._settings = node, name, settings
        self.life = Life(node, "shared", name, seed=ord(name[0]))
        self.acknowledged, self.refusals, self.broken, self.stop = {}, [], None, threading.Event()
        self.attempt = threading.Lock()  # held while a snapshot is under way, so that a registration can wait for it

    def register(self, verify=True, readonly=False):
        self.node.call("DELETE", "/_snapshot/shared", allow=(404,))  # a cluster keeps the generation it knows until it forgets the repository
        self.node.call("PUT", f"/_snapshot/shared?verify={str(verify).lower()}",
                       {"type": "s3", "settings": {**self._settings, "readonly": readonly}})

    def run(self):
        number = 0
        try:
            while not self.stop.is_set():
                number += 1
                with self.attempt:
                    self.snapshot(f"{self.name}-{number}")
                time.sleep(PAUSE)
        except Exception as error:
            self.broken = error

    def listed(self):
        """The snapshots that the cluster sees; from now on it knows the repository's generation."""
        return {one["snapshot"] for one in self.node.call("GET", "/_snapshot/shared/_all")["snapshots"] if one["state"] == "SUCCESS"}

    def snapshot(self, name):
        self.life.add(3)
        answer = self.node.call("PUT", f"/_snapshot/shared/{name}?wait_for_completion=true",
                                {"indices": ",".join(self.life.indices), "include_global_state": False}, allow=(400, 403, 404, 409, 500, 503))
        if answer.get("snapshot", {}).get("state") == "SUCCESS":
            self.acknowledged[name] = {index: self.life.checksum(index) for index in self.life.indices}
        else:
            self.refusals.append(str(answer))

    def end(self):
        self.stop.set()
        self.join(120)
        if self.broken or self.is_alive():
            raise AssertionError(f"cluster {self.name}: {self.broken or 'does not come to an end'}")


def contenders(bench, accounts):
    """Two clusters, each with documents of its own, both using the same place."""
    made = []
    for name, account in accounts.items():
        node = OpenSearch(bench, "3.8.0", name).start({"default": account})
        contender = Contender(node, name, {"bucket": account.bucket, "base_path": BASE})
        contender.life.create_indices()
        contender.life.add(20)
        made.append(contender)
    return made


@promise
def the_lock_moves_between_two_clusters_and_nothing_acknowledged_is_lost(bench):
    gateway = Gateway(bench, "lock", Store.directory(bench.folder("directory-store")), clusters=("alpha", "beta")).start()
    first, second = both = contenders(bench, gateway.accounts)
    lock(gateway, first.name)
    first.register()
    second.register(verify=False)
    for contender in both:
        contender.start()
    holder, other = first, second
    for _ in range(cycles(4)):
        time.sleep(HELD)
        with holder.attempt:  # its running snapshot ends first
            holder.register(verify=False, readonly=True)
            lock(gateway, other.name)
        with other.attempt:
            other.register()
        read_as_the_other(holder, other)
        with holder.attempt:
            holder.register(verify=False)  # and it goes on trying
        holder, other = other, holder
    time.sleep(HELD)
    for contender in both:
        contender.end()
    judge(both, holder)
    for contender in both:
        contender.node.stop()
    gateway.stop()


def lock(gateway, writer):
    code, said = gateway.command("lock", REPOSITORY, "--writer", writer, "--reason", "the rig's turn")
    expect(f"lock for {writer}: {said}", code, 0)


def read_as_the_other(reader, writer):
    """The cluster without the lock restores what the other just wrote."""
    known = sorted(writer.acknowledged)
    if not known:
        return
    reader.life.node.call("POST", f"/_snapshot/shared/{known[-1]}/_restore?wait_for_completion=true",
                          {"indices": ",".join(writer.life.indices), "include_global_state": False,
                           "rename_pattern": "(.+)", "rename_replacement": "seen-$1"})
    for index, sums in writer.acknowledged[known[-1]].items():
        expect(f"{known[-1]} as {reader.name} reads it", reader.life.checksum(f"seen-{index}"), sums)
        reader.node.call("DELETE", f"/seen-{index}")


def judge(both, holder):
    """Every acknowledged snapshot of both is listed and restores; every refusal told its user why."""
    acknowledged = {name for contender in both for name in contender.acknowledged}
    holder.register()
    expect("acknowledged snapshots that are gone", sorted(acknowledged - holder.listed()), [])
    for contender in both:
        silent = [said for said in contender.refusals if "locked by writer" not in said and "readonly" not in said]
        expect(f"refusals of {contender.name} without the sentence", silent[:3], [])
        expect(f"{contender.name} succeeded while it held the lock", bool(contender.acknowledged), True)
        expect(f"{contender.name} was refused while it did not", bool(contender.refusals), True)
        contender.life.snapshots = contender.acknowledged
        for name, sums in contender.acknowledged.items():
            holder.node.call("POST", f"/_snapshot/shared/{name}/_restore?wait_for_completion=true",
                             {"indices": ",".join(contender.life.indices), "include_global_state": False,
                              "rename_pattern": "(.+)", "rename_replacement": "back-$1"})
            for index, wanted in sums.items():
                expect(f"{name} restored", holder.life.checksum(f"back-{index}"), wanted)
                holder.node.call("DELETE", f"/back-{index}")
    note(f"{len(acknowledged)} snapshots acknowledged, {sum(len(c.refusals) for c in both)} attempts refused")


@promise
def without_snapgate_two_clusters_corrupt_one_repository(bench):
    """Each writes its root when the other does: both are told SUCCESS, and one root has taken the place of the other."""
    meeting = threading.Barrier(2, timeout=60)

    def root_meets_root(piece):
        if re.match(rb"PUT \S+/index-\d+ ", piece):
            meeting.wait()

    service = stores.versitygw(bench)
    link = Link(bench, service.port, root_meets_root)
    account = Account(link.port, service.key, service.secret, service.bucket)
    both = contenders(bench, {"alpha": account, "beta": account})
    for contender in both:
        contender.register(verify=False)
    attempts = [threading.Thread(target=contender.snapshot, args=(contender.name,)) for contender in both]
    for attempt in attempts:
        attempt.start()
    for attempt in attempts:
        attempt.join()
    for contender in both:
        expect(f"{contender.name} was told that it has a snapshot: {contender.refusals}", list(contender.acknowledged), [contender.name])
    both[0].register(verify=False)
    lost = {contender.name for contender in both} - both[0].listed()
    note(f"{sorted(lost)} acknowledged and gone")
    expect("snapshots that were acknowledged and are gone", len(lost), 1)
    for contender in both:
        contender.node.stop()


main()
