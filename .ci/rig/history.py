"""A real cluster that takes and deletes snapshots without a pause while its repository is cut off, and another that restores them from a mirror.

Every snapshot's documents are summed before it is taken, so whatever is found of it later must restore to that sum, also if the cluster
never learned that it succeeded.
"""

import itertools
import random
import threading
import urllib.error

from rig.check import expect
from rig.gateway import BASE, BUCKET
from rig.life import Life
from rig.node import OpenSearch

PATIENT = ("s3.client.default.max_retries: 12",)  # a gateway that is killed is back in a second


class History(threading.Thread):
    """Makes the history of one repository until told to stop."""

    def __init__(self, bench, account, seed, raw=6_000, documents=24, most=5, pause=0.0):
        super().__init__(daemon=True)
        self._random, self._raw, self._documents, self._most, self._pause = random.Random(seed), raw, documents, most, pause
        self._over, self._wanted_names = threading.Event(), itertools.count(1)
        self.sums, self.kept, self.acknowledged, self.deleted, self.failed, self.error = {}, [], 0, 0, 0, None
        self.node = OpenSearch(bench, "3.8.0", "writer").start({"default": account}, settings=PATIENT)
        self.life = Life(self.node, "through", "h", seed)
        self.life.register("s3", {"bucket": BUCKET, "base_path": BASE, "buffer_size": "5mb"})
        self.life.create_indices()
        self.life.add(20)

    def run(self):
        try:
            while not self._over.is_set():
                self._take()
                while len(self.kept) > self._most or len(self.kept) > 1 and self._random.random() < 0.4:
                    self._give_up(self._random.choice(self.kept))
                self._over.wait(self._pause)
        except Exception as error:  # shown by `end`, in the thread that looks
            self.error = error

    def end(self):
        """Stops after what is under way."""
        self._over.set()
        self.join(300)
        if self.error:
            raise self.error
        expect("the cluster came to an end", self.is_alive(), False)

    def _take(self):
        self.life.add(self._random.randint(3, self._documents), raw=self._raw)
        if self._random.random() < 0.4:
            self.life.remove_every(self._random.randint(3, 9))
        name = f"snap-{next(self._wanted_names):04}"
        self.sums[name] = {index: self.life.checksum(index) for index in self.life.indices}
        answer = self._ask("PUT", f"/_snapshot/through/{name}?wait_for_completion=true",
                           {"indices": ",".join(self.life.indices), "include_global_state": False})
        if answer and answer["snapshot"]["state"] == "SUCCESS":
            self.kept.append(name)
            self.acknowledged += 1

    def _give_up(self, name):
        self.kept.remove(name)
        if self._ask("DELETE", f"/_snapshot/through/{name}"):
            self.deleted += 1

    def _ask(self, method, path, body=None):
        """The answer, or None when the repository was away for longer than the cluster's patience."""
        try:
            return self.node.call(method, path, body)
        except (AssertionError, urllib.error.URLError, TimeoutError):
            self.failed += 1
            return None


class Restorer:
    """A cluster of its own that registers a mirror read-only, straight at its store, and restores from it."""

    def __init__(self, bench, sums, clients, directories, writer):
        """`sums`: snapshot -> index -> (documents, hash over them), as the writing cluster counted them."""
        self._sums, self._names = sums, itertools.count(1)
        self._node = OpenSearch(bench, "3.8.0", "restorer").start(clients, directories)
        self._life = Life(self._node, "none", writer.prefix)
        self.restored = 0

    def from_directory(self, folder, most=None):
        return self._restore("fs", {"location": str(folder), "base_path": BASE}, most)

    def from_service(self, client, account, most=None):
        return self._restore("s3", {"client": client, "bucket": account.bucket, "base_path": BASE}, most)

    def _restore(self, kind, settings, most):
        """Restores the newest `most` whole snapshots (None: all), document by document; their number."""
        repository = f"mirror-{next(self._names)}"
        self._node.call("PUT", f"/_snapshot/{repository}?verify=false", {"type": kind, "settings": {**settings, "readonly": True}})
        listed = self._node.call("GET", f"/_snapshot/{repository}/_all")["snapshots"]
        whole = [one["snapshot"] for one in listed if one["state"] == "SUCCESS"]
        for name in sorted(whole)[-most if most else 0:]:
            self._one(repository, name)
            self.restored += 1
        self._node.call("DELETE", f"/_snapshot/{repository}")
        return len(whole)

    def _one(self, repository, name):
        try:
            answer = self._node.call("POST", f"/_snapshot/{repository}/{name}/_restore?wait_for_completion=true",
                                     {"indices": ",".join(self._life.indices), "include_global_state": False,
                                      "rename_pattern": "(.+)", "rename_replacement": "back-$1"})
            expect(f"failed shards restoring {name}", answer["snapshot"]["shards"]["failed"], 0)
            for index, wanted in self._sums[name].items():
                expect(f"{index} restored from {name}", self._life.checksum(f"back-{index}"), wanted)
        finally:
            for index in self._life.indices:
                self._node.call("DELETE", f"/back-{index}", allow=(404,))
