"""Elasticsearch 2.4.6 speaks the oldest dialect (HEAD bucket, list v1, renames by copy, deletes one by one): a whole life, and once more without snapgate.

Its repositories have no root: a snapshot is there as long as its description `snap-<name>.dat` is. What the listed ones need is not deleted by
hand, over a restart too, and the server goes on with what the attack left.
"""

from rig import stores
from rig.check import expect, main, note, promise
from rig.gateway import BASE, BUCKET, REPOSITORY, Gateway, Store
from rig.life import Life
from rig.node import Elasticsearch2, give_to_nobody

LARGE = 80_000


def whole_life(bench, store):
    gateway = Gateway(bench, "es2", store).start()
    folder = bench.folder("directory-store")
    node = Elasticsearch2(bench).start(gateway.account, [folder])
    life = Life(node, "through", "old")
    life.register("s3", {"bucket": BUCKET, "base_path": BASE, "buffer_size": "5mb"})
    life.live(LARGE, clones=False)
    gateway.stop()
    return node, life, folder


@promise
def elasticsearch_2_4_6_lives_on_a_directory_and_reads_it_without_snapgate(bench):
    node, life, folder = whole_life(bench, Store.directory(bench.folder("directory-store")))
    give_to_nobody(folder)
    node.call("PUT", "/_snapshot/direct", {"type": "fs", "settings": {"location": str(folder / BASE), "readonly": True}})
    life.restore_all("direct")
    node.stop()


@promise
def elasticsearch_2_4_6_lives_on_an_s3_service(bench):
    node, _, _ = whole_life(bench, Store.service(stores.versitygw(bench)))
    node.stop()


def delete_all_but_descriptions(gateway):
    """Every key by hand but `snap-<name>.dat`, whose delete is the delete of the snapshot; answers key -> what a refused one was told."""
    s3, refused = gateway.account.boto(), {}
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{BASE}/"):
        keys = [entry["Key"] for entry in page.get("Contents", []) if not entry["Key"].startswith(f"{BASE}/snap-")]
        answer = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": key} for key in keys]})
        refused.update({error["Key"]: error["Message"] for error in answer.get("Errors", [])})
    return refused


def expect_known(gateway, life):
    expect("snapshots known", sorted(one["name"] for one in gateway.ask("snapshots", REPOSITORY)), sorted(life.snapshots))
    report = gateway.ask("verify", REPOSITORY, "--deep")
    expect("what a deep verification found", (report["problems"], report["snapshots"]), ([], len(life.snapshots)))


@promise
def what_a_snapshot_of_elasticsearch_2_4_6_needs_is_not_deleted_by_hand(bench):
    gateway = Gateway(bench, "es2-by-hand", Store.directory(bench.folder("attacked-store"))).start()
    node = Elasticsearch2(bench).start(gateway.account)
    life = Life(node, "attacked", "old")
    life.register("s3", {"bucket": BUCKET, "base_path": BASE})
    life.create_indices()
    for name in ("one", "two", "three"):
        life.add(60)
        life.remove_every(7)
        life.snapshot(name)
    life.delete("one")
    expect_known(gateway, life)
    refused = delete_all_but_descriptions(gateway)
    named = [key for key, told in refused.items() if "needed by snapshot 't" in told]
    note(f"{len(refused)} deletes by hand refused, {len(named)} of them with the names of snapshots")
    expect("every refusal names a snapshot, and there are some", (len(named), len(named) > 20), (len(refused), True))
    expect_known(gateway, life)
    life.restore_all()
    gateway.stop()
    gateway.start()
    expect_known(gateway, life)
    expect("the same is refused after a restart", set(delete_all_but_descriptions(gateway)), set(refused))
    life.add(40)
    life.snapshot("four")
    life.delete("two")
    life.snapshot("two")
    expect_known(gateway, life)
    life.restore_all()
    gateway.stop()
    node.stop()


main()
