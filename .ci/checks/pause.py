"""A gateway that is stopped in the middle of its writes, and continued many minutes after the lock was handed over.

`CYCLES` sets the minutes (20, longer than a signature is good). The seconds that CI can wait are in `several_gateways`.
"""

import os
import threading
import time

from rig.check import cycles, expect, main, note, promise
from rig.gateway import BASE, REPOSITORY
from rig.nodes import Site, key
from rig.process import wait_until
from rig.s3 import Client, Refused

MINUTES = cycles(20)
WRITERS = 8


class Writer(threading.Thread):
    """Writes names of both kinds through one node until it is refused; knows what was acknowledged."""

    def __init__(self, site, node, number):
        super().__init__()
        self._account, self._number = site.account("prod", node.port), number
        self.acknowledged, self.last, self.status = {}, None, None

    def run(self):
        client = Client(self._account, timeout=MINUTES * 60 + 300)
        while True:
            n = len(self.acknowledged)
            name = f"{self._number:02}{n:06}AAAAAAAAAAAA"
            self.last = key(f"__{name}AA") if n % 2 else f"{BASE}/snap-{name}AA.dat"
            body = os.urandom(1 << 18)
            try:
                client.call("PUT", self.last, body=body)
            except Refused as refused:
                self.status = refused.status
                return
            self.acknowledged[self.last] = body


@promise
def a_gateway_that_stood_still_for_minutes_over_a_hand_over_commits_nothing_late(bench):
    site = Site(bench, 2)
    paused, other = site.nodes
    writers = [Writer(site, paused, number) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    wait_until(lambda: all(len(writer.acknowledged) > 5 for writer in writers), 60, "writes are under way")
    paused.halt()
    try:
        stopped = time.monotonic()
        code, said = other.command("lock", REPOSITORY, "--writer", "other", "--force")
        expect(f"hand-over beside a paused node ({said})", code, 0)
        theirs = key("__b1AAAAAAAAAAAAAAAAAAA")
        site.put(theirs, b"1", "other", other.port)
        before = Client(site.account("other", other.port)).list(f"{BASE}/")
        time.sleep(max(0.0, MINUTES * 60 - (time.monotonic() - stopped)))
        expect("what is there, nobody having written", Client(site.account("other", other.port)).list(f"{BASE}/"), before)
    finally:
        paused.resume()
    for writer in writers:
        writer.join(120)
        expect("a writer of the paused node is refused", writer.status in (403, 503), True)
    for node in site.nodes:
        expect("what is there after it woke up", Client(site.account("other", node.port)).list(f"{BASE}/"), before)
        for writer in writers:
            for name, body in writer.acknowledged.items():
                expect("an acknowledged write", site.get(name, node.port), body)
        expect("the new holder's write", site.get(theirs, node.port), b"1")
    committed = sum(writer.last in before for writer in writers)
    site.put(key("__b2AAAAAAAAAAAAAAAAAAA"), b"2", "other", paused.port)
    note(f"{MINUTES} minutes; {sum(len(writer.acknowledged) for writer in writers)} writes acknowledged, "
         f"{WRITERS} refused, of which the hand-over had committed {committed}")


main()
