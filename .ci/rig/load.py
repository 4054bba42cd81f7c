"""Load by `loadtest` on gateways, and what its figures say: two gateways are compared while they work at the same time on the same core.

`LOADTEST_BIN`, else the release build of `loadtest`, makes the load; it stays on the other core.
"""

import concurrent.futures
import json
import math
import os
import pathlib
import statistics

from rig.gateway import BASE, BUCKET
from rig.process import run

CORE, OTHER = {0}, 1


def loadtest():
    return os.environ.get("LOADTEST_BIN") or pathlib.Path(os.environ["CARGO_TARGET_DIR"]) / "release/loadtest"


def load(gateway, row, seconds, connections=8):
    """The figures of one row on one gateway."""
    account, secret = gateway.account, gateway.account.secret
    said = run(loadtest(), "run", "--endpoint", account.endpoint, "--bucket", BUCKET, "--prefix", f"{BASE}/", "--access", account.key, "--secret", secret,
               "--workload", row, "--seconds", str(seconds), "--connections", str(connections), "--pid", str(gateway.pid), "--core", str(OTHER), "--json")
    return json.loads(said)[row]


def on_one_core(gateway):
    for thread in pathlib.Path(f"/proc/{gateway.pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), CORE)
    return gateway


def interval(ratios):
    """(low, middle, high): where the true ratio lies with 95 % confidence, by Student's t of the ratios' logarithms."""
    logs, z = [math.log(ratio) for ratio in ratios], statistics.NormalDist().inv_cdf(0.975)
    t = z + (z**3 + z) / (4 * (len(logs) - 1))  # Student's quantile to within 2 % of it from ten ratios on
    middle, half = statistics.mean(logs), t * statistics.stdev(logs) / math.sqrt(len(logs))
    return tuple(map(math.exp, (middle - half, middle, middle + half)))


def at_once(one, other, row, rounds, seconds=4):
    """The interval of one's operations per CPU second against the other's, and the median operations a second of both: what disturbs one disturbs both."""
    found = {one: [], other: []}
    with concurrent.futures.ThreadPoolExecutor() as both:
        for _ in range(rounds):
            for gateway, figures in zip(found, both.map(lambda gateway: load(gateway, row, seconds), found)):
                found[gateway].append(figures)
    ratios = [a["server"]["operations_per_cpu_second"] / b["server"]["operations_per_cpu_second"] for a, b in zip(found[one], found[other])]
    return interval(ratios), {gateway: statistics.median(figures["operations_per_second"] for figures in found[gateway]) for gateway in found}
