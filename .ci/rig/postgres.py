"""A PostgreSQL server of the check's own, on 127.0.0.1; and a round-robin TCP proxy, as a load balancer before several gateways is."""

import pathlib
import select
import socket
import subprocess
import threading

from rig.process import Process, accepts, free_port, wait_until


def programs():
    """Debian's `postgresql`, the newest version there is."""
    versions = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if not versions:
        raise AssertionError("this check needs PostgreSQL: apt-get install postgresql")
    return versions[-1]


class Postgres:
    def __init__(self, bench, name="postgres", home=None):
        self._bench, self.name, self._home, self.port = bench, name, home or bench.folder(name), free_port()
        self._home.chmod(0o777)
        self._data, self.url = self._home / "data", f"postgres://snapgate@127.0.0.1:{self.port}/postgres"
        subprocess.run([*self._as_postgres(), programs() / "initdb", "--auth=trust", "--username=snapgate", "--encoding=UTF8", "--locale=C", "-D", self._data],
                       check=True, capture_output=True, cwd="/")

    @staticmethod
    def _as_postgres():
        """initdb and postgres refuse root."""
        return ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]

    def start(self):
        command = [*self._as_postgres(), programs() / "postgres", "-D", self._data, "-p", str(self.port), "-c", "listen_addresses=127.0.0.1",
                   "-c", "unix_socket_directories="]
        self._process = self._bench.process(Process(self.name, command, self._bench.dir / f"{self.name}.log", cwd="/"))
        wait_until(lambda: subprocess.run([programs() / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)], check=False).returncode == 0,
                   60, "PostgreSQL answers", self._process)
        return self

    @property
    def pid(self):
        return self._process.pid

    def ended(self):
        return self._process.ended()

    def kill(self):
        self._process.kill()


class RoundRobin:
    """Each connection goes to the next target that takes it."""

    def __init__(self, bench, ports):
        self.port, self._ports, self._turn = free_port(), list(ports), 0
        self._listener = socket.create_server(("127.0.0.1", self.port))
        bench.on_end(self._listener.close)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed at the end of the check
                return
            for _ in self._ports:
                self._turn += 1
                try:
                    target = socket.create_connection(("127.0.0.1", self._ports[self._turn % len(self._ports)]), timeout=5)
                except OSError:
                    continue
                threading.Thread(target=_join, args=(client, target), daemon=True).start()
                break
            else:
                client.close()


def _join(one, other):
    peer = {one: other, other: one}
    try:
        while True:
            for ready in select.select([one, other], [], [])[0]:
                data = ready.recv(65536)
                if not data:
                    return
                peer[ready].sendall(data)
    except OSError:
        pass
    finally:
        one.close()
        other.close()
