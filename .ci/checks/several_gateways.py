"""Several gateways on one PostgreSQL state database: any node serves any request, a hand-over holds on all of them, a dead node's writes are ended by another."""

import http.client
import os
import re
import threading
import time

from rig import clients
from rig.check import expect, main, promise
from rig.gateway import BASE, BUCKET, REPOSITORY
from rig.life import Life
from rig.node import OpenSearch
from rig.nodes import Site, key
from rig.process import wait_until
from rig.s3 import Client, Refused

LARGE = 80_000  # bytes of noise a document; 60 of them in a shard make a segment file above the 5 MB where multipart begins


def any_node_serves_any_request(bench, nodes):
    site = Site(bench, nodes)
    names = [key(f"__blob{n:04}AAAAAAAAAAAAAA") for n in range(60)]
    for n, name in enumerate(names):
        site.put(name, f"content {n}".encode())
        for node in site.nodes:
            expect("read after write on every node", site.get(name, node.port), f"content {n}".encode())
    for node in site.nodes:
        _, listed = Client(site.account("prod", node.port)).call("GET", query={"list-type": "2", "prefix": f"{BASE}/"})
        expect("keys listed on every node", listed.count(b"<Key>"), len(names))
    client = [site.account("prod", node.port).boto() for node in site.nodes]
    big, parts = key("__bigAAAAAAAAAAAAAAAAAA"), []
    upload = client[0].create_multipart_upload(Bucket=BUCKET, Key=big)["UploadId"]
    for number in (1, 2, 3):
        made = client[number % nodes].upload_part(Bucket=BUCKET, Key=big, UploadId=upload, PartNumber=number, Body=bytes([number]) * (5 << 20))
        parts.append({"PartNumber": number, "ETag": made["ETag"]})
    client[-1].complete_multipart_upload(Bucket=BUCKET, Key=big, UploadId=upload, MultipartUpload={"Parts": parts})
    expect("bytes of an upload spread over the nodes", site.get(big), b"".join(bytes([n]) * (5 << 20) for n in (1, 2, 3)))
    for node in site.nodes:
        expect("a node is frozen", "frozen" in str(node.ask("status")).lower(), False)


@promise
def any_of_two_nodes_serves_any_request(bench):
    any_node_serves_any_request(bench, 2)


@promise
def any_of_three_nodes_serves_any_request(bench):
    any_node_serves_any_request(bench, 3)


def root_in_parts(site):
    """The newest root once more under the next number, with room between its words, each part through another node and completed by the first."""
    _, listed = Client(site.account("prod")).call("GET", query={"list-type": "2", "prefix": f"{BASE}/index-"})
    newest = max(int(number) for number in re.findall(rb"<Key>[^<]*/index-(\d+)</Key>", listed))
    root = site.get(f"{BASE}/index-{newest}")
    whole = root[:1] + b" " * (11 << 20) + root[1:]
    parts, name = [], f"{BASE}/index-{newest + 1}"
    each = [site.account("prod", node.port).boto() for node in site.nodes]
    upload = each[0].create_multipart_upload(Bucket=BUCKET, Key=name)["UploadId"]
    for number in (1, 2, 3):
        piece = whole[(number - 1) * (5 << 20):number * (5 << 20)]
        made = each[number % len(each)].upload_part(Bucket=BUCKET, Key=name, UploadId=upload, PartNumber=number, Body=piece)
        parts.append({"PartNumber": number, "ETag": made["ETag"]})
    each[0].complete_multipart_upload(Bucket=BUCKET, Key=name, UploadId=upload, MultipartUpload={"Parts": parts})
    for node in site.nodes:
        expect("the root on every node", site.get(name, node.port) == whole, True)
        points = node.ask("restore-points", REPOSITORY)
        expect("the newest restore point", max(point["generation"] for point in points), newest + 1)


@promise
def the_clients_get_back_every_byte_over_two_nodes(bench):
    account = Site(bench, 2).account("prod")
    clients.every_byte_back(bench, account)
    clients.thousands_listed_and_deleted(account)
    clients.conditions_and_presigned_addresses(account)


@promise
def the_clients_get_back_every_byte_over_three_nodes(bench):
    account = Site(bench, 3).account("prod")
    clients.aws_cli_there_and_back(bench, account)
    clients.java_sdk_v2(account, "3.8.0")


@promise
def opensearch_lives_over_two_and_three_nodes(bench):
    sites = {f"over-{nodes}": Site(bench, nodes) for nodes in (2, 3)}
    node = OpenSearch(bench, "3.8.0").start({name: site.account("prod") for name, site in sites.items()})
    for seed, (name, site) in enumerate(sites.items()):
        life = Life(node, name, name, seed)
        life.register("s3", {"client": name, "bucket": BUCKET, "base_path": BASE, "buffer_size": "5mb"})
        life.live(LARGE)
        root_in_parts(site)
        for one in site.nodes:
            expect(f"{one.name} is frozen", "frozen" in str(one.ask("status")).lower(), False)
        code, said = site.nodes[0].command("audit", "verify")
        expect(f"audit verify: {said}", code, 0)
    node.stop()


@promise
def a_hand_over_on_one_node_holds_on_the_others_at_once(bench):
    site = Site(bench, 2)
    site.put(key("__a1AAAAAAAAAAAAAAAAAAA"), b"1", port=site.nodes[0].port)
    for turn, (to, not_to) in enumerate([("other", "prod"), ("prod", "other"), ("other", "prod")]):
        asked, served = site.nodes[turn % 2], site.nodes[(turn + 1) % 2]
        code, said = asked.command("lock", REPOSITORY, "--writer", to)
        expect(f"hand-over to {to} ({said})", code, 0)
        site.put(key(f"__b{turn}AAAAAAAAAAAAAAAAAAA"), b"2", to, served.port)
        try:
            site.put(key(f"__c{turn}AAAAAAAAAAAAAAAAAAA"), b"3", not_to, served.port)
        except Refused as refused:
            expect("the old holder's write on the other node", refused.status, 403)
        else:
            raise AssertionError("the old holder wrote on the other node")


@promise
def a_node_that_dies_in_mid_write_leaves_nothing_that_another_does_not_end(bench):
    site, acknowledged, stop = Site(bench, 2), {}, threading.Event()
    victim, survivor = site.nodes

    def write(worker):
        n = 0
        while not stop.is_set():
            name, body = f"{BASE}/snap-{worker:02}{n:05}AAAAAAAAAAAAAAA.dat", os.urandom(200)
            try:
                site.put(name, body, port=victim.port)
            except (OSError, http.client.HTTPException, Refused):  # the node dies under it
                return
            acknowledged[name], n = body, n + 1

    writers = [threading.Thread(target=write, args=(worker,)) for worker in range(8)]
    for writer in writers:
        writer.start()
    wait_until(lambda: len(acknowledged) > 50, 60, "writes are under way")
    victim.kill()
    stop.set()
    for writer in writers:
        writer.join()
    for name, body in acknowledged.items():
        expect("an acknowledged write on the other node", site.get(name, survivor.port), body)
    begin = time.monotonic()
    code, said = survivor.command("lock", REPOSITORY, "--writer", "other")
    expect(f"hand-over by the survivor ({said})", code, 0)
    expect("it ends within 60 s", time.monotonic() - begin < 60, True)
    victim.start()
    site.put(key("__afterAAAAAAAAAAAAAAAA"), b"x", "other", victim.port)


@promise
def a_node_that_was_paused_over_a_hand_over_commits_nothing_late(bench):
    site = Site(bench, 2)
    paused, other = site.nodes
    site.put(key("__a1AAAAAAAAAAAAAAAAAAA"), b"1", port=paused.port)
    outcome = {}

    def late():
        try:
            site.put(f"{BASE}/snap-lateAAAAAAAAAAAAAAAAAA.dat", os.urandom(1 << 20), port=paused.port)
            outcome["status"] = 200
        except Refused as refused:
            outcome["status"] = refused.status

    paused.halt()
    try:
        writer = threading.Thread(target=late)
        writer.start()
        code, said = other.command("lock", REPOSITORY, "--writer", "other", "--force")
        expect(f"hand-over beside a paused node ({said})", code, 0)
    finally:
        paused.resume()
    writer.join()
    expect("the paused node's late write", outcome["status"] in (403, 503), True)
    site.put(key("__b1AAAAAAAAAAAAAAAAAAA"), b"2", "other", paused.port)


@promise
def a_database_that_restarts_costs_no_acknowledged_write(bench):
    site, acknowledged, failed, stop = Site(bench, 2), {}, [], threading.Event()

    def write(worker):
        n = 0
        while not stop.is_set():
            name, body = key(f"__r{worker:02}{n:06}AAAAAAAAAAA"), os.urandom(100)
            n += 1
            try:
                site.put(name, body)
                acknowledged[name] = body
            except (OSError, http.client.HTTPException, Refused) as e:
                failed.append(str(e))
                time.sleep(0.05)

    writers = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
    for writer in writers:
        writer.start()
    wait_until(lambda: len(acknowledged) > 50, 60, "writes are under way")
    site.postgres.kill()
    site.postgres.start()
    before = len(acknowledged)
    wait_until(lambda: len(acknowledged) > before + 50, 60, "writes go on after the restart")
    stop.set()
    for writer in writers:
        writer.join()
    for name, body in acknowledged.items():
        expect("an acknowledged write", site.get(name), body)


main()
