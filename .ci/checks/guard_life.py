"""A long life of a real cluster: nothing it does is refused, and what the guard calls needed is exactly what the cluster needs.

Fifty snapshots with deletes, clones, cleanups, indices made and dropped, and a node killed in mid-snapshot. Again and again the store is
copied without everything that the guard says no snapshot needs, and every snapshot restores from the copy; at the end one object of every
class that is needed is taken from a copy of its own, and what needs it fails there. `CYCLES` sets the number of snapshots (CI: 50).
"""

import http.client
import json
import os
import random
import shutil
import threading
import time
import urllib.parse

from rig.check import cycles, expect, main, note, promise
from rig.gateway import BASE, BUCKET, REPOSITORY, Gateway, Store
from rig.life import Life
from rig.node import OpenSearch, give_to_nobody

COPIES = 5  # times that the store is copied and restored from during a life
MOST = 8  # snapshots kept at a time


class Told:
    """What the guard says of every object, asked over one connection."""

    def __init__(self, gateway):
        self._gateway = gateway
        self._link = http.client.HTTPConnection("127.0.0.1", gateway.admin, timeout=30)

    def explain(self, key):
        self._link.request("GET", f"/v1/repositories/{REPOSITORY}/explain?key={urllib.parse.quote(key, safe='')}",
                           headers={"Authorization": f"Bearer {self._gateway.token}"})
        answer = self._link.getresponse()
        body = json.loads(answer.read())
        expect(f"the answer about {key}: {body}", answer.status, 200)
        return body

    def needed(self):
        """key -> what the guard says of it, for every object that snapshots or the repository itself need."""
        pages = self._gateway.account.boto().get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        told = {entry["Key"]: self.explain(entry["Key"]) for page in pages for entry in page.get("Contents", [])}
        return {key: one for key, one in told.items() if not one["delete"]["allowed"]}, set(told)


def denied(gateway):
    """Refusals counted so far, by reason."""
    link = http.client.HTTPConnection("127.0.0.1", gateway.admin, timeout=30)
    link.request("GET", "/metrics", headers={"Authorization": f"Bearer {gateway.token}"})
    lines = link.getresponse().read().decode().splitlines()
    return [line for line in lines if line.startswith("snapgate_denied_total") and not line.endswith(" 0")]


def copy(bench, folder, keys, without=()):
    """A copy of the store, of the objects with these keys only."""
    made = bench.dir / f"copy-{time.monotonic_ns()}"
    for key in keys:
        if key not in without:
            target = made / key
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / key, target)
    give_to_nobody(made)
    return made


def registered(life, name, location, readonly=True):
    life.node.call("PUT", f"/_snapshot/{name}", {"type": "fs", "settings": {"location": str(location), "base_path": BASE, "readonly": readonly}})
    return name


class LongLife:
    def __init__(self, bench, version, seed):
        self._bench, self._random = bench, random.Random(seed)
        self.folder = bench.folder("directory-store")
        self.gateway = Gateway(bench, f"guard-{version}", Store.directory(self.folder)).start()
        self.node = OpenSearch(bench, version)
        self._start()
        self.life, self.made, self.clones = Life(self.node, "through", "g", seed), 0, 0
        self.life.register("s3", {"client": "default", "bucket": BUCKET, "base_path": BASE})
        self.life.create_indices()
        self.life.add(60)

    def _start(self):
        self.node.start({"default": self.gateway.account}, [self._bench.dir])

    def step(self):
        """One snapshot, and around it what clusters do."""
        self.life.add(self._random.randint(5, 25))
        if self._random.random() < 0.3:
            self.life.remove_every(self._random.randint(5, 12))
        if self._random.random() < 0.2:
            self.life.merge()
        if self._random.random() < 0.15:
            self.recreate_an_index()
        self.made += 1
        self.life.snapshot(f"snap-{self.made:03}")
        if self._random.random() < 0.2:
            self.clones += 1
            self.life.clone(f"snap-{self.made:03}", f"clone-{self.clones:03}")
        while len(self.life.snapshots) > MOST or self._random.random() < 0.1 and len(self.life.snapshots) > 1:
            self.life.delete(self._random.choice(sorted(self.life.snapshots)))
        if self._random.random() < 0.2:
            self.life.cleanup()

    def recreate_an_index(self):
        index = self._random.choice(self.life.indices)
        self.node.call("DELETE", f"/{index}")
        self.node.call("PUT", f"/{index}", {"settings": {"number_of_shards": self._random.randint(1, 3), "number_of_replicas": 0}})
        self.life.add(20)

    def kill_in_mid_snapshot(self):
        """The node dies while a snapshot is under way, and comes back on the data it had."""
        self.life.add(300, raw=4_000)
        call = threading.Thread(target=self._doomed_snapshot, daemon=True)
        call.start()
        time.sleep(0.25)
        self.node.kill()
        call.join(30)
        self._start()
        for name in self._unfinished():
            self.node.call("DELETE", f"/_snapshot/through/{name}", allow=(404,))
        self.life.cleanup()

    def _doomed_snapshot(self):
        try:
            self.node.call("PUT", "/_snapshot/through/doomed?wait_for_completion=true", {"indices": ",".join(self.life.indices)})
        except (AssertionError, OSError, http.client.HTTPException):
            pass  # the node is gone

    def _unfinished(self):
        """What the killed node left in the repository, once nothing is in progress any more."""
        deadline = time.monotonic() + 60
        while True:
            answer = self.node.call("GET", "/_snapshot/through/_all?ignore_unavailable=true")
            left = [one for one in answer["snapshots"] if one["snapshot"] not in self.life.snapshots]
            if all(one["state"] != "IN_PROGRESS" for one in left):
                return [one["snapshot"] for one in left]
            if time.monotonic() > deadline:
                raise AssertionError(f"still in progress after a minute: {left}")
            time.sleep(0.2)

    def expect_restored_from_what_is_needed(self):
        needed, there = Told(self.gateway).needed()
        made = copy(self._bench, self.folder, needed)
        self.life.restore_all(registered(self.life, "copy", made))
        self.node.call("DELETE", "/_snapshot/copy")
        shutil.rmtree(made)
        return needed, there

    def expect_each_class_is_needed(self, needed):
        """One object of every class is taken from a copy: what needs it fails there."""
        classes = {}
        for key, told in sorted(needed.items()):
            classes.setdefault(told["class"], (key, told))
        for kind, (key, told) in classes.items():
            made = copy(self._bench, self.folder, needed, without={key})
            name = registered(self.life, "copy", made, readonly=False)
            snapshot = told["needed_by"][0]["snapshot"] if told["needed_by"] else min(self.life.snapshots)
            if self._survives(name, snapshot, kind):
                raise AssertionError(f"'{snapshot}' does without {kind} '{key}', which the guard says it needs")
            self.node.call("DELETE", "/_snapshot/copy")
            shutil.rmtree(made)
        return sorted(classes)

    def _survives(self, name, snapshot, kind):
        """Whether the snapshot still restores whole, and the repository still takes a snapshot and gives up this one."""
        answer = self.node.call("POST", f"/_snapshot/{name}/{snapshot}/_restore?wait_for_completion=true",
                                {"indices": ",".join(self.life.indices), "include_global_state": kind == "global_metadata",
                                 "rename_pattern": "(.+)", "rename_replacement": "back-$1"}, allow=(400, 404, 500, 503))
        for index in self.life.indices:
            self.node.call("DELETE", f"/back-{index}", allow=(404,))
        if answer.get("snapshot", {}).get("shards", {}).get("failed", 1):
            return False
        answer = self.node.call("PUT", f"/_snapshot/{name}/probe?wait_for_completion=true", {"indices": ",".join(self.life.indices)},
                                allow=(400, 404, 500, 503))
        return answer.get("snapshot", {}).get("state") == "SUCCESS"


def long_life(bench, version, seed):
    long, snapshots = LongLife(bench, version, seed), cycles(50)
    leftovers = set()
    while long.made < snapshots:
        long.step()
        if long.made == snapshots // 2:
            long.kill_in_mid_snapshot()
        if long.made % max(1, snapshots // COPIES) == 0:
            needed, there = long.expect_restored_from_what_is_needed()
            leftovers = there - set(needed)
    kinds = long.expect_each_class_is_needed(needed)
    expect("refusals in the life of a correct cluster", denied(long.gateway), [])
    report = long.gateway.ask("verify", REPOSITORY, "--deep")
    expect("what a deep verification found", report["problems"], [])
    note(f"{version}: {long.made} snapshots and {long.clones} clones, {len(needed)} objects needed of {len(kinds)} classes"
         f" ({', '.join(kinds)}), {len(leftovers)} not needed: {sorted(os.path.basename(key) for key in leftovers)[:6]}")
    long.gateway.stop()
    long.node.stop()


@promise
def opensearch_3_8_0_is_never_refused_and_the_guard_knows_what_it_needs(bench):
    long_life(bench, "3.8.0", 38)


@promise
def opensearch_3_1_0_is_never_refused_and_the_guard_knows_what_it_needs(bench):
    long_life(bench, "3.1.0", 31)


main()
