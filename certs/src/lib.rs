//! A development certificate authority: one authority, one server and one client certificate.
//!
//! Decides: a directory -> six PEM files, and how its certificates are renewed.
//! Invariant: a certificate that [`rotate`] issues is trusted wherever `ca.pem` already is, since the
//! authority keeps its name and its key; nothing that exists is overwritten by [`development`], and no
//! key is ever readable by others, not even while it is being written.
//!
//! The authority's certificate is not parsed back for a rotation: its name is fixed here and its key is
//! on disk, and an issuer is nothing more than those two.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

/// How long the authority lives.
pub const AUTHORITY_LIFETIME: Duration = Duration::days(3650);
/// How long a server or client certificate lives.
pub const CERTIFICATE_LIFETIME: Duration = Duration::days(90);
/// Clocks of two machines differ: a certificate is valid from a little before it was made.
const CLOCK_SKEW: Duration = Duration::hours(1);

/// The names a server certificate always carries.
const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0} exists; remove it for a new authority, or rotate the certificates below it")]
    Exists(PathBuf),
    #[error("{0} holds no authority yet; make one with `snapgate certs dev` first")]
    NoAuthority(PathBuf),
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
}

/// Where the files of one authority are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    pub authority: Pair,
    pub server: Pair,
    pub client: Pair,
}

/// A certificate and its private key (mode 0600), both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Paths {
    #[must_use]
    pub fn below(dir: &Path) -> Self {
        let pair = |name: &str| Pair {
            certificate: dir.join(format!("{name}.pem")),
            key: dir.join(format!("{name}.key")),
        };
        Self {
            authority: pair("ca"),
            server: pair("server"),
            client: pair("client"),
        }
    }

    fn all(&self) -> [&Path; 6] {
        let Self {
            authority,
            server,
            client,
        } = self;
        [
            &authority.certificate,
            &authority.key,
            &server.certificate,
            &server.key,
            &client.certificate,
            &client.key,
        ]
    }
}

/// Makes an authority in `dir` with a server certificate for this machine and `names` (host names or
/// addresses) and a client certificate.
///
/// # Errors
/// [`Error::Exists`] when any of the files is there already: a trusted authority is never replaced.
pub fn development(dir: &Path, names: &[String], now: OffsetDateTime) -> Result<Paths, Error> {
    fs::create_dir_all(dir).map_err(at(dir))?;
    let paths = Paths::below(dir);
    if let Some(existing) = paths.all().into_iter().find(|path| path.exists()) {
        return Err(Error::Exists(existing.to_owned()));
    }
    let key = KeyPair::generate()?;
    let params = authority(now);
    let certificate = params.self_signed(&key)?;
    store(&paths.authority, &certificate.pem(), &key)?;
    issue(&paths, &Issuer::new(params, key), names, now)?;
    Ok(paths)
}

/// Replaces the server and the client certificate in `dir`, with new keys, under the same authority.
/// Each file is replaced whole; a reader that may load a pair at any moment must be told to load it
/// when this has returned (`SIGHUP`).
///
/// # Errors
/// [`Error::NoAuthority`] when `dir` was not made by [`development`].
pub fn rotate(dir: &Path, names: &[String], now: OffsetDateTime) -> Result<Paths, Error> {
    let paths = Paths::below(dir);
    let pem = match fs::read_to_string(&paths.authority.key) {
        Ok(pem) => pem,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::NoAuthority(dir.to_owned()));
        }
        Err(error) => return Err(at(&paths.authority.key)(error)),
    };
    let issuer = Issuer::new(authority(now), KeyPair::from_pem(&pem)?);
    issue(&paths, &issuer, names, now)?;
    Ok(paths)
}

fn authority(now: OffsetDateTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("snapgate development authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = now - CLOCK_SKEW;
    params.not_after = now + AUTHORITY_LIFETIME;
    params
}

fn issue(
    paths: &Paths,
    issuer: &Issuer<'_, KeyPair>,
    names: &[String],
    now: OffsetDateTime,
) -> Result<(), Error> {
    let mut hosts: Vec<String> = LOCAL_NAMES.map(str::to_owned).into();
    for name in names {
        if !hosts.contains(name) {
            hosts.push(name.clone());
        }
    }
    let mut server = CertificateParams::new(hosts)?;
    server.distinguished_name = named("snapgate");
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let mut client = CertificateParams::default();
    client.distinguished_name = named("snapgate client");
    client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];

    for (mut params, pair) in [(server, &paths.server), (client, &paths.client)] {
        params.not_before = now - CLOCK_SKEW;
        params.not_after = now + CERTIFICATE_LIFETIME;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, issuer)?;
        store(pair, &certificate.pem(), &key)?;
    }
    Ok(())
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn store(pair: &Pair, certificate: &str, key: &KeyPair) -> Result<(), Error> {
    replace(&pair.key, &key.serialize_pem(), 0o600)?;
    replace(&pair.certificate, certificate, 0o644)
}

/// Writes beside the file and renames over it: a reader sees the old content or the new.
fn replace(path: &Path, content: &str, mode: u32) -> Result<(), Error> {
    let fresh = path.with_added_extension("new");
    let write = || {
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&fresh)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    };
    write().map_err(at(path))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { path, source }
}
