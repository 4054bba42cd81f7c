"""S3 services to put behind snapgate, or to read from when snapgate is gone: versitygw and MinIO."""

import os

from rig.check import CACHE
from rig.process import Process, accepts, free_port, wait_until
from rig.s3 import Account

KEY, SECRET, BUCKET = "storekey", "storesecret-0123456789", "behind"


def versitygw(bench, data=None):
    """Needs user extended attributes where `data` lies; answers the account with its bucket made."""
    return Versitygw(bench, data).start().account


class Versitygw:
    """One that can be killed, halted and started again on its port and its folder. Objects are files below `data/BUCKET`."""

    def __init__(self, bench, data=None, name="versitygw"):
        self._bench, self.name, self.port = bench, name, free_port()
        self.data = data or bench.folder(name)
        self.account = Account(self.port, KEY, SECRET, BUCKET)
        self._env = {**os.environ, "ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET}
        self._process = None

    def start(self):
        command = [CACHE / "bin/versitygw", "--quiet", "--keep-alive", "--port", f"127.0.0.1:{self.port}", "--region", "us-east-1",
                   "--iam-dir", self._bench.folder(f"{self.name}-iam"), "posix", self.data]
        again = self._process is not None
        self._process = Process(self.name, command, self._bench.dir / f"{self.name}.log", self._env)
        if again:
            self._bench.process(self._process)
            wait_until(lambda: accepts(self.port), 60, f"{self.name} listens", self._process)
        else:
            _ready(self._bench, self._process, self.port)
        return self

    def kill(self):
        self._process.kill()

    def halt(self):
        self._process.halt()

    def resume(self):
        self._process.resume()


def minio(bench):
    port = free_port()
    env = {**os.environ, "MINIO_ROOT_USER": KEY, "MINIO_ROOT_PASSWORD": SECRET, "MINIO_BROWSER": "off", "MINIO_UPDATE": "off"}
    command = [CACHE / "bin/minio", "server", "--quiet", "--address", f"127.0.0.1:{port}", bench.folder("minio")]
    return _ready(bench, Process("minio", command, bench.dir / "minio.log", env), port)


def _ready(bench, process, port):
    bench.process(process)
    wait_until(lambda: accepts(port), 60, f"{process.name} listens", process)
    account = Account(port, KEY, SECRET, BUCKET)
    made = []

    def bucket():
        try:
            account.boto().create_bucket(Bucket=BUCKET)
            made.append(True)
        except Exception as error:  # MinIO answers 503 for its first moments
            made.append(error)
        return made[-1] is True

    wait_until(bucket, 60, f"{process.name} makes a bucket", process, pause=0.2)
    return account
