"""`kill -9` in the middle of writes, over and over: what was acknowledged is there byte for byte, nothing half written shows, catalog and store agree.

`CYCLES` sets how often (CI: 300 for each kind of store), `SEED` repeats a run.
"""

import os
import random
import time

from rig import stores
from rig.check import cycles, expect, main, note, promise
from rig.crash import Ledger, Storm, come_to_rest, inspect
from rig.gateway import BASE, BUCKET, REPOSITORY, Gateway, Store
from rig.s3 import Client
from rig.volume import files_of

PART = 5 << 20
EMPTY_ROOT = b'{"min_version":"7.12.0","uuid":"5Wr1DzvyT_O0zyRDUhUqzg","cluster_id":"Zq3sGkWcTfSf6Y1nC3mBvw","snapshots":[],"indices":{}}'
SWEEP = 25  # every so many cycles all contents are read, not only those just written


def kill_over_and_over(bench, store, stored):
    seed, count = int(os.environ.get("SEED", time.time_ns() % 1_000_000)), cycles(300)
    dice, ledger = random.Random(seed), Ledger()
    gateway = Gateway(bench, "killed", store)
    for cycle in range(count):
        gateway.start()
        inspect(gateway.account, ledger, stored(), every_key=cycle % SWEEP == 0)
        storm = Storm(gateway.account, ledger, seed + cycle)
        time.sleep(dice.uniform(0.02, 0.25))
        gateway.kill()
        storm.end()
    gateway.start()
    inspect(gateway.account, ledger, stored(), every_key=True)
    abort_open_uploads(gateway.account)
    come_to_rest(ledger, stored)
    gateway.stop()
    note(f"seed {seed}: {count} kills, {ledger.acknowledged} acknowledged writes, {len(ledger.keys())} objects at the end")
    if ledger.acknowledged < count:
        raise AssertionError("fewer acknowledged writes than kills: the storm never blew")


def abort_open_uploads(account):
    """The uploads the writers never finished; after that nothing but objects may be left."""
    s3 = account.boto()
    for page in s3.get_paginator("list_multipart_uploads").paginate(Bucket=account.bucket):
        for upload in page.get("Uploads", []):
            s3.abort_multipart_upload(Bucket=account.bucket, Key=upload["Key"], UploadId=upload["UploadId"])


@promise
def killed_on_a_directory_store_it_keeps_every_acknowledged_object(bench):
    folder = bench.folder("directory-store")
    kill_over_and_over(bench, Store.directory(folder), lambda: files_of(folder))


@promise
def killed_on_an_s3_store_it_keeps_every_acknowledged_object(bench):
    account = stores.versitygw(bench)

    def stored():
        client = Client(account)
        found = client.list()
        client.close()
        return found

    kill_over_and_over(bench, Store.service(account), stored)
    expect("uploads left open at the store", account.boto().list_multipart_uploads(Bucket=account.bucket).get("Uploads", []), [])


@promise
def a_root_in_parts_is_committed_whole_over_a_kill_after_each_part(bench):
    gateway = Gateway(bench, "parts", Store.directory(bench.folder("parts-store"))).start()
    root = EMPTY_ROOT[:1] + b" " * (2 * PART) + EMPTY_ROOT[1:]
    name, parts = f"{BASE}/index-0", []
    upload = gateway.account.boto().create_multipart_upload(Bucket=BUCKET, Key=name)["UploadId"]
    for number in (1, 2, 3):
        piece = root[(number - 1) * PART:number * PART]
        made = gateway.account.boto().upload_part(Bucket=BUCKET, Key=name, UploadId=upload, PartNumber=number, Body=piece)
        parts.append({"PartNumber": number, "ETag": made["ETag"]})
        gateway.kill()
        gateway.start()
    expect("restore points before it is completed", gateway.ask("restore-points", REPOSITORY), [])
    gateway.account.boto().complete_multipart_upload(Bucket=BUCKET, Key=name, UploadId=upload, MultipartUpload={"Parts": parts})
    for _ in range(2):
        expect("the root, whole", Client(gateway.account).call("GET", name)[1] == root, True)
        expect("restore points", [point["generation"] for point in gateway.ask("restore-points", REPOSITORY)], [0])
        gateway.kill()
        gateway.start()
    gateway.stop()


main()
