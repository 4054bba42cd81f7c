//! What one exchange with the service came to, when it was not an answer to be glad of.
//!
//! Decides: status and code -> may it be tried again, may it have acted, which [`Error`] it is.
//! Invariant: nothing but a short code of the service's own words goes further; its sentences may
//! name hosts and buckets that are not the clients' business.

use http::StatusCode;

use super::xml::Malformed;
use crate::stores::Error;

#[derive(Debug)]
pub(super) enum Failure {
    /// Nothing reached the service.
    NotSent(&'static str),
    /// Whether the service acted is unknown.
    Lost,
    /// The service answered with an error.
    Refused(Refusal),
    /// The service answered with success, but not as S3 does.
    Nonsense,
    /// The request could not be made.
    Ours(Error),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Refusal {
    pub status: StatusCode,
    /// S3's `<Code>`, or empty.
    pub code: String,
}

impl From<Malformed> for Failure {
    fn from(Malformed: Malformed) -> Self {
        Self::Nonsense
    }
}

impl Failure {
    /// Another attempt may succeed.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::NotSent(_) | Self::Lost => true,
            Self::Refused(refusal) => refusal.is_passing(),
            Self::Nonsense | Self::Ours(_) => false,
        }
    }

    /// The service may have done what was asked, or may still do it.
    pub(super) fn may_have_acted(&self) -> bool {
        match self {
            Self::Lost | Self::Nonsense => true,
            Self::Refused(refusal) => refusal.leaves_doubt(),
            Self::NotSent(_) | Self::Ours(_) => false,
        }
    }

    pub(super) fn is(&self, status: u16) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.status == status)
    }

    /// Another write of the same name was in the way.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.status == 409 && !refusal.is_unstorable())
    }

    pub(super) fn has_code(&self, code: &str) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.code == code)
    }

    pub(super) fn into_error(self, operation: &'static str) -> Error {
        match self {
            Self::NotSent(why) => Error::Failed(format!("{operation}: {why}").into()),
            Self::Lost => Error::Unknown,
            Self::Nonsense => {
                Error::Failed(format!("{operation}: the answer is not one of S3").into())
            }
            Self::Ours(error) => error,
            Self::Refused(refusal) => refusal.into_error(operation),
        }
    }
}

impl Refusal {
    fn is_busy(&self) -> bool {
        matches!(self.status.as_u16(), 429 | 503)
            || matches!(
                &*self.code,
                "SlowDown"
                    | "SlowDownRead"
                    | "SlowDownWrite"
                    | "ServiceUnavailable"
                    | "Throttling"
                    | "ThrottlingException"
                    | "RequestLimitExceeded"
                    | "TooManyRequests"
            )
    }

    fn is_full(&self) -> bool {
        self.status == 507
            || matches!(
                &*self.code,
                "QuotaExceeded"
                    | "XAdminBucketQuotaExceeded"
                    | "XMinioStorageFull"
                    | "InsufficientStorage"
                    | "InsufficientCapacity"
                    | "EntityTooLargeForQuota"
            )
    }

    /// A server that failed on its way may have done the work; one that is busy or full has not.
    fn leaves_doubt(&self) -> bool {
        self.status.is_server_error() && self.status != 501 && !self.is_busy() && !self.is_full()
    }

    /// The service, or the file system below it, has no place for such a name.
    fn is_unstorable(&self) -> bool {
        matches!(
            &*self.code,
            "KeyTooLongError"
                | "InvalidObjectName"
                | "XMinioInvalidObjectName"
                | "XMinioParentIsObject"
                | "XMinioObjectExistsAsDirectory"
                | "ObjectParentIsFile"
                | "ExistingObjectIsDirectory"
                | "DirectoryObjectContainsData"
        )
    }

    fn is_passing(&self) -> bool {
        if self.is_full() {
            return false;
        }
        self.is_busy()
            || matches!(self.status.as_u16(), 500 | 502 | 504)
            || self.code == "RequestTimeout"
    }

    /// The keys have expired or been exchanged; other ones may do.
    pub(super) fn distrusts_keys(&self) -> bool {
        matches!(
            &*self.code,
            "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" | "InvalidAccessKeyId"
        )
    }

    fn into_error(self, operation: &'static str) -> Error {
        if self.code == "RequestTimeTooSkewed" {
            let text = "the store's clock and this machine's differ by more than it allows; set the clocks right";
            return Error::Failed(text.into());
        }
        if self.is_full() {
            return Error::Full;
        }
        if self.is_unstorable() {
            return Error::Unstorable("the service behind has no place for it");
        }
        if self.is_busy() {
            return Error::Busy;
        }
        if matches!(self.status.as_u16(), 401 | 403) || self.distrusts_keys() {
            return Error::Denied;
        }
        if self.status.is_redirection() {
            let text = format!(
                "{operation}: the store redirects elsewhere, which is never followed; check its endpoint and region"
            );
            return Error::Failed(text.into());
        }
        let status = self.status.as_u16();
        let code = self.code;
        let text = if code.is_empty() {
            format!("{operation}: status {status}")
        } else {
            format!("{operation}: {code} (status {status})")
        };
        Error::Failed(text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, code: &str) -> Failure {
        Failure::Refused(Refusal {
            status: StatusCode::from_u16(status).unwrap(),
            code: code.to_owned(),
        })
    }

    #[test]
    fn refusals_become_the_errors_of_the_trait() {
        let error = |status, code| refused(status, code).into_error("PutObject");
        assert!(matches!(error(503, "SlowDown"), Error::Busy));
        assert!(matches!(error(503, ""), Error::Busy));
        assert!(matches!(error(403, "AccessDenied"), Error::Denied));
        assert!(matches!(error(400, "ExpiredToken"), Error::Denied));
        assert!(matches!(error(507, "XMinioStorageFull"), Error::Full));
        assert!(matches!(error(500, "InternalError"), Error::Failed(_)));
        assert!(
            matches!(error(301, "PermanentRedirect"), Error::Failed(text) if text.contains("endpoint"))
        );
        assert!(
            matches!(error(403, "RequestTimeTooSkewed"), Error::Failed(text) if text.contains("clock"))
        );
    }

    #[test]
    fn only_what_passes_is_tried_again() {
        for (status, code, again) in [
            (503, "SlowDown", true),
            (500, "InternalError", true),
            (400, "RequestTimeout", true),
            (403, "AccessDenied", false),
            (403, "RequestTimeTooSkewed", false),
            (507, "XMinioStorageFull", false),
            (404, "NoSuchKey", false),
            (501, "NotImplemented", false),
        ] {
            assert_eq!(refused(status, code).is_passing(), again, "{code}");
        }
    }

    #[test]
    fn a_server_error_leaves_doubt_and_a_busy_one_does_not() {
        assert!(refused(500, "InternalError").may_have_acted());
        assert!(!refused(503, "SlowDown").may_have_acted());
        assert!(Failure::Lost.may_have_acted());
        assert!(!Failure::NotSent("x").may_have_acted());
    }
}
