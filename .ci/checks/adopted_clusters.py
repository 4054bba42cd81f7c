"""Elasticsearch 5 to 9 wrote a repository into a directory; snapgate adopts it, and from then on nobody breaks it by hand.

For each version: a life with `type: fs`, `adopt`, a deep `verify`, an attack through S3 with the keys of a configured writer (every key deleted),
a deep `verify` again; then the same server, which knows nothing of a gateway, lists and restores exactly the snapshots it should.

Before 7.6 the root before the newest is there too: it is a restore point from the adoption on, and the repository is rolled back to it at the end.

Then the cluster deletes a snapshot and takes another, through S3: these servers come without an S3 plugin, so each works on a copy of what the
gateway shows, and what it changed there is sent to the gateway in the order in which such clusters write. Nothing of it is refused. The deleted
snapshot is undeleted, the repository is rolled back, and after each the same server restores a copy of what the gateway shows, byte by byte of every
document, and goes on from it.
"""

import contextlib
import shutil

from rig.check import expect, main, note, promise
from rig.elasticsearch import Elasticsearch
from rig.gateway import BASE, BUCKET, REPOSITORY, Gateway, Store
from rig.life import Life
from rig.node import give_to_nobody

BATCH = 1000  # keys of one DeleteObjects


def lived(bench, version, folder):
    """A node, and the life it had: snapshots added and deleted, the newest root made by a create."""
    (folder / BASE).mkdir(parents=True)
    give_to_nobody(folder)
    node = Elasticsearch(bench, version).start([folder, bench.folder("copies")])
    life = Life(node, "own", f"es{version.split('.')[0]}")
    life.register("fs", {"location": str(folder / BASE)})
    life.create_indices()
    for number in range(8):
        life.add(40)
        if number % 2:
            life.remove_every(5 + number)
        life.snapshot(f"snap-{number}")
        if number in (3, 5):
            life.delete(f"snap-{number - 2}")
    life.delete("snap-4")
    life.add(30)
    life.snapshot("last")
    return life


def expect_restorable(life, folder):
    """The server registers the directory anew, since it caches the generation it knows, and restores what there should be."""
    give_to_nobody(folder)
    life.node.call("DELETE", "/_snapshot/own", allow=(404,))
    life.register("fs", {"location": str(folder / BASE)})
    life.restore_all()


def delete_everything(gateway):
    """Every key that is listed, in batches; answers key -> what a refused one was told."""
    s3, refused = gateway.account.boto(), {}
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, PaginationConfig={"PageSize": BATCH}):
        keys = [{"Key": entry["Key"]} for entry in page.get("Contents", [])]
        answer = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": keys, "Quiet": True})
        refused.update({error["Key"]: f"{error['Code']}: {error['Message']}" for error in answer.get("Errors", [])})
    return refused


def expect_verified(gateway, snapshots):
    report = gateway.ask("verify", REPOSITORY, "--deep")
    expect("what a deep verification found", report["problems"], [])
    expect("snapshots verified", report["snapshots"], len(snapshots))
    expect("snapshots known", sorted(one["name"] for one in gateway.ask("snapshots", REPOSITORY)), sorted(snapshots))


class Copies:
    """Copies of what the gateway shows, in which the server works as in a directory of its own."""

    def __init__(self, bench, gateway, life):
        self._folder, self._gateway, self._life, self._made = bench.folder("copies"), gateway, life, 0
        self._s3 = gateway.account.boto()

    def _shown(self):
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{BASE}/")
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        return {key: self._s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys}

    def fresh(self):
        """Registers a new copy; answers where it is."""
        self._made += 1
        folder = self._folder / str(self._made)
        for key, body in self._shown().items():
            place = folder / key
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(body)
        give_to_nobody(folder)
        self._life.node.call("DELETE", f"/_snapshot/{self._life.repository}", allow=(404,))
        self._life.register("fs", {"location": str(folder / BASE)})
        return folder

    def expect_restorable(self):
        """Every snapshot that there should be; and the server goes on from it, with a snapshot and a delete."""
        folder, before = self.fresh(), dict(self._life.snapshots)
        self._life.snapshot("goes-on")
        self._life.restore_all()
        self._life.delete(next(iter(before)))
        self._life.expect_listed()
        self._life.snapshots = before
        shutil.rmtree(folder, ignore_errors=True)

    def through_s3(self, act, deletes=False):
        """What the server changes in a copy is sent to the gateway, and nothing of it is refused."""
        folder, before = self.fresh(), self._shown()
        act()
        after = dict(_files(folder))
        written = [key for key, body in after.items() if before.get(key) != body]
        for key in sorted(written, key=lambda key: self._turn(key, deletes)):
            self._s3.put_object(Bucket=BUCKET, Key=key, Body=after[key])
        gone = [{"Key": key} for key in sorted(set(before) - set(after))]
        answer = self._s3.delete_objects(Bucket=BUCKET, Delete={"Objects": gone})
        expect("deletes that were refused", answer.get("Errors", []), [])
        shutil.rmtree(folder, ignore_errors=True)

    def _turn(self, key, deletes):
        """The order of puts: data and metadata, the root, the pointer. A delete before 7.6 writes its shard indexes after the root."""
        name = key.rsplit("/", 1)[1]
        if "/indices/" not in key and (name == "index.latest" or name.startswith("index-")):
            return 2 if name == "index.latest" else 1
        return 3 if deletes and self._life.node.major < 7 else 0


def _files(folder):
    """Key and bytes of every file; a server that cleans up behind a delete may take some away meanwhile."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with contextlib.suppress(FileNotFoundError):
                yield str(path.relative_to(folder)), path.read_bytes()


def newest(gateway):
    return next(point["generation"] for point in gateway.ask("restore-points", REPOSITORY) if point["current"])


def brought_back(gateway, *verb):
    """On a frozen repository, which is thawed again."""
    gateway.ask("freeze", REPOSITORY, "--reason", "bringing back")
    done = gateway.ask(*verb)
    gateway.ask("thaw", REPOSITORY)
    return done["snapshots"]


def goes_back(bench, gateway, life):
    """A snapshot is deleted and another taken; the deleted one comes back beside it; then all is as it was before both."""
    copies, adopted, then = Copies(bench, gateway, life), newest(gateway), dict(life.snapshots)
    copies.through_s3(lambda: life.delete("snap-5"), deletes=True)
    life.add(25)
    copies.through_s3(lambda: life.snapshot("later"))
    expect_verified(gateway, life.snapshots)

    came = brought_back(gateway, "undelete", REPOSITORY, "snap-5")
    expect("what came back", came, {"came": ["snap-5"], "went": []})
    life.snapshots["snap-5"] = then["snap-5"]
    expect_verified(gateway, life.snapshots)
    copies.expect_restorable()

    came = brought_back(gateway, "rollback", REPOSITORY, "--to", str(adopted))
    expect("what came and went", came, {"came": [], "went": ["later"]})
    life.snapshots = then
    expect_verified(gateway, life.snapshots)
    copies.expect_restorable()


def older_root(gateway, life):
    """Before 7.6, the root of before the snapshot `last` is a restore point as well; it holds all but that one."""
    points = gateway.ask("restore-points", REPOSITORY)
    expect("restore points are complete", [point["complete"] for point in points], [True] * len(points))
    expect("restore points", len(points), 2 if life.node.major < 7 else 1)
    if len(points) == 1:
        return None
    wanted = {name: sums for name, sums in life.snapshots.items() if name != "last"}
    expect("snapshots of the older one", sorted(points[1]["snapshots"]), sorted(wanted))
    return points[1]["generation"], wanted


def goes_back_to_the_older_root(bench, gateway, life, older):
    generation, wanted = older
    came = brought_back(gateway, "rollback", REPOSITORY, "--to", str(generation))
    expect("what came and went", came, {"came": [], "went": ["last"]})
    life.snapshots = dict(wanted)
    expect_verified(gateway, life.snapshots)
    Copies(bench, gateway, life).expect_restorable()


def adopted_life(bench, version):
    folder = bench.folder("directory-store")
    life = lived(bench, version, folder)
    gateway = Gateway(bench, version, Store.directory(folder), retention="1h").start()
    code, said = gateway.command("verify", REPOSITORY)
    expect(f"a repository that nobody adopted is not judged: {said}", code, 1)
    gateway.ask("adopt", REPOSITORY)
    expect_verified(gateway, life.snapshots)
    older = older_root(gateway, life)

    refused = delete_everything(gateway)
    named = [key for key, told in refused.items() if "AccessDenied" in told and "needed by" in told]
    note(f"{version}: {len(refused)} deletes by hand refused, {len(named)} of them with the names of snapshots")
    expect("some deletes were refused with names", bool(named), True)
    expect_verified(gateway, life.snapshots)
    expect_restorable(life, folder)
    goes_back(bench, gateway, life)
    if older:
        goes_back_to_the_older_root(bench, gateway, life, older)
    gateway.stop()
    life.node.stop()


@promise
def elasticsearch_5_6_16_is_adopted_attacked_undeleted_rolled_back_and_restored(bench):
    adopted_life(bench, "5.6.16")


@promise
def elasticsearch_6_8_23_is_adopted_attacked_undeleted_rolled_back_and_restored(bench):
    adopted_life(bench, "6.8.23")


@promise
def elasticsearch_7_17_29_is_adopted_attacked_undeleted_rolled_back_and_restored(bench):
    adopted_life(bench, "7.17.29")


@promise
def elasticsearch_8_19_21_is_adopted_attacked_undeleted_rolled_back_and_restored(bench):
    adopted_life(bench, "8.19.21")


@promise
def elasticsearch_9_5_3_is_adopted_attacked_undeleted_rolled_back_and_restored(bench):
    adopted_life(bench, "9.5.3")


main()
