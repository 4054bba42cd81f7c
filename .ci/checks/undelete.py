"""What was deleted comes back: `rm -r` by hand breaks nothing, a snapshot deleted through the cluster is undeleted and restores, the
repository is rolled back to an older restore point, and a read-only view of one is restored while the cluster goes on writing."""

import json
import threading

from rig.check import expect, main, promise
from rig.gateway import BASE, BUCKET, REPOSITORY, Gateway, Store
from rig.life import Life
from rig.node import OpenSearch


def asked(gateway, *arguments):
    """The answer of a command with --json; anything but exit 0 is an error."""
    code, text = gateway.command("--json", *arguments)
    expect(f"exit code of {' '.join(arguments)}: {text}", code, 0)
    return json.loads(text)


def refused(gateway, *arguments):
    code, text = gateway.command(*arguments)
    expect(f"exit code of {' '.join(arguments)}: {text}", code, 1)
    return text


def newest(gateway):
    return next(point for point in asked(gateway, "restore-points", REPOSITORY) if point["current"])


def verified(gateway):
    result = asked(gateway, "verify", REPOSITORY, "--deep")
    expect(f"problems: {result['problems']}", result["ok"], True)


def registered(life, gateway, **settings):
    life.register("s3", {"client": "gw", "bucket": BUCKET, "base_path": BASE, **settings})


def with_the_repository_frozen(life, gateway, *verb):
    """Freezes, runs the verb, and registers the repository anew, as the printed steps say."""
    frozen_first = refused(gateway, *verb)
    expect(f"it says how: {frozen_first}", f"snapgate freeze {REPOSITORY}" in frozen_first, True)
    asked(gateway, "freeze", REPOSITORY, "--reason", "bringing back")
    before = newest(gateway)["generation"]
    asked(gateway, *verb, "--dry-run")
    expect("a dry run changes nothing", newest(gateway)["generation"], before)
    done = asked(gateway, *verb)
    expect("the new root", newest(gateway)["generation"], before + 1)
    expect("it says what is left to do", any("DELETE _snapshot" in step for step in done["steps"]), True)
    life.node.call("DELETE", f"/_snapshot/{life.repository}")
    asked(gateway, "thaw", REPOSITORY)
    registered(life, gateway)
    verified(gateway)
    return done


def remove_by_hand(gateway):
    """`aws s3 rm --recursive`: a list, and deletes of a thousand keys; what is refused says why."""
    s3 = gateway.account.boto()
    keys = [entry["Key"] for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{BASE}/") for entry in page.get("Contents", [])]
    errors = []
    for first in range(0, len(keys), 1000):
        answer = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": key} for key in keys[first:first + 1000]]})
        errors += answer.get("Errors", [])
    sentences = [error["Message"] for error in errors]
    expect(f"readable answers: {sentences[:3]}", any("is needed by snapshot" in one and "delete the snapshot" in one for one in sentences), True)


def life_of(bench, version="3.8.0"):
    gateway = Gateway(bench, "gw", Store.directory(bench.folder("store")), retention="1d").start()
    node = OpenSearch(bench, version).start({"gw": gateway.account})
    life = Life(node, "guarded", "guarded", 5)
    registered(life, gateway)
    life.create_indices()
    life.add(120)
    life.snapshot("first")
    life.add(80)
    life.remove_every(7)
    life.snapshot("second")
    return gateway, node, life


@promise
def what_was_deleted_comes_back_and_restores(bench):
    gateway, node, life = life_of(bench)
    remove_by_hand(gateway)
    verified(gateway)
    life.restore_all()

    # deleted, with later commits on top: merged into the newest root
    gone = life.snapshots["first"]
    life.delete("first")
    life.add(40)
    life.snapshot("third")
    done = with_the_repository_frozen(life, gateway, "undelete", REPOSITORY, "first")
    expect("what came back", done["snapshots"], {"came": ["first"], "went": []})
    life.snapshots["first"] = gone
    life.restore_all()
    life.add(30)
    life.snapshot("fourth")  # the cluster goes on from the merged root
    life.delete("second")  # and deletes from it
    verified(gateway)
    life.restore_all()

    # a pinned snapshot stays
    asked(gateway, "pin", REPOSITORY, "fourth", "--reason", "audit")
    expect("pinned", [one["name"] for one in asked(gateway, "snapshots", REPOSITORY) if one["pinned"]], ["fourth"])
    answer = node.call("DELETE", f"/_snapshot/{life.repository}/fourth", allow=(500, 503))
    expect(f"the refusal reaches the user: {answer}", "snapgate unpin" in json.dumps(answer), True)
    registered(life, gateway)
    asked(gateway, "unpin", REPOSITORY, "fourth")

    # an older restore point becomes the newest root
    at = newest(gateway)["generation"]
    then = dict(life.snapshots)
    life.delete("first")
    life.delete("fourth")
    life.add(10)
    life.snapshot("fifth")
    between = asked(gateway, "diff", REPOSITORY, str(at), str(newest(gateway)["generation"]))
    expect("what went", (between["snapshots"]["went"], between["snapshots"]["came"]), (["first", "fourth"], ["fifth"]))
    done = with_the_repository_frozen(life, gateway, "rollback", REPOSITORY, "--to", str(at))
    expect("what came back", (done["snapshots"]["came"], done["snapshots"]["went"]), (["first", "fourth"], ["fifth"]))
    life.snapshots = then
    life.restore_all()
    life.snapshot("sixth")
    verified(gateway)
    gateway.stop()
    node.stop()


@promise
def a_view_of_a_restore_point_is_restored_while_production_writes(bench):
    gateway, node, life = life_of(bench)
    point = newest(gateway)["generation"]
    then = dict(life.snapshots)
    life.delete("first")
    other = OpenSearch(bench, "3.8.0", "n2").start({"gw": gateway.account})
    seen = Life(other, "view", life.prefix, 6)
    seen.snapshots = then
    settings = {"client": "gw", "bucket": BUCKET, "base_path": f"{BASE}@{point}", "readonly": True}
    seen.register("s3", settings)
    failures = []

    def write():
        try:
            for name in ("third", "fourth"):
                life.add(40)
                life.snapshot(name)
        except Exception as e:  # told below
            failures.append(e)

    writer = threading.Thread(target=write)
    writer.start()
    seen.restore_all()
    writer.join()
    expect("production", failures, [])
    life.restore_all()
    answer = other.call("PUT", "/_snapshot/writable", {"type": "s3", "settings": {**settings, "readonly": False}}, allow=(400, 403, 500))
    expect(f"it cannot be written: {answer}", "read-only view" in json.dumps(answer), True)
    answer = other.call("PUT", "/_snapshot/unknown", {"type": "s3", "settings": {**settings, "base_path": f"{BASE}@77"}}, allow=(400, 403, 404, 500))
    expect(f"an unknown restore point: {answer}", "does not exist" in json.dumps(answer), True)
    gateway.stop()


main()
