//! The pre-check, row by row of bad input. Requests here carry a made-up signature: it is not looked at.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use super::*;

mod shape;

/// 2026-11-25T12:00:00Z
const NOW: i64 = 1_795_608_000;
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const CHUNKS: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
const UNSIGNED_CHUNKS: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";

/// A request as a well-behaved client signs it, to be spoilt by a test.
#[derive(Clone)]
struct Sent {
    method: Method,
    uri: String,
    headers: HeaderMap,
    signed: Option<String>,
    credential: String,
    rules: Rules,
    now: i64,
}

fn get(uri: &str) -> Sent {
    Sent::new(Method::GET, uri).with("x-amz-content-sha256", EMPTY)
}

fn put(uri: &str) -> Sent {
    Sent::new(Method::PUT, uri)
        .with("x-amz-content-sha256", EMPTY)
        .with("content-length", "0")
}

fn chunked(uri: &str, framing: &str) -> Sent {
    Sent::new(Method::PUT, uri)
        .with("x-amz-content-sha256", framing)
        .with("x-amz-decoded-content-length", "5")
        .with("content-length", "200")
}

impl Sent {
    fn new(method: Method, uri: &str) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("127.0.0.1:9000"));
        headers.insert("x-amz-date", HeaderValue::from_static("20261125T120000Z"));
        Self {
            method,
            uri: uri.to_owned(),
            headers,
            signed: None,
            credential: "KEY/20261125/us-east-1/s3/aws4_request".to_owned(),
            rules: Rules::default(),
            now: NOW,
        }
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        self.headers
            .append(name, HeaderValue::from_str(value).unwrap());
        self
    }

    fn set(mut self, name: &'static str, value: &str) -> Self {
        self.headers
            .insert(name, HeaderValue::from_str(value).unwrap());
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.remove(name);
        self
    }

    fn signing(mut self, names: &str) -> Self {
        self.signed = Some(names.to_owned());
        self
    }

    fn credential(mut self, text: &str) -> Self {
        self.credential = text.to_owned();
        self
    }

    fn at(mut self, now: i64) -> Self {
        self.now = now;
        self
    }

    fn rules(mut self, rules: Rules) -> Self {
        self.rules = rules;
        self
    }

    fn authorization(&self) -> String {
        let names = self.signed.clone().unwrap_or_else(|| {
            let mut names: Vec<_> = self.headers.keys().map(HeaderName::as_str).collect();
            names.sort_unstable();
            names.join(";")
        });
        format!(
            "AWS4-HMAC-SHA256 Credential={}, SignedHeaders={names}, Signature={EMPTY}",
            self.credential
        )
    }

    fn check(mut self) -> Result<Checked, Rejection> {
        if !self.headers.contains_key("authorization") && !self.uri.contains("X-Amz-") {
            let value = self.authorization();
            self.headers.insert("authorization", value.parse().unwrap());
        }
        self.unauthorised()
    }

    /// As it stands, without an Authorization header of ours.
    fn unauthorised(self) -> Result<Checked, Rejection> {
        let uri: Uri = self.uri.parse().unwrap();
        super::check(&self.rules, &self.method, &uri, &self.headers, self.now)
    }

    fn refused(self) -> Rejection {
        self.check().unwrap_err()
    }

    fn key(self) -> String {
        match self.check().unwrap().target {
            Target::Object(address) => address.key.as_str().to_owned(),
            other => panic!("{other:?}"),
        }
    }
}

fn presigned(expires: &str) -> Sent {
    let uri = format!(
        "/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=KEY%2F20261125%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20261125T120000Z&X-Amz-Expires={expires}&X-Amz-SignedHeaders=host&X-Amz-Signature={EMPTY}"
    );
    Sent::new(Method::GET, &uri).without("x-amz-date")
}

#[test]
fn requests_of_well_behaved_clients_pass() {
    assert_eq!(get("/").check().unwrap().target, Target::Service);
    let checked = get("/b/k?x-purpose=RepositoryAnalysis").check().unwrap();
    assert_eq!(&*checked.access_key, "KEY");
    assert!(!checked.presigned);
    assert!(put("/b/k").check().is_ok());
    assert!(chunked("/b/k", CHUNKS).check().is_ok());
    assert!(presigned("604800").check().unwrap().presigned);
    // SDK 2.31 sends both on GET and signs them; they mean nothing there.
    let odd = get("/b/k")
        .with("x-amz-te", "append-md5")
        .with("x-amz-checksum-crc32", "AAAAAA==")
        .set("x-amz-content-sha256", "UNSIGNED-PAYLOAD");
    assert_eq!(odd.check().unwrap().payload, Payload::None);
}

#[test]
fn row_4_streaming_payloads_are_only_for_objects_and_parts() {
    let cases = [
        (Method::POST, "/b?delete"),
        (Method::POST, "/b/k?uploadId=u"),
        (Method::POST, "/b/k?uploads"),
        (Method::GET, "/b/k"),
        (Method::DELETE, "/b/k"),
        (Method::PUT, "/b"),
    ];
    for (method, uri) in cases {
        for framing in [CHUNKS, UNSIGNED_CHUNKS] {
            let mut sent = chunked(uri, framing);
            sent.method = method.clone();
            sent.rules.unsigned_payload = true;
            assert_eq!(
                sent.refused(),
                Rejection::FramingNotAllowed(framing),
                "{method} {uri}"
            );
        }
    }
    let copy = chunked("/b/k", CHUNKS).with("x-amz-copy-source", "b/other");
    assert_eq!(copy.refused(), Rejection::FramingNotAllowed(CHUNKS));
}

#[test]
fn row_5_streaming_payloads_need_the_authorization_header() {
    let mut sent = presigned("60").with("x-amz-content-sha256", UNSIGNED_CHUNKS);
    sent.method = Method::PUT;
    sent.rules.unsigned_payload = true;
    assert_eq!(sent.refused(), Rejection::FramingWithQueryAuth);
}

#[test]
fn row_6_one_mechanism_at_a_time() {
    let both = presigned("60");
    let header = get("/").authorization();
    assert_eq!(
        both.with("authorization", &header).refused(),
        Rejection::TwoMechanisms
    );
    let two = get("/b/k")
        .with("authorization", &header)
        .with("authorization", &header);
    assert_eq!(
        two.refused(),
        Rejection::DuplicateHeader("authorization".into())
    );
    let v2 = get("/b/k?Signature=x&AWSAccessKeyId=y").with("authorization", &header);
    assert_eq!(v2.refused(), Rejection::TwoMechanisms);
    assert_eq!(
        get("/b/k").unauthorised().unwrap_err(),
        Rejection::Anonymous
    );
    let overrides = get("/b/k?response-content-type=text/html");
    assert_eq!(overrides.unauthorised().unwrap_err(), Rejection::Anonymous);
}

#[test]
fn row_9_the_decoded_length_is_a_number() {
    for bad in [
        "-1",
        "+5",
        "0x5",
        "5 ",
        "",
        "1e3",
        "9223372036854775808999",
        "NaN",
    ] {
        let sent = chunked("/b/k", CHUNKS).set("x-amz-decoded-content-length", bad);
        assert_eq!(
            sent.refused(),
            Rejection::BadHeader("x-amz-decoded-content-length"),
            "{bad}"
        );
    }
    let huge = chunked("/b/k", CHUNKS).set("x-amz-decoded-content-length", "9223372036854775808");
    assert_eq!(huge.refused(), Rejection::TooLarge);
    let none = chunked("/b/k", CHUNKS).without("x-amz-decoded-content-length");
    assert_eq!(none.refused(), Rejection::MissingLength);
    let plain = put("/b/k").without("content-length");
    assert_eq!(plain.refused(), Rejection::MissingLength);
}

#[test]
fn row_10_one_announced_trailer_and_one_checksum() {
    let signed = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";
    assert_eq!(
        chunked("/b/k", signed).refused(),
        Rejection::MissingHeader("x-amz-trailer")
    );
    for bad in [
        "x-amz-checksum-mode",
        "x-custom",
        "x-amz-checksum-crc32,x-amz-checksum-sha1",
        "",
    ] {
        let sent = chunked("/b/k", signed).with("x-amz-trailer", bad);
        let refused = sent.refused();
        assert!(
            matches!(
                refused,
                Rejection::BadTrailer | Rejection::NotImplemented(_)
            ),
            "{bad}: {refused:?}"
        );
    }
    let sent = chunked("/b/k", CHUNKS).with("x-amz-trailer", "x-amz-checksum-crc32");
    assert_eq!(sent.refused(), Rejection::BadTrailer);
    let sent = chunked("/b/k", signed).with("x-amz-trailer", "x-amz-checksum-crc32");
    match sent.check().unwrap().payload {
        Payload::Upload(upload) => assert_eq!(upload.announced, Some(Algorithm::Crc32)),
        other => panic!("{other:?}"),
    }
    let two = put("/b/k")
        .with("x-amz-checksum-crc32", "AAAAAA==")
        .with("x-amz-checksum-crc32c", "AAAAAA==");
    assert_eq!(two.refused(), Rejection::ManyChecksums);
    let short = put("/b/k").with("x-amz-checksum-sha256", "AAAAAA==");
    assert_eq!(short.refused(), Rejection::BadChecksum("sha256"));
    let md5 = put("/b/k").with("content-md5", "AAAA");
    assert_eq!(md5.refused(), Rejection::BadMd5);
}

#[test]
fn row_11_the_payload_hash_is_one_of_a_closed_set() {
    for bad in [
        "",
        "required",
        "STREAMING-AWS4-HMAC-SHA256",
        "unsigned-payload",
        "abc",
        &EMPTY[1..],
        &EMPTY.to_uppercase(),
    ] {
        let sent = put("/b/k").set("x-amz-content-sha256", bad);
        assert_eq!(sent.refused(), Rejection::BadPayloadHash, "{bad}");
    }
    let none = put("/b/k").without("x-amz-content-sha256");
    assert_eq!(
        none.refused(),
        Rejection::MissingHeader("x-amz-content-sha256")
    );
    let v4a = put("/b/k").set(
        "x-amz-content-sha256",
        "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD",
    );
    assert_eq!(v4a.refused(), Rejection::FramingNotImplemented);
}

#[test]
fn row_12_unsigned_bodies_only_where_the_listener_allows_them() {
    let unsigned = put("/b/k").set("x-amz-content-sha256", "UNSIGNED-PAYLOAD");
    assert_eq!(
        unsigned.clone().refused(),
        Rejection::UnsignedPayload("UNSIGNED-PAYLOAD")
    );
    let chunks = chunked("/b/k", UNSIGNED_CHUNKS).with("x-amz-trailer", "x-amz-checksum-crc32");
    assert_eq!(
        chunks.clone().refused(),
        Rejection::UnsignedPayload(UNSIGNED_CHUNKS)
    );
    let open = Rules {
        unsigned_payload: true,
        ..Rules::default()
    };
    assert!(unsigned.rules(open.clone()).check().is_ok());
    assert!(chunks.rules(open).check().is_ok());
    // Requests without a body say so all the time.
    assert!(
        get("/b/k")
            .set("x-amz-content-sha256", "UNSIGNED-PAYLOAD")
            .check()
            .is_ok()
    );
    let mut presigned_put = presigned("60").with("content-length", "5");
    presigned_put.method = Method::PUT;
    assert_eq!(
        presigned_put.refused(),
        Rejection::UnsignedPayload("UNSIGNED-PAYLOAD")
    );
}

#[test]
fn row_13_documents_are_protected() {
    let mut delete = put("/b?delete").set("content-length", "100");
    delete.method = Method::POST;
    assert_eq!(delete.clone().refused(), Rejection::DocumentUnprotected);
    let md5 = delete
        .clone()
        .with("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==");
    assert!(md5.check().is_ok());
    assert!(
        delete
            .with("x-amz-checksum-crc32", "AAAAAA==")
            .check()
            .is_ok()
    );
    let mut complete = put("/b/k?uploadId=u").set("x-amz-content-sha256", "UNSIGNED-PAYLOAD");
    complete.method = Method::POST;
    assert_eq!(complete.clone().refused(), Rejection::DocumentUnprotected);
    // Of a Complete, the checksum is the object's and proves nothing about the document.
    let object = complete.clone().with("x-amz-checksum-crc32", "AAAAAA==");
    assert_eq!(object.refused(), Rejection::DocumentUnprotected);
    let open = Rules {
        unsigned_payload: true,
        ..Rules::default()
    };
    assert!(complete.rules(open).check().is_ok());
}

#[test]
fn row_14_every_amz_header_is_signed() {
    for name in [
        "x-amz-copy-source",
        "x-amz-acl",
        "x-amz-meta-a",
        "x-amz-storage-class",
    ] {
        let mut sent = presigned("60").with(name, "b/k");
        sent.method = Method::PUT;
        sent.rules.unsigned_payload = true;
        assert_eq!(sent.refused(), Rejection::HeaderNotSigned(name.into()));
        let sent = put("/b/k")
            .with(name, "b/k")
            .signing("content-length;host;x-amz-content-sha256;x-amz-date");
        assert_eq!(sent.refused(), Rejection::HeaderNotSigned(name.into()));
    }
}

#[test]
fn row_15_the_list_of_signed_headers_is_canonical() {
    let bad = [
        "x-amz-content-sha256;x-amz-date",
        "content-type;host;x-amz-content-sha256;x-amz-date",
        "x-amz-date;host;x-amz-content-sha256",
        "host;host;x-amz-content-sha256;x-amz-date",
        "Host;x-amz-content-sha256;x-amz-date",
        "host;;x-amz-date",
        "",
    ];
    for names in bad {
        let refused = get("/b/k").signing(names).refused();
        assert!(
            matches!(refused, Rejection::SignedHeaders(_)),
            "{names}: {refused:?}"
        );
    }
    let twice = get("/b/k").with("accept", "a").with("accept", "b");
    assert!(matches!(twice.refused(), Rejection::SignedHeaders(_)));
}

#[test]
fn row_16_presigned_urls_expire() {
    assert!(presigned("60").at(NOW + 60).check().is_ok());
    assert_eq!(presigned("60").at(NOW + 61).refused(), Rejection::Expired);
    for bad in [
        "0",
        "-1",
        "604801",
        "1e99",
        "",
        "NaN",
        "99999999999999999999",
    ] {
        let refused = presigned(bad).refused();
        assert!(
            matches!(refused, Rejection::MalformedQueryAuthorization(_)),
            "{bad}: {refused:?}"
        );
    }
    assert!(presigned("60").at(NOW - 900).check().is_ok());
    assert_eq!(presigned("60").at(NOW - 960).refused(), Rejection::Skewed);
    let mut twice = presigned("60");
    twice.uri.push_str("&X-Amz-Expires=600");
    assert_eq!(
        twice.refused(),
        Rejection::DuplicateParameter("X-Amz-Expires")
    );
}

#[test]
fn row_18_signatures_are_good_for_a_quarter_of_an_hour() {
    assert!(put("/b/k").at(NOW + 900).check().is_ok());
    assert_eq!(put("/b/k").at(NOW + 901).refused(), Rejection::Skewed);
    assert_eq!(put("/b/k").at(NOW - 901).refused(), Rejection::Skewed);
}

#[test]
fn row_19_other_mechanisms_are_off() {
    for other in [
        "AWS KEY:c2lnbmF0dXJl",
        "AWS4-ECDSA-P256-SHA256 Credential=a, SignedHeaders=host, Signature=b",
        "AWS4-HMAC-SHA256Credential=a",
        "Bearer x",
        "Basic eDp5",
    ] {
        assert_eq!(
            get("/b/k").with("authorization", other).refused(),
            Rejection::OtherMechanism,
            "{other}"
        );
    }
    let query = get("/b/k?AWSAccessKeyId=K&Expires=1&Signature=x").unauthorised();
    assert_eq!(query.unwrap_err(), Rejection::OtherMechanism);
}

#[test]
fn row_20_the_scope_is_that_of_the_request() {
    let wrong = [
        "KEY/20261125/us-east-1/sts/aws4_request",
        "KEY/20261125/us-east-1/aws4_request",
        "KEY/20261125/us-east-1/s3/aws4_request/x",
        "KEY/20261125//s3/aws4_request",
        "KEY/20261125/us-east-1/s3/aws5_request",
        "KEY",
    ];
    for text in wrong {
        let refused = get("/b/k").credential(text).refused();
        assert!(
            matches!(refused, Rejection::MalformedAuthorization(_)),
            "{text}: {refused:?}"
        );
    }
    let yesterday = get("/b/k").credential("KEY/20261124/us-east-1/s3/aws4_request");
    assert_eq!(yesterday.refused(), Rejection::ScopeDate);
    let anywhere = get("/b/k").credential("KEY/20261125/eu-west-7/s3/aws4_request");
    assert!(anywhere.clone().check().is_ok());
    let bound = Rules {
        region: Some("us-east-1".into()),
        ..Rules::default()
    };
    assert!(matches!(
        anywhere.rules(bound).refused(),
        Rejection::WrongRegion { .. }
    ));
    for name in ["US", "eu_west_1", "Frankfurt"] {
        let text = format!("KEY/20261125/{name}/s3/aws4_request");
        assert_eq!(
            get("/b/k").credential(&text).refused(),
            Rejection::WrongRegion {
                got: name.to_owned(),
                expected: "us-east-1".to_owned(),
            }
        );
    }
    for date in [
        "20261125",
        "2026-11-25T12:00:00Z",
        "20261325T120000Z",
        "20261125T250000Z",
        "",
    ] {
        let refused = get("/b/k").set("x-amz-date", date).refused();
        assert_eq!(refused, Rejection::BadHeader("x-amz-date"), "{date}");
    }
}
