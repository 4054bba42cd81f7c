//! Bad input on the wire, continued: what a request asks for, and how its bytes are framed.

use super::attacks::{PATH, put, raw, unseen};
use super::gateway::{A, Gateway};
use super::signer::{Framing, Sent};

#[tokio::test]
async fn row_26_and_50_what_the_caller_may_not_read_is_not_copied() {
    let gateway = Gateway::start().await;
    let mut client = gateway.connect().await;
    let private = Sent::new("PUT", "/private/tests-p/k")
        .body("secret")
        .sign(super::gateway::B);
    client.send(&private.bytes()).await;
    client.answer("PUT").await.ok();
    gateway
        .ask(Sent::new("GET", "/private/tests-p/k"))
        .await
        .expect(403, "AccessDenied");
    gateway
        .ask(Sent::new("GET", "/private?list-type=2"))
        .await
        .expect(403, "AccessDenied");
    let copy = Sent::new("PUT", PATH).header("x-amz-copy-source", "private/tests-p/k");
    gateway.ask(copy).await.expect(403, "AccessDenied");
    let elsewhere = Sent::new("PUT", PATH).header("x-amz-copy-source", "unmapped/k");
    gateway.ask(elsewhere).await.expect(404, "NoSuchBucket");
    gateway
        .ask(Sent::new("GET", "/unmapped/k"))
        .await
        .expect(404, "NoSuchBucket");
    let itself = Sent::new("PUT", PATH).header("x-amz-copy-source", &PATH[1..]);
    gateway.ask(itself).await.expect(400, "InvalidRequest");
    unseen(&gateway).await;
    gateway.stop().await;
}

#[tokio::test]
async fn row_31_and_44_documents_are_bounded_and_plain() {
    use base64::Engine as _;
    use md5::Digest as _;
    let gateway = Gateway::start().await;
    let delete = |body: &str| {
        let md5 = base64::prelude::BASE64_STANDARD.encode(md5::Md5::digest(body));
        Sent::new("POST", "/snapshots?delete")
            .body(body)
            .header("content-md5", md5)
    };
    let keys = |n: usize| {
        format!(
            "<Delete>{}</Delete>",
            "<Object><Key>base/tests-a/x</Key></Object>".repeat(n)
        )
    };
    gateway.ask(delete(&keys(1000))).await.ok();
    for bad in [
        keys(1001),
        keys(0),
        "<!DOCTYPE x [<!ENTITY a \"b\">]><Delete><Object><Key>&a;</Key></Object></Delete>"
            .to_owned(),
        format!(
            "<Delete>{}{}</Delete>",
            "<a>".repeat(50_000),
            "</a>".repeat(50_000)
        ),
        keys(1).replace("<Delete>", "<Delete xmlns=\"urn:x\">"),
        "<Delete><Object></Object></Delete>".to_owned(),
        "nonsense".to_owned(),
        keys(1).replace("</Delete>", ""),
    ] {
        gateway.ask(delete(&bad)).await.expect(400, "MalformedXML");
    }
    let signed = delete(&keys(1)).sign(A);
    let mut altered = signed.bytes();
    let at = altered.len() - "x</Key></Object></Delete>".len();
    altered[at] = b'y';
    raw(&gateway, &altered)
        .await
        .unwrap()
        .expect(400, "BadDigest");
    let mixed = "<Delete><Object><Key>base/tests-a/x</Key></Object><Object><Key>elsewhere/x</Key></Object></Delete>";
    let mixed = gateway.ask(delete(mixed)).await.ok();
    assert_eq!(
        (
            mixed.field("Code").as_str(),
            mixed.text().matches("<Deleted>").count()
        ),
        ("AccessDenied", 1)
    );
    gateway.stop().await;
}

#[tokio::test]
async fn row_34_parts_are_what_was_uploaded() {
    let gateway = Gateway::start().await;
    let complete = |upload: &str, body: &str| {
        Sent::new("POST", &format!("{PATH}?uploadId={upload}")).body(body)
    };
    let part = |n: &str, etag: &str| {
        format!("<Part><PartNumber>{n}</PartNumber><ETag>{etag}</ETag></Part>")
    };
    let whole = |parts: &str| format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
    gateway
        .ask(complete("foreign", &whole(&part("1", "x"))))
        .await
        .expect(404, "NoSuchUpload");
    let id = gateway
        .ask(Sent::new("POST", &format!("{PATH}?uploads")))
        .await
        .ok()
        .field("UploadId");
    let upload =
        |n: &str| Sent::new("PUT", &format!("{PATH}?partNumber={n}&uploadId={id}")).body("x");
    let etag = gateway
        .ask(upload("1"))
        .await
        .ok()
        .header("etag")
        .replace('"', "");
    gateway.ask(upload("2")).await.ok();
    for number in ["0", "10001", "65537"] {
        gateway
            .ask(upload(number))
            .await
            .expect(400, "InvalidArgument");
        gateway
            .ask(complete(&id, &whole(&part(number, &etag))))
            .await
            .expect(400, "InvalidArgument");
    }
    gateway
        .ask(complete(&id, &whole("")))
        .await
        .expect(400, "MalformedXML");
    gateway
        .ask(complete(&id, &whole(&part("1", "0".repeat(32).as_str()))))
        .await
        .expect(400, "InvalidPart");
    gateway
        .ask(complete(
            &id,
            &whole(&(part("2", &etag) + &part("1", &etag))),
        ))
        .await
        .expect(400, "InvalidPartOrder");
    gateway
        .ask(complete(
            &id,
            &whole(&(part("1", &etag) + &part("2", &etag))),
        ))
        .await
        .expect(400, "EntityTooSmall");
    unseen(&gateway).await;
    gateway
        .ask(complete(&id, &whole(&part("1", &etag))))
        .await
        .ok();
    gateway.stop().await;
}

#[tokio::test]
async fn row_37_no_line_ends_reach_a_header() {
    let gateway = Gateway::start().await;
    gateway.ask(put(b"x")).await.ok();
    for parameter in [
        "response-content-type",
        "response-cache-control",
        "response-content-disposition",
    ] {
        let sent = Sent::new("GET", &format!("{PATH}?{parameter}=a%0D%0Ax-evil%3A%201"));
        let answer = gateway.ask(sent).await;
        assert_eq!(
            (answer.status, answer.header("x-evil")),
            (400, ""),
            "{parameter}"
        );
    }
    let head = "GET / HTTP/1.1\r\nhost: a\r\nx-amz-meta-a: b\0c\r\n\r\n";
    assert_eq!(raw(&gateway, head.as_bytes()).await.unwrap().status, 400);
    gateway.stop().await;
}

#[tokio::test]
async fn row_38_anonymous_requests_are_refused() {
    let gateway = Gateway::start().await;
    let head = format!("GET {PATH}?response-content-type=text/html HTTP/1.1\r\nhost: a\r\n\r\n");
    raw(&gateway, head.as_bytes())
        .await
        .unwrap()
        .expect(403, "AccessDenied");
    gateway.stop().await;
}

#[tokio::test]
async fn row_39_ambiguous_framing_is_refused_and_the_connection_closed() {
    let gateway = Gateway::start().await;
    let heads = [
        "content-length: 5\r\ncontent-length: 6\r\n",
        "content-length: +5\r\n",
        "content-length: 0x5\r\n",
        "content-length: 5, 5\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding:\r\n chunked\r\n",
        "content-length : 5\r\n",
        "bad header\r\n",
    ];
    for head in heads {
        let mut client = gateway.connect().await;
        let text = format!(
            "PUT {PATH} HTTP/1.1\r\nhost: a\r\n{head}\r\nhelloGET /second HTTP/1.1\r\nhost: a\r\n\r\n"
        );
        client.send(text.as_bytes()).await;
        let answer = client.answer("PUT").await;
        assert!(
            (400..500).contains(&answer.status),
            "{head}: {}",
            answer.status
        );
        assert!(!answer.header("x-amz-request-id").is_empty(), "{head}");
        assert!(client.closed().await, "{head}");
    }
    unseen(&gateway).await;
    gateway.stop().await;
}

#[tokio::test]
async fn row_39_length_and_chunked_together_are_not_two_requests() {
    let gateway = Gateway::start().await;
    let mut client = gateway.connect().await;
    let smuggled = "0\r\n\r\nGET /second HTTP/1.1\r\nhost: a\r\n\r\n";
    let text = format!(
        "PUT {PATH} HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\ntransfer-encoding: chunked\r\n\r\n{smuggled}",
        smuggled.len()
    );
    client.send(text.as_bytes()).await;
    let answer = client.answer("PUT").await;
    assert!((400..500).contains(&answer.status));
    assert!(client.closed().await);
    gateway.stop().await;
}

#[tokio::test]
async fn row_39_a_flood_of_chunk_extensions_is_cut_off() {
    let gateway = Gateway::start().await;
    let sent = put(b"")
        .header("transfer-encoding", "chunked")
        .framed(Framing::Unsigned)
        .sign(A);
    let head = String::from_utf8(sent.head)
        .unwrap()
        .replace("content-length: 0\r\n", "");
    let mut client = gateway.connect().await;
    client.send(head.as_bytes()).await;
    let flood = format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(64 * 1024));
    client.send(flood.as_bytes()).await;
    let answer = client.try_answer("PUT").await;
    assert!(answer.is_none_or(|a| a.status >= 400));
    unseen(&gateway).await;
    gateway.stop().await;
}

#[tokio::test]
async fn row_40_a_request_inside_a_body_is_a_body() {
    let gateway = Gateway::start().await;
    let inner = Sent::new("DELETE", PATH).sign(A).bytes();
    gateway.ask(put(b"keep")).await.ok();
    let mut client = gateway.connect().await;
    let outer = Sent::new("PUT", "/snapshots/base/tests-a/outer")
        .body(inner.clone())
        .sign(A);
    client.send(&outer.bytes()).await;
    client.answer("PUT").await.ok();
    // A GET that claims a body: the body is not the next request.
    let get = Sent::new("GET", PATH)
        .header("content-length", inner.len().to_string())
        .sign(A);
    client.send(&[get.head, inner].concat()).await;
    assert_eq!(client.answer("GET").await.ok().body, b"keep");
    assert_eq!(gateway.ask(Sent::new("GET", PATH)).await.ok().body, b"keep");
    gateway.stop().await;
}

#[tokio::test]
async fn row_46_forged_tokens_go_nowhere() {
    let gateway = Gateway::start().await;
    for token in ["AAAA", "x", "bm90IGEgdG9rZW4gb2Ygb3Vycw"] {
        let sent = Sent::new(
            "GET",
            &format!("/snapshots?continuation-token={token}&list-type=2"),
        );
        gateway.ask(sent).await.expect(400, "InvalidArgument");
    }
    gateway
        .ask(Sent::new("GET", "/snapshots?list-type=2&max-keys=-1"))
        .await
        .expect(400, "InvalidArgument");
    gateway
        .ask(Sent::new("GET", "/snapshots?list-type=2&max-keys=1000000"))
        .await
        .ok();
    gateway.stop().await;
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let gateway = Gateway::start().await;
    let long = format!(
        "GET / HTTP/1.1\r\nhost: a\r\nx-long: {}\r\n\r\n",
        "x".repeat(40 * 1024)
    );
    assert_eq!(raw(&gateway, long.as_bytes()).await.unwrap().status, 431);
    let many = format!(
        "GET / HTTP/1.1\r\nhost: a\r\n{}\r\n",
        "x-a: 1\r\n".repeat(200)
    );
    assert_eq!(raw(&gateway, many.as_bytes()).await.unwrap().status, 431);
    gateway.stop().await;
}
