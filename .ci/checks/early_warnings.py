"""What happens to a store behind the gateway's back is told early: in status, as a metric, as a live event; and a store that was there before is adopted, also across a kill."""

import json
import os
import subprocess
import urllib.request

from rig.check import expect, main, promise
from rig.gateway import BASE, BUCKET, REPOSITORY, Gateway, Store, program
from rig.process import wait_until

OBJECTS = 20_000


def swept(bench, name):
    """A gateway that compares its directory with its catalog every second."""
    store = Store.directory(bench.folder(f"store-{name}"))
    store.settings["sweep_every"] = "1s"
    path = store.settings["url"].removeprefix("file://")
    return Gateway(bench, name, store), path


def asked(gateway, path):
    with urllib.request.urlopen(request(gateway, path), timeout=10) as answer:
        return answer.read().decode()


def request(gateway, path):
    token = (gateway._home / "token").read_text().strip()
    return urllib.request.Request(f"http://127.0.0.1:{gateway.admin}{path}", headers={"Authorization": f"Bearer {token}"})


def repository(gateway):
    return json.loads(asked(gateway, f"/v1/repositories/{REPOSITORY}"))


def kinds(gateway):
    return sorted(warning["kind"] for warning in repository(gateway)["warnings"])


@promise
def what_happens_behind_the_gateway_is_told_until_it_is_over(bench):
    gateway, folder = swept(bench, "behind")
    gateway.start()
    s3 = gateway.account.boto()
    for name in ("a", "b"):
        s3.put_object(Bucket=BUCKET, Key=f"{BASE}/notes/{name}", Body=b"by hand")
    events = bench.dir / "events"
    where = {"SNAPGATE_ADMIN": f"http://127.0.0.1:{gateway.admin}", "SNAPGATE_TOKEN_FILE": str(gateway._home / "token")}
    with open(events, "wb") as out:
        listener = subprocess.Popen([program(), "events", "--json"], stdout=out, env={**os.environ, **where})
    try:
        wait_until(lambda: gateway.command("verify", REPOSITORY, "--no-wait") and events.stat().st_size > 0, 30, "the listener hears of a job")
        expect("warnings before", kinds(gateway), [])
        subprocess.run(["rm", f"{folder}/{BASE}/notes/a"], check=True)
        with open(f"{folder}/{BASE}/notes/b", "wb") as file:
            file.write(b"another hand")
        wait_until(lambda: kinds(gateway) == ["object_changed", "object_vanished"], 30, "the sweep finds both")
        wait_until(lambda: events.read_text().count('"event":"warning_raised"') == 2, 10, "both are told to the listener")
        metrics = asked(gateway, "/metrics")
        expect("the metric", f'snapgate_warnings{{repository="{REPOSITORY}",kind="object_vanished"}} 1' in metrics, True)
        code, text = gateway.command("status")
        expect("a line in status", "object_vanished" in text and "lifecycle" in text, True)
        gateway.stop()  # though somebody listens
        expect("exit code of a listener whose gateway stopped", listener.wait(10), 0)
    finally:
        listener.kill()
    gateway.start()
    expect("warnings after a restart", kinds(gateway), ["object_changed", "object_vanished"])
    code, text = gateway.command("acknowledge", REPOSITORY, "object_changed")
    expect(f"acknowledged: {text}", code, 0)
    expect("what was read is quiet", kinds(gateway), ["object_vanished"])
    s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": f"{BASE}/notes/{name}"} for name in ("a", "b")]})
    wait_until(lambda: kinds(gateway) == [], 30, "what is deleted is nobody's loss")
    gateway.stop()


@promise
def an_adoption_is_carried_on_after_a_kill(bench):
    gateway, folder = swept(bench, "adopted")
    notes = bench.folder("store-adopted") / BASE / "notes"
    notes.mkdir(parents=True)
    for number in range(OBJECTS):
        (notes / f"{number:06}").write_bytes(b"there before")
    gateway.start()
    expect("the lock of a store that is not known", repository(gateway)["lock"]["state"], "frozen")
    code, text = gateway.command("adopt", REPOSITORY, "--no-wait")
    expect(f"the job began: {text}", code, 0)
    job = f"/v1/jobs/{json.loads(text)['id']}"
    wait_until(lambda: json.loads(asked(gateway, job))["progress"]["done"] > 0, 30, "some of it was read")
    gateway.kill()
    gateway.start()
    wait_until(lambda: json.loads(asked(gateway, "/v1/jobs/1"))["state"] != "running", 120, "the adoption was carried on to its end")
    found = json.loads(asked(gateway, "/v1/jobs/1"))["result"]
    expect("the lock of an adopted repository", repository(gateway)["lock"]["state"], "vacant")
    expect("objects", found["objects"], OBJECTS)
    expect("it went on from where it stood", 0 < found["resumed_at"] < OBJECTS, True)
    expect("objects in the catalog", repository(gateway)["objects"], OBJECTS)
    code, text = gateway.command("adopt", REPOSITORY)
    expect(f"a second adoption is refused: {text}", code, 1)
    gateway.stop()


main()
