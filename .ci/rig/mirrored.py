"""A mirror at rest, beside what a gateway shows: the same names, and the same bytes as at the source."""

import filecmp

from rig import repository
from rig.check import expect
from rig.gateway import BASE
from rig.s3 import Client


def expect_same(target, account, source, folder):
    """`source` and `folder`: where the repository lies in the source and in the mirror called `target`."""
    client = Client(account)
    names = [key.removeprefix(f"{BASE}/") for key in client.list(f"{BASE}/")]
    client.close()
    expect(f"names on {target}", sorted(set(repository.files(folder, ".")) ^ set(names)), [])
    _, other, failed = filecmp.cmpfiles(source, folder, names, shallow=False)
    expect(f"files that differ on {target}", other + failed, [])
