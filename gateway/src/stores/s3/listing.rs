//! Listings of the store: whole, in order, or an error.
//!
//! Invariant: a page that is malformed, out of order, outside the prefix, or truncated without a token
//! is an error, never a shorter list.

use http::Method;
use parking_lot::Mutex;
use policies::key::{ObjectKey, RESERVED};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::client::{Call, Client, unquoted};
use super::failure::Failure;
use super::names;
use super::xml::{self, Element, Malformed};
use crate::stores::{Identity, Listed, Result, Stat};

const PAGE: usize = 1000;
const OPERATION: &str = "ListObjectsV2";

/// Where the next page begins.
#[derive(Debug, PartialEq)]
enum From {
    Start,
    After(String),
    Token(String),
}

/// Where the last listing stopped and how the service goes on from there. With it a scan in pages
/// reads each page once, and does not depend on `start-after`, which MinIO answers with gaps where one
/// name is another's beginning (`b` and `b-`).
#[derive(Debug, Default)]
pub(super) struct Cursor(Mutex<Option<Stop>>);

#[derive(Debug)]
struct Stop {
    prefix: String,
    last: String,
    token: String,
}

impl Cursor {
    fn take(&self, prefix: &str, after: &str) -> Option<String> {
        let mut stop = self.0.lock();
        let goes_on = stop
            .as_ref()
            .is_some_and(|stop| stop.prefix == prefix && stop.last == after);
        if goes_on {
            stop.take().map(|stop| stop.token)
        } else {
            None
        }
    }
}

#[derive(Debug)]
struct Page {
    objects: Vec<Element>,
    encoded: bool,
    next: Option<String>,
}

impl Client {
    pub(super) async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Listed>> {
        let failed = |failure: Failure| failure.into_error(OPERATION);
        let shows_reserved = prefix.starts_with(RESERVED);
        let mut found: Vec<Listed> = Vec::new();
        let mut from = match after {
            None => From::Start,
            Some(after) => match self.cursor.take(prefix, after) {
                Some(token) => From::Token(token),
                None => From::After(after.to_owned()),
            },
        };
        let mut last = String::new();
        while found.len() < limit {
            let page = self
                .page(prefix, &from, limit - found.len())
                .await
                .map_err(failed)?;
            let mut reserved = false;
            for object in &page.objects {
                let listed = self.listed(object, page.encoded);
                let listed = listed.map_err(|error| failed(error.into()))?;
                let name = listed.name.as_str();
                let in_order = name > last.as_str() && after.is_none_or(|after| name > after);
                if !in_order || !name.starts_with(prefix) {
                    return Err(failed(Failure::Nonsense));
                }
                name.clone_into(&mut last);
                reserved = !shows_reserved && name.starts_with(RESERVED);
                if !reserved && found.len() < limit {
                    found.push(listed);
                }
            }
            from = match page.next {
                None => return Ok(found),
                // The gateway's own objects may be many: pass over the rest of them in one step.
                Some(_) if reserved => From::After(format!("{RESERVED}\u{10ffff}")),
                Some(token) if from == From::Token(token.clone()) => {
                    return Err(failed(Failure::Nonsense));
                }
                Some(token) => From::Token(token),
            };
        }
        let whole_pages = found
            .last()
            .is_some_and(|listed| listed.name.as_str() == last);
        if let From::Token(token) = from
            && whole_pages
        {
            let prefix = prefix.to_owned();
            *self.cursor.0.lock() = Some(Stop {
                prefix,
                last,
                token,
            });
        }
        Ok(found)
    }

    async fn page(&self, prefix: &str, from: &From, want: usize) -> Result<Page, Failure> {
        let within = self.prefix();
        let prefix = format!("{within}{prefix}");
        let size = want.min(PAGE).to_string();
        let start;
        let mut query = vec![
            ("encoding-type", "url"),
            ("list-type", "2"),
            ("max-keys", &*size),
            ("prefix", &*prefix),
        ];
        match from {
            From::Start => {}
            From::After(after) => {
                start = format!("{within}{after}");
                query.push(("start-after", &start));
            }
            From::Token(token) => query.push(("continuation-token", token)),
        }
        query.sort_unstable();
        let call = Call::new(OPERATION, Method::GET, None).query(&query);
        let check = |answer: super::client::Answer| Ok(read_page(&answer.body)?);
        self.answer_checked(&call, self.deadlines.answer, check)
            .await
            .result
    }

    fn listed(&self, object: &Element, encoded: bool) -> Result<Listed, Malformed> {
        let key = name_in(object.text_of("Key")?, encoded)?;
        let name = key.strip_prefix(self.prefix()).ok_or(Malformed)?;
        let tag = unquoted(object.text_of("ETag")?);
        let modified = object.text_of("LastModified")?;
        let modified = OffsetDateTime::parse(modified, &Rfc3339).map_err(|_| Malformed)?;
        Ok(Listed {
            name: ObjectKey::parse(name).map_err(|_| Malformed)?,
            stat: Stat {
                size: object.text_of("Size")?.parse().map_err(|_| Malformed)?,
                identity: Identity(tag.into()),
                modified_ms: i64::try_from(modified.unix_timestamp_nanos() / 1_000_000)
                    .map_err(|_| Malformed)?,
            },
        })
    }
}

fn read_page(body: &[u8]) -> Result<Page, Malformed> {
    let mut root = xml::parse_as("ListBucketResult", body)?;
    let next = if root.flag("IsTruncated")? {
        match root.text_of("NextContinuationToken")? {
            "" => return Err(Malformed),
            token => Some(token.to_owned()),
        }
    } else {
        None
    };
    let encoded = root.maybe("EncodingType")? == Some("url");
    root.children.retain(|child| child.name == "Contents");
    Ok(Page {
        objects: root.children,
        encoded,
        next,
    })
}

pub(super) fn name_in(text: &str, encoded: bool) -> Result<String, Malformed> {
    if encoded {
        names::decode(text).ok_or(Malformed)
    } else {
        Ok(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_truncated_page_without_a_token_is_an_error() {
        let page = |rest: &str| {
            let text = format!("<ListBucketResult>{rest}</ListBucketResult>");
            read_page(text.as_bytes())
        };
        assert!(page("<IsTruncated>false</IsTruncated>").is_ok());
        assert!(page("<IsTruncated>true</IsTruncated>").is_err());
        assert!(page("").is_err());
        let token = "<NextContinuationToken>t</NextContinuationToken>";
        let more = page(&format!("<IsTruncated>true</IsTruncated>{token}")).unwrap();
        assert_eq!(more.next.as_deref(), Some("t"));
    }
}
