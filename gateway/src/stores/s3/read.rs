//! Reading objects: streamed, bound to the recorded identity, never silently short.

use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderValue, LAST_MODIFIED};
use http::{Method, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use policies::key::ObjectKey;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use tokio::time::{Instant, Sleep, sleep};

use super::client::{Call, Client, header_number, identity, value};
use super::failure::Failure;
use crate::stores::{Content, Error, Identity, Result, Stat};

impl Client {
    pub(super) async fn read(
        &self,
        name: &ObjectKey,
        range: Option<Range<u64>>,
        expect: Option<&Identity>,
    ) -> Result<Option<Content>> {
        let operation = "GetObject";
        if let Some(range) = &range
            && range.is_empty()
        {
            return self.read_nothing(name, expect).await;
        }
        let mut call = Call::new(operation, Method::GET, Some(name.as_str()));
        if let Some(Range { start, end }) = range {
            let text = format!("bytes={start}-{}", end - 1);
            call = call.header("range", value(&text)?);
        }
        if let Some(Identity(tag)) = expect {
            call = call.header("if-match", value(&format!("\"{tag}\""))?);
        }
        let response = match self.open_body(&call).await {
            Ok(response) => response,
            Err(failure) if failure.is(412) => return Err(Error::Changed),
            Err(failure) if failure.is(416) && expect.is_none() => return Err(Error::Changed),
            Err(failure) if failure.has_code("NoSuchKey") => return Ok(None),
            Err(failure) => return Err(failure.into_error(operation)),
        };
        let (head, body) = response.into_parts();
        let failed = |failure: Failure| failure.into_error(operation);
        let found = identity(&head.headers).map_err(failed)?;
        // Services that ignore If-Match.
        if expect.is_some_and(|expect| *expect != found) {
            return Err(Error::Changed);
        }
        let (size, length) = lengths(head.status, &head.headers, range).map_err(failed)?;
        Ok(Some(Content {
            size,
            identity: found,
            bytes: Whole::new(body, length, self.deadlines.idle).boxed(),
            file: None,
        }))
    }

    /// S3 has no empty ranges.
    async fn read_nothing(
        &self,
        name: &ObjectKey,
        expect: Option<&Identity>,
    ) -> Result<Option<Content>> {
        let Some(stat) = self.stat(name).await? else {
            return Ok(None);
        };
        if expect.is_some_and(|expect| *expect != stat.identity) {
            return Err(Error::Changed);
        }
        Ok(Some(Content {
            size: stat.size,
            identity: stat.identity,
            bytes: futures::stream::empty().boxed(),
            file: None,
        }))
    }

    pub(super) async fn stat(&self, name: &ObjectKey) -> Result<Option<Stat>> {
        Ok(self.head(name).await?.map(|(stat, _)| stat))
    }

    pub(super) async fn head(&self, name: &ObjectKey) -> Result<Option<(Stat, HeaderMap)>> {
        let operation = "HeadObject";
        let call = Call::new(operation, Method::HEAD, Some(name.as_str()));
        let headers = match self.answer(&call).await.result {
            Ok(answer) => answer.headers,
            Err(failure) if failure.is(404) => {
                // An answer to HEAD cannot say what is missing: the object, or the whole bucket.
                let bucket = Call::new("HeadBucket", Method::HEAD, None);
                let there = self.answer(&bucket).await.result;
                return match there {
                    Ok(_) => Ok(None),
                    Err(failure) => Err(failure.into_error(bucket.operation)),
                };
            }
            Err(failure) => return Err(failure.into_error(operation)),
        };
        let failed = |failure: Failure| failure.into_error(operation);
        let size = header_number(&headers, CONTENT_LENGTH);
        let stat = Stat {
            size: size.ok_or(Failure::Nonsense).map_err(failed)?,
            identity: identity(&headers).map_err(failed)?,
            modified_ms: headers.get(LAST_MODIFIED).map_or(0, modified_ms),
        };
        Ok(Some((stat, headers)))
    }
}

/// Seconds are all that HTTP dates hold.
fn modified_ms(value: &HeaderValue) -> i64 {
    let text = value.to_str().unwrap_or_default();
    OffsetDateTime::parse(text, &Rfc2822).map_or(0, |time| time.unix_timestamp() * 1000)
}

/// Size of the object and length of the answer, checked against what was asked for.
fn lengths(
    status: StatusCode,
    headers: &HeaderMap,
    asked: Option<Range<u64>>,
) -> Result<(u64, u64), Failure> {
    let length = header_number(headers, CONTENT_LENGTH).ok_or(Failure::Nonsense)?;
    let Some(asked) = asked else {
        return Ok((length, length));
    };
    // Some answer so when the range is the whole object.
    if status == StatusCode::OK && asked == (0..length) {
        return Ok((length, length));
    }
    if status != StatusCode::PARTIAL_CONTENT {
        return Err(Failure::Nonsense);
    }
    let text = headers
        .get(CONTENT_RANGE)
        .and_then(|value| value.to_str().ok());
    let (first, last, size) = text.and_then(content_range).ok_or(Failure::Nonsense)?;
    let as_asked =
        first == asked.start && last + 1 == asked.end && length == asked.end - asked.start;
    if as_asked {
        Ok((size, length))
    } else {
        Err(Failure::Nonsense)
    }
}

/// `bytes 0-9/100`
fn content_range(text: &str) -> Option<(u64, u64, u64)> {
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let last: u64 = last.parse().ok()?;
    let size: u64 = size.parse().ok()?;
    (last < size).then_some((first.parse().ok()?, last, size))
}

/// A body that ends with an error unless all its bytes came, each in time.
struct Whole {
    body: Incoming,
    left: u64,
    idle: Duration,
    /// Armed while the service lets us wait.
    patience: Option<Pin<Box<Sleep>>>,
    over: bool,
}

impl Whole {
    fn new(body: Incoming, length: u64, idle: Duration) -> Self {
        Self {
            body,
            left: length,
            idle,
            patience: None,
            over: false,
        }
    }

    fn fail(&mut self, text: &'static str) -> Poll<Option<Result<Bytes>>> {
        self.over = true;
        Poll::Ready(Some(Err(Error::Failed(text.into()))))
    }

    fn wait(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        let idle = self.idle;
        let patience = self.patience.get_or_insert_with(|| Box::pin(sleep(idle)));
        match patience.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => self.fail("the store stopped in the middle of an object"),
        }
    }
}

impl Stream for Whole {
    type Item = Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        let this = self.get_mut();
        if this.over {
            return Poll::Ready(None);
        }
        loop {
            let frame = match Pin::new(&mut this.body).poll_frame(context) {
                Poll::Pending => return this.wait(context),
                Poll::Ready(frame) => frame,
            };
            if let Some(patience) = &mut this.patience {
                patience.as_mut().reset(Instant::now() + this.idle);
            }
            match frame {
                None if this.left == 0 => {
                    this.over = true;
                    return Poll::Ready(None);
                }
                None | Some(Err(_)) => {
                    return this.fail("the store broke off in the middle of an object");
                }
                Some(Ok(frame)) => {
                    let Ok(bytes) = frame.into_data() else {
                        continue;
                    };
                    let Some(left) = this.left.checked_sub(bytes.len() as u64) else {
                        return this.fail("the store sent more than it announced");
                    };
                    this.left = left;
                    if !bytes.is_empty() {
                        return Poll::Ready(Some(Ok(bytes)));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_to_another_range_is_no_answer() {
        let check = |status: u16, range: &'static str, length: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_RANGE, HeaderValue::from_static(range));
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static(length));
            lengths(
                StatusCode::from_u16(status).unwrap(),
                &headers,
                Some(10..20),
            )
        };
        assert!(matches!(check(206, "bytes 10-19/100", "10"), Ok((100, 10))));
        for (status, range, length) in [
            (200, "bytes 10-19/100", "10"),
            (206, "bytes 10-18/100", "9"),
            (206, "bytes 0-9/100", "10"),
            (206, "bytes 10-19/15", "10"),
            (206, "bytes 10-19/*", "10"),
            (206, "bytes 10-19/100", "9"),
        ] {
            assert!(
                check(status, range, length).is_err(),
                "{status} {range} {length}"
            );
        }
    }
}
