"""Elasticsearch 2.4.6 speaks the oldest dialect (HEAD bucket, list v1, renames by copy, deletes one by one): a whole life, and once more without snapgate."""

from rig import stores
from rig.check import main, promise
from rig.gateway import BASE, BUCKET, Gateway, Store
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


main()
