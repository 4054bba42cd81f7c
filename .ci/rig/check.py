"""What a check file is made of: promises, each a function that gets a bench and raises when the promise is broken.

A check prints one line per promise and ends with `N passed, N failed`. A failed promise shows the end of every log and keeps its folder.
"""

import contextlib
import os
import pathlib
import shutil
import sys
import tempfile
import time
import traceback

CACHE = pathlib.Path(os.environ.get("SNAPGATE_CACHE") or pathlib.Path.home() / ".cache/snapgate")
CI = pathlib.Path(__file__).resolve().parent.parent
KEPT = 5  # folders of failed promises kept, the newest
_promises = []


def promise(function):
    """Marks a function as a promise of its check; its name is what is printed."""
    _promises.append(function)
    return function


def cycles(default):
    """How often a campaign repeats: `CYCLES` of the environment, else what CI runs."""
    return int(os.environ.get("CYCLES", default))


def expect(what, got, wanted):
    if got != wanted:
        raise AssertionError(f"{what}: got {got!r}, wanted {wanted!r}")


def note(text):
    print(f"       {text}", flush=True)


class Bench:
    """The folder and the processes of one promise."""

    def __init__(self, name):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix=f"snapgate-{name[:40]}-"))
        self.dir.chmod(0o755)  # cluster nodes run as a user that is not root
        self.processes, self._stack = [], contextlib.ExitStack()

    def process(self, process):
        """Takes care of a process: it ends with the bench, its log is shown on failure."""
        self.processes.append(process)
        self._stack.callback(process.kill)
        return process

    def on_end(self, action):
        self._stack.callback(action)

    def folder(self, name):
        made = self.dir / name
        made.mkdir(parents=True, exist_ok=True)
        return made

    def end(self):
        self._stack.close()


def _keep(bench, name):
    kept = CACHE / "failed" / f"{name}-{int(time.time())}"
    kept.parent.mkdir(parents=True, exist_ok=True)
    for old in sorted(kept.parent.iterdir(), key=os.path.getmtime)[:-KEPT]:
        shutil.rmtree(old)
    shutil.copytree(bench.dir, kept, symlinks=True, ignore=shutil.ignore_patterns("lib", "modules", "plugins", "agent", "*.img"), ignore_dangling_symlinks=True)
    return kept


def main():
    """Runs the promises of this check, or those named on the command line."""
    wanted, passed, failed = sys.argv[1:], 0, 0
    known = [function.__name__ for function in _promises]
    unknown = [name for name in wanted if name not in known]
    if unknown or not known:
        sys.exit(f"no such promise: {unknown}; there are {known}")
    for function in _promises:
        name = function.__name__
        if wanted and name not in wanted:
            continue
        bench, begin = Bench(name), time.monotonic()
        try:
            function(bench)
        except Exception:
            failed += 1
            print(f"FAILED {name} ({time.monotonic() - begin:.0f} s)\n{traceback.format_exc()}", flush=True)
            for process in {process.log: process for process in bench.processes}.values():
                print(process.tail(), flush=True)
            bench.end()
            print(f"       kept: {_keep(bench, name)}", flush=True)
        else:
            passed += 1
            print(f"ok     {name} ({time.monotonic() - begin:.0f} s)", flush=True)
            bench.end()
        shutil.rmtree(bench.dir, ignore_errors=True)
    print(f"{passed} passed, {failed} failed", flush=True)
    sys.exit(1 if failed else 0)
