//! SigV4 signatures of requests to the store.
//!
//! The canonical request is built here, in one buffer, because names and queries are already in
//! canonical form; the key derivation and the signature itself are `aws-sigv4`'s. The derived key is
//! kept for the day it is valid.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::credentials::Keys;

pub(super) const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const PAYLOAD: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

pub(super) type Headers = Vec<(HeaderName, HeaderValue)>;

#[derive(Debug)]
pub(super) struct Signer {
    region: String,
    derived: Mutex<Option<Derived>>,
}

struct Derived {
    day: u64,
    from: Arc<Keys>,
    key: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Derived {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Derived")
            .field("day", &self.day)
            .finish_non_exhaustive()
    }
}

/// What is signed beside the headers. All of it in canonical form.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signed<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub query: &'a str,
    /// Hex SHA-256 of the body, or [`UNSIGNED`].
    pub payload: &'a str,
}

impl Signer {
    pub(super) fn new(region: String) -> Self {
        Self {
            region,
            derived: Mutex::new(None),
        }
    }

    /// Adds date, payload, token and signature to the headers; `host` has to be among them.
    pub(super) fn sign(
        &self,
        keys: &Arc<Keys>,
        now: SystemTime,
        request: Signed<'_>,
        headers: &mut Headers,
    ) {
        let seconds = now
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let date = date_time(seconds);
        let text = |value: &str| {
            HeaderValue::from_str(value).unwrap_or_else(|_| HeaderValue::from_static(""))
        };
        headers.push((DATE, text(&date)));
        headers.push((PAYLOAD, text(request.payload)));
        if let Some(token) = &keys.token {
            let mut value = text(token);
            value.set_sensitive(true);
            headers.push((TOKEN, value));
        }
        headers.sort_unstable_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
        let mut names = String::with_capacity(128);
        let canonical = canonical_request(request, headers, &mut names);

        let day = &date[..8];
        let region = &self.region;
        let mut to_sign = String::with_capacity(192);
        let hash = hex::encode(Sha256::digest(canonical.as_bytes()));
        write!(
            to_sign,
            "AWS4-HMAC-SHA256\n{date}\n{day}/{region}/s3/aws4_request\n{hash}"
        )
        .expect("a String takes all text");
        let signature = self.signature(keys, now, seconds / 86_400, to_sign.as_bytes());
        let id = &keys.id;
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={id}/{day}/{region}/s3/aws4_request, SignedHeaders={names}, Signature={signature}"
        );
        headers.push((AUTHORIZATION, text(&authorization)));
    }

    fn signature(&self, keys: &Arc<Keys>, now: SystemTime, day: u64, text: &[u8]) -> String {
        let mut derived = self.derived.lock();
        let kept = derived
            .as_ref()
            .is_some_and(|d| d.day == day && Arc::ptr_eq(&d.from, keys));
        if !kept {
            let key = generate_signing_key(&keys.secret, now, &self.region, "s3");
            *derived = Some(Derived {
                day,
                from: keys.clone(),
                key: Zeroizing::new(key.as_ref().to_vec()),
            });
        }
        let key = &derived.as_ref().expect("was set above").key;
        calculate_signature(key.as_slice(), text)
    }
}

fn canonical_request(request: Signed<'_>, headers: &Headers, names: &mut String) -> String {
    let Signed {
        method,
        path,
        query,
        payload,
    } = request;
    let mut text = String::with_capacity(512);
    write!(text, "{method}\n{path}\n{query}\n").expect("a String takes all text");
    for (name, value) in headers {
        if !names.is_empty() {
            names.push(';');
        }
        names.push_str(name.as_str());
        text.push_str(name.as_str());
        text.push(':');
        text.push_str(value.to_str().unwrap_or("").trim());
        text.push('\n');
    }
    text.push('\n');
    text.push_str(names);
    text.push('\n');
    text.push_str(payload);
    text
}

/// `20130524T000000Z` of seconds since 1970 (days to civil date after Howard Hinnant).
fn date_time(seconds: u64) -> String {
    let days = seconds / 86_400;
    let rest = seconds % 86_400;
    let z = days + 719_468;
    let era = z / 146_097;
    let day_of_era = z % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn keys() -> Arc<Keys> {
        Arc::new(Keys::new(
            "AKIAIOSFODNN7EXAMPLE".to_owned(),
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
        ))
    }

    fn header(name: &'static str, value: &'static str) -> (HeaderName, HeaderValue) {
        (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )
    }

    fn signature(headers: &Headers) -> &str {
        let (_, value) = headers
            .iter()
            .find(|(name, _)| *name == AUTHORIZATION)
            .unwrap();
        value.to_str().unwrap().rsplit_once("Signature=").unwrap().1
    }

    /// The worked examples of Amazon's "Authenticating Requests: Using the Authorization Header".
    #[test]
    fn signatures_equal_amazons_worked_examples() {
        let signer = Signer::new("us-east-1".to_owned());
        let now = UNIX_EPOCH + Duration::from_secs(1_369_353_600);
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let host = header("host", "examplebucket.s3.amazonaws.com");

        let mut get = vec![header("range", "bytes=0-9"), host.clone()];
        let request = Signed {
            method: "GET",
            path: "/test.txt",
            query: "",
            payload: empty,
        };
        signer.sign(&keys(), now, request, &mut get);
        assert_eq!(
            signature(&get),
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );

        let mut list = vec![host];
        let query = "max-keys=2&prefix=J";
        let request = Signed {
            method: "GET",
            path: "/",
            query,
            payload: empty,
        };
        signer.sign(&keys(), now, request, &mut list);
        assert_eq!(
            signature(&list),
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
        );
    }

    #[test]
    fn dates_are_civil() {
        assert_eq!(date_time(0), "19700101T000000Z");
        assert_eq!(date_time(951_782_399), "20000228T235959Z");
        assert_eq!(date_time(951_782_400), "20000229T000000Z");
        assert_eq!(date_time(4_107_542_399), "21000228T235959Z");
        assert_eq!(date_time(4_107_542_400), "21000301T000000Z");
    }

    #[test]
    fn changed_keys_are_not_signed_with_the_old_ones_derivation() {
        let signer = Signer::new("us-east-1".to_owned());
        let now = UNIX_EPOCH + Duration::from_secs(1_369_353_600);
        let request = Signed {
            method: "GET",
            path: "/",
            query: "",
            payload: UNSIGNED,
        };
        let signed = |keys: &Arc<Keys>| {
            let mut headers = vec![header("host", "h")];
            signer.sign(keys, now, request, &mut headers);
            signature(&headers).to_owned()
        };
        let other = Arc::new(Keys::new(
            "AKIAIOSFODNN7EXAMPLE".to_owned(),
            "other".to_owned(),
        ));
        assert_ne!(signed(&keys()), signed(&other));
    }
}
