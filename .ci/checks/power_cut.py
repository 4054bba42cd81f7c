"""The power fails in the middle of writes, on ext4 and on XFS: what was acknowledged is there byte for byte after the next start.

State database and store lie on two volumes, so that a sync of one does not carry the other along. The same rig must catch a gateway
that publishes a file without syncing its directory: a rig that cannot see that sees nothing. The gateway is stopped where it stands before
the volumes go: a file system that was shut down lets a sync that is under way return without an error, which no machine without power sees. `CYCLES` sets how often (CI: 100 each).
"""

import os
import random
import shutil
import time

from rig.check import cycles, expect, main, note, promise
from rig.crash import Ledger, Loss, Storm, inspect
from rig.gateway import BASE, Gateway, Store
from rig.s3 import Client
from rig.volume import Volume, files_of, in_private_mounts

SYNC_SKIPPED = {"SNAPGATE_FAILPOINT": "skip-dir-fsync"}
SWEEP = 25


def cut_over_and_over(bench, kind, count, env=None):
    seed = int(os.environ.get("SEED", time.time_ns() % 1_000_000))
    dice, ledger = random.Random(seed), Ledger()
    state, bytes_ = Volume(bench, "state", kind, 512), Volume(bench, "store", kind, 1024)
    store = bytes_.path / "store"
    # uploads that a cut leaves open are ended by a later start: a long campaign does not fill the volumes
    gateway = Gateway(bench, f"cut-{kind}", Store.directory(store), state.path, env, more='uploads_end_after = "1s"\n')
    bytes_.sync()  # the empty store folder itself is not what is tested
    for cycle in range(count + 1):
        gateway.start()
        try:
            inspect(gateway.account, ledger, files_of(store), every_key=cycle % SWEEP == 0 or cycle == count)
        except Loss as error:
            raise Loss(f"seed {seed}, after {cycle} cuts: {error}") from None
        if cycle == count:
            break
        storm = Storm(gateway.account, ledger, seed + cycle)
        time.sleep(dice.uniform(0.03, 0.30))
        gateway.halt()
        ledger.lights_out()
        for volume in dice.sample((state, bytes_), 2):
            volume.cut_power()
        gateway.kill()
        storm.end()
        for volume in (state, bytes_):
            volume.unmount()
            volume.mount()
    gateway.stop()
    note(f"seed {seed}: {count} cuts on {kind}, {ledger.acknowledged} acknowledged writes")
    if ledger.acknowledged < count:
        raise AssertionError("fewer acknowledged writes than cuts: the storm never blew")


def catches_the_skipped_sync(bench, kind):
    try:
        cut_over_and_over(bench, kind, cycles(100), SYNC_SKIPPED)
    except Loss as loss:
        note(str(loss).splitlines()[0])
        return
    raise AssertionError("the rig did not notice that the directory is never synced")


def cut_first_starts(bench, kind, count):
    """The power fails while the state database is being made; the next start makes it good and serves."""
    seed = int(os.environ.get("SEED", time.time_ns() % 1_000_000))
    dice = random.Random(seed)
    state, bytes_ = Volume(bench, "state", kind, 512), Volume(bench, "store", kind, 512)
    for cycle in range(count):
        home = state.path / f"state-{cycle}"
        home.mkdir()
        gateway = Gateway(bench, f"first-{cycle}", Store.directory(bytes_.path / f"store-{cycle}"), home)
        state.sync()
        bytes_.sync()
        gateway.launch()
        time.sleep(dice.uniform(0.0, 0.12))
        gateway.halt()
        for volume in dice.sample((state, bytes_), 2):
            volume.cut_power()
        gateway.kill()
        for volume in (state, bytes_):
            volume.unmount()
            volume.mount()
        gateway.start()
        client = Client(gateway.account)
        client.put(f"{BASE}/after-the-cut", b"served")
        expect(f"seed {seed}, cut {cycle}: what was written", client.get(f"{BASE}/after-the-cut"), b"served")
        client.close()
        gateway.stop()
        for used in (home, bytes_.path / f"store-{cycle}"):  # the volumes are small, a campaign is long
            shutil.rmtree(used)
    note(f"seed {seed}: {count} first starts cut on {kind}")


@promise
def power_cuts_during_the_first_start_leave_it_able_to_start(bench):
    cut_first_starts(bench, "ext4", max(1, cycles(100) // 4))


@promise
def power_cuts_on_ext4_lose_nothing_acknowledged(bench):
    cut_over_and_over(bench, "ext4", cycles(100))


@promise
def power_cuts_on_xfs_lose_nothing_acknowledged(bench):
    cut_over_and_over(bench, "xfs", cycles(100))


@promise
def power_cuts_on_ext4_expose_a_skipped_directory_sync(bench):
    catches_the_skipped_sync(bench, "ext4")


@promise
def power_cuts_on_xfs_expose_a_skipped_directory_sync(bench):
    catches_the_skipped_sync(bench, "xfs")


in_private_mounts()
main()
