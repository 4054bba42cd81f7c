//! Bad input on the wire, and the answer each gets. Nothing of it may become visible.

use super::client::Answer;
use super::gateway::{A, Gateway};
use super::signer::{Framing, Key, Sent, Spoil, crc32, now};

pub(super) const PATH: &str = "/snapshots/base/tests-a/k";

pub(super) fn put(body: &[u8]) -> Sent {
    Sent::new("PUT", PATH).body(body)
}

pub(super) async fn unseen(gateway: &Gateway) {
    gateway
        .ask(Sent::new("GET", PATH))
        .await
        .expect(404, "NoSuchKey");
}

pub(super) async fn raw(gateway: &Gateway, bytes: &[u8]) -> Option<Answer> {
    let mut client = gateway.connect().await;
    client.send(bytes).await;
    client.try_answer("GET").await
}

#[tokio::test]
async fn row_1_and_2_a_wrong_signature_and_an_unknown_key() {
    let gateway = Gateway::start().await;
    let mut client = gateway.connect().await;
    let spoil = Spoil {
        signature: true,
        ..Spoil::default()
    };
    let sent = put(b"x").header("expect", "100-continue").spoilt(spoil);
    client.send(&sent.sign(A).head).await;
    let answer = client
        .answer("PUT")
        .await
        .expect(403, "SignatureDoesNotMatch");
    assert!(!answer.continued);
    let wrong = put(b"x").sign(Key {
        secret: "wrong",
        ..A
    });
    raw(&gateway, &wrong.bytes())
        .await
        .unwrap()
        .expect(403, "SignatureDoesNotMatch");
    let unknown = put(b"x").sign(Key { id: "NOBODY", ..A });
    raw(&gateway, &unknown.bytes())
        .await
        .unwrap()
        .expect(403, "InvalidAccessKeyId");
    unseen(&gateway).await;
    gateway.stop().await;
}

#[tokio::test]
async fn row_3_an_unsigned_trailer_does_not_excuse_from_signing() {
    let gateway = Gateway::start().await;
    for path in [PATH, "/snapshots/base/tests-a/k?partNumber=1&uploadId=u"] {
        let mut client = gateway.connect().await;
        let sent = Sent::new("PUT", path)
            .body("x")
            .framed(Framing::UnsignedTrailer(format!(
                "x-amz-checksum-crc32:{}",
                crc32(b"x")
            )))
            .header("x-amz-trailer", "x-amz-checksum-crc32")
            .header("expect", "100-continue")
            .spoilt(Spoil {
                signature: true,
                ..Spoil::default()
            });
        client.send(&sent.sign(A).head).await;
        let answer = client
            .answer("PUT")
            .await
            .expect(403, "SignatureDoesNotMatch");
        assert!(!answer.continued);
    }
    unseen(&gateway).await;
    gateway.stop().await;
}

#[tokio::test]
async fn row_7_one_bad_chunk_spoils_the_object() {
    let gateway = Gateway::start().await;
    for at in 0..4 {
        let spoil = Spoil {
            chunk_signature: Some(at),
            ..Spoil::default()
        };
        let sent = put(&[5; 3000])
            .framed(Framing::Chunks)
            .chunk(1000)
            .spoilt(spoil);
        gateway.ask(sent).await.expect(403, "SignatureDoesNotMatch");
        unseen(&gateway).await;
    }
    gateway.stop().await;
}

#[tokio::test]
async fn row_8_chunks_end_with_the_final_one() {
    let gateway = Gateway::start().await;
    let cut = Spoil {
        no_final_chunk: true,
        ..Spoil::default()
    };
    let sent = put(&[5; 3000])
        .framed(Framing::Chunks)
        .chunk(1000)
        .spoilt(cut.clone());
    gateway.ask(sent).await.expect(400, "IncompleteBody");
    let trailer = Framing::ChunksTrailer(format!("x-amz-checksum-crc32:{}", crc32(b"x")));
    let sent = put(b"x")
        .framed(trailer)
        .header("x-amz-trailer", "x-amz-checksum-crc32")
        .spoilt(cut);
    gateway.ask(sent).await.expect(400, "InvalidRequest");
    for more in [
        "x",
        "0\r\n\r\n",
        "5;chunk-signature=00\r\nhello\r\n",
        "x-amz-checksum-crc32:AAAAAA==\r\n",
    ] {
        let spoil = Spoil {
            after_body: more,
            ..Spoil::default()
        };
        let answer = gateway
            .ask(put(b"x").framed(Framing::Chunks).spoilt(spoil))
            .await;
        assert_eq!(answer.status, 400, "{more}: {}", answer.text());
    }
    unseen(&gateway).await;
    gateway.stop().await;
}

#[tokio::test]
async fn row_9_the_decoded_length_is_kept_to() {
    let gateway = Gateway::start().await;
    for (length, code) in [
        ("4", "IncompleteBody"),
        ("6", "IncompleteBody"),
        ("-1", "InvalidArgument"),
    ] {
        let spoil = Spoil {
            decoded_length: Some(length),
            ..Spoil::default()
        };
        let sent = put(b"hello").framed(Framing::Chunks).spoilt(spoil);
        gateway.ask(sent).await.expect(400, code);
    }
    unseen(&gateway).await;
    gateway.stop().await;
}

#[tokio::test]
async fn row_10_trailers_are_announced_once_and_right() {
    let gateway = Gateway::start().await;
    let right = format!("x-amz-checksum-crc32:{}", crc32(b"x"));
    let cases = [
        ("x-amz-checksum-crc32:AAAAAA==".to_owned(), "BadDigest"),
        (String::new(), "InvalidRequest"),
        (
            "x-amz-checksum-sha1:AAAAAAAAAAAAAAAAAAAAAAAAAAA=".to_owned(),
            "InvalidRequest",
        ),
        (format!("{right}\n{right}"), "InvalidRequest"),
        (format!("{right}\nx-amz-meta-more:1"), "InvalidRequest"),
        (
            format!("x-amz-checksum-crc32:{}", "A".repeat(1 << 20)),
            "InvalidRequest",
        ),
        (
            "x-amz-checksum-crc32:notbase64".to_owned(),
            "InvalidRequest",
        ),
    ];
    for (trailer, code) in cases {
        for signed in [true, false] {
            let framing = if signed {
                Framing::ChunksTrailer(trailer.clone())
            } else {
                Framing::UnsignedTrailer(trailer.clone())
            };
            let sent = put(b"x")
                .framed(framing)
                .header("x-amz-trailer", "x-amz-checksum-crc32");
            let answer = gateway.ask(sent).await;
            assert_eq!(
                (answer.status, answer.field("Code").as_str()),
                (400, code),
                "{signed} {:.60} {}",
                trailer,
                answer.text()
            );
        }
    }
    unseen(&gateway).await;
    for framing in [
        Framing::ChunksTrailer(right.clone()),
        Framing::UnsignedTrailer(right),
    ] {
        gateway
            .ask(
                put(b"x")
                    .framed(framing)
                    .header("x-amz-trailer", "x-amz-checksum-crc32"),
            )
            .await
            .ok();
    }
    gateway.stop().await;
}

#[tokio::test]
async fn row_11_the_body_is_the_one_that_was_signed() {
    let gateway = Gateway::start().await;
    let signed = put(b"hello").sign(A);
    let mut bytes = signed.head.clone();
    bytes.extend_from_slice(b"hallo");
    raw(&gateway, &bytes)
        .await
        .unwrap()
        .expect(400, "XAmzContentSHA256Mismatch");
    gateway
        .ask(put(b"x").header("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg=="))
        .await
        .expect(400, "BadDigest");
    gateway
        .ask(put(b"x").header("x-amz-checksum-crc32c", "AAAAAA=="))
        .await
        .expect(400, "BadDigest");
    let sha512 = put(b"x").header("x-amz-checksum-sha512", "AAAA");
    gateway.ask(sha512).await.expect(501, "NotImplemented");
    unseen(&gateway).await;
    gateway.stop().await;
}

#[tokio::test]
async fn row_12_without_tls_bodies_are_signed_unless_configured() {
    let gateway = Gateway::with(|s| s.allow_unsigned_payload = Some(false)).await;
    let mut client = gateway.connect().await;
    let sent = put(b"x")
        .framed(Framing::Unsigned)
        .header("expect", "100-continue");
    client.send(&sent.sign(A).head).await;
    let answer = client.answer("PUT").await.expect(403, "AccessDenied");
    assert!(!answer.continued && answer.field("Message").contains("allow_unsigned_payload"));
    gateway
        .ask(Sent::new("GET", PATH).framed(Framing::Unsigned))
        .await
        .expect(404, "NoSuchKey");
    gateway.stop().await;
    let open = Gateway::start().await;
    open.ask(put(b"x").framed(Framing::Unsigned)).await.ok();
    open.stop().await;
}

#[tokio::test]
async fn row_14_headers_added_on_the_way_are_refused() {
    let gateway = Gateway::start().await;
    gateway
        .ask(Sent::new("PUT", "/snapshots/base/tests-a/other").body("other"))
        .await
        .ok();
    for (name, value) in [
        ("x-amz-copy-source", "snapshots/base/tests-a/other"),
        ("x-amz-meta-x", "1"),
        ("x-amz-acl", "public-read"),
    ] {
        let spoil = Spoil {
            unsigned: vec![(name, value.to_owned())],
            ..Spoil::default()
        };
        let answer = gateway
            .ask(put(b"x").spoilt(spoil))
            .await
            .expect(403, "AccessDenied");
        assert!(answer.field("Message").contains(name));
    }
    unseen(&gateway).await;
    gateway.stop().await;
}

#[tokio::test]
async fn row_18_an_old_request_is_not_taken_again() {
    let gateway = Gateway::start().await;
    let old = now() - time::Duration::minutes(16);
    let bytes = put(b"x").sign_at(A, old).bytes();
    raw(&gateway, &bytes)
        .await
        .unwrap()
        .expect(403, "RequestTimeTooSkewed");
    unseen(&gateway).await;
    let fresh = put(b"x").sign(A).bytes();
    let first = raw(&gateway, &fresh).await.unwrap().ok();
    let again = raw(&gateway, &fresh).await.unwrap().ok();
    assert_eq!(first.header("etag"), again.header("etag"));
    gateway.stop().await;
}
