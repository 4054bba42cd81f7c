//! The two sides that listen: S3 for clusters, admin for operators.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::{Error, Secret, secret, settings};
use crate::frontend::is_region;
use crate::frontend::limits::Limits;
use crate::tls::Tls;

#[derive(Debug)]
pub struct S3Plan {
    pub listen: SocketAddr,
    pub domain: Option<String>,
    pub region: Option<String>,
    /// None: only on a loopback address.
    pub allow_unsigned_payload: Option<bool>,
    pub tls: Option<Tls>,
    pub limits: Limits,
}

#[derive(Debug)]
pub struct AdminPlan {
    pub listen: SocketAddr,
    pub token: Secret,
    pub token_file: PathBuf,
    pub client_ca: Option<PathBuf>,
    pub tls: Option<Tls>,
}

pub(super) fn s3(file: &Path, folder: &Path, s3: settings::S3) -> Result<S3Plan, Error> {
    if let Some(domain) = &s3.domain {
        let label = |l: &str| {
            !l.is_empty()
                && l.len() <= 63
                && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        if !domain.split('.').all(label) {
            return Err(Error::new(
                file,
                "s3.domain",
                format!("'{domain}' is not a domain name"),
                "write one such as s3.backup.example",
            ));
        }
    }
    if let Some(region) = s3.region.as_deref().filter(|name| !is_region(name)) {
        return Err(Error::new(
            file,
            "s3.region",
            format!("'{region}' has characters other than a-z, 0-9 and '-'"),
            "write one such as eu-west-1",
        ));
    }
    Ok(S3Plan {
        listen: address(file, "s3.listen", &s3.listen)?,
        domain: s3.domain.map(|d| d.to_ascii_lowercase()),
        region: s3.region,
        allow_unsigned_payload: s3.allow_unsigned_payload,
        tls: s3.tls.map(|t| tls(file, folder, "s3.tls", t)).transpose()?,
        limits: s3.limits,
    })
}

pub(super) fn admin(
    file: &Path,
    folder: &Path,
    admin: settings::Admin,
) -> Result<AdminPlan, Error> {
    let Some(token_file) = admin.token_file else {
        return Err(Error::new(
            file,
            "admin.token_file",
            "is missing: there is no default token",
            "name a file with a random token of your own (mode 0600)",
        ));
    };
    let token_file = folder.join(token_file);
    let token = secret::read(file, "admin.token_file", &token_file)?;
    if token.expose().len() < 16 {
        return Err(Error::new(
            file,
            "admin.token_file",
            "the token is shorter than 16 characters",
            "write a longer random one",
        ));
    }
    let tls = admin
        .tls
        .map(|t| tls(file, folder, "admin.tls", t))
        .transpose()?;
    if admin.client_ca.is_some() && tls.is_none() {
        return Err(Error::new(
            file,
            "admin.client_ca",
            "needs admin.tls",
            "add tls = { cert = \"…\", key = \"…\" }",
        ));
    }
    Ok(AdminPlan {
        listen: address(file, "admin.listen", &admin.listen)?,
        token,
        token_file,
        client_ca: admin.client_ca.map(|p| folder.join(p)),
        tls,
    })
}

pub fn address(file: &Path, key: &str, text: &str) -> Result<SocketAddr, Error> {
    text.parse().map_err(|_| {
        Error::new(
            file,
            key,
            format!("'{text}' is not an address and port"),
            "write one such as 127.0.0.1:9000 or [::1]:9000",
        )
    })
}

fn tls(file: &Path, folder: &Path, key: &str, tls: Tls) -> Result<Tls, Error> {
    let tls = Tls {
        cert: folder.join(tls.cert),
        key: folder.join(tls.key),
    };
    if let Err(e) = std::fs::metadata(&tls.cert) {
        return Err(Error::new(
            file,
            format!("{key}.cert"),
            format!("'{}' cannot be read ({e})", tls.cert.display()),
            "name a PEM file with the certificate chain",
        ));
    }
    secret::owned_by_us_alone(file, &format!("{key}.key"), &tls.key)?;
    Ok(tls)
}
