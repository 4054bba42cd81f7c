"""Two sites, each with a gateway of its own, mirror to each other through each other's gateways: the target of a mirror is another snapgate.

Each site's repository lies in its own store; the other gateway keeps the copy as a repository of its own that only the mirror may write, and
what the mirror keeps for itself (anchors, checkpoints) as a second one beside it. A real OpenSearch writes both repositories, one gateway is
killed meanwhile, and everything is restored from the copies alone.
"""

from rig.check import expect, main, promise
from rig.gateway import BUCKET, REPOSITORY, Gateway, Store
from rig.life import Life
from rig.node import OpenSearch
from rig.process import wait_until

CLUSTERS = ("site", "mirror")


class Site(Gateway):
    """Its own repository in `<name>/path`, and the copy of the other site's in `copy/<other>/path`."""

    def __init__(self, bench, name, folder):
        self._other = None
        super().__init__(bench, name, Store.directory(folder), clusters=CLUSTERS)

    def mirrors_to(self, other):
        account = other.accounts["mirror"]
        self._other = other.name, Store({"url": f"s3://{BUCKET}/copy", "endpoint": account.endpoint, "region": "us-east-1", "key": account.key}, account.secret)

    def configure(self, folder):
        self.config.write_text(self._settings(Store.directory(folder)))

    def _settings(self, store):
        text = super()._settings(store)
        if self._other is None:
            return text
        other, target = self._other
        repositories = text.index(f"[repositories.{REPOSITORY}]")
        return text[:repositories] + self._store("other", target) + f"""[repositories.{REPOSITORY}]
bucket = "{BUCKET}"
base_path = "{self.name}/path"
store = "behind"
writers = ["site"]
mirrors = [{{ store = "other" }}]
[repositories.copy]
bucket = "{BUCKET}"
base_path = "copy/{other}/path"
store = "behind"
writers = ["mirror"]
[repositories.notes]
bucket = "{BUCKET}"
base_path = "copy/.snapgate"
store = "behind"
writers = ["mirror"]
"""

    def mirrored(self):
        """Waits until the other site has everything."""
        def done():
            return self.ask("mirror", "status", REPOSITORY)[0]["state"] == "in_sync"
        wait_until(done, 60, f"the mirror of {self.name} has everything", pause=0.2)


def two_sites(bench):
    folders = {name: bench.folder(f"store-{name}") for name in ("east", "west")}
    east, west = (Site(bench, name, folders[name]) for name in folders)
    east.mirrors_to(west)
    west.mirrors_to(east)
    for site in (east, west):
        site.configure(folders[site.name])
        site.start()
    return east, west


@promise
def two_sites_mirror_each_other_through_each_others_gateways(bench):
    east, west = two_sites(bench)
    clients = {"default": east.accounts["site"], "west": west.accounts["site"],
               "copy-of-east": west.accounts["mirror"], "copy-of-west": east.accounts["mirror"]}
    node = OpenSearch(bench, "3.8.0", "both").start(clients)
    lives = {site.name: Life(node, site.name, f"docs-{site.name}") for site in (east, west)}
    for site, client in ((east, "default"), (west, "west")):
        life = lives[site.name]
        life.register("s3", {"client": client, "bucket": BUCKET, "base_path": f"{site.name}/path"})
        life.create_indices()
        life.add(120)
        life.snapshot("first")
    west.kill()
    lives["east"].add(60)
    lives["east"].snapshot("second")
    west.start()
    for life in lives.values():
        life.remove_every(5)
        life.add(30)
        life.snapshot("third")
        life.delete("first")
    for site, life in ((east, lives["east"]), (west, lives["west"])):
        site.mirrored()
        copy = f"copy-of-{site.name}"
        settings = {"client": copy, "bucket": BUCKET, "base_path": f"copy/{site.name}/path", "readonly": True}
        node.call("PUT", f"/_snapshot/{copy}", {"type": "s3", "settings": settings})
        life.restore_all(copy)
        life.restore_all()
        code, said = site.command("mirror", "verify", REPOSITORY, "other", "--deep")
        expect(f"the copy of {site.name}, byte by byte: {said}", code, 0)
    for site in (east, west):
        code, said = site.command("verify", "copy", "--deep")
        expect(f"the copy in {site.name} as its own gateway reads it: {said}", code, 0)


main()
