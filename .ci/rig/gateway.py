"""A snapgate on a configuration of its own: one bucket, one repository, one store, one or more clusters that may write it.

Configuration and commands are the public contract; nothing here knows the inside of the program.
"""

import http.client
import json
import os
import pathlib
import subprocess
import urllib.error
import urllib.request

from rig.process import Process, accepts, free_port, wait_until
from rig.s3 import Account

BUCKET, BASE, REPOSITORY = "backups", "base/path", "rig"
KEY, SECRET = "KEYOF", "rig-cluster-secret-0123456789"


def program():
    """The program under test: `SNAPGATE_BIN`, else the release build."""
    return pathlib.Path(os.environ.get("SNAPGATE_BIN") or pathlib.Path(os.environ["CARGO_TARGET_DIR"]) / "release/snapgate")


class Store:
    """What `[stores.X]` says: a directory, or a bucket of another S3 service."""

    def __init__(self, settings, secret=None):
        self.settings, self.secret = settings, secret

    @classmethod
    def directory(cls, path):
        path = pathlib.Path(path)
        path.mkdir(parents=True, exist_ok=True)
        return cls({"url": f"file://{path}"})

    @classmethod
    def service(cls, account):
        return cls({"url": f"s3://{account.bucket}", "endpoint": account.endpoint, "region": "us-east-1", "key": account.key}, account.secret)


class Gateway:
    """A configured gateway that can be started, killed and started again on the same ports and state."""

    def __init__(self, bench, name, store, state=None, env=None, clusters=("rig",), retention="0s", database=None, mirrors=None, more=""):
        """`more`: lines of the repository's settings; `mirrors`: name -> (Store, what else the mirror's settings say, such as `mode = "barrier"`)."""
        self._bench, self.name, self._env = bench, name, {**os.environ, "RUST_BACKTRACE": "1", **(env or {})}
        self._home = bench.folder(f"snapgate-{name}")
        self._database = database or f"sqlite:{pathlib.Path(state) if state else self._home}/state.db"
        self.port, self.admin, self.token, self._retention = free_port(), free_port(), "rig-admin-token-0123456789abcdef", retention
        self.accounts = {cluster: Account(self.port, f"{KEY}{cluster.upper()}", f"{SECRET}-{cluster}", BUCKET) for cluster in clusters}
        self.account = self.accounts[clusters[0]]
        self.log = bench.dir / f"snapgate-{name}.log"
        self.config, self._process, self._mirrors, self._more = self._home / "snapgate.toml", None, mirrors or {}, more
        self.config.write_text(self._settings(store))

    def _settings(self, store):
        keys = ""
        for cluster, account in self.accounts.items():
            self._secret(f"cluster-{cluster}", account.secret)
            keys += f'[clusters.{cluster}]\nkeys = [{{ id = "{account.key}", secret_file = "{self._home}/cluster-{cluster}" }}]\n'
        self._secret("token", self.token)
        stores = self._store("behind", store) + "".join(self._store(name, target) for name, (target, _) in self._mirrors.items())
        each = (f'{{ store = "{name}"{", " if more else ""}{more} }}' for name, (_, more) in self._mirrors.items())
        mirrors = f"mirrors = [{', '.join(each)}]\n" if self._mirrors else ""
        return f"""[s3]
listen = "127.0.0.1:{self.port}"
[admin]
listen = "127.0.0.1:{self.admin}"
token_file = "{self._home}/token"
[state]
url = "{self._database}"
{keys}{stores}[repositories.{REPOSITORY}]
bucket = "{BUCKET}"
base_path = "{BASE}"
store = "behind"
writers = {json.dumps(list(self.accounts))}
delete_retention = "{self._retention}"
{self._more}{mirrors}"""

    def _store(self, name, store):
        text = f"[stores.{name}]\n" + "".join(f'{key} = "{value}"\n' for key, value in store.settings.items() if key != "key")
        if store.secret:
            self._secret(f"store-{name}", store.secret)
            text += f'credentials = {{ id = "{store.settings["key"]}", secret_file = "{self._home}/store-{name}" }}\n'
        return text

    def _secret(self, name, value):
        path = self._home / name
        path.touch(mode=0o600)
        path.write_text(f"{value}\n")

    def launch(self):
        """Starts it and waits for nothing."""
        self._process = self._bench.process(Process(f"snapgate-{self.name}", [program(), "--config", self.config], self.log, self._env, self._home))

    def start(self):
        """Starts it and waits until it says it is ready."""
        self.launch()
        return self.wait()

    def wait(self):
        wait_until(lambda: accepts(self.port) and self._ready(), 60, "snapgate is ready", self._process)
        return self

    def _ready(self):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/readyz", timeout=5) as answer:
                return answer.status == 200
        except (OSError, http.client.HTTPException):  # not yet, or mid-start
            return False

    @property
    def pid(self):
        return self._process.pid

    def halt(self):
        """Stops it where it stands, as a machine without power does; what it asked of the kernel goes on."""
        self._process.halt()

    def resume(self):
        self._process.resume()

    def kill(self):
        self._process.kill()

    def stop(self):
        """Ends it gracefully; anything but exit 0 is an error."""
        code = self._process.stop()
        if code != 0:
            raise AssertionError(f"snapgate ended with {code} on TERM\n{self._process.tail()}")

    def command(self, *arguments):
        """A command of the program against this gateway's admin API: (exit code, output)."""
        done = self._run(*arguments)
        return done.returncode, done.stdout + done.stderr

    def ask(self, *arguments):
        """What a command prints with --json; a command that fails is an error with what it said."""
        done = self._run(*arguments, "--json")
        if done.returncode != 0:
            raise AssertionError(f"snapgate {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return json.loads(done.stdout)

    def mirror(self, store):
        """What the admin API says of one mirror, asked without a process of its own; `state` is None while it does not run."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.admin}/v1/repositories/{REPOSITORY}/mirrors/{store}",
                                         headers={"Authorization": f"Bearer {self.token}"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return {"state": None}

    def _run(self, *arguments):
        env = {**self._env, "SNAPGATE_ADMIN": f"http://127.0.0.1:{self.admin}", "SNAPGATE_TOKEN_FILE": str(self._home / "token")}
        return subprocess.run([program(), *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env, cwd=self._home, timeout=300)
