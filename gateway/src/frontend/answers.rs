//! The one table from what was refused or failed to what an S3 client is told.
//!
//! Every error answer of the S3 listener is an [`Answer`] written by [`Answer::into_response`]: with a
//! request id, the resource and a sentence. What went wrong inside is logged, never shown.

use std::borrow::Cow;
use std::sync::Arc;

use http::header::{CONTENT_TYPE, ETAG, HeaderValue, LAST_MODIFIED, RETRY_AFTER};
use http::{Method, StatusCode};
use s3s::{Body, HttpResponse, S3Error, S3ErrorCode};

use super::precheck::Rejection;
use crate::repository::{BodyError, Error, Refusal};
use crate::telemetry::clock;

/// What a client is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub code: Cow<'static, str>,
    pub message: Cow<'static, str>,
    /// Seconds after which to ask again.
    pub retry_after: Option<u32>,
    /// Size of the object, for a range outside of it.
    pub object_size: Option<u64>,
    /// ETag and time of the object that is not sent again.
    pub unchanged: Option<(Arc<str>, i64)>,
    /// The region to sign for, for who signed for another: clients sign again.
    pub region: Option<Box<str>>,
}

impl Answer {
    fn new(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            code: Cow::Borrowed(code),
            message: message.into(),
            retry_after: None,
            object_size: None,
            unchanged: None,
            region: None,
        }
    }

    /// The server has no room for this request now.
    #[must_use]
    pub fn busy() -> Self {
        Self {
            retry_after: Some(1),
            ..Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "SlowDown",
                "Please reduce your request rate.",
            )
        }
    }

    #[must_use]
    pub fn not_implemented(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, "NotImplemented", message)
    }

    #[must_use]
    pub fn invalid_argument(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidArgument", message)
    }

    #[must_use]
    pub fn invalid_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidRequest", message)
    }

    #[must_use]
    pub fn malformed_xml() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "MalformedXML",
            "The XML you provided was not well-formed or did not validate against our published schema.",
        )
    }

    #[must_use]
    pub fn access_denied(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "AccessDenied", message)
    }

    /// Code and message as read from an answer that the protocol library wrote.
    #[must_use]
    pub fn told(status: StatusCode, code: String, message: String) -> Self {
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            return internal();
        }
        Self {
            status,
            code: Cow::Owned(code),
            message: Cow::Owned(message),
            retry_after: None,
            object_size: None,
            unchanged: None,
            region: None,
        }
    }

    /// The error as the protocol library carries it from an operation to [`super::service`].
    #[must_use]
    pub fn to_s3(&self) -> S3Error {
        let code =
            S3ErrorCode::from_bytes(self.code.as_bytes()).unwrap_or(S3ErrorCode::InternalError);
        let mut error = S3Error::with_message(code, self.message.clone());
        error.set_status_code(self.status);
        error
    }

    /// The answer on the wire; HEAD and 304 have no body.
    #[must_use]
    pub fn into_response(self, method: &Method, resource: &str, request_id: &str) -> HttpResponse {
        let body = if *method == Method::HEAD || self.status == StatusCode::NOT_MODIFIED {
            Body::empty()
        } else {
            Body::from(self.xml(resource, request_id))
        };
        let mut response = HttpResponse::new(body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if self.status != StatusCode::NOT_MODIFIED {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if let Some(size) = self.object_size
            && let Ok(value) = HeaderValue::from_str(&format!("bytes */{size}"))
        {
            headers.insert(http::header::CONTENT_RANGE, value);
        }
        if let Some(region) = &self.region
            && let Ok(value) = HeaderValue::from_str(region)
        {
            headers.insert("x-amz-bucket-region", value);
        }
        if let Some((etag, modified_ms)) = &self.unchanged {
            let told = [
                (ETAG, format!("\"{etag}\"")),
                (LAST_MODIFIED, clock::http_date(*modified_ms)),
            ];
            for (name, text) in told {
                if let Ok(value) = HeaderValue::try_from(text) {
                    headers.insert(name, value);
                }
            }
        }
        response
    }

    fn xml(&self, resource: &str, request_id: &str) -> String {
        let mut xml = String::with_capacity(320 + self.message.len() + resource.len());
        xml.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>");
        escape(&self.code, &mut xml);
        xml.push_str("</Code><Message>");
        escape(&self.message, &mut xml);
        xml.push_str("</Message>");
        if let Some(region) = &self.region {
            xml.push_str("<Region>");
            escape(region, &mut xml);
            xml.push_str("</Region>");
        }
        xml.push_str("<Resource>");
        escape(resource, &mut xml);
        xml.push_str("</Resource><RequestId>");
        escape(request_id, &mut xml);
        xml.push_str("</RequestId><HostId>snapgate</HostId></Error>");
        xml
    }
}

fn escape(text: &str, into: &mut String) {
    for c in text.chars() {
        match c {
            '<' => into.push_str("&lt;"),
            '>' => into.push_str("&gt;"),
            '&' => into.push_str("&amp;"),
            '"' => into.push_str("&quot;"),
            // XML 1.0 cannot carry them, not even escaped.
            c if c.is_control() && !matches!(c, '\t' | '\n' | '\r') => into.push('\u{fffd}'),
            c => into.push(c),
        }
    }
}

fn internal() -> Answer {
    Answer::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "InternalError",
        "We encountered an internal error. Please try again.",
    )
}

impl From<&Error> for Answer {
    fn from(error: &Error) -> Self {
        let told = |status, code| Self::new(status, code, error.to_string());
        match error {
            Error::Refused(refusal) => refusal.into(),
            Error::NoSuchBucket => Self::new(
                StatusCode::NOT_FOUND,
                "NoSuchBucket",
                "The specified bucket does not exist",
            ),
            Error::NoSuchKey => Self::new(
                StatusCode::NOT_FOUND,
                "NoSuchKey",
                "The specified key does not exist.",
            ),
            Error::NoSuchUpload => Self::new(
                StatusCode::NOT_FOUND,
                "NoSuchUpload",
                "The specified multipart upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.",
            ),
            Error::PreconditionFailed => Self::new(
                StatusCode::PRECONDITION_FAILED,
                "PreconditionFailed",
                "At least one of the pre-conditions you specified did not hold",
            ),
            Error::NotModified { etag, modified_ms } => Self {
                unchanged: Some((Arc::clone(etag), *modified_ms)),
                ..told(StatusCode::NOT_MODIFIED, "NotModified")
            },
            Error::RangeNotSatisfiable { size } => Self {
                object_size: Some(*size),
                ..Self::new(
                    StatusCode::RANGE_NOT_SATISFIABLE,
                    "InvalidRange",
                    "The requested range is not satisfiable",
                )
            },
            Error::InvalidPart => Self::new(
                StatusCode::BAD_REQUEST,
                "InvalidPart",
                "One or more of the specified parts could not be found. The part may not have been uploaded, or the specified entity tag may not match the part's entity tag.",
            ),
            Error::InvalidPartOrder => Self::new(
                StatusCode::BAD_REQUEST,
                "InvalidPartOrder",
                "The list of parts was not in ascending order. Parts must be ordered by part number.",
            ),
            Error::EntityTooSmall => Self::new(
                StatusCode::BAD_REQUEST,
                "EntityTooSmall",
                "Your proposed upload is smaller than the minimum allowed size",
            ),
            Error::InvalidArgument(_) => told(StatusCode::BAD_REQUEST, "InvalidArgument"),
            Error::Body(body) => body.into(),
            Error::SlowDown(_) => Self {
                retry_after: Some(1),
                ..told(StatusCode::SERVICE_UNAVAILABLE, "SlowDown")
            },
            Error::Unavailable(_) => Self {
                retry_after: Some(1),
                ..told(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable")
            },
        }
    }
}

impl From<&Refusal> for Answer {
    fn from(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::Lock(_)
            | Refusal::NotAReader { .. }
            | Refusal::OutsideRepositories { .. }
            | Refusal::NestedRoot { .. }
            | Refusal::Reserved
            | Refusal::ReadOnlyView { .. }
            | Refusal::NoView { .. }
            | Refusal::PresignedCommit { .. }
            | Refusal::ForeignUpload { .. }
            | Refusal::Guard { .. } => Self::access_denied(refusal.to_string()),
        }
    }
}

impl From<&BodyError> for Answer {
    fn from(error: &BodyError) -> Self {
        let bad = |code| Self::new(StatusCode::BAD_REQUEST, code, sentence(error));
        match error {
            BodyError::Signature => Self::new(
                StatusCode::FORBIDDEN,
                "SignatureDoesNotMatch",
                "The signature of a chunk or of the trailer does not match the bytes that arrived.",
            ),
            BodyError::Sha256Mismatch => Self::new(
                StatusCode::BAD_REQUEST,
                "XAmzContentSHA256Mismatch",
                "The provided 'x-amz-content-sha256' header does not match what was computed.",
            ),
            BodyError::Incomplete => Self::new(
                StatusCode::BAD_REQUEST,
                "IncompleteBody",
                "You did not provide the number of bytes specified by the Content-Length HTTP header.",
            ),
            BodyError::Malformed(_) => bad("InvalidRequest"),
            BodyError::TooLarge => bad("EntityTooLarge"),
            BodyError::TooSlow => Self::new(
                StatusCode::BAD_REQUEST,
                "RequestTimeout",
                "Your socket connection to the server was not read from or written to within the timeout period. Idle connections will be closed.",
            ),
            BodyError::SourceFailed => Self {
                retry_after: Some(1),
                ..Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "ServiceUnavailable",
                    sentence(error),
                )
            },
            BodyError::Gone => bad("IncompleteBody"),
            BodyError::BadMd5 => Self::new(
                StatusCode::BAD_REQUEST,
                "BadDigest",
                "The Content-MD5 you specified did not match what we received.",
            ),
            BodyError::BadChecksum(_) => bad("BadDigest"),
        }
    }
}

fn sentence(error: &BodyError) -> String {
    let mut text = error.to_string();
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    text.push('.');
    text
}

impl From<&Rejection> for Answer {
    fn from(rejection: &Rejection) -> Self {
        let told = |status, code| Self::new(status, code, rejection.to_string());
        let bad = |code| told(StatusCode::BAD_REQUEST, code);
        let forbidden = |code| told(StatusCode::FORBIDDEN, code);
        match rejection {
            Rejection::Anonymous
            | Rejection::OtherMechanism
            | Rejection::HeaderNotSigned(_)
            | Rejection::Expired
            | Rejection::FramingWithQueryAuth
            | Rejection::UnsignedPayload(_) => forbidden("AccessDenied"),
            Rejection::SignedHeaders(_) | Rejection::ScopeDate => {
                forbidden("SignatureDoesNotMatch")
            }
            Rejection::Skewed => forbidden("RequestTimeTooSkewed"),
            Rejection::MalformedAuthorization(_) => bad("AuthorizationHeaderMalformed"),
            Rejection::WrongRegion { expected, .. } => Self {
                region: Some(expected.as_str().into()),
                ..bad("AuthorizationHeaderMalformed")
            },
            Rejection::MalformedQueryAuthorization(_) => bad("AuthorizationQueryParametersError"),
            Rejection::TwoMechanisms
            | Rejection::BadNumber(_)
            | Rejection::BadHeader(_)
            | Rejection::DuplicateParameter(_)
            | Rejection::BadPayloadHash
            | Rejection::BadCopySource
            | Rejection::CopySourceMisplaced => bad("InvalidArgument"),
            Rejection::DuplicateHeader(_)
            | Rejection::MissingHeader(_)
            | Rejection::BadHost(_)
            | Rejection::FramingNotAllowed(_)
            | Rejection::DocumentUnprotected
            | Rejection::BadChecksum(_)
            | Rejection::ManyChecksums
            | Rejection::BadTrailer => bad("InvalidRequest"),
            Rejection::BadUri(_) => bad("InvalidURI"),
            Rejection::KeyTooLong => bad("KeyTooLongError"),
            Rejection::TooLarge => bad("EntityTooLarge"),
            Rejection::DocumentTooLarge => bad("MaxMessageLengthExceeded"),
            Rejection::BadMd5 => bad("InvalidDigest"),
            Rejection::Encryption => bad("InvalidEncryptionAlgorithmError"),
            Rejection::MissingLength => told(StatusCode::LENGTH_REQUIRED, "MissingContentLength"),
            Rejection::BadRange => told(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange"),
            Rejection::FormUpload | Rejection::Method => {
                told(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed")
            }
            Rejection::FramingNotImplemented | Rejection::NotImplemented(_) => {
                told(StatusCode::NOT_IMPLEMENTED, "NotImplemented")
            }
        }
    }
}
