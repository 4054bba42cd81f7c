//! Rows about what a request addresses and asks for.

use http::Method;

use super::super::*;
use super::*;

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
