//! The requests that real clusters were recorded to send, in their shape: headers, framing, trailers.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use md5::{Digest as _, Md5};

use super::client::Answer;
use super::gateway::{A, B, Gateway};
use super::signer::{Framing, Sent, crc32};

fn md5_hex(bytes: &[u8]) -> String {
    hex::encode(Md5::digest(bytes))
}

fn put(path: &str, body: &[u8]) -> Sent {
    Sent::new("PUT", path).body(body)
}

/// Elasticsearch 7.10 and OpenSearch 3.8: signed chunks, asks before it sends.
fn put_chunks(path: &str, body: &[u8]) -> Sent {
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

fn keys(answer: &Answer) -> Vec<String> {
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
    assert_eq!(head.header("content-length"), "1000");
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

#[tokio::test]
async fn listings_go_on_where_they_stopped() {
    let gateway = Gateway::start().await;
    for at in 0..25 {
        gateway
            .ask(put(
                &format!("/snapshots/base/tests-l/d{}/k%20{at:02}", at % 3),
                b"x",
            ))
            .await
            .ok();
    }
    let mut seen = Vec::new();
    let mut token = String::new();
    loop {
        let more = if token.is_empty() {
            String::new()
        } else {
            format!("continuation-token={token}&")
        };
        let page = gateway
            .ask(Sent::new(
                "GET",
                &format!("/snapshots?{more}list-type=2&max-keys=10&prefix=base%2Ftests-l%2F"),
            ))
            .await
            .ok();
        seen.extend(keys(&page));
        token = page.field("NextContinuationToken");
        assert_eq!(page.field("IsTruncated"), (!token.is_empty()).to_string());
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen.len(), 25);
    assert!(seen.is_sorted());
    let folders = gateway
        .ask(Sent::new(
            "GET",
            "/snapshots?delimiter=%2F&list-type=2&prefix=base%2Ftests-l%2F",
        ))
        .await
        .ok();
    assert_eq!(folders.text().matches("<CommonPrefixes>").count(), 3);
    assert_eq!(folders.field("KeyCount"), "3");
    let marked = gateway.ask(Sent::new("GET", "/snapshots?encoding-type=url&marker=base%2Ftests-l%2Fd1%2Fk%2020&max-keys=1&prefix=base%2Ftests-l%2F")).await.ok();
    assert_eq!(keys(&marked), ["base/tests-l/d1/k%2022"]);
    assert_eq!(marked.field("NextMarker"), "base/tests-l/d1/k%2022");
    let none = gateway
        .ask(Sent::new("GET", "/snapshots?list-type=2&max-keys=0"))
        .await
        .ok();
    assert_eq!(
        (none.field("KeyCount"), none.field("IsTruncated")),
        ("0".into(), "false".into())
    );
    gateway.stop().await;
}

#[tokio::test]
async fn content_headers_and_metadata_come_back_as_they_went() {
    let gateway = Gateway::start().await;
    let path = "/snapshots/base/tests-m/k";
    let sent = put(path, b"x")
        .header("content-type", "application/json")
        .header("content-encoding", "aws-chunked,gzip")
        .header("cache-control", "no-store")
        .header("x-amz-meta-origin", "cluster-7")
        .header("x-amz-storage-class", "STANDARD_IA")
        .header("x-amz-server-side-encryption", "AES256");
    assert_eq!(
        gateway
            .ask(sent)
            .await
            .ok()
            .header("x-amz-server-side-encryption"),
        "AES256"
    );
    let got = gateway.ask(Sent::new("GET", path)).await.ok();
    assert_eq!(got.header("content-type"), "application/json");
    assert_eq!(got.header("content-encoding"), "gzip");
    assert_eq!(got.header("cache-control"), "no-store");
    assert_eq!(got.header("x-amz-meta-origin"), "cluster-7");
    assert_eq!(got.header("x-amz-storage-class"), "STANDARD_IA");
    assert_eq!(got.header("accept-ranges"), "bytes");
    assert!(got.header("last-modified").ends_with("GMT"));
    let overridden = Sent::new(
        "GET",
        &format!("{path}?response-cache-control=max-age%3D1&response-content-type=text%2Fplain"),
    );
    let got = gateway.ask(overridden).await.ok();
    assert_eq!(
        (got.header("content-type"), got.header("cache-control")),
        ("text/plain", "max-age=1")
    );
    let head = gateway.ask(Sent::new("HEAD", path)).await.ok();
    assert_eq!(
        (
            head.header("x-amz-meta-origin"),
            head.header("content-length")
        ),
        ("cluster-7", "1")
    );
    let replaced = Sent::new("PUT", "/snapshots/base/tests-m/l")
        .header("x-amz-copy-source", "snapshots/base/tests-m/k")
        .header("x-amz-metadata-directive", "REPLACE")
        .header("x-amz-meta-origin", "cluster-8");
    gateway.ask(replaced).await.ok();
    let got = gateway
        .ask(Sent::new("HEAD", "/snapshots/base/tests-m/l"))
        .await
        .ok();
    assert_eq!(
        (
            got.header("x-amz-meta-origin"),
            got.header("content-encoding")
        ),
        ("cluster-8", "")
    );
    let big = put(path, b"x").header("x-amz-meta-big", "x".repeat(2048));
    gateway.ask(big).await.expect(400, "MetadataTooLarge");
    gateway.stop().await;
}

#[tokio::test]
async fn buckets_exist_by_configuration() {
    let gateway = Gateway::start().await;
    let list = gateway.ask(Sent::new("GET", "/")).await.ok();
    assert!(list.text().contains("<Name>snapshots</Name>") && !list.text().contains("private"));
    gateway.ask(Sent::new("PUT", "/snapshots")).await.ok();
    gateway
        .ask(Sent::new("PUT", "/new"))
        .await
        .expect(403, "AccessDenied");
    gateway
        .ask(Sent::new("DELETE", "/snapshots"))
        .await
        .expect(403, "AccessDenied");
    assert_eq!(gateway.ask(Sent::new("HEAD", "/other")).await.status, 404);
    gateway
        .ask(Sent::new("GET", "/other?list-type=2"))
        .await
        .expect(404, "NoSuchBucket");
    let location = gateway
        .ask(Sent::new("GET", "/snapshots?location"))
        .await
        .ok();
    assert!(location.text().contains("LocationConstraint"));
    gateway
        .ask(Sent::new("GET", "/snapshots?versioning"))
        .await
        .ok();
    for unbuilt in [
        "/snapshots?acl",
        "/snapshots?policy",
        "/snapshots/base/k?tagging",
        "/snapshots?versions",
    ] {
        gateway
            .ask(Sent::new("GET", unbuilt))
            .await
            .expect(501, "NotImplemented");
    }
    // Only a hint of the client's: the request is what it is.
    gateway
        .ask(Sent::new(
            "GET",
            "/snapshots?list-type=2&x-id=DeleteObjects",
        ))
        .await
        .ok();
    gateway.stop().await;
}

#[tokio::test]
async fn virtual_hosted_style_is_the_same_bucket() {
    let gateway = Gateway::start().await;
    let sent = put("/base/tests-v/k", b"x").header("host", "snapshots.s3.example:9000");
    gateway.ask(sent).await.ok();
    assert_eq!(
        gateway
            .ask(Sent::new("GET", "/snapshots/base/tests-v/k"))
            .await
            .ok()
            .body,
        b"x"
    );
    let list = gateway
        .ask(Sent::new("GET", "/?list-type=2").header("host", "snapshots.s3.example"))
        .await
        .ok();
    assert_eq!(keys(&list), ["base/tests-v/k"]);
    gateway.stop().await;
}

#[tokio::test]
async fn a_reader_is_refused_before_the_body() {
    let gateway = Gateway::start().await;
    let mut client = gateway.connect().await;
    let signed = put_chunks("/snapshots/base/tests-r/k", &vec![0; 1 << 20]).sign(B);
    client.send(&signed.head).await;
    let answer = client.answer("PUT").await.expect(403, "AccessDenied");
    assert!(!answer.continued);
    assert!(
        answer.field("Message").contains("prod"),
        "{}",
        answer.text()
    );
    assert_eq!(answer.field("Resource"), "/snapshots/base/tests-r/k");
    assert!(client.closed().await);
    gateway
        .ask(Sent::new("GET", "/snapshots/base/tests-r/k"))
        .await
        .expect(404, "NoSuchKey");
    gateway.stop().await;
}
