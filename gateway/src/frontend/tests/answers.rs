//! What answers hold: listings, headers, buckets, refusals.

use super::gateway::{A, B, Gateway};
use super::life::{content_md5, keys, put, put_chunks};
use super::signer::Sent;

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
    for path in [path, "/snapshots/base/of-nobody"] {
        let emptied = put(path, b"x").header("x-amz-meta-origin", "");
        gateway.ask(emptied).await.ok();
        let got = gateway.ask(Sent::new("HEAD", path)).await.ok();
        assert_eq!(got.headers["x-amz-meta-origin"], "");
        let itself = Sent::new("PUT", path)
            .header("x-amz-copy-source", &path[1..])
            .header("x-amz-metadata-directive", "REPLACE")
            .header("x-amz-meta-origin", "cluster-9");
        gateway.ask(itself).await.ok();
        let got = gateway.ask(Sent::new("HEAD", path)).await.ok();
        assert_eq!(got.header("x-amz-meta-origin"), "cluster-9", "{path}");
    }
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
    for unbuilt in ["/snapshots?acl", "/snapshots?policy", "/snapshots?versions"] {
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
async fn what_clients_ask_beside_the_bytes() {
    let gateway = Gateway::start().await;
    let (typed, untyped) = ("/snapshots/base/tests-t/k", "/snapshots/base/tests-t/l");
    let sent = put(typed, b"x").header("content-type", "application/octet-stream");
    gateway.ask(sent).await.ok();
    gateway.ask(put(untyped, b"x")).await.ok();
    let kind = async |path| {
        let answer = gateway.ask(Sent::new("HEAD", path)).await.ok();
        answer.header("content-type").to_owned()
    };
    assert_eq!(kind(typed).await, "application/octet-stream");
    assert_eq!(kind(untyped).await, "binary/octet-stream");
    let tagging = |path: &str| Sent::new("GET", &format!("{path}?tagging"));
    let tags = gateway.ask(tagging(typed)).await.ok();
    assert!(tags.text().contains("TagSet"), "{}", tags.text());
    assert!(!tags.text().contains("<Tag>"));
    gateway
        .ask(tagging("/snapshots/base/tests-t/none"))
        .await
        .expect(404, "NoSuchKey");
    gateway.stop().await;
}

#[tokio::test]
async fn a_copy_has_the_checksum_that_is_asked_for_or_that_its_source_has() {
    let gateway = Gateway::start().await;
    let source =
        put("/snapshots/base/tests-m/k", b"hello").header("x-amz-checksum-crc32", "NhCmhg==");
    gateway.ask(source).await.ok();
    let copy = |to| Sent::new("PUT", to).header("x-amz-copy-source", "snapshots/base/tests-m/k");
    let same = gateway.ask(copy("/snapshots/base/tests-m/l")).await.ok();
    assert_eq!(same.field("ChecksumCRC32"), "NhCmhg==");
    let other = copy("/snapshots/base/tests-m/m").header("x-amz-checksum-algorithm", "SHA1");
    let other = gateway.ask(other).await.ok();
    assert_eq!(other.field("ChecksumSHA1"), "qvTGHdzF6KLavt4PO0gs2a6pQ00=");
    let unknown = copy("/snapshots/base/tests-m/n").header("x-amz-checksum-algorithm", "MD5");
    gateway.ask(unknown).await.expect(501, "NotImplemented");
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

/// Begins an upload and answers its id.
async fn begin_upload(gateway: &Gateway, key: &str) -> String {
    let begun = Sent::new("POST", &format!("/snapshots/base/{key}?uploads"));
    gateway.ask(begun).await.ok().field("UploadId")
}

fn between<'a>(text: &'a str, open: &str, close: &str) -> Vec<&'a str> {
    text.split(open)
        .skip(1)
        .filter_map(|rest| rest.split_once(close))
        .map(|(inner, _)| inner)
        .collect()
}

#[tokio::test]
async fn uploads_under_way_are_listed_by_folders_page_by_page() {
    let gateway = Gateway::start().await;
    for key in [
        "tests-u/a/1",
        "tests-u/a/2",
        "tests-u/b",
        "tests-u/c/1",
        "tests-u/c/2",
        "tests-u/d",
    ] {
        begin_upload(&gateway, key).await;
    }
    let all = gateway
        .ask(Sent::new(
            "GET",
            "/snapshots?delimiter=%2F&prefix=base%2Ftests-u%2F&uploads",
        ))
        .await
        .ok();
    assert_eq!(keys(&all), ["base/tests-u/b", "base/tests-u/d"]);
    let text = all.text();
    let folders = between(&text, "<CommonPrefixes><Prefix>", "</Prefix>");
    assert_eq!(folders, ["base/tests-u/a/", "base/tests-u/c/"]);
    assert_eq!(all.field("IsTruncated"), "false");
    let mut seen = Vec::new();
    let mut marker = String::new();
    loop {
        let page = gateway
            .ask(Sent::new(
                "GET",
                &format!("/snapshots?delimiter=%2F&key-marker={}&max-uploads=1&prefix=base%2Ftests-u%2F&uploads", marker.replace('/', "%2F")),
            ))
            .await
            .ok();
        let text = page.text();
        seen.extend(keys(&page));
        seen.extend(
            between(&text, "<CommonPrefixes><Prefix>", "</Prefix>")
                .into_iter()
                .map(str::to_owned),
        );
        if page.field("IsTruncated") == "false" {
            break;
        }
        marker = page.field("NextKeyMarker");
    }
    assert_eq!(
        seen,
        [
            "base/tests-u/a/",
            "base/tests-u/b",
            "base/tests-u/c/",
            "base/tests-u/d"
        ]
    );
    gateway.stop().await;
}

#[tokio::test]
async fn a_delete_with_an_etag_removes_only_the_object_that_has_it() {
    let gateway = Gateway::start().await;
    let path = "/snapshots/base/tests-c/k";
    let delete = |tag: &str| Sent::new("DELETE", path).header("if-match", tag);
    gateway.ask(delete("*")).await.expect(404, "NoSuchKey");
    let written = gateway.ask(put(path, b"one")).await.ok();
    let etag = written.header("etag").to_owned();
    let other = delete("\"d41d8cd98f00b204e9800998ecf8427e\"");
    gateway.ask(other).await.expect(412, "PreconditionFailed");
    gateway.ask(Sent::new("GET", path)).await.ok();
    assert_eq!(gateway.ask(delete(&etag)).await.status, 204);
    gateway
        .ask(Sent::new("GET", path))
        .await
        .expect(404, "NoSuchKey");
    gateway.ask(put(path, b"two")).await.ok();
    assert_eq!(gateway.ask(delete("*")).await.status, 204);
    gateway.stop().await;
}

#[tokio::test]
async fn a_batch_of_deletes_compares_the_etags_it_brings() {
    let gateway = Gateway::start().await;
    let written = gateway
        .ask(put("/snapshots/base/tests-c/k", b"one"))
        .await
        .ok();
    let etag = written.header("etag").trim_matches('"').to_owned();
    gateway
        .ask(put("/snapshots/base/tests-c/l", b"two"))
        .await
        .ok();
    let object = |key: &str, etag: &str| {
        format!("<Object><Key>base/tests-c/{key}</Key><ETag>{etag}</ETag></Object>")
    };
    let body = format!(
        "<Delete>{}{}</Delete>",
        object("k", &etag),
        object("l", &etag)
    );
    let batch = Sent::new("POST", "/snapshots?delete")
        .body(body.as_str())
        .header("content-md5", content_md5(body.as_bytes()));
    let answer = gateway.ask(batch).await.ok();
    let text = answer.text();
    assert_eq!(
        between(&text, "<Deleted><Key>", "</Key>"),
        ["base/tests-c/k"]
    );
    assert_eq!(answer.field("Code"), "PreconditionFailed");
    gateway
        .ask(Sent::new("GET", "/snapshots/base/tests-c/l"))
        .await
        .ok();
    gateway.stop().await;
}

#[tokio::test]
async fn what_was_not_modified_is_named() {
    let gateway = Gateway::start().await;
    let path = "/snapshots/base/tests-n/k";
    let written = gateway.ask(put(path, b"one")).await.ok();
    let etag = written.header("etag").to_owned();
    let full = gateway.ask(Sent::new("GET", path)).await.ok();
    for method in ["GET", "HEAD"] {
        let again = Sent::new(method, path).header("if-none-match", etag.as_str());
        let answer = gateway.ask(again).await;
        assert_eq!((answer.status, answer.body.len()), (304, 0));
        assert_eq!(answer.header("etag"), etag);
        assert_eq!(answer.header("last-modified"), full.header("last-modified"));
    }
    gateway.stop().await;
}

#[tokio::test]
async fn who_signs_for_a_region_that_cannot_be_is_told_which_to_sign_for() {
    let gateway = Gateway::start().await;
    let mut client = gateway.connect().await;
    let signed = Sent::new("GET", "/snapshots?list-type=2").sign(A).bytes();
    let signed = String::from_utf8(signed).unwrap();
    client
        .send(signed.replace("/us-east-1/", "/US/").as_bytes())
        .await;
    let answer = client.answer("GET").await;
    let answer = answer.expect(400, "AuthorizationHeaderMalformed");
    assert_eq!(answer.field("Region"), "us-east-1");
    assert_eq!(answer.header("x-amz-bucket-region"), "us-east-1");
}
