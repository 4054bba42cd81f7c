"""S3 services to put behind snapgate, or to read from when snapgate is gone: versitygw and MinIO."""

import os

from rig.check import CACHE
from rig.process import Process, accepts, free_port, wait_until
from rig.s3 import Account

KEY, SECRET, BUCKET = "storekey", "storesecret-0123456789", "behind"


def versitygw(bench, data=None):
    """Needs user extended attributes where `data` lies; answers the account with its bucket made."""
    port, root = free_port(), data or bench.folder("versitygw")
    env = {**os.environ, "ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET}
    command = [CACHE / "bin/versitygw", "--quiet", "--keep-alive", "--port", f"127.0.0.1:{port}", "--region", "us-east-1",
               "--iam-dir", bench.folder("versitygw-iam"), "posix", root]
    return _ready(bench, Process("versitygw", command, bench.dir / "versitygw.log", env), port)


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
