//! `sweep_every` and `sweep_rate` of a store.

use std::path::Path;

use super::{Error, units};
use crate::repository::sweep::Pace;

/// None = `sweep_every = "off"`.
pub fn pace(
    file: &Path,
    at: &str,
    every: Option<&str>,
    rate: Option<u32>,
) -> Result<Option<Pace>, Error> {
    let mut pace = Pace::default();
    if let Some(rate) = rate {
        if rate == 0 {
            return Err(Error::new(
                file,
                format!("{at}.sweep_rate"),
                "is 0 objects per second",
                "write a number above 0, or sweep_every = \"off\"",
            ));
        }
        pace.objects_per_second = rate;
    }
    match every {
        Some("off") => return Ok(None),
        Some(text) => {
            pace.every = units::duration(text).map_err(|e| {
                Error::new(
                    file,
                    format!("{at}.sweep_every"),
                    e,
                    "write one such as 24h, or off",
                )
            })?;
        }
        None => {}
    }
    Ok(Some(pace))
}
