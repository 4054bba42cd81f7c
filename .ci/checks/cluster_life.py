"""An unmodified OpenSearch keeps its snapshots behind snapgate for a whole life, and finds them again when snapgate is gone.

For each version: one node, three snapgates (over a directory, over versitygw, over MinIO), a life with each, then every snapgate is
stopped and the node restores the same snapshots straight from what lies behind. All the while each snapgate compares its store with its
catalog, and finds nothing to warn of.
"""

import json

from rig import stores
from rig.check import expect, main, promise
from rig.gateway import BASE, BUCKET, REPOSITORY, Gateway, Store
from rig.life import Life
from rig.node import OpenSearch, give_to_nobody

LARGE = 80_000  # bytes of noise a document; 60 of them in a shard make a segment file above the 5 MB where multipart begins


def whole_life(bench, version):
    folder = bench.folder("directory-store")
    behind = {"vgw": stores.versitygw(bench), "minio": stores.minio(bench)}
    gateways = {"dir": Gateway(bench, "dir", swept(Store.directory(folder))).start(),
                **{name: Gateway(bench, name, swept(Store.service(account))).start() for name, account in behind.items()}}
    clients = {**{name: gateway.account for name, gateway in gateways.items()}, **{f"direct-{name}": account for name, account in behind.items()}}
    node = OpenSearch(bench, version).start(clients, [folder])
    lives = {}
    for seed, (name, gateway) in enumerate(gateways.items()):
        life = lives[name] = Life(node, f"through-{name}", name, seed)
        life.register("s3", {"client": name, "bucket": BUCKET, "base_path": BASE, "buffer_size": "5mb"})
        life.live(LARGE)
        expect_multipart_used(gateway)
        expect_no_warnings(gateway)
        gateway.stop()
    for name, account in behind.items():
        node.call("PUT", f"/_snapshot/direct-{name}", {"type": "s3", "settings": {
            "client": f"direct-{name}", "bucket": account.bucket, "base_path": BASE, "readonly": True}})
        lives[name].restore_all(f"direct-{name}")
    give_to_nobody(folder)
    node.call("PUT", "/_snapshot/direct-dir", {"type": "fs", "settings": {"location": str(folder), "base_path": BASE, "readonly": True}})
    lives["dir"].restore_all("direct-dir")
    node.stop()


def swept(store):
    """Compared with the catalog every second."""
    store.settings["sweep_every"] = "1s"
    return store


def expect_no_warnings(gateway):
    code, text = gateway.command("warnings", REPOSITORY, "--json")
    expect(f"exit code of warnings: {text}", code, 0)
    expect("warnings after a whole life", json.loads(text), [])


def expect_multipart_used(gateway):
    """The tag of an object written in parts ends in their number."""
    pages = gateway.account.boto().get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    tags = [entry["ETag"] for page in pages for entry in page.get("Contents", [])]
    expect(f"some of {len(tags)} objects came in parts", any("-" in tag for tag in tags), True)


@promise
def opensearch_3_8_0_lives_through_snapgate_and_reads_its_repository_without_it(bench):
    whole_life(bench, "3.8.0")


@promise
def opensearch_3_1_0_lives_through_snapgate_and_reads_its_repository_without_it(bench):
    whole_life(bench, "3.1.0")


main()
