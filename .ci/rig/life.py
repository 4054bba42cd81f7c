"""A cluster's whole life with one repository, the same for every server and store: what goes in comes out, document by document."""

import base64
import hashlib
import json
import random
import time

from rig.check import expect

WORDS = "salt moss iron kelp dune fern lens wire shard blob".split()
INDICES = ("logs", "orders")


class Life:
    """Documents written so far and the snapshots that hold them, each with the checksum its restore must give."""

    def __init__(self, node, repository, prefix, seed=1):
        self.node, self.repository, self.prefix = node, repository, prefix
        self._random, self._next, self.snapshots = random.Random(seed), 0, {}
        self.indices = tuple(f"{prefix}-{name}" for name in INDICES)

    def register(self, kind, settings):
        self.node.call("PUT", f"/_snapshot/{self.repository}", {"type": kind, "settings": settings})
        self.node.call("POST", f"/_snapshot/{self.repository}/_verify")

    def create_indices(self, shards=2):
        for index in self.indices:
            fields = {"n": {"type": "integer"}, "k": {"type": "keyword"}, "t": {"type": "text"}, "raw": {"type": "binary"}}
            if not self.node.KEYWORDS:
                fields = {**fields, "k": {"type": "string", "index": "not_analyzed"}, "t": {"type": "string"}}
            mappings = {"properties": fields}
            self.node.call("PUT", f"/{index}", {"settings": {"number_of_shards": shards, "number_of_replicas": 0},
                                                "mappings": {"doc": mappings} if self.node.TYPED else mappings})

    def _bulk(self, index, lines):
        typed = "/doc" if self.node.TYPED else ""
        answer = self.node.call("POST", f"/{index}{typed}/_bulk?refresh=true", "".join(json.dumps(line) + "\n" for line in lines))
        expect("bulk errors", answer["errors"], False)

    def add(self, count, raw=0):
        """`count` new documents to each index; `raw` bytes of noise in each, so that segments grow large."""
        for index in self.indices:
            for first in range(0, count, 100):
                lines = []
                for _ in range(min(100, count - first)):
                    document = {"n": self._next, "k": self._random.choice(WORDS), "t": " ".join(self._random.choices(WORDS, k=12))}
                    if raw:
                        document["raw"] = base64.b64encode(self._random.randbytes(raw)).decode()
                    lines += [{"index": {"_id": str(self._next)}}, document]
                    self._next += 1
                self._bulk(index, lines)

    def remove_every(self, nth):
        for index in self.indices:
            ids = [hit["_id"] for hit in self._hits(index)]
            self._bulk(index, [{"delete": {"_id": one}} for one in sorted(ids, key=int)[::nth]])

    def merge(self):
        for index in self.indices:
            self.node.call("POST", f"/{index}/_forcemerge?max_num_segments=1&flush=true")

    def _hits(self, index):
        self.node.call("POST", f"/{index}/_refresh")
        return self.node.call("GET", f"/{index}/_search", {"size": 10_000, "sort": [{"n": "asc"}], "query": {"match_all": {}}})["hits"]["hits"]

    def checksum(self, index):
        """(number of documents, hash over every id and source)."""
        hits, digest = self._hits(index), hashlib.sha256()
        for hit in hits:
            digest.update(json.dumps([hit["_id"], hit["_source"]], sort_keys=True).encode())
        counted = self.node.call("GET", f"/{index}/_count")["count"]
        expect(f"documents found in {index}", len(hits), counted)
        return counted, digest.hexdigest()

    def snapshot(self, name):
        answer = self.node.call("PUT", f"/_snapshot/{self.repository}/{name}?wait_for_completion=true",
                                {"indices": ",".join(self.indices), "include_global_state": False})["snapshot"]
        expect(f"state of snapshot {name}", answer["state"], "SUCCESS")
        self.snapshots[name] = {index: self.checksum(index) for index in self.indices}

    def clone(self, source, name):
        self.node.call("PUT", f"/_snapshot/{self.repository}/{source}/_clone/{name}", {"indices": ",".join(self.indices)})
        deadline = time.monotonic() + 60
        while self._states().get(name) != "SUCCESS":
            if time.monotonic() > deadline:
                raise AssertionError(f"clone {name}: {self._states()}")
            time.sleep(0.2)
        self.snapshots[name] = self.snapshots[source]

    def delete(self, name):
        self.node.call("DELETE", f"/_snapshot/{self.repository}/{name}")
        del self.snapshots[name]

    def cleanup(self):
        self.node.call("POST", f"/_snapshot/{self.repository}/_cleanup")

    def _states(self, repository=None):
        answer = self.node.call("GET", f"/_snapshot/{repository or self.repository}/_all?ignore_unavailable=true")
        return {one["snapshot"]: one["state"] for one in answer["snapshots"]}

    def expect_listed(self, repository=None):
        expect("snapshots listed", self._states(repository), {name: "SUCCESS" for name in self.snapshots})

    def restore_all(self, repository=None):
        """Restores every snapshot there is into renamed indices, compares every document, drops them again."""
        self.expect_listed(repository)
        for name, wanted in self.snapshots.items():
            answer = self.node.call("POST", f"/_snapshot/{repository or self.repository}/{name}/_restore?wait_for_completion=true",
                                    {"indices": ",".join(self.indices), "include_global_state": False,
                                     "rename_pattern": "(.+)", "rename_replacement": "back-$1"})
            expect(f"failed shards restoring {name}", answer["snapshot"]["shards"]["failed"], 0)
            for index, sums in wanted.items():
                expect(f"{index} restored from {name}", self.checksum(f"back-{index}"), sums)
                self.node.call("DELETE", f"/back-{index}")

    def drop_indices(self):
        for index in self.indices:
            self.node.call("DELETE", f"/{index}")

    def live(self, multipart_raw, clones=True):
        """Five incremental snapshots with documents added and removed between them, one of them large; two deleted; a clone."""
        self.create_indices()
        self.add(150)
        self.snapshot("first")
        self.add(100)
        self.remove_every(7)
        self.snapshot("second")
        self.add(120, raw=multipart_raw)
        self.merge()
        self.snapshot("large")
        self.remove_every(5)
        self.add(60)
        self.snapshot("fourth")
        self.add(40)
        self.remove_every(11)
        self.snapshot("fifth")
        self.delete("second")
        self.delete("fourth")
        if clones:
            self.cleanup()
            self.clone("fifth", "fifth-clone")
        self.restore_all()
        self.drop_indices()
