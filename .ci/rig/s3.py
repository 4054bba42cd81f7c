"""A small S3 client: one kept connection, header-signed SigV4, no retry, no hidden second request.

The crash rigs need to know which request was acknowledged; an SDK's retries would blur exactly that. The SDKs have their own check.
"""

import base64
import datetime
import hashlib
import hmac
import http.client
import urllib.parse
import xml.etree.ElementTree as xml

import boto3
import botocore.config


class Refused(Exception):
    def __init__(self, status, body):
        super().__init__(f"{status} {body[:300].decode(errors='replace')}")
        self.status = status


class Account:
    """Where requests go and who signs them."""

    def __init__(self, port, key, secret, bucket):
        self.port, self.key, self.secret, self.bucket = port, key, secret, bucket
        self.endpoint = f"http://127.0.0.1:{port}"

    def boto(self, **options):
        config = botocore.config.Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}, **options)
        return boto3.client("s3", endpoint_url=self.endpoint, aws_access_key_id=self.key, aws_secret_access_key=self.secret,
                            region_name="us-east-1", config=config)


def _hmac(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def _escape(text, safe="-_.~"):
    return urllib.parse.quote(text, safe=safe)


class Client:
    def __init__(self, account, timeout=60):
        self._account, self._timeout = account, timeout
        self._connection = http.client.HTTPConnection("127.0.0.1", account.port, timeout=timeout)

    def close(self):
        self._connection.close()

    def call(self, method, key="", query=(), body=b"", headers=()):
        """Sends one signed request; answers (headers, body), or raises Refused when the status is not 2xx."""
        account, now = self._account, datetime.datetime.now(datetime.timezone.utc)
        path = f"/{account.bucket}" + (f"/{_escape(key, '/-_.~')}" if key else "")
        line = "&".join(f"{_escape(name)}={_escape(value)}" for name, value in sorted(dict(query).items()))
        stamp, day, digest = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d"), hashlib.sha256(body).hexdigest()
        signed = {"host": f"127.0.0.1:{account.port}", "x-amz-content-sha256": digest, "x-amz-date": stamp, **dict(headers)}
        names = ";".join(sorted(signed))
        canonical = "\n".join([method, path, line, *(f"{name}:{signed[name]}" for name in sorted(signed)), "", names, digest])
        scope = f"{day}/us-east-1/s3/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        secret = f"AWS4{account.secret}".encode()
        for part in (day, "us-east-1", "s3", "aws4_request"):
            secret = _hmac(secret, part)
        signed["authorization"] = (f"AWS4-HMAC-SHA256 Credential={account.key}/{scope}, SignedHeaders={names}, "
                                   f"Signature={_hmac(secret, text).hex()}")
        del signed["host"]  # http.client sends it
        if method in ("PUT", "POST"):
            signed["content-length"] = str(len(body))
        self._connection.request(method, path + (f"?{line}" if line else ""), body if body else None, signed)
        response = self._connection.getresponse()
        answer = response.read()
        if not 200 <= response.status < 300:
            raise Refused(response.status, answer)
        if answer.lstrip().startswith((b"<?xml", b"<Error")) and b"<Error>" in answer[:400] and method == "POST" and "delete" not in dict(query):
            raise Refused(response.status, answer)  # a refusal behind an early 200
        return response.headers, answer

    def put(self, key, body, **headers):
        return self.call("PUT", key, body=body, headers=headers)[0]["etag"]

    def get(self, key):
        return self.call("GET", key)[1]

    def delete(self, key):
        self.call("DELETE", key)

    def delete_many(self, keys):
        body = "<Delete>" + "".join(f"<Object><Key>{key}</Key></Object>" for key in keys) + "<Quiet>true</Quiet></Delete>"
        digest = hashlib.md5(body.encode()).digest()
        _, answer = self.call("POST", query={"delete": ""}, body=body.encode(), headers={"content-md5": base64.b64encode(digest).decode()})
        if b"<Error>" in answer:
            raise Refused(200, answer)

    def copy(self, source, key):
        self.call("PUT", key, headers={"x-amz-copy-source": f"/{self._account.bucket}/{_escape(source, '/-_.~')}"})

    def put_parts(self, key, parts):
        """A whole multipart upload."""
        upload = _text(self.call("POST", key, {"uploads": ""})[1], "UploadId")
        tags = [self.call("PUT", key, {"partNumber": str(number), "uploadId": upload}, part)[0]["etag"] for number, part in enumerate(parts, 1)]
        body = "".join(f"<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>" for number, tag in enumerate(tags, 1))
        self.call("POST", key, {"uploadId": upload}, f"<CompleteMultipartUpload>{body}</CompleteMultipartUpload>".encode())

    def list(self, prefix=""):
        """Every key under `prefix` with its size, over all pages."""
        found, token = {}, None
        while True:
            query = {"list-type": "2", "prefix": prefix, **({"continuation-token": token} if token else {})}
            page = xml.fromstring(self.call("GET", query=query)[1])
            space = page.tag[: page.tag.index("}") + 1] if page.tag.startswith("{") else ""
            for entry in page.iter(f"{space}Contents"):
                found[entry.findtext(f"{space}Key")] = int(entry.findtext(f"{space}Size"))
            token = page.findtext(f"{space}NextContinuationToken")
            if page.findtext(f"{space}IsTruncated") != "true":
                return found


def _text(body, name):
    return next(element.text for element in xml.fromstring(body).iter() if element.tag.rpartition("}")[2] == name)
