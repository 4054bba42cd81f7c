"""Several gateways on one PostgreSQL state database and one store."""

from rig.gateway import BASE, BUCKET, KEY, SECRET, Gateway, Store
from rig.postgres import Postgres, RoundRobin
from rig.s3 import Account, Client

CLUSTERS = ("prod", "other")


class Site:
    """Nodes with one state database and one store, behind one address."""

    def __init__(self, bench, nodes):
        self.postgres = Postgres(bench, f"postgres-{nodes}").start()
        store = Store.directory(bench.folder(f"store-{nodes}"))
        self.nodes = [Gateway(bench, f"node-{n}-of-{nodes}", store, clusters=CLUSTERS, database=self.postgres.url) for n in range(nodes)]
        for node in self.nodes:  # all at once: they race for the tables
            node.launch()
        for node in self.nodes:
            node.wait()
        self.front = RoundRobin(bench, [node.port for node in self.nodes])

    def account(self, cluster, port=None):
        return Account(port or self.front.port, f"{KEY}{cluster.upper()}", f"{SECRET}-{cluster}", BUCKET)

    def put(self, key, body, cluster="prod", port=None):
        Client(self.account(cluster, port)).call("PUT", key, body=body)

    def get(self, key, port=None):
        return Client(self.account("prod", port)).call("GET", key)[1]


def key(name):
    return f"{BASE}/indices/0123456789abcdefghijkl/0/{name}"
