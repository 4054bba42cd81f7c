//! Signer against verifier: requests in the shapes of AWS's signing test suite, signed anew by AWS's own
//! code (`aws-sigv4`), are accepted; with any part of what was signed altered they are not.

use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation,
    SigningSettings, UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;

use super::client::Answer;
use super::gateway::{A, Gateway};
use crate::telemetry::clock;

const HOST: &str = "127.0.0.1:9000";

/// A signed request as lines of text.
struct Signed {
    method: &'static str,
    path: String,
    headers: Vec<(String, String)>,
}

impl Signed {
    fn text(&self) -> String {
        let mut text = format!("{} {} HTTP/1.1\r\nhost: {HOST}\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        text
    }
}

fn signed(method: &'static str, path: &str, headers: &[(&str, &str)], presigned: bool) -> Signed {
    let identity = Credentials::new(A.id, A.secret, None, None, "test").into();
    let mut settings = SigningSettings::default();
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    if presigned {
        settings.signature_location = SignatureLocation::QueryParams;
        settings.payload_checksum_kind = PayloadChecksumKind::NoHeader;
        settings.expires_in = Some(Duration::from_secs(60));
    }
    let now = UNIX_EPOCH + Duration::from_millis(u64::try_from(clock::now_ms()).unwrap());
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region("eu-central-1")
        .name("s3")
        .time(now)
        .settings(settings)
        .build()
        .unwrap()
        .into();
    let uri = format!("http://{HOST}{path}");
    let body = if presigned {
        SignableBody::UnsignedPayload
    } else {
        SignableBody::Bytes(&[])
    };
    let request = SignableRequest::new(method, &uri, headers.iter().copied(), body).unwrap();
    let (instructions, _) = sign(request, &params).unwrap().into_parts();
    let mut all: Vec<(String, String)> = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let added = instructions.headers();
    all.extend(added.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let mut path = path.to_owned();
    for (name, value) in instructions.params() {
        let value =
            percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC);
        let sign = if path.contains('?') { '&' } else { '?' };
        path.push_str(&format!("{sign}{name}={value}"));
    }
    Signed {
        method,
        path,
        headers: all,
    }
}

async fn raw(gateway: &Gateway, method: &'static str, text: &str) -> Option<Answer> {
    let mut client = gateway.connect().await;
    client.send(text.as_bytes()).await;
    client.try_answer(method).await
}

/// All but the case of a repeated parameter: the verifier sorts by names alone, and S3 has none that repeats.
const PATHS: [&str; 21] = [
    "",
    "/",
    "/?Param1=value1",
    "/?Param2=value2&Param1=value1",
    "/?Param1=",
    "/?Param1",
    "/?Param-3=Value3&Param=Value2&%E1%88%B4=Value1",
    "/?%E1%88%B4=bar",
    "/?p=%20%2B%2F%3D",
    "/?-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz=-._~",
    "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
    "/%E1%88%B4",
    "/example%20space/",
    "/example%2520space",
    "/./",
    "/./example",
    "/example/..",
    "/example1/example2/../..",
    "//",
    "//example//",
    "/a%2Bb%3Dc%26d",
];

#[tokio::test]
async fn row_21_what_aws_signs_is_accepted() {
    let gateway = Gateway::start().await;
    for presigned in [false, true] {
        for path in PATHS {
            let path = format!("/snapshots/base/tests-v{path}");
            let request = signed("GET", &path, &[], presigned);
            let answer = raw(&gateway, "GET", &request.text()).await.unwrap();
            assert_eq!(answer.field("Code"), "NoSuchKey", "{}", request.text());
        }
    }
    for headers in [
        &[("my-header1", "  value1  ")][..],
        &[("my-header1", "a   b   c")],
        &[("my-header1", "VALUE1"), ("my-header2", "\"a b c\"")],
        &[("range", "bytes=0-1"), ("x-amz-te", "append-md5")],
    ] {
        let request = signed("GET", "/snapshots/base/tests-v/k", headers, false);
        let answer = raw(&gateway, "GET", &request.text()).await.unwrap();
        answer.expect(404, "NoSuchKey");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn row_17_and_21_any_change_to_what_was_signed_is_refused() {
    let gateway = Gateway::start().await;
    let headers = [("range", "bytes=0-1"), ("x-amz-meta-a", "b")];
    for presigned in [false, true] {
        let request = signed("GET", "/snapshots/base/tests-v/k?a=b", &headers, presigned);
        let text = request.text();
        let accepted = raw(&gateway, "GET", &text).await.unwrap();
        accepted.expect(404, "NoSuchKey");
        let other = [
            text.replace("tests-v/k", "tests-v/l"),
            text.replace("a=b", "a=c"),
            text.replace("?a=b", "?a=b&versionId=1"),
            text.replace("?a=b", "?a=b&uploads"),
            text.replace("bytes=0-1", "bytes=0-2"),
            text.replace("x-amz-meta-a: b", "x-amz-meta-a: c"),
            text.replace(HOST, "127.0.0.1:9001"),
            text.replace("central", "west"),
        ];
        for text in other {
            let answer = raw(&gateway, "GET", &text).await.unwrap();
            assert_eq!(answer.field("Code"), "SignatureDoesNotMatch", "{text}");
        }
        for method in ["DELETE", "HEAD"] {
            let text = text.replacen("GET", method, 1);
            assert_eq!(raw(&gateway, method, &text).await.unwrap().status, 403);
        }
    }
    gateway.stop().await;
}

#[tokio::test]
async fn row_21_every_single_byte_of_a_signed_head_counts() {
    let gateway = Gateway::start().await;
    let request = signed("GET", "/snapshots/base/tests-v/key?a=b", &[], false);
    let text = request.text();
    let mut client = None;
    for at in 0..text.len() - 4 {
        let mut bytes = text.clone().into_bytes();
        bytes[at] = match bytes[at] {
            b'\r' | b'\n' | b' ' => continue,
            b'z' => b'y',
            other => other + 1,
        };
        let mut open = match client.take() {
            Some(open) => open,
            None => gateway.connect().await,
        };
        open.send(&bytes).await;
        let Some(answer) = open.try_answer("GET").await else {
            continue;
        };
        assert!(
            (400..500).contains(&answer.status) && answer.field("Code") != "NoSuchKey",
            "{}: {}",
            String::from_utf8_lossy(&bytes),
            answer.text()
        );
        if answer.header("connection") != "close" {
            client = Some(open);
        }
    }
    gateway.stop().await;
}
