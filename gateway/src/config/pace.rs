//! What a store's settings say of how often it is looked at: `sweep_every`, `sweep_rate`, `other_gateways_every`.

use std::path::Path;
use std::time::Duration;

use super::{Error, units};
use crate::repository::incarnation;
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

/// A root is never committed without a look; this bounds for how long two gateways write other objects side by side.
const LONGEST_LOOK: Duration = Duration::from_secs(60);

/// How often it is looked for other gateways.
pub fn look_every(file: &Path, at: &str, every: Option<&str>) -> Result<Duration, Error> {
    let Some(text) = every else {
        return Ok(incarnation::INTERVAL);
    };
    let wrong = |what: String| {
        Error::new(
            file,
            format!("{at}.other_gateways_every"),
            what,
            "write one between 1s and 60s",
        )
    };
    let every = units::duration(text).map_err(wrong)?;
    if every < Duration::from_secs(1) || every > LONGEST_LOOK {
        return Err(wrong(format!("'{text}' is too short or too long")));
    }
    Ok(every)
}
