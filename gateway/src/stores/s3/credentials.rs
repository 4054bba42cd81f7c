//! Whose signatures the gateway makes: keys from a file, or from the AWS SDK's chain.
//!
//! Invariant: keys that expire are renewed before they do; a failing renewal is no reason to sign with
//! keys that are no longer valid. Secrets are never printed and are wiped when dropped.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use parking_lot::RwLock;
use tokio::sync::{Mutex, OnceCell};
use zeroize::Zeroizing;

use super::settings::{CredentialSettings, SettingsError};
use crate::stores::{Error, Result};

/// Renewed this long before they expire.
const AHEAD: Duration = Duration::from_secs(300);

/// One set of access keys.
pub(super) struct Keys {
    pub id: String,
    pub secret: Zeroizing<String>,
    pub token: Option<String>,
    expires: Option<SystemTime>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Keys {
    pub(super) fn new(id: String, secret: String) -> Self {
        Self {
            id,
            secret: Zeroizing::new(secret),
            token: None,
            expires: None,
        }
    }

    fn good_at(&self, time: SystemTime) -> bool {
        self.expires.is_none_or(|end| time < end)
    }
}

#[derive(Debug)]
pub(super) enum Credentials {
    Static(Arc<Keys>),
    Chain(Box<Chain>),
}

#[derive(Debug, Default)]
pub(super) struct Chain {
    current: RwLock<Option<Arc<Keys>>>,
    provider: OnceCell<SharedCredentialsProvider>,
    /// One renewal at a time.
    renewing: Mutex<()>,
}

impl Credentials {
    pub(super) fn open(settings: Option<&CredentialSettings>) -> Result<Self, SettingsError> {
        let Some(settings) = settings else {
            return Ok(Self::Chain(Box::default()));
        };
        let problem = |problem: String| SettingsError::Secret {
            path: settings.secret_file.display().to_string(),
            problem,
        };
        let text = Zeroizing::new(
            std::fs::read_to_string(&settings.secret_file).map_err(|e| problem(e.to_string()))?,
        );
        let secret = text.trim_end_matches(['\r', '\n']);
        if secret.is_empty() || secret.contains(['\r', '\n']) {
            return Err(problem("holds no secret, or more than one line".to_owned()));
        }
        Ok(Self::Static(Arc::new(Keys::new(
            settings.id.clone(),
            secret.to_owned(),
        ))))
    }

    /// The keys to sign with at `now`.
    pub(super) async fn keys(&self, now: SystemTime) -> Result<Arc<Keys>> {
        match self {
            Self::Static(keys) => Ok(keys.clone()),
            Self::Chain(chain) => chain.keys(now).await,
        }
    }

    /// The service says that these keys are no longer valid: ask the chain anew next time.
    pub(super) fn distrust(&self) {
        match self {
            Self::Static(_) => {}
            Self::Chain(chain) => *chain.current.write() = None,
        }
    }
}

impl Chain {
    async fn keys(&self, now: SystemTime) -> Result<Arc<Keys>> {
        if let Some(keys) = self.fresh(now) {
            return Ok(keys);
        }
        let _one = self.renewing.lock().await;
        if let Some(keys) = self.fresh(now) {
            return Ok(keys);
        }
        match self.renew().await {
            Ok(keys) => {
                *self.current.write() = Some(keys.clone());
                Ok(keys)
            }
            Err(error) => {
                let old = self.current.read().clone();
                old.filter(|keys| keys.good_at(now)).ok_or(error)
            }
        }
    }

    fn fresh(&self, now: SystemTime) -> Option<Arc<Keys>> {
        let current = self.current.read();
        current
            .as_ref()
            .filter(|keys| keys.good_at(now + AHEAD))
            .cloned()
    }

    async fn renew(&self) -> Result<Arc<Keys>> {
        let none = || Error::Failed("the AWS credential chain has no provider".into());
        let provider = self
            .provider
            .get_or_try_init(async || {
                let config = aws_config::load_defaults(aws_config::BehaviorVersion::latest()).await;
                config.credentials_provider().ok_or_else(none)
            })
            .await?;
        let found = provider.provide_credentials().await.map_err(|error| {
            tracing::warn!(%error, "the AWS credential chain gave no keys");
            Error::Failed("the AWS credential chain gave no keys".into())
        })?;
        Ok(Arc::new(Keys {
            id: found.access_key_id().to_owned(),
            secret: Zeroizing::new(found.secret_access_key().to_owned()),
            token: found.session_token().map(str::to_owned),
            expires: found.expiry(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_file_holds_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let settings = CredentialSettings {
            id: "ID".to_owned(),
            secret_file: path.clone(),
        };
        for (text, good) in [
            ("s3cret\n", true),
            ("s3cret", true),
            ("", false),
            ("a\nb\n", false),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(Credentials::open(Some(&settings)).is_ok(), good, "{text:?}");
        }
    }

    #[test]
    fn secrets_are_never_printed() {
        let keys = Keys::new("ID".to_owned(), "s3cret".to_owned());
        assert!(!format!("{keys:?}").contains("s3cret"));
    }

    #[tokio::test]
    async fn keys_are_renewed_before_they_expire() {
        let now = SystemTime::UNIX_EPOCH;
        let chain = Chain::default();
        let keys = |left| {
            let mut keys = Keys::new("ID".to_owned(), "s".to_owned());
            keys.expires = Some(now + left);
            Some(Arc::new(keys))
        };
        *chain.current.write() = keys(AHEAD * 2);
        assert!(chain.fresh(now).is_some());
        *chain.current.write() = keys(AHEAD / 2);
        assert!(chain.fresh(now).is_none());
    }
}
