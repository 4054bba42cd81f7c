"""Region A (gateway, store, cluster) dies whole; region B has the mirror's store, a gateway with an empty state database and a cluster of its own.

B promotes the mirror, its cluster restores and goes on snapshotting; A returns, finds out and freezes itself; A's store is brought back. Under
`barrier` nothing acknowledged is lost; under `async` exactly what `promote` listed is, also when A dies in the midst of snapshots and deletes.
"""

import json
import shutil

from rig import repository
from rig.check import expect, main, note, promise
from rig.gateway import BASE, BUCKET, REPOSITORY, Gateway, Store
from rig.history import History, Restorer
from rig.life import Life
from rig.node import OpenSearch
from rig.process import wait_until

CLUSTERS = ("alpha", "beta")


class Region(Gateway):
    """A gateway that knows both stores; the repository lies in `home` and is mirrored to `mirrors` (store -> its settings)."""

    def __init__(self, bench, name, folders, home, mirrors):
        self._folders, self._in, self._onto = folders, home, mirrors
        super().__init__(bench, name, Store.directory(folders[home]), clusters=CLUSTERS)

    def _settings(self, store):
        text = super()._settings(store)
        stores = "".join(f'[stores.{name}]\nurl = "file://{path}"\n' for name, path in self._folders.items())
        start, end = text.index("[stores.behind]"), text.index("[repositories.")
        mirrors = ", ".join(f'{{ store = "{name}", {settings} }}' for name, settings in self._onto.items())
        repository = text[end:].replace('store = "behind"', f'store = "{self._in}"') + f"mirrors = [{mirrors}]\n"
        return text[:start] + stores + repository

    def knows(self, folders):
        """From its next start on it has these stores."""
        self._folders = folders
        self.config.write_text(self._settings(Store.directory(folders[self._in])))

    def json(self, *arguments):
        code, said = self.command(*arguments, "--json")
        expect(f"{' '.join(arguments)}: {said}", code, 0)
        return json.loads(said[said.index("{"):])

    def lock(self):
        return self.json("status", REPOSITORY)["lock"]

    def mirrored(self, store="us"):
        """Waits until the mirror has everything."""
        def done():
            mirror = next(one for one in self.json("status", REPOSITORY)["mirrors"] if one["store"] == store)
            return mirror["state"] == "in_sync"
        wait_until(done, 60, f"mirror {store} has everything", pause=0.2)


def settings():
    return {"bucket": BUCKET, "base_path": BASE}


def region_a(bench, mode):
    folders = {name: bench.folder(f"store-{name}") for name in ("eu", "us")}
    a = Region(bench, "a", folders, "eu", {"us": f'mode = "{mode}"'}).start()
    alpha = OpenSearch(bench, "3.8.0", "alpha").start({"default": a.accounts["alpha"]})
    life = Life(alpha, "shared", "docs")
    life.register("s3", settings())
    life.create_indices()
    life.add(150)
    life.snapshot("first")
    life.add(80)
    life.remove_every(7)
    life.snapshot("second")
    return folders, a, alpha, life


@promise
def a_region_dies_and_the_other_goes_on_without_losing_a_snapshot(bench):
    folders, a, alpha, life = region_a(bench, "barrier")
    life.delete("first")
    life.add(40)
    life.snapshot("third")
    a.kill()
    alpha.stop()
    gone = bench.dir / "store-eu-gone"
    folders["eu"].rename(gone)

    b = Region(bench, "b", {"us": folders["us"]}, "us", {}).start()
    said = b.lock()
    expect("state of the lock in a region that knows nothing", said["state"], "frozen")
    expect(f"the way out is said: {said['reason']}", "mirror" in said["reason"], True)
    plan = b.json("promote", REPOSITORY, "--store", "us", "--writer", "beta", "--dry-run")
    expect("a dry run changes nothing", (plan["refused"], b.lock()["state"]), (None, "frozen"))
    done = b.json("promote", REPOSITORY, "--store", "us", "--writer", "beta", "--reason", "region A burns")
    note(f"cold promotion in {done['seconds']:.2f} s, from its {done['basis']}")
    expect("what the catalog was made from", done["basis"], "checkpoint")
    expect("the newest snapshot there", done["restore_point"]["newest_snapshot"]["name"], "third")
    expect("snapshots that were acknowledged under barrier", sorted(done["restore_point"]["snapshots"]), sorted(life.snapshots))
    expect("the lock", (b.lock()["state"], b.lock()["holder"]), ("held", "beta"))

    beta = OpenSearch(bench, "3.8.0", "beta").start({"default": b.accounts["beta"]})
    life.node = beta
    life.register("s3", settings())
    life.restore_all()
    beta.call("POST", "/_snapshot/shared/third/_restore?wait_for_completion=true", {"indices": ",".join(life.indices), "include_global_state": False})
    life.add(60)
    life.snapshot("fourth")
    life.restore_all()

    gone.rename(folders["eu"])
    a.start()
    frozen = a.lock()
    expect("the old primary's lock", frozen["state"], "frozen")
    expect(f"it says where the primary is: {frozen['reason']}", "store 'us' was promoted" in frozen["reason"], True)
    code, said = a.command("check-config", "--config", str(a.config))
    expect(f"check-config says it too: {said}", "store 'us' has its highest epoch" in said, True)
    for verb in (("thaw", REPOSITORY, "--recover"), ("promote", REPOSITORY, "--store", "eu", "--writer", "alpha")):
        code, said = a.command(*verb)
        expect(f"{' '.join(verb)}: {said}", (code, "snapgate failback" in said), (1, True))
    expect("state of the old primary's lock", a.lock()["state"], "frozen")
    a.stop()

    b.stop()
    b.knows(folders)
    b.start()
    wait_until(lambda: fail_back(b, "beta"), 90, "store eu answers again in region B", pause=1)
    expect("the repository is back", b.json("status", REPOSITORY)["store"], "eu")
    beta.call("DELETE", "/_snapshot/shared")
    life.register("s3", settings())
    life.restore_all()
    life.add(20)
    life.snapshot("fifth")
    code, said = b.command("verify", REPOSITORY)
    expect(f"verify after the fail-back: {said}", code, 0)
    beta.stop()
    b.stop()


def fail_back(gateway, writer):
    code, said = gateway.command("failback", REPOSITORY, "--store", "eu", "--writer", writer)
    if code != 0:
        note(f"failback: {said.strip()[-200:]}")
    return code == 0


def warnings(gateway):
    return [one["kind"] for one in gateway.json("status", REPOSITORY)["warnings"]]


@promise
def what_is_lost_is_exactly_what_promote_lists(bench):
    folders, a, alpha, life = region_a(bench, "async")
    a.mirrored()
    code, said = a.command("failback", REPOSITORY, "--store", "us")
    expect(f"a fail-back onto a mirror that was never left behind is refused: {said}", (code, "is a mirror" in said), (1, True))
    a.json("mirror", "pause", REPOSITORY, "us")
    kept = dict(life.snapshots)
    life.add(30)
    life.snapshot("lost-1")
    life.snapshot("lost-2")
    done = a.json("promote", REPOSITORY, "--store", "us", "--writer", "alpha")
    note(f"warm promotion in {done['seconds']:.2f} s, missing {done['missing']}")
    expect("snapshots that promote lists as missing", sorted(done["missing"]["snapshots"]), ["lost-1", "lost-2"])
    expect("restore points that are missing", done["missing"]["restore_points"], 2)
    alpha.call("DELETE", "/_snapshot/shared")
    life.register("s3", settings())
    life.snapshots = kept
    life.restore_all()
    life.snapshot("goes-on")

    report = a.json("drill", REPOSITORY, "--store", "us")
    expect("the newest snapshot of the rehearsal", report["restore_point"]["newest_snapshot"]["name"], "goes-on")
    expect(f"a rehearsal finds everything: {report['problems']}", (report["ok"], "goes-on" in report["restore_point"]["snapshots"]), (True, True))
    lines = a.command("mirror", "status", REPOSITORY)[1]
    expect(f"the store that was left is said to be mirrored by nobody: {lines}", "-> eu: not mirrored" in lines, True)
    expect("it is a warning", "not_mirrored" in warnings(a), True)
    expect("failback", fail_back(a, "alpha"), True)
    expect("nothing is left behind", (a.json("status", REPOSITORY)["left_behind"], "not_mirrored" in warnings(a)), (None, False))
    code, said = a.command("failback", REPOSITORY)
    expect(f"a fail-back that is repeated is refused: {said}", (code, "is a mirror" in said), (1, True))
    aside = list((folders["eu"] / ".snapgate/kept").rglob("*index-*"))
    expect("divergent roots are kept aside", bool(aside), True)
    alpha.call("DELETE", "/_snapshot/shared")
    life.register("s3", settings())
    life.restore_all()
    alpha.stop()
    a.stop()
    shutil.rmtree(folders["us"])


def killed_in_the_midst(bench, settings, enough):
    """Region A dies while its cluster takes and deletes snapshots without a pause: what the cluster knew, and where the stores are."""
    folders = {name: bench.folder(f"store-{name}") for name in ("eu", "us")}
    a = Region(bench, "a", folders, "eu", {"us": settings}).start()
    history = History(bench, a.accounts["alpha"], 7, raw=12_000)
    history.start()
    wait_until(lambda: history.error or history.acknowledged >= 8 and enough(a), 120, "some snapshots are there", pause=0.02)
    a.kill()
    history.node.kill()
    history.join(60)
    expect("the cluster is gone", history.is_alive(), False)
    return folders, history


def go_on(bench, folders, home, history):
    """Promotes the mirror cold, in a region whose gateway knows nothing, and restores all that is there; answers what `promote` said."""
    b = Region(bench, "b", folders, home, {}).start()
    done = b.json("promote", REPOSITORY, "--store", "us", "--writer", "beta", "--reason", "region A burns")
    restorer = Restorer(bench, history.sums, {"default": b.accounts["beta"]}, [], history.life)
    expect("snapshots restored from region B", restorer.from_service("default", b.accounts["beta"]), len(done["restore_point"]["snapshots"]))
    b.stop()
    return done


@promise
def killed_in_the_midst_of_snapshots_a_barrier_mirror_has_all_that_were_acknowledged(bench):
    folders, history = killed_in_the_midst(bench, 'mode = "barrier"', lambda a: True)
    folders.pop("eu").rename(bench.dir / "burnt")
    done = go_on(bench, folders, "us", history)
    expect("acknowledged snapshots that are missing", sorted(set(history.kept) - set(done["restore_point"]["snapshots"])), [])
    note(f"{len(history.kept)} acknowledged snapshots were kept of {history.acknowledged}, all are there")


@promise
def killed_in_the_midst_of_snapshots_an_async_mirror_lacks_exactly_what_promote_lists(bench):
    def behind(a):
        mirror = a.mirror("us")
        return mirror["newest_restore_point"] is not None and mirror["lag"]["restore_points"] >= 3

    folders, history = killed_in_the_midst(bench, 'mode = "async", bandwidth = "150KB/s"', behind)
    there = {name: {one["name"] for one in repository.newest_root(folder / BASE)[1]["snapshots"]} for name, folder in folders.items()}
    done = go_on(bench, folders, "eu", history)  # the gateway burnt, its store still answers
    expect("snapshots at the restore point", sorted(done["restore_point"]["snapshots"]), sorted(there["us"]))
    expect("snapshots that promote lists as missing", sorted(done["missing"]["snapshots"]), sorted(there["eu"] - there["us"]))
    lost = set(history.kept) - there["us"]
    expect("acknowledged snapshots that are lost and not listed", sorted(lost - set(done["missing"]["snapshots"])), [])
    note(f"{len(lost)} acknowledged snapshots are lost, all of them listed")
    expect("some were lost: the mirror was behind", bool(lost), True)


main()
