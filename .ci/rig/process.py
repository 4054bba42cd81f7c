"""One child process: its log, its pid, its end. Nothing here outlives the check that started it."""

import contextlib
import ctypes
import os
import pathlib
import signal
import socket
import subprocess
import time

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def free_port():
    """A port nobody listens on now. Another process could take it before we do; the start then fails loudly."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def accepts(port):
    with contextlib.closing(socket.socket()) as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(condition, seconds, what, alive=None, pause=0.01):
    """Polls `condition` until it holds; a process that ended meanwhile, or the deadline, is an error that says so."""
    deadline = time.monotonic() + seconds
    while not condition():
        if alive is not None and alive.ended():
            raise AssertionError(f"{alive.name} ended with {alive.code()} before: {what}\n{alive.tail()}")
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}\n{alive.tail() if alive else ''}")
        time.sleep(pause)


class Process:
    def __init__(self, name, command, log, env=None, cwd=None, user=None, stdin=subprocess.DEVNULL):
        self.name, self.log = name, pathlib.Path(log)
        with open(self.log, "ab") as out:
            self._child = subprocess.Popen(
                [str(part) for part in command], stdin=stdin, stdout=out, stderr=subprocess.STDOUT,
                env=env, cwd=cwd, user=user, group=user, extra_groups=[] if user else None, preexec_fn=_die_with_parent,
            )
        self.pid = self._child.pid

    def ended(self):
        return self._child.poll() is not None

    def code(self):
        return self._child.poll()

    def stop(self, seconds=40):
        """Asks by TERM, and after `seconds` by KILL; answers the exit code."""
        if not self.ended():
            self._child.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(seconds)
        return self.kill()

    def halt(self):
        """Stops it where it stands; returns when each of its threads does, or has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGSTOP)
        wait_until(self._stands, 10, f"{self.name} stands still", pause=0.001)

    def _stands(self):
        try:
            states = [_state(thread / "stat") for thread in pathlib.Path(f"/proc/{self.pid}/task").iterdir()]
        except FileNotFoundError:
            return True
        return all(state in "TZX" for state in states)

    def resume(self):
        with contextlib.suppress(ProcessLookupError):  # it had ended before it was halted
            os.kill(self.pid, signal.SIGCONT)

    def kill(self):
        if not self.ended():
            self._child.kill()
        return self._child.wait()

    def tail(self, lines=25):
        text = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(f"    {self.name} | {line[:400]}" for line in text[-lines:])


def _state(path):
    try:
        return path.read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"  # the thread ended


def _die_with_parent():
    os.setsid()
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def run(*command, **options):
    """A command that must succeed; its output is the message when it does not."""
    done = subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL, capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout
