"""What a mirror may cost and how fast it must be: bars, measured. Meaningful on a machine that does nothing else, so only by name.

`LOADTEST_BIN`, else the release build of `loadtest`, makes the load. `loadtest/RESULTS.md`, "The mirror", has the results.
"""

import os
import pathlib
import shutil
import statistics
import subprocess
import time

from rig.check import CACHE, expect, main, note, promise
from rig.gateway import BASE, BUCKET, REPOSITORY, Gateway, Store
from rig.life import Life
from rig.load import at_once, load, on_one_core
from rig.node import OpenSearch
from rig.process import free_port, run, wait_until
from rig.s3 import Account, Client
from rig.stores import KEY, SECRET, Versitygw

MIB = 1 << 20


def dead():
    """An S3 service that nobody runs."""
    return Store.service(Account(free_port(), KEY, SECRET, "gone"))


def resident(gateway, what="VmHWM"):
    """MiB: the most that was resident (VmHWM), or what is now (VmRSS)."""
    lines = pathlib.Path(f"/proc/{gateway.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(what)).split()[1]) / 1024


def in_sync(gateway, store, seconds=600, pause=0.02):
    wait_until(lambda: gateway.mirror(store)["state"] == "in_sync", seconds, f"mirror {store} has everything", pause=pause)


@promise
def a_mirror_has_a_snapshot_within_a_second_of_its_end(bench):
    service = Versitygw(bench).start()
    mirrors = {"near": (Store.directory(bench.folder("mirror")), ""), "far": (Store.service(service.account), "")}
    gateway = Gateway(bench, "mirrored", Store.directory(bench.folder("source")), mirrors=mirrors).start()
    node = OpenSearch(bench, "3.8.0").start({"default": gateway.account})
    life = Life(node, "through", "b")
    life.register("s3", {"bucket": BUCKET, "base_path": BASE})
    life.create_indices()
    took = {name: [] for name in mirrors}
    for number in range(20):
        life.add(60, raw=10_000)
        node.call("PUT", f"/_snapshot/through/snap-{number}?wait_for_completion=true", {"indices": ",".join(life.indices)})
        ended = time.monotonic()
        for name in mirrors:
            in_sync(gateway, name, pause=0.005)
            took[name].append(time.monotonic() - ended)
    for name, times in took.items():
        note(f"{name}: median {statistics.median(times):.3f} s, longest {max(times):.3f} s after the snapshot's end, of {len(times)}")
    expect("within a second", max(map(max, took.values())) < 1, True)
    gateway.stop()


def fill(gateway, mib):
    """Blobs in the proportions of a snapshot: many small files, few large ones; their number."""
    client, written, count = Client(gateway.account), 0, 0
    sizes = [4 << 10] * 40 + [16 << 10] * 20 + [64 << 10] * 15 + [256 << 10] * 10 + [MIB] * 8 + [4 * MIB] * 4 + [16 * MIB] * 2 + [64 * MIB]
    noise = os.urandom(64 * MIB)
    while written < mib * MIB:
        for size in sizes:
            at = count * 977 % (64 * MIB - size + 1)
            client.put(f"{BASE}/indices/fill-fill-fill-fill-fil/{count % 5}/__{count:022}", noise[at : at + size])
            written, count = written + size, count + 1
    client.close()
    return count


def rclone(bench, source, target):
    """Seconds of one `rclone copy` with as many transfers as a mirror has."""
    begin = time.monotonic()
    run(CACHE / "bin/rclone", "--config", "/dev/null", "copy", source, target, "--exclude", "/.snapgate/**", "--transfers", "16", "--checkers", "16",
        "--ignore-checksum", cwd=bench.dir)
    return time.monotonic() - begin


@promise
def a_mirror_is_nearly_as_fast_as_a_plain_copy(bench):
    service = Versitygw(bench).start()
    folder, source = bench.folder("mirror"), bench.folder("source")
    mirrors = {"near": (Store.directory(folder), ""), "far": (Store.service(service.account), "")}
    gateway = Gateway(bench, "mirrored", Store.directory(source), mirrors=mirrors).start()
    for name in mirrors:
        in_sync(gateway, name)
        gateway.ask("mirror", "pause", REPOSITORY, name)
    count = fill(gateway, int(os.environ.get("MIB", "600")))
    size = gateway.mirror("near")["lag"]["bytes"] / MIB
    s3 = f":s3,provider=Other,access_key_id={KEY},secret_access_key={SECRET},endpoint='{service.account.endpoint}',region=us-east-1:{service.account.bucket}"
    plain = {"near": bench.dir / "copied", "far": f"{s3}/copied"}
    ratios = {}
    for name in mirrors:
        first = rclone(bench, source, f"{plain[name]}-1")
        begin = time.monotonic()
        gateway.ask("mirror", "resume", REPOSITORY, name)
        in_sync(gateway, name)
        mirrored = time.monotonic() - begin
        second = rclone(bench, source, f"{plain[name]}-2")
        ratios[name] = statistics.mean((first, second)) / mirrored
        note(f"{name}: {count} objects, {size:.0f} MiB: mirror {mirrored:.2f} s ({size / mirrored:.0f} MiB/s), rclone copy {first:.2f} and {second:.2f} s, "
             f"ratio {ratios[name]:.2f}")
    expect("at least 0.9 of rclone's speed", min(ratios.values()) >= 0.9, True)
    gateway.stop()


@promise
def a_dead_target_costs_the_source_nothing(bench):
    """PUTs per second of CPU, of two gateways that work at the same time on the same core: what disturbs one disturbs the other. The
    bar is reached if the ratio is not below it with 95 % confidence."""
    kept = "1d"  # what the load removes is not reaped while it runs: a mirror would keep it from that
    alone = on_one_core(Gateway(bench, "alone", Store.directory(bench.folder("alone")), retention=kept).start())
    mirrored = on_one_core(Gateway(bench, "mirrored", Store.directory(bench.folder("source")), retention=kept, mirrors={"dead": (dead(), "")}).start())
    (low, middle, high), median = at_once(mirrored, alone, "put-4k", int(os.environ.get("ROUNDS", "25")))
    note(f"PUT 4 KiB per CPU second, with a dead target against without a mirror: {middle:.3f} ({low:.3f} to {high:.3f} with 95 % confidence); "
         f"both at once {median[mirrored]:.0f}/s and {median[alone]:.0f}/s; {mirrored.mirror('dead')['lag']['operations']} operations behind")
    expect("at least 0.98", low >= 0.98, True)
    alone.kill()
    mirrored.kill()


@promise
def a_million_pending_entries_cost_no_memory(bench):
    """Each side gets the same load; only one has a mirror."""
    wanted = int(os.environ.get("ENTRIES", "1000000"))
    top = pathlib.Path(os.environ.get("SCRATCH", bench.dir))
    service = Versitygw(bench)
    peaks = {}
    for name in ("alone", "mirrored"):
        store = Store.directory(top / f"{name}-{os.getpid()}")
        mirrors = {"far": (Store.service(service.account), "")} if name == "mirrored" else {}
        gateway, begin = Gateway(bench, name, store, retention="1d", mirrors=mirrors).start(), time.monotonic()
        idle = resident(gateway)
        rounds, entries = 0, 0
        while entries < wanted:
            entries += 2 * load(gateway, "put-4k", 10, connections=32)["operations"]  # written, and removed after
            rounds += 1
        peaks[name] = resident(gateway) - idle
        behind = gateway.mirror("far")["lag"] if mirrors else None
        note(f"{name}: {entries} entries in {time.monotonic() - begin:.0f} s, idle {idle:.1f} MiB, peak {peaks[name]:.1f} above; lag {behind}")
        if mirrors:
            expect("all of them are pending", behind["operations"] >= wanted, True)
            begin = time.monotonic()
            gateway.mirror("far")
            note(f"a status with all that pending takes {time.monotonic() - begin:.3f} s")
            service.start()
            begin = time.monotonic()
            in_sync(gateway, "far", seconds=1800, pause=1)
            note(f"drained to versitygw in {time.monotonic() - begin:.0f} s, peak {resident(gateway) - idle:.1f} MiB above idle")
            peaks["drained"] = resident(gateway) - idle
        gateway.kill()
        shutil.rmtree(top / f"{name}-{os.getpid()}")
    expect("at most 64 MiB more", max(peaks["mirrored"], peaks["drained"]) - peaks["alone"] <= 64, True)


@promise
def a_hundred_thousand_objects_are_promoted_in_time(bench):
    """Warm (5 s) and cold (60 s), from a directory and from versitygw; `REPOSITORY_MAKER` is the example `make_repository` of `policies`."""
    service = Versitygw(bench).start()
    source, mirror = bench.folder("source"), bench.folder("mirror")
    subprocess.run([os.environ["REPOSITORY_MAKER"], source / BASE, "100000"], check=True, stdout=subprocess.DEVNULL)
    mirrors = {"near": (Store.directory(mirror), ""), "far": (Store.service(service.account), "")}
    a = Gateway(bench, "a", Store.directory(source), mirrors=mirrors).start()
    begin = time.monotonic()
    a.ask("adopt", REPOSITORY)
    note(f"adopted in {time.monotonic() - begin:.1f} s: {a.ask('status', REPOSITORY)['objects']}")
    begin = time.monotonic()
    for name in mirrors:
        in_sync(a, name, seconds=900, pause=0.2)
        note(f"mirror {name} has everything after {time.monotonic() - begin:.1f} s")
    second, seconds = bench.dir / "mirror-2", {}
    run("cp", "-a", mirror, second)
    os.sync()  # the promotion's transactions do not wait for the copy's inodes
    done = a.ask("promote", REPOSITORY, "--store", "near", "--writer", "rig", "--reason", "a measurement")
    seconds["warm"] = done["seconds"]
    note(f"warm promotion onto a directory: {done['seconds']:.2f} s")
    in_sync(a, "far", pause=0.2)  # it follows the new primary
    a.stop()
    for name, store in (("directory", Store.directory(second)), ("versitygw", Store.service(service.account))):
        b = Gateway(bench, f"cold-{name}", store).start()
        done = b.ask("promote", REPOSITORY, "--store", "behind", "--writer", "rig", "--reason", "a measurement")
        seconds[f"cold {name}"] = done["seconds"]
        note(f"cold promotion from {name}: {done['seconds']:.2f} s, from its {done['basis']}; peak {resident(b):.0f} MiB")
        b.stop()
    expect(f"in time: {seconds}", seconds["warm"] < 5 and max(seconds.values()) < 60, True)


main()
