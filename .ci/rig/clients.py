"""What people's clients do with an S3 service, each given the account to use: boto3, aws-cli, AWS SDK for Java v1 and v2."""

import concurrent.futures
import hashlib
import os
import random
import urllib.error
import urllib.request

import boto3.s3.transfer
import botocore.exceptions

from rig.check import CACHE, CI, expect
from rig.gateway import BASE, BUCKET
from rig.node import java
from rig.process import run
from rig.s3 import Client

MIB = 1 << 20
SIZES = (0, 1, 5 * MIB - 1, 5 * MIB, 5 * MIB + 1)
MANY, FOLDERS = 2_500, 25


def put_many(account, prefix):
    """2,500 small objects in 25 folders under `prefix` + many/."""
    def some(part):
        client = Client(account)
        for number in range(part, MANY, 8):
            client.put(f"{prefix}many/folder-{number % FOLDERS:02}/{number:05}", b"%d" % number)
        client.close()

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(some, range(8)))


def refused(status, call, **arguments):
    """The error code of a call that must be refused with `status`."""
    try:
        call(**arguments)
    except botocore.exceptions.ClientError as error:
        expect(f"status of {error}", error.response["ResponseMetadata"]["HTTPStatusCode"], status)
        return error.response["Error"]["Code"]
    raise AssertionError(f"{arguments} was not refused")


def every_byte_back(bench, account):
    """boto3: sizes around the part size, 64 MiB in parts, ranges, a copy."""
    dice = random.Random(3)
    s3, prefix = account.boto(), f"{BASE}/boto/"
    for size in SIZES:
        body = dice.randbytes(size)
        tag = s3.put_object(Bucket=BUCKET, Key=f"{prefix}{size}", Body=body)["ETag"]
        expect(f"tag of {size} bytes", tag, f'"{hashlib.md5(body).hexdigest()}"')
        expect(f"{size} bytes back", s3.get_object(Bucket=BUCKET, Key=f"{prefix}{size}")["Body"].read() == body, True)
    whole = dice.randbytes(64 * MIB)
    (bench.dir / "whole").write_bytes(whole)
    transfer = boto3.s3.transfer.TransferConfig(multipart_threshold=8 * MIB, multipart_chunksize=8 * MIB, max_concurrency=4)
    s3.upload_file(str(bench.dir / "whole"), BUCKET, f"{prefix}whole", Config=transfer, ExtraArgs={"Metadata": {"origin": "rig"}})
    s3.download_file(BUCKET, f"{prefix}whole", str(bench.dir / "back"), Config=transfer)
    expect("64 MiB back", (bench.dir / "back").read_bytes() == whole, True)
    head = s3.head_object(Bucket=BUCKET, Key=f"{prefix}whole")
    expect("length, metadata", (head["ContentLength"], head["Metadata"]), (len(whole), {"origin": "rig"}))
    for range_, wanted in (("bytes=0-0", whole[:1]), ("bytes=8388607-8388608", whole[8388607:8388609]), ("bytes=-5", whole[-5:]),
                           ("bytes=67108860-", whole[-4:]), ("bytes=67108860-99999999999", whole[-4:])):
        answer = s3.get_object(Bucket=BUCKET, Key=f"{prefix}whole", Range=range_)
        expect(f"{range_}", (answer["ResponseMetadata"]["HTTPStatusCode"], answer["Body"].read()), (206, wanted))
    expect("a range past the end", refused(416, s3.get_object, Bucket=BUCKET, Key=f"{prefix}whole", Range="bytes=67108864-"), "InvalidRange")
    s3.copy_object(Bucket=BUCKET, Key=f"{prefix}copy", CopySource={"Bucket": BUCKET, "Key": f"{prefix}5242881"})
    expect("copy", s3.get_object(Bucket=BUCKET, Key=f"{prefix}copy")["Body"].read() == s3.get_object(Bucket=BUCKET, Key=f"{prefix}5242881")["Body"].read(), True)


def thousands_listed_and_deleted(account):
    """boto3: pages, folders, batches."""
    prefix = f"{BASE}/boto/"
    s3 = account.boto()
    put_many(account, prefix)
    wanted = sorted(f"{prefix}many/folder-{number % FOLDERS:02}/{number:05}" for number in range(MANY))
    for version in ("list_objects", "list_objects_v2"):
        pages = list(s3.get_paginator(version).paginate(Bucket=BUCKET, Prefix=f"{prefix}many/"))
        expect(f"{version}: pages", [len(page["Contents"]) for page in pages], [1000, 1000, 500])
        expect(f"{version}: keys", [entry["Key"] for page in pages for entry in page["Contents"]] == wanted, True)
        pages = list(s3.get_paginator(version).paginate(Bucket=BUCKET, Prefix=f"{prefix}many/", Delimiter="/", PaginationConfig={"PageSize": 7}))
        folders = [entry["Prefix"] for page in pages for entry in page.get("CommonPrefixes", [])]
        expect(f"{version}: folders", folders, [f"{prefix}many/folder-{number:02}/" for number in range(FOLDERS)])
    after = s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{prefix}many/", StartAfter=wanted[1234], MaxKeys=2)
    expect("start after", [entry["Key"] for entry in after["Contents"]], wanted[1235:1237])
    for first in range(0, MANY, 1000):
        batch = [{"Key": key} for key in wanted[first:first + 1000]]
        answer = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": batch})
        expect("deleted", (len(answer["Deleted"]), answer.get("Errors", [])), (len(batch), []))
    expect("left", s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{prefix}many/")["KeyCount"], 0)
    expect("gone", refused(404, s3.get_object, Bucket=BUCKET, Key=wanted[0]), "NoSuchKey")


def conditions_and_presigned_addresses(account):
    """boto3: If-Match, If-None-Match, addresses that carry their own signature."""
    prefix = f"{BASE}/boto/"
    s3, key = account.boto(), f"{prefix}conditional"
    tag = s3.put_object(Bucket=BUCKET, Key=key, Body=b"one", IfNoneMatch="*")["ETag"]
    expect("create again", refused(412, s3.put_object, Bucket=BUCKET, Key=key, Body=b"two", IfNoneMatch="*"), "PreconditionFailed")
    expect("wrong tag", refused(412, s3.put_object, Bucket=BUCKET, Key=key, Body=b"two", IfMatch='"00000000000000000000000000000000"'), "PreconditionFailed")
    s3.put_object(Bucket=BUCKET, Key=key, Body=b"two", IfMatch=tag)
    expect("replaced", s3.get_object(Bucket=BUCKET, Key=key)["Body"].read(), b"two")
    expect("read unless changed", refused(412, s3.get_object, Bucket=BUCKET, Key=key, IfMatch=tag), "PreconditionFailed")
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
    part = {"PartNumber": 1, "ETag": s3.upload_part(Bucket=BUCKET, Key=key, UploadId=upload, PartNumber=1, Body=b"three")["ETag"]}
    expect("complete over it", refused(412, s3.complete_multipart_upload, Bucket=BUCKET, Key=key, UploadId=upload,
                                       MultipartUpload={"Parts": [part]}, IfNoneMatch="*"), "PreconditionFailed")
    s3.abort_multipart_upload(Bucket=BUCKET, Key=key, UploadId=upload)
    expect("open uploads", s3.list_multipart_uploads(Bucket=BUCKET, Prefix=prefix).get("Uploads", []), [])
    signing = account.boto(signature_version="s3v4")  # boto3 still presigns with SigV2 when not told otherwise
    blob, root = f"{BASE}/indices/Zm9yLWJ5LWFkZHJlc3MtMQ/0/__Zm9yLWJ5LWFkZHJlc3MtMQ", f"{BASE}/index-0"
    expect("presigned put", by_address(signing, "put_object", blob, b"by address"), (200, b""))
    expect("presigned get", by_address(signing, "get_object", blob), (200, b"by address"))
    expect("presigned put of a root, which could be replayed for days", by_address(signing, "put_object", root, b"{}")[0], 403)


def by_address(client, operation, key, body=None):
    """(status, body) of a request that carries nothing but its presigned address."""
    address = client.generate_presigned_url(operation, Params={"Bucket": BUCKET, "Key": key}, ExpiresIn=60)
    try:
        with urllib.request.urlopen(urllib.request.Request(address, body, method="PUT" if body else "GET")) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def aws_cli_there_and_back(bench, account):
    dice, local = random.Random(4), bench.folder("local")
    env = {**os.environ, "AWS_ACCESS_KEY_ID": account.key, "AWS_SECRET_ACCESS_KEY": account.secret, "AWS_DEFAULT_REGION": "us-east-1",
           "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}

    def aws(*arguments):
        return run(CACHE / "python/bin/python", "-m", "awscli", "--endpoint-url", account.endpoint, *arguments, env=env)

    for size in (*SIZES, 64 * MIB):
        (local / str(size)).write_bytes(dice.randbytes(size))
    aws("s3", "cp", "--quiet", "--recursive", local, f"s3://{BUCKET}/{BASE}/cli/")
    back = bench.folder("back")
    aws("s3", "sync", "--quiet", f"s3://{BUCKET}/{BASE}/cli/", back)
    expect("files", sorted(os.listdir(back)), sorted(os.listdir(local)))
    for file in local.iterdir():
        expect(f"{file.name} bytes", (back / file.name).read_bytes() == file.read_bytes(), True)
    expect("listed", len(aws("s3", "ls", f"s3://{BUCKET}/{BASE}/cli/").splitlines()), len(SIZES) + 1)
    aws("s3", "rm", "--quiet", "--recursive", f"s3://{BUCKET}/{BASE}/cli/")
    expect("left", Client(account).list(f"{BASE}/cli/"), {})


def java_client(account, program, jdk, jars):
    prefix = f"{BASE}/{program.lower()}/"
    put_many(account, prefix)
    said = run(jdk, "-Xmx1g", "-XX:TieredStopAtLevel=1", "-cp", ":".join(map(str, jars)), CI / f"clients/{program}.java",
               account.endpoint, account.key, account.secret, BUCKET, prefix)
    expect("last word", said.splitlines()[-1], "done")


def opensearch_jars(version):
    home = CACHE / "clusters" / f"opensearch-{version}"
    return home / "plugins/repository-s3/*", home / "modules/transport-netty4/*", home / "lib/*"


def java_sdk_v2(account, version):
    """As this version of OpenSearch carries it."""
    java_client(account, "SdkV2", java(21, 99), opensearch_jars(version))


def java_sdk_v1(account):
    """As Elasticsearch 2.4.6 carries it."""
    home = CACHE / "clusters/elasticsearch-2.4.6"
    java_client(account, "SdkV1", java(17, 23), (home / "plugins/cloud-aws/*", home / "lib/*"))
