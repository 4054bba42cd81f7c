//! Which names may be given.

use std::path::Path;

use super::Error;

pub(super) fn plain_name(file: &Path, key: &str, name: &str) -> Result<(), Error> {
    let fits = !name.is_empty()
        && name.len() <= 64
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if fits && !name.starts_with('.') {
        return Ok(());
    }
    Err(Error::new(
        file,
        key,
        "the name has characters other than letters, digits, '-', '_' and '.'",
        "choose another name",
    ))
}

pub(super) fn bucket_name(file: &Path, at: &str, name: &str) -> Result<(), Error> {
    let fits = (3..=63).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'))
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.ends_with(|c: char| c.is_ascii_alphanumeric())
        && !name.contains("..")
        && name.parse::<std::net::Ipv4Addr>().is_err();
    if fits {
        return Ok(());
    }
    Err(Error::new(
        file,
        format!("{at}.bucket"),
        format!("'{name}' is not a bucket name"),
        "use 3 to 63 lower-case letters, digits, '-' and '.'",
    ))
}
