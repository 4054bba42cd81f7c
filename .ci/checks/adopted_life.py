"""A repository that OpenSearch wrote straight into a directory is adopted, withstands a delete of everything, and goes on living behind snapgate."""

import json
import time

from rig.check import expect, main, note, promise
from rig.gateway import BASE, BUCKET, REPOSITORY, Gateway, Store
from rig.life import Life
from rig.node import OpenSearch, give_to_nobody

VALIDATES = 3  # seconds: the SDK tries pooled connections that a restart closed unless they were idle for 2 s


def command(gateway, *arguments):
    """A command that must succeed; what it printed as JSON."""
    code, text = gateway.command(*arguments, "--json")
    expect(f"exit code of {arguments}: {text}", code, 0)
    return json.loads(text)


def delete_everything(gateway):
    """As `aws s3 rm --recursive` does: (keys that went, sentences of those that stayed)."""
    s3, gone, stayed = gateway.account.boto(), [], []
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        keys = [{"Key": entry["Key"]} for entry in page.get("Contents", [])]
        if keys:
            answer = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": keys})
            gone += [one["Key"] for one in answer.get("Deleted", [])]
            stayed += [one["Message"] for one in answer.get("Errors", [])]
    return gone, stayed


@promise
def what_opensearch_wrote_into_a_directory_is_adopted_and_lives_on(bench):
    folder = bench.folder("directory-store")
    store = Store.directory(folder)
    store.settings["sweep_every"] = "1s"
    gateway = Gateway(bench, "adopts", store)
    place = folder / BASE
    place.mkdir(parents=True)
    give_to_nobody(place)
    node = OpenSearch(bench, "3.8.0").start({"rig": gateway.account}, [folder])
    life = Life(node, "straight", "before")
    life.register("fs", {"location": str(place)})
    life.create_indices()
    for name in ("one", "two", "three"):
        life.add(80)
        life.snapshot(name)
    life.delete("two")
    node.call("DELETE", "/_snapshot/straight")
    (place / "notes.txt").write_bytes(b"somebody put this here")

    gateway.start()
    expect("the lock before", command(gateway, "status", REPOSITORY)["lock"]["state"], "frozen")
    found = command(gateway, "adopt", REPOSITORY)
    expect("snapshots found", sorted(found["snapshots"]), ["one", "three"])
    expect("what was damaged before", found["problems"], [])
    expect("unknown keys", found["unknown"]["keys"], [f"{BASE}/notes.txt"])
    expect("guarded", found["guarded"], True)
    expect("verify --deep", command(gateway, "verify", REPOSITORY, "--deep")["ok"], True)

    gone, stayed = delete_everything(gateway)
    note(f"{len(gone)} objects went, {len(stayed)} stayed")
    expect("the note went", f"{BASE}/notes.txt" in gone, True)
    expect("a sentence names the snapshots", any("needed by snapshot" in sentence for sentence in stayed), True)
    expect("verify --deep after the delete of everything", command(gateway, "verify", REPOSITORY, "--deep")["ok"], True)

    life.repository = "behind"
    life.register("s3", {"client": "rig", "bucket": BUCKET, "base_path": BASE})
    life.restore_all()
    life.add(40)
    life.snapshot("four")
    life.delete("one")
    life.cleanup()
    gateway.stop()
    gateway.start()
    time.sleep(VALIDATES)
    life.add(40)
    life.snapshot("five")
    life.restore_all()
    expect("verify --deep at the end", command(gateway, "verify", REPOSITORY, "--deep")["ok"], True)
    expect("warnings", command(gateway, "warnings", REPOSITORY), [])
    node.stop()
    gateway.stop()


main()
