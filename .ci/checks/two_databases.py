"""Two gateways that each believe the store to be theirs: with state databases of their own, or with one that was copied under a running gateway.

Whichever is overtaken freezes within 5 s and commits no root meanwhile, and no epoch is given out twice: whatever both are asked for at the
same moment, the store's anchors and both audit logs know every epoch once. An unmodified OpenSearch commits through both.
"""

import json
import shutil
import subprocess
import threading
import time

from rig.check import expect, main, note, promise
from rig.gateway import BASE, BUCKET, REPOSITORY, Gateway, Store
from rig.life import Life
from rig.node import OpenSearch
from rig.postgres import Postgres, programs
from rig.process import wait_until
from rig.s3 import Client, Refused

CLUSTERS = ("prod", "other")
NOTICED = 5 + 1  # seconds: the interval, and one for a busy machine
ROUNDS = 3  # in which both are asked for the lock at once


def gateway(bench, name, store, database=None, state=None, look_every=None):
    where = Store.directory(store)
    if look_every:
        where.settings["other_gateways_every"] = look_every
    return Gateway(bench, name, where, state, clusters=CLUSTERS, database=database)


def blob(n):
    return f"{BASE}/indices/0123456789abcdefghijkl/0/__blob{n:04}AAAAAAAAAAAAAA"


def lock(one):
    return one.ask("status", REPOSITORY)["lock"]


def frozen(one):
    return lock(one)["state"] == "frozen"


def put(one, n, cluster="prod"):
    """The status of a small object's PUT."""
    try:
        Client(one.accounts[cluster]).call("PUT", blob(n), body=b"%d" % n)
    except Refused as refused:
        return refused.status
    return 200


def grants(one):
    """Epoch -> who was given it, as its audit log says."""
    records = one.ask("audit", "tail", "--limit", "1000")
    moves = [r["detail"]["lock"] for r in records if "lock" in r["detail"]]
    return {move["after"]["epoch"]: (move["after"]["holder"], at) for at, move in enumerate(moves) if move["after"]["state"] == "held"}


def expect_each_epoch_once(store, both, shared):
    """In the store, and over both audit logs; `shared` epochs were given before there were two."""
    anchors = {}  # epoch -> holder
    for path in sorted((store / ".snapgate/anchors").rglob("*")):
        if path.is_file():
            anchor = json.loads(path.read_text())
            expect(f"{path.name} is the only anchor of its epoch", anchor["epoch"] in anchors, False)
            anchors[anchor["epoch"]] = anchor["holder"]
    given = [{epoch: holder for epoch, (holder, _) in grants(one).items() if epoch > shared} for one in both]
    expect("epochs that both databases gave out", sorted(set(given[0]) & set(given[1])), [])
    for one, epochs in zip(both, given):
        for epoch, holder in epochs.items():
            expect(f"holder of epoch {epoch} in the store and in the audit log of {one.name}", anchors.get(epoch), holder)
        code, said = one.command("audit", "verify")
        expect(f"audit verify of {one.name}: {said}", code, 0)
    return anchors


def apart(both):
    """(loser, winner): within the interval exactly one is frozen, and it writes nothing more."""
    begin = time.monotonic()
    wait_until(lambda: any(map(frozen, both)), NOTICED, "one of them is frozen", pause=0.1)
    note(f"{[one.name for one in both if frozen(one)]} frozen {time.monotonic() - begin:.1f} s after both were ready")
    time.sleep(NOTICED)
    expect("how many are frozen", [frozen(one) for one in both].count(True), 1)
    loser, winner = sorted(both, key=frozen, reverse=True)
    note(f"{loser.name}: {lock(loser)['reason']}")
    expect(f"a write through {loser.name}", put(loser, 900), 503)
    return loser, winner


def fight(both):
    """Both are asked to give the lock away at the same moment, again and again. How often each did."""
    done = [0, 0]

    def ask(at, writer):
        code, _ = both[at].command("lock", REPOSITORY, "--writer", writer, "--force")
        done[at] += code == 0

    for turn in range(ROUNDS):
        asked = [threading.Thread(target=ask, args=(at, CLUSTERS[(turn + at) % 2])) for at in (0, 1)]
        for thread in asked:
            thread.start()
        for thread in asked:
            thread.join()
    return done


@promise
def a_gateway_with_a_new_database_freezes_before_it_writes_to_a_store_in_use(bench):
    store = bench.folder("store")
    first = gateway(bench, "first", store).start()
    expect("a write through the first", put(first, 1), 200)
    second = gateway(bench, "second", store).start()
    expect("the second is frozen at once", frozen(second), True)
    expect("a write through the second", put(second, 2), 503)
    fight((first, second))
    time.sleep(NOTICED)
    expect("the first goes on", frozen(first), False)
    expect("a write through the first", put(first, 3, lock(first)["holder"]), 200)
    expect_each_epoch_once(store, (first, second), 0)


@promise
def of_two_gateways_that_start_on_an_empty_store_one_is_frozen(bench):
    store = bench.folder("store")
    both = gateway(bench, "first", store), gateway(bench, "second", store)
    for one in both:
        one.launch()
    for one in both:
        one.wait()
    fight(both)
    wait_until(lambda: any(map(frozen, both)), NOTICED, "one of them is frozen", pause=0.1)
    expect_each_epoch_once(store, both, 0)


@promise
def a_copied_sqlite_database_is_noticed_before_the_next_root_and_opensearch_loses_nothing(bench):
    store, copy = bench.folder("store"), bench.folder("copy")
    first = gateway(bench, "first", store, state=bench.folder("state"), look_every="60s").start()  # so that only the commit can notice
    second = gateway(bench, "second", store, state=copy)
    node = OpenSearch(bench, "3.8.0").start({"first": first.account, "second": second.account})
    life = Life(node, "first", "logs", 1)
    for name in ("first", "second"):
        register(node, name, verify=name == "first")
    life.create_indices()
    life.add(50)
    life.snapshot("before")
    first.halt()  # as a machine is cloned: at one instant, its log with it
    for path in (bench.dir / "state").iterdir():
        shutil.copy(path, copy / path.name)
    first.resume()
    second.start()
    begin = time.monotonic()
    life.add(20)
    answer = node.call("PUT", "/_snapshot/first/meanwhile?wait_for_completion=true", {"indices": ",".join(life.indices)}, allow=(400, 403, 500, 503))
    note(f"a snapshot through the first, {time.monotonic() - begin:.1f} s after the second was ready: {str(answer.get('error', answer))[:300]}")
    expect("a snapshot through the first once the second is there", answer.get("snapshot", {}).get("state") == "SUCCESS", False)
    expect("frozen by that commit", frozen(first), True)
    apart((first, second))
    register(node, "second")
    life.repository = "second"
    life.snapshot("after")
    life.restore_all()
    expect_each_epoch_once(store, (first, second), 1)
    node.stop()


def register(node, name, verify=True):
    node.call("DELETE", f"/_snapshot/{name}", allow=(404,))
    settings = {"bucket": BUCKET, "base_path": BASE, "client": name}
    node.call("PUT", f"/_snapshot/{name}?verify={str(verify).lower()}", {"type": "s3", "settings": settings})


@promise
def a_copied_database_on_which_both_are_asked_for_the_lock_at_once_gives_no_epoch_twice(bench):
    store, copy = bench.folder("store"), bench.folder("copy")
    first = gateway(bench, "first", store, state=bench.folder("state")).start()
    expect("a write through the first", put(first, 1), 200)
    first.halt()
    for path in (bench.dir / "state").iterdir():
        shutil.copy(path, copy / path.name)
    first.resume()
    second = gateway(bench, "second", store, state=copy).start()
    note(f"hand-overs done by each: {fight((first, second))}")
    wait_until(lambda: frozen(first) or frozen(second), NOTICED, "one of them is frozen", pause=0.1)
    expect_each_epoch_once(store, (first, second), 1)


@promise
def two_postgresql_databases_on_one_store_are_told_apart_new_or_copied(bench):
    store, postgres = bench.folder("store"), Postgres(bench).start()
    first = gateway(bench, "first", store, postgres.url).start()
    expect("a write through the first", put(first, 1), 200)
    sql(postgres, "CREATE DATABASE fresh")
    fresh = gateway(bench, "fresh", store, named(postgres, "fresh")).start()
    expect("the one with a new database is frozen at once", frozen(fresh), True)
    expect("a write through it", put(fresh, 2), 503)
    time.sleep(NOTICED)
    expect("a write through the first", put(first, 3), 200)
    first.stop()  # a template must not be in use
    sql(postgres, "CREATE DATABASE copied TEMPLATE postgres")
    first.start()
    second = gateway(bench, "second", store, named(postgres, "copied")).start()
    expect("the newest number is the first's, which the copy does not know", apart((first, second)), (second, first))
    first.stop()
    sql(postgres, "CREATE DATABASE later TEMPLATE postgres")
    third = gateway(bench, "third", store, named(postgres, "later")).start()  # a copy that knows all
    first.start()
    note(f"hand-overs done by each: {fight((first, third))}")
    apart((first, third))
    for one in (second, third, fresh):
        expect_each_epoch_once(store, (first, one), 1 if one is not fresh else 0)


def named(postgres, database):
    return postgres.url.rpartition("/")[0] + f"/{database}"


def sql(postgres, statement):
    subprocess.run([programs() / "psql", "-q", "-v", "ON_ERROR_STOP=1", "-d", named(postgres, "template1"), "-c", statement], check=True, capture_output=True)


main()
