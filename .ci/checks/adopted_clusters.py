"""Elasticsearch 5 to 9 wrote a repository into a directory; snapgate adopts it, and from then on nobody breaks it by hand.

For each version: a life with `type: fs`, `adopt`, a deep `verify`, an attack through S3 with the keys of a configured writer (every key deleted),
a deep `verify` again; then the same server, which knows nothing of a gateway, lists and restores exactly the snapshots it should.
"""

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
    life = Life(Elasticsearch(bench, version).start([folder]), "own", f"es{version.split('.')[0]}")
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


def adopted_life(bench, version):
    folder = bench.folder("directory-store")
    life = lived(bench, version, folder)
    gateway = Gateway(bench, version, Store.directory(folder), retention="1h").start()
    code, said = gateway.command("verify", REPOSITORY)
    expect(f"a repository that nobody adopted is not judged: {said}", code, 1)
    gateway.ask("adopt", REPOSITORY)
    expect_verified(gateway, life.snapshots)

    refused = delete_everything(gateway)
    named = [key for key, told in refused.items() if "AccessDenied" in told and "needed by" in told]
    note(f"{version}: {len(refused)} deletes by hand refused, {len(named)} of them with the names of snapshots")
    expect("some deletes were refused with names", bool(named), True)
    expect_verified(gateway, life.snapshots)
    expect_restorable(life, folder)
    gateway.stop()
    life.node.stop()


@promise
def elasticsearch_5_6_16_is_adopted_attacked_and_restored(bench):
    adopted_life(bench, "5.6.16")


@promise
def elasticsearch_6_8_23_is_adopted_attacked_and_restored(bench):
    adopted_life(bench, "6.8.23")


@promise
def elasticsearch_7_17_29_is_adopted_attacked_and_restored(bench):
    adopted_life(bench, "7.17.29")


@promise
def elasticsearch_8_19_21_is_adopted_attacked_and_restored(bench):
    adopted_life(bench, "8.19.21")


@promise
def elasticsearch_9_5_3_is_adopted_attacked_and_restored(bench):
    adopted_life(bench, "9.5.3")


main()
