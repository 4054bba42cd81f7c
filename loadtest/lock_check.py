"""What the writer lock's check costs a PUT of 4 KiB: the gateway as it is, and one that asks `MORE` times more at each place where a PUT asks, side by
side: at the same time, on the same core. The difference, divided by `MORE`, is the check.

    PYTHONPATH=.ci LOADTEST_BIN=… SNAPGATE_BIN=… ~/.cache/snapgate/python/bin/python loadtest/lock_check.py [ROUNDS]

SNAPGATE_BIN is the release build of this tree. The other is built from a copy of it below /dev/shm, into CARGO_TARGET_DIR.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from rig import check
from rig.gateway import Gateway, Store
from rig.load import at_once, on_one_core

MORE = 200
ROOT = pathlib.Path(__file__).resolve().parent.parent
PLACES = {  # file: (what it asks there, the same so that a compiler cannot ask once for all)
    "gateway/src/repository/gate.rs": (  # twice for each PUT: before its body, and for its permit
        "lock::admit(&self.gate.row().lock, request)",
        "lock::admit(&std::hint::black_box(&self.gate).row().lock, std::hint::black_box(request))",
    ),
    "gateway/src/state/sqlite/lock.rs": (  # in the transaction
        "leave.check(&known.identity.name, &known.lock)",
        "std::hint::black_box(leave).check(&known.identity.name, std::hint::black_box(&known.lock))",
    ),
}


def asking_more(scratch):
    """A gateway that asks more: its program."""
    tree = scratch / "tree"
    tree.mkdir()
    subprocess.run("git archive HEAD | tar -x -C " + str(tree), shell=True, cwd=ROOT, check=True)
    for name, (asks, again) in PLACES.items():
        text = (tree / name).read_text()
        assert text.count(f"{asks}\n") == 1, f"{name} does not ask the lock as it did"
        more = f"for _ in 0..{MORE} {{ drop(std::hint::black_box({again})); }}\n{asks}\n"
        (tree / name).write_text(text.replace(f"{asks}\n", more))
    subprocess.run(["cargo", "build", "--ignore-rust-version", "--release", "--locked", "--package", "snapgate"], cwd=tree, check=True)
    return pathlib.Path(os.environ["CARGO_TARGET_DIR"]) / "release/snapgate"


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 25
    scratch = pathlib.Path(tempfile.mkdtemp(dir="/dev/shm", prefix="lock-check-"))
    plain, program = scratch / "plain", scratch / "more"
    plain.write_bytes(pathlib.Path(os.environ["SNAPGATE_BIN"]).read_bytes())
    program.write_bytes(asking_more(scratch).read_bytes())
    bench, gateways = check.Bench("lock-check"), []
    try:
        for name, binary in (("more", program), ("plain", plain)):
            binary.chmod(0o755)
            os.environ["SNAPGATE_BIN"] = str(binary)
            gateways.append(on_one_core(Gateway(bench, name, Store.directory(bench.folder(f"store-{name}")), retention="1d").start()))
        (low, middle, high), median = at_once(*gateways, "put-4k", rounds)
    finally:
        bench.end()
        shutil.rmtree(scratch)
    print(f"PUT 4 KiB per CPU second, asking {MORE} times more against asking once: {middle:.3f} ({low:.3f} to {high:.3f} with 95 % confidence, {rounds} rounds); "
          f"at once {median[gateways[0]]:.0f}/s and {median[gateways[1]]:.0f}/s")
    print(f"the check: {100 * (1 / middle - 1) / MORE:.2f} % of a PUT ({100 * (1 / high - 1) / MORE:.2f} to {100 * (1 / low - 1) / MORE:.2f})")


if __name__ == "__main__":
    main()
