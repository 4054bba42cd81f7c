//! The pre-check, row by row of bad input. Requests here carry a made-up signature: it is not looked at.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use super::*;

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

#[test]
fn row_22_and_23_a_key_is_decoded_once_and_taken_literally() {
    for (path, key) in [
        ("/b/a%2F..%2Fb", "a/../b"),
        ("/b/a/../b", "a/../b"),
        ("/b/./a", "./a"),
        ("/b/a//b", "a//b"),
        ("/b//a", "/a"),
        ("/b/%2e%2e/", "../"),
        ("/b/..%5c", "..\\"),
        ("/b/%252e%252e", "%2e%2e"),
        ("/b/a+b%20c", "a+b c"),
        ("/b/a.%20", "a. "),
        ("/b/%C3%BC", "ü"),
        ("/b/100%", "100%"),
    ] {
        assert_eq!(get(path).key(), key, "{path}");
    }
    for path in ["/b/%00", "/b/%ff", "/b/%c0%af", "/b/a%ED%A0%80"] {
        assert!(
            matches!(get(path).refused(), Rejection::BadUri(_)),
            "{path}"
        );
    }
    assert_eq!(
        get(&format!("/b/{}", "k".repeat(1025))).refused(),
        Rejection::KeyTooLong
    );
    assert!(get(&format!("/b/{}", "k".repeat(1024))).check().is_ok());
    assert!(matches!(get("//k").refused(), Rejection::BadUri(_)));
}

#[test]
fn row_25_host_and_path_name_one_bucket() {
    let rules = Rules {
        domain: Some("s3.example".into()),
        ..Rules::default()
    };
    let at = |host: &str, uri: &str| {
        let sent = get(uri).rules(rules.clone()).set("host", host);
        sent.check().map(|checked| checked.target)
    };
    let object = |bucket: &str, key: &str| {
        Target::Object(Address {
            bucket: policies::identity::Bucket::new(bucket),
            key: policies::key::ObjectKey::parse(key).unwrap(),
        })
    };
    assert_eq!(at("b.s3.example", "/k").unwrap(), object("b", "k"));
    assert_eq!(at("b.s3.example:9000", "/x/y").unwrap(), object("b", "x/y"));
    assert_eq!(at("B.S3.Example", "/k").unwrap(), object("b", "k"));
    assert_eq!(
        at("my.dotted.s3.example", "/k").unwrap(),
        object("my.dotted", "k")
    );
    assert_eq!(at("s3.example", "/b/k").unwrap(), object("b", "k"));
    assert_eq!(at("s3.example:443", "/b/k").unwrap(), object("b", "k"));
    for other in [
        "127.0.0.1",
        "[::1]:9000",
        "localhost:9000",
        "evils3.example",
        "b.other.example",
    ] {
        assert_eq!(at(other, "/b/k").unwrap(), object("b", "k"), "{other}");
    }
    for bad in [
        "b.s3.example.",
        ".s3.example",
        "",
        "b.s3.example:x",
        "b.s3.example:99999",
        "b/c.s3.example",
        "b_%00",
    ] {
        assert!(
            matches!(at(bad, "/k").unwrap_err(), Rejection::BadHost(_)),
            "{bad}"
        );
    }
    let none = get("/b/k")
        .without("host")
        .signing("x-amz-content-sha256;x-amz-date");
    assert!(matches!(none.refused(), Rejection::BadHost(_)));
    let two = get("/b/k").with("host", "127.0.0.1:9000");
    assert_eq!(two.refused(), Rejection::DuplicateHeader("host".into()));
    let absolute = get("http://elsewhere/b/k");
    assert!(matches!(absolute.refused(), Rejection::BadHost(_)));
    assert!(get("http://127.0.0.1:9000/b/k").check().is_ok());
}

#[test]
fn row_27_a_copy_source_is_a_bucket_and_a_key() {
    let source = |text: &str| put("/b/k").with("x-amz-copy-source", text).check();
    for good in ["b/from", "/b/from", "b%2Ffrom", "/b/f%72om"] {
        assert_eq!(
            source(good).unwrap().source.unwrap().key.as_str(),
            "from",
            "{good}"
        );
    }
    assert_eq!(
        source("b/a%3FversionId=1")
            .unwrap()
            .source
            .unwrap()
            .key
            .as_str(),
        "a?versionId=1"
    );
    for bad in [
        "",
        "/",
        "b",
        "b/",
        "//k",
        "b/k?versionId=1",
        "arn:aws:s3:us-east-1:1:accesspoint/x/object/k",
        "https://h/b/k",
        "b/%00",
        "b/%ff",
    ] {
        assert_eq!(source(bad).unwrap_err(), Rejection::BadCopySource, "{bad}");
    }
}

#[test]
fn row_29_a_copy_source_is_for_put_only() {
    for method in [Method::GET, Method::HEAD, Method::DELETE, Method::POST] {
        let mut sent = get("/b/k").with("x-amz-copy-source", "b/k");
        sent.method = method;
        assert_eq!(sent.refused(), Rejection::CopySourceMisplaced);
    }
}

#[test]
fn row_30_forms_are_not_served() {
    let mut form = put("/b").with("content-type", "Multipart/Form-Data; boundary=x");
    form.method = Method::POST;
    assert_eq!(form.refused(), Rejection::FormUpload);
}

#[test]
fn row_31_documents_have_a_size() {
    let mut big = put("/b?delete")
        .set("content-length", "20971520")
        .with("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==");
    big.method = Method::POST;
    assert_eq!(big.refused(), Rejection::DocumentTooLarge);
}

#[test]
fn row_36_what_we_do_not_have_is_not_ignored() {
    for name in REFUSED {
        assert_eq!(
            put("/b/k").with(name, "x").refused(),
            Rejection::NotImplemented(name)
        );
    }
    let sse = |value| put("/b/k").with("x-amz-server-side-encryption", value);
    assert!(sse("AES256").check().is_ok());
    assert_eq!(
        sse("aws:kms").refused(),
        Rejection::NotImplemented("x-amz-server-side-encryption")
    );
    assert_eq!(sse("rot13").refused(), Rejection::Encryption);
    for harmless in [
        "x-minio-replication",
        "x-amz-replication-status",
        "x-amz-acl",
        "x-forwarded-for",
    ] {
        assert!(
            put("/b/k").with(harmless, "x").check().is_ok(),
            "{harmless}"
        );
    }
}

#[test]
fn row_46_and_48_numbers_are_whole_and_small() {
    for name in NUMBERS {
        for bad in [
            "-1",
            "",
            "NaN",
            "1e12",
            "0x1",
            "1.5",
            "+1",
            "9223372036854775808",
            "-9223372036854775808",
            "2147483648",
        ] {
            let uri = format!("/b?{name}={}", bad.replace('+', "%2B"));
            assert_eq!(
                get(&uri).refused(),
                Rejection::BadNumber(name),
                "{name}={bad}"
            );
        }
        assert!(get(&format!("/b?{name}=2147483647")).check().is_ok());
        let twice = get(&format!("/b?{name}=1&{name}=2"));
        assert_eq!(twice.refused(), Rejection::DuplicateParameter(name));
    }
}

#[test]
fn row_47_one_range() {
    for good in [
        "bytes=0-0",
        "bytes=5-",
        "bytes=-5",
        "bytes=0-9223372036854775806",
    ] {
        assert!(get("/b/k").with("range", good).check().is_ok(), "{good}");
    }
    let many = format!("bytes={}", "0-1,".repeat(100_000));
    for bad in [
        "bytes=5-1",
        "bytes=-",
        "bytes=a-b",
        "lines=1-2",
        "bytes=0-1,3-4",
        "bytes=99999999999999999999-",
        &many,
    ] {
        assert_eq!(
            get("/b/k").with("range", bad).refused(),
            Rejection::BadRange
        );
    }
}

#[test]
fn methods_that_s3_does_not_have_are_refused() {
    for method in [
        Method::OPTIONS,
        Method::PATCH,
        Method::TRACE,
        Method::CONNECT,
    ] {
        let mut sent = get("/b/k");
        sent.method = method;
        assert_eq!(sent.refused(), Rejection::Method);
    }
}
