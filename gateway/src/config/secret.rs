//! Secrets: read from files that nobody else may read, never printed.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use zeroize::Zeroizing;

use super::Error;

/// A secret. It has no `Debug` text, no `Display`, and is wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Reads a file that holds one secret on one line. Others must not be able to read it.
pub fn read(config: &Path, key: &str, file: &Path) -> Result<Secret, Error> {
    owned_by_us_alone(config, key, file)?;
    let text = std::fs::read_to_string(file)
        .map(Zeroizing::new)
        .map_err(|e| {
            Error::new(
                config,
                key,
                format!("'{}' cannot be read ({e})", file.display()),
                "create it with the secret on one line",
            )
        })?;
    let line = text.trim_end_matches(['\n', '\r']);
    if line.is_empty() || line.contains('\n') {
        return Err(Error::new(
            config,
            key,
            format!("'{}' must hold one line", file.display()),
            "write the secret alone into it",
        ));
    }
    Ok(Secret::new(line.to_owned()))
}

pub fn owned_by_us_alone(config: &Path, key: &str, file: &Path) -> Result<(), Error> {
    let about = |e: &std::io::Error| {
        Error::new(
            config,
            key,
            format!("'{}' cannot be read ({e})", file.display()),
            "create it with mode 0600",
        )
    };
    let mode = std::fs::metadata(file)
        .map_err(|e| about(&e))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        return Err(Error::new(
            config,
            key,
            format!(
                "'{}' can be read by others (mode {:04o})",
                file.display(),
                mode & 0o7777
            ),
            format!("chmod 600 '{}'", file.display()),
        ));
    }
    Ok(())
}

/// Writes a new file with mode 0600 from its first byte on, durably; fails if it exists.
pub fn write_new(file: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut out = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)?;
    out.write_all(text.as_bytes())?;
    out.sync_all()
}
