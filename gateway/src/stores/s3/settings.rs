//! `[stores.*]` with an `s3://` url: what a user writes, checked before anything connects.
//!
//! Decides which bucket, prefix, endpoint and credentials are meant. Link-local endpoints (a cloud's
//! metadata service) are refused unless asked for, since a gateway would hand them its signatures.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::uri::{Authority, Scheme, Uri};
use serde::Deserialize;

/// One S3-compatible store as configured.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `s3://bucket/optional/prefix`
    pub url: String,
    /// Default: Amazon's for the region.
    pub endpoint: Option<String>,
    #[serde(default = "default_region")]
    pub region: String,
    /// Default: the AWS SDK's chain (environment, profile, container, instance).
    pub credentials: Option<CredentialSettings>,
    /// PEM file of the authorities that may sign the endpoint's certificate. Default: the system's.
    pub ca_file: Option<PathBuf>,
    /// `bucket.endpoint/key` instead of `endpoint/bucket/key`.
    #[serde(default)]
    pub virtual_hosted: bool,
    #[serde(default)]
    pub allow_link_local: bool,
    /// Longest wait for one answer, in seconds.
    #[serde(default = "default_answer_seconds")]
    pub answer_seconds: u64,
    /// Longest pause of a body on its way, in seconds.
    #[serde(default = "default_idle_seconds")]
    pub idle_seconds: u64,
    /// Longest time for one step with all its repetitions, in seconds.
    #[serde(default = "default_step_seconds")]
    pub step_seconds: u64,
}

/// Access keys that do not change while the gateway runs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialSettings {
    pub id: String,
    /// One line; a trailing newline is ignored.
    pub secret_file: PathBuf,
}

impl Default for Settings {
    /// Names no bucket yet.
    fn default() -> Self {
        Self {
            url: String::new(),
            endpoint: None,
            region: default_region(),
            credentials: None,
            ca_file: None,
            virtual_hosted: false,
            allow_link_local: false,
            answer_seconds: default_answer_seconds(),
            idle_seconds: default_idle_seconds(),
            step_seconds: default_step_seconds(),
        }
    }
}

fn default_region() -> String {
    "us-east-1".to_owned()
}
fn default_answer_seconds() -> u64 {
    30
}
fn default_idle_seconds() -> u64 {
    30
}
fn default_step_seconds() -> u64 {
    60
}

/// What is wrong with the settings, and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("url '{0}' is not s3://bucket or s3://bucket/prefix")]
    Url(String),
    #[error("endpoint '{0}' is not http://host or https://host, without path or credentials")]
    Endpoint(String),
    #[error(
        "endpoint '{0}' is a link-local address, where clouds serve their secrets; set allow_link_local = true if it is meant"
    )]
    LinkLocal(String),
    #[error("ca_file {path}: {problem}")]
    Authorities { path: String, problem: String },
    #[error("the system's certificate authorities cannot be read ({0}); name a ca_file")]
    SystemAuthorities(String),
    #[error("secret_file {path}: {problem}")]
    Secret { path: String, problem: String },
    #[error("region '{0}' is not made of letters, digits and '-'")]
    Region(String),
}

/// Where requests go, derived from the settings.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub scheme: Scheme,
    pub authority: Authority,
    /// The bucket's path before the key, without trailing slash: `/bucket` or empty.
    pub base: String,
    pub bucket: String,
    /// Put before every name: empty or `a/b/`.
    pub prefix: String,
    pub region: String,
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadlines {
    pub answer: Duration,
    pub idle: Duration,
    pub step: Duration,
}

impl Settings {
    pub(super) fn deadlines(&self) -> Deadlines {
        Deadlines {
            answer: Duration::from_secs(self.answer_seconds.max(1)),
            idle: Duration::from_secs(self.idle_seconds.max(1)),
            step: Duration::from_secs(self.step_seconds.max(1)),
        }
    }

    pub(super) fn target(&self) -> Result<Target, SettingsError> {
        let (bucket, prefix) = self.bucket_and_prefix()?;
        let region_is_plain = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
        if self.region.is_empty() || !self.region.bytes().all(region_is_plain) {
            return Err(SettingsError::Region(self.region.clone()));
        }
        let endpoint = self
            .endpoint
            .clone()
            .unwrap_or_else(|| format!("https://s3.{}.amazonaws.com", self.region));
        let bad = || SettingsError::Endpoint(endpoint.clone());
        let uri: Uri = endpoint.parse().map_err(|_| bad())?;
        let parts = uri.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            return Err(bad());
        };
        let plain_path = parts.path_and_query.is_none_or(|path| path == "/");
        let known = scheme == Scheme::HTTP || scheme == Scheme::HTTPS;
        if !plain_path || !known || authority.as_str().contains('@') {
            return Err(bad());
        }
        if !self.allow_link_local && is_link_local(authority.host()) {
            return Err(SettingsError::LinkLocal(endpoint));
        }
        let authority = if self.virtual_hosted {
            format!("{bucket}.{authority}").parse().map_err(|_| bad())?
        } else {
            authority
        };
        let base = if self.virtual_hosted {
            String::new()
        } else {
            format!("/{bucket}")
        };
        Ok(Target {
            scheme,
            authority,
            base,
            bucket,
            prefix,
            region: self.region.clone(),
        })
    }

    fn bucket_and_prefix(&self) -> Result<(String, String), SettingsError> {
        let bad = || SettingsError::Url(self.url.clone());
        let rest = self.url.strip_prefix("s3://").ok_or_else(bad)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_');
        if bucket.is_empty() || bucket.starts_with('.') || !bucket.bytes().all(plain) {
            return Err(bad());
        }
        let prefix = prefix.trim_matches('/');
        if prefix.is_empty() {
            return Ok((bucket.to_owned(), String::new()));
        }
        if !super::names::is_storable(prefix) {
            return Err(bad());
        }
        Ok((bucket.to_owned(), format!("{prefix}/")))
    }
}

fn is_link_local(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => ip.is_link_local(),
        Ok(IpAddr::V6(ip)) => {
            ip.is_unicast_link_local() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_link_local())
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str, endpoint: &str) -> Settings {
        toml::from_str(&format!("url = '{url}'\nendpoint = '{endpoint}'")).unwrap()
    }

    #[test]
    fn a_url_names_bucket_and_prefix() {
        let target = settings("s3://dr/es/prod/", "http://127.0.0.1:9000")
            .target()
            .unwrap();
        assert_eq!((&*target.bucket, &*target.prefix), ("dr", "es/prod/"));
        assert_eq!(target.base, "/dr");
        let bare = settings("s3://dr", "http://127.0.0.1:9000")
            .target()
            .unwrap();
        assert_eq!(bare.prefix, "");
        for url in [
            "dr",
            "s3://",
            "s3:///x",
            "file://dr",
            "s3://a b",
            "s3://dr/a/../b",
        ] {
            assert!(settings(url, "http://h").target().is_err(), "{url}");
        }
    }

    #[test]
    fn a_link_local_endpoint_is_refused_unless_flagged() {
        for endpoint in [
            "http://169.254.169.254",
            "http://[fe80::1]:9000",
            "http://[::ffff:169.254.169.254]",
        ] {
            let mut settings = settings("s3://dr", endpoint);
            assert!(matches!(
                settings.target(),
                Err(SettingsError::LinkLocal(_))
            ));
            settings.allow_link_local = true;
            assert!(settings.target().is_ok());
        }
    }

    #[test]
    fn an_endpoint_is_an_http_origin() {
        for endpoint in ["file:///x", "h", "http://h/path", "http://u:p@h", "ftp://h"] {
            assert!(
                settings("s3://dr", endpoint).target().is_err(),
                "{endpoint}"
            );
        }
    }

    #[test]
    fn virtual_hosted_style_puts_the_bucket_into_the_host() {
        let mut settings = settings("s3://dr", "https://s3.example:8443");
        settings.virtual_hosted = true;
        let target = settings.target().unwrap();
        assert_eq!(target.authority.as_str(), "dr.s3.example:8443");
        assert_eq!(target.base, "");
    }
}
