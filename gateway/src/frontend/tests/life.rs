//! The requests that real clusters were recorded to send, in their shape: headers, framing, trailers.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use md5::{Digest as _, Md5};

use super::client::Answer;
use super::gateway::{A, Gateway};
use super::signer::{Framing, Sent, crc32};

fn md5_hex(bytes: &[u8]) -> String {
    hex::encode(Md5::digest(bytes))
}

pub(super) fn content_md5(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(Md5::digest(bytes))
}

pub(super) fn put(path: &str, body: &[u8]) -> Sent {
    Sent::new("PUT", path).body(body)
}

/// Elasticsearch 7.10 and OpenSearch 3.8: signed chunks, asks before it sends.
pub(super) fn put_chunks(path: &str, body: &[u8]) -> Sent {
    put(path, body)
        .framed(Framing::Chunks)
        .chunk(128 * 1024)
        .header(
            "amz-sdk-invocation-id",
            "d52cb17e-c863-4326-8f1b-63e8c516e42b",
        )
        .header("content-type", "application/octet-stream")
        .header("x-amz-acl", "private")
        .header("x-amz-storage-class", "STANDARD")
        .header("expect", "100-continue")
}

/// Elasticsearch 9.5 and OpenSearch 3.1: signed chunks with a signed CRC-32 trailer.
fn put_trailer(path: &str, body: &[u8]) -> Sent {
    let trailer = format!("x-amz-checksum-crc32:{}", crc32(body));
    put(path, body)
        .framed(Framing::ChunksTrailer(trailer))
        .chunk(128 * 1024)
        .header("content-encoding", "aws-chunked")
        .header("x-amz-sdk-checksum-algorithm", "CRC32")
        .header("x-amz-trailer", "x-amz-checksum-crc32")
        .header("content-type", "application/octet-stream")
}

pub(super) fn keys(answer: &Answer) -> Vec<String> {
    let text = answer.text();
    text.split("<Key>")
        .skip(1)
        .filter_map(|rest| rest.split_once("</Key>"))
        .map(|(key, _)| key.to_owned())
        .collect()
}

#[tokio::test]
async fn elasticsearch_2_writes_copies_and_deletes() {
    let gateway = Gateway::start().await;
    gateway.ask(Sent::new("HEAD", "/snapshots/")).await.ok();
    let seed = b"EQAtEF-gQhalBVEzHqVqfQ";
    let temporary = "/snapshots/base/tests-EQAtEF-gQhalBVEzHqVqfQ/master.dat-temp";
    let name = "/snapshots/base/tests-EQAtEF-gQhalBVEzHqVqfQ/master.dat";
    let mut client = gateway.connect().await;
    let signed = put_chunks(temporary, seed).sign(A);
    client.send(&signed.head).await;
    client.send(&signed.body).await;
    let answer = client.answer("PUT").await.ok();
    assert!(answer.continued);
    assert_eq!(answer.header("etag"), format!("\"{}\"", md5_hex(seed)));
    let copy = Sent::new("PUT", name).header(
        "x-amz-copy-source",
        "/snapshots/base/tests-EQAtEF-gQhalBVEzHqVqfQ/master.dat-temp",
    );
    assert_eq!(
        gateway
            .ask(copy)
            .await
            .ok()
            .field("ETag")
            .replace("&quot;", "\""),
        format!("\"{}\"", md5_hex(seed))
    );
    assert_eq!(
        gateway.ask(Sent::new("DELETE", temporary)).await.status,
        204
    );
    assert_eq!(
        gateway.ask(Sent::new("DELETE", temporary)).await.status,
        204
    );
    let list = gateway
        .ask(Sent::new(
            "GET",
            "/snapshots/?encoding-type=url&prefix=base%2Ftests-",
        ))
        .await
        .ok();
    assert_eq!(
        keys(&list),
        ["base/tests-EQAtEF-gQhalBVEzHqVqfQ/master.dat"]
    );
    assert_eq!(list.field("IsTruncated"), "false");
    let got = gateway
        .ask(Sent::new("GET", name).header("content-type", "application/octet-stream"))
        .await
        .ok();
    assert_eq!(got.body, seed);
    gateway.stop().await;
}

#[tokio::test]
async fn elasticsearch_7_deletes_in_batches_with_the_folder_among_the_keys() {
    let gateway = Gateway::start().await;
    gateway
        .ask(put_chunks("/snapshots/base/tests-x/master.dat", b"seed"))
        .await
        .ok();
    let body = "<Delete><Quiet>true</Quiet><Object><Key>base/tests-x/</Key></Object><Object><Key>base/tests-x/master.dat</Key></Object></Delete>";
    let delete = || {
        Sent::new("POST", "/snapshots?delete")
            .body(body)
            .header("content-type", "application/xml")
            .header("content-md5", BASE64_STANDARD.encode(Md5::digest(body)))
    };
    let answer = gateway.ask(delete()).await.ok();
    assert!(
        !answer.text().contains("<Deleted>") && !answer.text().contains("<Error>"),
        "{}",
        answer.text()
    );
    let list = gateway
        .ask(Sent::new(
            "GET",
            "/snapshots?delimiter=%2F&prefix=base%2Ftests-x%2F",
        ))
        .await
        .ok();
    assert!(keys(&list).is_empty());
    let verbose = body.replace("<Quiet>true</Quiet>", "");
    let delete = Sent::new("POST", "/snapshots?delete")
        .body(verbose.as_str())
        .header("content-md5", BASE64_STANDARD.encode(Md5::digest(&verbose)));
    assert_eq!(keys(&gateway.ask(delete).await.ok()).len(), 2);
    gateway.stop().await;
}

#[tokio::test]
async fn elasticsearch_9_writes_with_trailers_and_conditions() {
    let gateway = Gateway::start().await;
    let body = vec![7u8; 300_000];
    let path = "/snapshots/base/tests-y/master.dat?x-purpose=SnapshotMetadata";
    let first = put_trailer(path, &body)
        .header("if-none-match", "*")
        .header("expect", "100-continue");
    let answer = gateway.ask(first.clone()).await.ok();
    assert_eq!(answer.header("etag"), format!("\"{}\"", md5_hex(&body)));
    assert_eq!(answer.header("x-amz-checksum-crc32"), crc32(&body));
    let other = put_trailer(path, b"other").header("if-none-match", "*");
    gateway.ask(other).await.expect(412, "PreconditionFailed");
    let get = Sent::new("GET", path)
        .framed(Framing::Unsigned)
        .header("x-amz-te", "append-md5")
        .header("x-amz-checksum-crc32", "AAAAAA==");
    let got = gateway.ask(get.clone()).await.ok();
    assert_eq!(got.body, body);
    assert_eq!(got.header("x-amz-transfer-encoding"), "");
    assert_eq!(got.header("content-encoding"), "");
    assert_eq!(got.header("x-amz-checksum-crc32"), "");
    let checked = gateway
        .ask(get.clone().header("x-amz-checksum-mode", "ENABLED"))
        .await
        .ok();
    assert_eq!(checked.header("x-amz-checksum-crc32"), crc32(&body));
    assert_eq!(checked.header("x-amz-checksum-type"), "FULL_OBJECT");
    let part = get
        .clone()
        .header("range", "bytes=10-19")
        .header("x-amz-checksum-mode", "ENABLED");
    let part = gateway.ask(part).await;
    assert_eq!((part.status, part.body.len()), (206, 10));
    assert_eq!(part.header("content-range"), "bytes 10-19/300000");
    assert_eq!(part.header("x-amz-checksum-crc32"), "");
    let resumed = get
        .clone()
        .header("range", "bytes=299999-")
        .header("if-match", format!("\"{}\"", md5_hex(&body)));
    assert_eq!(gateway.ask(resumed).await.body, [7]);
    let changed = get
        .clone()
        .header("range", "bytes=0-")
        .header("if-match", "\"d41d8cd98f00b204e9800998ecf8427e\"");
    gateway.ask(changed).await.expect(412, "PreconditionFailed");
    let beyond = gateway
        .ask(get.clone().header("range", "bytes=300000-"))
        .await
        .expect(416, "InvalidRange");
    assert_eq!(beyond.header("content-range"), "bytes */300000");
    gateway
        .ask(Sent::new("GET", "/snapshots/base/tests-y/none"))
        .await
        .expect(404, "NoSuchKey");
    let missing = gateway
        .ask(Sent::new("HEAD", "/snapshots/base/index-5"))
        .await;
    assert_eq!((missing.status, missing.body.len()), (404, 0));
    let unmodified = get.header("if-none-match", format!("\"{}\"", md5_hex(&body)));
    assert_eq!(gateway.ask(unmodified).await.status, 304);
    gateway.stop().await;
}

#[tokio::test]
async fn compare_and_exchange_of_a_register() {
    let gateway = Gateway::start().await;
    let path = "/snapshots/base/temp-analysis-1/register";
    let first = gateway
        .ask(put(path, b"1").header("if-none-match", "*"))
        .await
        .ok();
    let etag = first.header("etag").to_owned();
    let absent = put("/snapshots/base/temp-analysis-1/none", b"2").header("if-match", etag.clone());
    assert!([404, 412].contains(&gateway.ask(absent).await.status));
    gateway
        .ask(put(path, b"2").header("if-match", etag.clone()))
        .await
        .ok();
    gateway
        .ask(put(path, b"3").header("if-match", etag))
        .await
        .expect(412, "PreconditionFailed");
    assert_eq!(gateway.ask(Sent::new("GET", path)).await.body, b"2");
    gateway.stop().await;
}

#[tokio::test]
async fn a_large_blob_comes_in_parts() {
    let gateway = Gateway::start().await;
    let path = "/snapshots/base/indices/u/0/__Zm9vYmFyYmF6cXV4MTIzNA";
    let create = Sent::new("POST", &format!("{path}?uploads"))
        .header("x-amz-server-side-encryption", "AES256");
    let created = gateway.ask(create).await.ok();
    assert_eq!(created.header("x-amz-server-side-encryption"), "AES256");
    let id = created.field("UploadId");
    let parts = [vec![1u8; 5 << 20], vec![2u8; 5 << 20], vec![3u8; 1000]];
    let mut document =
        String::from("<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for (at, part) in parts.iter().enumerate() {
        let number = at + 1;
        let sent = put_chunks(&format!("{path}?partNumber={number}&uploadId={id}"), part);
        let etag = gateway.ask(sent).await.ok().header("etag").to_owned();
        assert_eq!(etag, format!("\"{}\"", md5_hex(part)));
        document.push_str(&format!(
            "<Part><PartNumber>{number}</PartNumber><ETag>{}</ETag></Part>",
            etag.replace('"', "&quot;")
        ));
    }
    document.push_str("</CompleteMultipartUpload>");
    let listed = gateway
        .ask(Sent::new(
            "GET",
            &format!("{path}?max-parts=2&uploadId={id}"),
        ))
        .await
        .ok();
    assert_eq!(
        (
            listed.field("IsTruncated"),
            listed.field("NextPartNumberMarker")
        ),
        ("true".into(), "2".into())
    );
    let uploads = gateway
        .ask(Sent::new(
            "GET",
            "/snapshots?max-uploads=1000&prefix=base%2F&uploads",
        ))
        .await
        .ok();
    assert_eq!(
        (keys(&uploads).len(), uploads.field("UploadId")),
        (1, id.clone())
    );
    gateway
        .ask(Sent::new("GET", path))
        .await
        .expect(404, "NoSuchKey");
    let complete = || {
        Sent::new("POST", &format!("{path}?uploadId={id}"))
            .body(document.as_str())
            .header("content-type", "text/plain")
    };
    let done = gateway.ask(complete()).await.ok();
    assert!(done.field("ETag").ends_with("-3\""), "{}", done.text());
    let again = gateway.ask(complete()).await.ok();
    assert_eq!(again.field("ETag"), done.field("ETag"));
    let whole = gateway.ask(Sent::new("GET", path)).await.ok();
    assert!(whole.body == parts.concat());
    let second = gateway
        .ask(Sent::new("GET", &format!("{path}?partNumber=2")))
        .await;
    assert_eq!(second.status, 206);
    assert_eq!(second.header("x-amz-mp-parts-count"), "3");
    assert!(second.body == parts[1]);
    let head = gateway
        .ask(Sent::new("HEAD", &format!("{path}?partNumber=3")))
        .await
        .ok();
    assert_eq!((head.status, head.header("content-length")), (206, "1000"));
    let attributes = Sent::new("GET", &format!("{path}?attributes"))
        .header("x-amz-object-attributes", "ETag,ObjectSize,ObjectParts");
    let attributes = gateway.ask(attributes).await.ok();
    assert_eq!(
        attributes.field("ObjectSize"),
        (10 * (1 << 20) + 1000).to_string()
    );
    assert_eq!(attributes.field("PartsCount"), "3");
    gateway
        .ask(Sent::new("DELETE", &format!("{path}?uploadId=none")))
        .await
        .expect(404, "NoSuchUpload");
    gateway.stop().await;
}
