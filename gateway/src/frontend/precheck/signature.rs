//! The claims of a signature: who, when, for what, over which headers.
//!
//! Everything about them is checked here except the HMAC.

use http::HeaderMap;

use super::Rejection;
use super::query::Query;

/// Seconds by which a request's time may differ from ours.
pub const MAX_SKEW: i64 = 15 * 60;

/// Longest life of a presigned URL in seconds: seven days.
const MAX_EXPIRES: i64 = 7 * 24 * 60 * 60;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// What S3 calls the region without a name.
pub const DEFAULT_REGION: &str = "us-east-1";

#[derive(Debug)]
pub struct Claims<'a> {
    pub access_key: &'a str,
    pub presigned: bool,
}

/// How the request says it is authenticated.
pub fn check<'a>(
    region: Option<&str>,
    query: &'a Query<'_>,
    headers: &'a HeaderMap,
    now: i64,
) -> Result<Claims<'a>, Rejection> {
    let in_query = ["X-Amz-Signature", "X-Amz-Algorithm", "X-Amz-Credential"]
        .iter()
        .any(|name| query.has(name));
    let sig_v2 = query.has("Signature") || query.has("AWSAccessKeyId");
    match (headers.get("authorization"), in_query, sig_v2) {
        (None, false, false) => Err(Rejection::Anonymous),
        (None, false, true) => Err(Rejection::OtherMechanism),
        (None, true, false) => check_query(region, query, headers, now),
        (Some(value), false, false) => {
            let value = value
                .to_str()
                .map_err(|_| Rejection::MalformedAuthorization("it is not text"))?;
            check_header(region, value, headers, now)
        }
        (_, _, _) => Err(Rejection::TwoMechanisms),
    }
}

fn check_header<'a>(
    region: Option<&str>,
    value: &'a str,
    headers: &HeaderMap,
    now: i64,
) -> Result<Claims<'a>, Rejection> {
    let malformed = Rejection::MalformedAuthorization;
    let Some(rest) = value.strip_prefix(ALGORITHM) else {
        return Err(Rejection::OtherMechanism);
    };
    if !rest.starts_with(' ') {
        return Err(Rejection::OtherMechanism);
    }
    let (mut credential, mut signed, mut signature) = (None, None, None);
    for part in rest.split(',') {
        let (name, value) = part
            .trim()
            .split_once('=')
            .ok_or(malformed("a part has no '='"))?;
        let slot = match name {
            "Credential" => &mut credential,
            "SignedHeaders" => &mut signed,
            "Signature" => &mut signature,
            _ => return Err(malformed("it has an unknown part")),
        };
        if slot.replace(value).is_some() {
            return Err(malformed("a part occurs twice"));
        }
    }
    let (Some(credential), Some(signed), Some(_)) = (credential, signed, signature) else {
        return Err(malformed(
            "Credential, SignedHeaders and Signature are needed",
        ));
    };
    let scope = Scope::parse(credential).map_err(malformed)?;
    let date = headers
        .get("x-amz-date")
        .ok_or(Rejection::MissingHeader("x-amz-date"))?
        .to_str()
        .map_err(|_| Rejection::BadHeader("x-amz-date"))?;
    let time = parse_time(date).ok_or(Rejection::BadHeader("x-amz-date"))?;
    scope.check(region, date)?;
    if (now - time).abs() > MAX_SKEW {
        return Err(Rejection::Skewed);
    }
    check_signed_headers(signed, headers)?;
    Ok(Claims {
        access_key: scope.access_key,
        presigned: false,
    })
}

fn check_query<'a>(
    region: Option<&str>,
    query: &'a Query<'_>,
    headers: &HeaderMap,
    now: i64,
) -> Result<Claims<'a>, Rejection> {
    let malformed = Rejection::MalformedQueryAuthorization;
    let need = |name: &'static str| {
        query
            .one(name)?
            .ok_or(malformed("an X-Amz-* parameter is missing"))
    };
    if need("X-Amz-Algorithm")? != ALGORITHM {
        return Err(Rejection::OtherMechanism);
    }
    let scope = Scope::parse(need("X-Amz-Credential")?).map_err(malformed)?;
    let date = need("X-Amz-Date")?;
    let time = parse_time(date).ok_or(malformed("X-Amz-Date is no date"))?;
    let expires = need("X-Amz-Expires")?;
    if expires.is_empty() || !expires.bytes().all(|b| b.is_ascii_digit()) {
        return Err(malformed("X-Amz-Expires must be a number"));
    }
    let expires = expires
        .parse::<i64>()
        .ok()
        .filter(|e| (1..=MAX_EXPIRES).contains(e))
        .ok_or(malformed("X-Amz-Expires must lie between 1 and 604800"))?;
    need("X-Amz-Signature")?;
    scope.check(region, date)?;
    if time - now > MAX_SKEW {
        return Err(Rejection::Skewed);
    }
    if now > time + expires {
        return Err(Rejection::Expired);
    }
    check_signed_headers(need("X-Amz-SignedHeaders")?, headers)?;
    Ok(Claims {
        access_key: scope.access_key,
        presigned: true,
    })
}

/// Lower case, ascending, each present, `host` and all `x-amz-*` among them.
/// The value of `x-amz-content-sha256` is part of what is signed even if its name is not.
fn check_signed_headers(list: &str, headers: &HeaderMap) -> Result<(), Rejection> {
    let mut previous = "";
    let mut host = false;
    let mut signed_amz = 0usize;
    for name in list.split(';') {
        if name.is_empty() || name.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(Rejection::SignedHeaders("names must be in lower case"));
        }
        if name <= previous {
            return Err(Rejection::SignedHeaders("names must be sorted, each once"));
        }
        previous = name;
        let mut values = headers.get_all(name).iter();
        if values.next().is_none() {
            return Err(Rejection::SignedHeaders(
                "a header in it is not in the request",
            ));
        }
        if values.next().is_some() {
            return Err(Rejection::SignedHeaders(
                "a header in it occurs more than once",
            ));
        }
        host |= name == "host";
        signed_amz += usize::from(counts(name));
    }
    if !host {
        return Err(Rejection::SignedHeaders("host must be signed"));
    }
    let present = || {
        headers
            .keys()
            .map(http::HeaderName::as_str)
            .filter(|name| counts(name))
    };
    if present().count() == signed_amz {
        return Ok(());
    }
    let unsigned = present().filter(|name| !list.split(';').any(|signed| signed == *name));
    Err(Rejection::HeaderNotSigned(
        unsigned.collect::<Vec<_>>().join(", "),
    ))
}

fn counts(name: &str) -> bool {
    name.starts_with("x-amz-") && name != "x-amz-content-sha256"
}

/// `<access key>/<yyyymmdd>/<region>/<service>/aws4_request`
#[derive(Debug)]
struct Scope<'a> {
    access_key: &'a str,
    date: &'a str,
    region: &'a str,
    service: &'a str,
}

impl<'a> Scope<'a> {
    fn parse(text: &'a str) -> Result<Self, &'static str> {
        let mut parts = text.split('/');
        let mut next = || parts.next().filter(|part| !part.is_empty());
        let scope = match (next(), next(), next(), next(), next()) {
            (Some(access_key), Some(date), Some(region), Some(service), Some("aws4_request")) => {
                Self {
                    access_key,
                    date,
                    region,
                    service,
                }
            }
            _ => return Err("the credential is not <key>/<date>/<region>/s3/aws4_request"),
        };
        if next().is_some() {
            return Err("the credential is not <key>/<date>/<region>/s3/aws4_request");
        }
        Ok(scope)
    }

    fn check(&self, region: Option<&str>, date: &str) -> Result<(), Rejection> {
        if self.service != "s3" {
            return Err(Rejection::MalformedAuthorization(
                "the service of the credential must be 's3'",
            ));
        }
        if region.is_some_and(|expected| expected != self.region) || !is_region(self.region) {
            return Err(Rejection::WrongRegion {
                got: self.region.to_owned(),
                expected: region.unwrap_or(DEFAULT_REGION).to_owned(),
            });
        }
        match date.get(..8) {
            Some(day) if day == self.date => Ok(()),
            Some(_) | None => Err(Rejection::ScopeDate),
        }
    }
}

/// Whether it may be the name of a region: the protocol library takes no other.
#[must_use]
pub fn is_region(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// `yyyymmddThhmmssZ` -> seconds since 1970.
#[must_use]
pub fn parse_time(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() != 16 || bytes[8] != b'T' || bytes[15] != b'Z' {
        return None;
    }
    let number = |from: usize, to: usize| -> Option<u32> {
        let digits = &bytes[from..to];
        digits
            .iter()
            .all(u8::is_ascii_digit)
            .then(|| digits.iter().fold(0, |n, b| n * 10 + u32::from(b - b'0')))
    };
    let two = |from| number(from, from + 2).and_then(|n| u8::try_from(n).ok());
    let year = i32::try_from(number(0, 4)?).ok()?;
    let month = time::Month::try_from(two(4)?).ok()?;
    let day = time::Date::from_calendar_date(year, month, two(6)?).ok()?;
    let clock = time::Time::from_hms(two(9)?, two(11)?, two(13)?).ok()?;
    Some(day.with_time(clock).assume_utc().unix_timestamp())
}
