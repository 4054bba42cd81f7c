"""Little of everything: descriptors, CPU time, syncs that take seconds, a store that takes no more writes, is full or is not there yet, and TERM in
the middle of 200 uploads. What was acknowledged is there, what cannot be done is refused as "try again", and nobody loses the lock over it.
"""

import contextlib
import hashlib
import http.client
import os
import pathlib
import resource
import socket
import threading
import time

from rig.check import expect, main, note, promise
from rig.gateway import BASE, REPOSITORY, Gateway, Store
from rig.postgres import Postgres
from rig.process import Process, run, wait_until
from rig.s3 import Client, Refused
from rig.stores import Versitygw
from rig.volume import Volume, in_private_mounts

DESCRIPTORS = 64
SHARE, PERIOD = 0.05, 0.1  # a twentieth of a CPU, in slices of 0.1 s
UPLOADS = 200
SYNC = 2  # seconds


def key(name):
    return f"{BASE}/indices/Xq3sGkWcTfSf6Y1nC3mBvw/0/__{hashlib.sha256(name.encode()).hexdigest()[:22]}"


def all_there(account, acknowledged):
    client = Client(account)
    for name, body in acknowledged.items():
        expect(f"acknowledged object {name}", client.get(key(name)) == body, True)


def lock(gateway):
    return gateway.ask("status", REPOSITORY)


@promise
def with_few_descriptors_connections_wait_and_nothing_acknowledged_is_lost(bench):
    gateway = Gateway(bench, "descriptors", Store.directory(bench.folder("store"))).start()
    resource.prlimit(gateway._process.pid, resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    acknowledged, refused = {}, 0
    with contextlib.ExitStack() as held:
        for _ in range(2 * DESCRIPTORS):  # more than it can have; the rest waits in the kernel
            held.enter_context(socket.create_connection(("127.0.0.1", gateway.port), timeout=5))
        for n in range(20):
            try:
                Client(gateway.account, timeout=2).put(key(f"scarce-{n}"), body := os.urandom(5000))
                acknowledged[f"scarce-{n}"] = body
            except (Refused, OSError, http.client.HTTPException) as error:
                expect("a refusal says try again", getattr(error, "status", 503), 503)
                refused += 1
        expect("the gateway runs on", gateway._process.ended(), False)
    note(f"{len(acknowledged)} acknowledged, {refused} refused or not taken while {2 * DESCRIPTORS} connections stood idle")

    def taken():
        try:
            Client(gateway.account, timeout=5).put(key("again"), b"again")
            return True
        except (Refused, OSError, http.client.HTTPException):
            return False

    wait_until(taken, 60, "it takes writes again when the connections are gone")
    all_there(gateway.account, acknowledged | {"again": b"again"})
    gateway.stop()


@promise
def with_a_twentieth_of_a_cpu_it_is_slow_and_nothing_else(bench):
    gateway = Gateway(bench, "starved", Store.directory(bench.folder("store")), clusters=("rig", "other")).start()
    before, over, acknowledged = lock(gateway), threading.Event(), {}

    def starve():
        while not over.is_set():
            gateway.halt()
            time.sleep(PERIOD * (1 - SHARE))
            gateway.resume()
            time.sleep(PERIOD * SHARE)

    thread = threading.Thread(target=starve)
    thread.start()
    try:
        client = Client(gateway.account, timeout=60)
        for n in range(40):
            client.put(key(f"starved-{n}"), body := os.urandom(20_000))
            acknowledged[f"starved-{n}"] = body
        began = time.monotonic()
        code, said = gateway.command("lock", REPOSITORY, "--writer", "other")
        expect(f"hand-over of a starved gateway ({said})", code, 0)
        note(f"a hand-over took {time.monotonic() - began:.1f} s")
    finally:
        over.set()
        thread.join()
        gateway.resume()
    all_there(gateway.account, acknowledged)
    expect("nothing is frozen", ["frozen" in str(status).lower() for status in (before, lock(gateway))], [False, False])
    gateway.stop()


@promise
def a_store_that_turns_read_only_is_told_reads_go_on_and_a_remount_heals(bench):
    volume = Volume(bench, "store", "ext4", 256)
    gateway = Gateway(bench, "read-only", Store.directory(volume.path / "store")).start()
    client, acknowledged = Client(gateway.account), {}
    for n in range(10):
        client.put(key(f"before-{n}"), body := os.urandom(5000))
        acknowledged[f"before-{n}"] = body
    volume.sync()
    run("mount", "-o", "remount,abort", volume.path)  # as after an I/O error of the disk: the file system takes no more writes
    for n in range(3):
        try:
            Client(gateway.account).put(key(f"meanwhile-{n}"), b"x")
        except Refused as refused:
            expect("the status of a write to a read-only store", refused.status, 503)
        else:
            raise AssertionError("a write was acknowledged by a store that is read-only")
    all_there(gateway.account, acknowledged)
    gateway.stop()
    volume.unmount()
    volume.mount()
    gateway.start()
    Client(gateway.account).put(key("meanwhile-0"), b"y")
    all_there(gateway.account, acknowledged | {"meanwhile-0": b"y"})
    gateway.stop()


def comes_back(gateway, acknowledged):
    """Without anybody's help it writes again, and has what was there."""

    def taken():
        try:
            Client(gateway.account).put(key("back"), b"back")
            return True
        except Refused as refused:
            expect("a refusal says try again", refused.status, 503)
            return False

    wait_until(taken, 60, "it takes writes", pause=0.2)
    all_there(gateway.account, acknowledged | {"back": b"back"})
    gateway.stop()


def refused_now(gateway, what):
    for call in (lambda client: client.put(key("meanwhile"), b"x"), lambda client: client.list(BASE)):
        try:
            call(Client(gateway.account))
        except Refused as refused:
            expect(f"the status while {what}", refused.status, 503)
        else:
            raise AssertionError(f"answered while {what}")


@promise
def started_before_its_store_it_serves_when_the_store_answers(bench):
    service = Versitygw(bench).start()
    gateway = Gateway(bench, "early", Store.service(service.account)).start()
    Client(gateway.account).put(key("before"), b"before")
    gateway.stop()
    service.kill()
    gateway.start()
    refused_now(gateway, "its store is not there")
    service.start()
    comes_back(gateway, {"before": b"before"})


@promise
def a_full_store_refuses_writes_also_after_a_restart_and_serves_when_there_is_room(bench):
    volume = Volume(bench, "store", "xfs", 512)
    gateway = Gateway(bench, "full", Store.directory(volume.path / "store")).start()
    Client(gateway.account).put(key("before"), b"before")
    filler = fill(volume)
    try:
        Client(gateway.account).put(key("meanwhile"), bytes(100_000))
    except Refused as refused:
        expect("the status of a write to a full store", refused.status, 503)
    else:
        raise AssertionError("a write was acknowledged by a store that is full")
    all_there(gateway.account, {"before": b"before"})
    gateway.stop()
    gateway.start()
    filler.unlink()
    comes_back(gateway, {"before": b"before"})


def fill(volume):
    """Takes all the room that a volume has left."""
    filler = volume.path / "filler"
    with filler.open("wb", buffering=0) as out:
        for size in (1 << 20, 4096, 1):
            with contextlib.suppress(OSError):
                while out.write(bytes(size)) == size:
                    pass
    return filler


@promise
def a_postgresql_whose_disk_is_full_is_told_loses_nothing_and_heals(bench):
    volume = Volume(bench, "database", "ext4", 256)
    home = volume.path / "server"
    home.mkdir()
    postgres = Postgres(bench, home=home).start()
    gateway = Gateway(bench, "full-database", Store.directory(bench.folder("store")), database=postgres.url).start()
    client, acknowledged = Client(gateway.account), {}
    client.put(key("before"), body := os.urandom(5000))
    acknowledged["before"] = body
    filler, refused = fill(volume), 0
    for n in range(2000):  # what its files have room for is still taken
        name, body = f"meanwhile-{n}", os.urandom(100)
        try:
            Client(gateway.account).put(key(name), body)
            acknowledged[name] = body
        except Refused as said:
            expect("a refusal says try again", said.status, 503)
            refused += 1
            if refused == 5:
                break
    expect("writes that were refused", refused, 5)
    gone = postgres.ended()  # where its log has no room it ends, as PostgreSQL does
    note(f"{len(acknowledged)} acknowledged, then refused; the server {'ended' if gone else 'goes on'}")
    if not gone:
        all_there(gateway.account, acknowledged)
    expect("the gateway runs on", gateway._process.ended(), False)
    filler.unlink()
    if postgres.ended():
        postgres.start()
    comes_back(gateway, acknowledged)
    postgres.kill()


@promise
def a_sync_that_takes_seconds_delays_answers_and_doubles_nothing(bench):
    gateway = Gateway(bench, "slow-sync", Store.directory(bench.folder("store"))).start()
    Client(gateway.account).put(key("before"), b"before")
    pid = gateway._process.pid
    slow = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync", "-e", f"inject=fsync,fdatasync:delay_exit={SYNC * 1_000_000}", "-p", str(pid)]
    tracer = bench.process(Process("strace", slow, bench.dir / "strace.log"))
    wait_until(lambda: "TracerPid:\t0\n" not in pathlib.Path(f"/proc/{pid}/status").read_text(), 30, "the gateway is traced", tracer)
    acknowledged, refused, guard = {"before": b"before"}, [], threading.Lock()

    def write(worker):
        client = Client(gateway.account, timeout=120)
        for n in range(2):
            name, body = f"slow-{worker}-{n}", os.urandom(5000)
            try:
                client.put(key(name), body)
            except Refused as said:
                expect("a refusal says try again", said.status, 503)
                refused.append(name)
                continue
            with guard:
                acknowledged[name] = body

    began = time.monotonic()
    writers = [threading.Thread(target=write, args=(worker,)) for worker in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    took = time.monotonic() - began
    tracer.kill()
    expect(f"answers waited for the syncs ({took:.1f} s)", took > SYNC, True)
    all_there(gateway.account, acknowledged)
    shown = {name for name in Client(gateway.account).list(BASE) if "/__" in name}
    expect("what shows beyond what was acknowledged", shown - {key(name) for name in acknowledged} - {key(name) for name in refused}, set())
    note(f"{len(acknowledged) - 1} of 16 writes acknowledged in {took:.1f} s with syncs of {SYNC} s, {len(refused)} told to come back")
    gateway.stop()


@promise
def told_to_end_in_the_middle_of_200_uploads_it_finishes_or_refuses_each(bench):
    gateway = Gateway(bench, "term", Store.directory(bench.folder("store"))).start()
    acknowledged, sent, guard, over = {}, {}, threading.Lock(), threading.Event()

    def upload(worker):
        with contextlib.suppress(Refused, OSError, http.client.HTTPException):
            client, n = Client(gateway.account, timeout=30), 0
            while not over.is_set():
                name, body = f"{worker}-{n}", os.urandom(200_000)
                with guard:
                    sent[name] = body
                client.put(key(name), body)
                with guard:
                    acknowledged[name] = body
                n += 1

    writers = [threading.Thread(target=upload, args=(worker,)) for worker in range(UPLOADS)]
    for writer in writers:
        writer.start()
    wait_until(lambda: len(acknowledged) > UPLOADS, 60, "all are at work")
    began = time.monotonic()
    gateway.stop()
    took = time.monotonic() - began
    over.set()
    for writer in writers:
        writer.join()
    expect(f"it ends within 30 s ({took:.1f} s)", took < 30, True)
    gateway.start()
    all_there(gateway.account, acknowledged)
    sizes = {size for name, size in Client(gateway.account).list(BASE).items() if "/__" in name}
    expect("sizes of all that shows", sizes, {200_000})
    note(f"{len(acknowledged)} of {len(sent)} uploads were acknowledged, it ended in {took:.1f} s")
    gateway.stop()


in_private_mounts()
main()
