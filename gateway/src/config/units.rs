//! `7d`, `12h`, `30m`, `45s`, `500ms`, `200MB/s`: durations and rates as people write them.

use std::time::Duration;

pub fn duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 = number
        .parse()
        .map_err(|_| format!("'{text}' is not a duration"))?;
    let millis = match unit {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        "d" => Some(86_400_000),
        "w" => Some(604_800_000),
        _other => None,
    };
    let factor: u64 =
        millis.ok_or_else(|| format!("'{text}' has no unit of ms, s, m, h, d or w"))?;
    number
        .checked_mul(factor)
        .map(Duration::from_millis)
        .ok_or_else(|| format!("'{text}' is too long"))
}

/// Bytes per second.
pub fn rate(text: &str) -> Result<u64, String> {
    let text = text.trim();
    if text == "0" {
        return Ok(0);
    }
    let no_rate = || format!("'{text}' is not a rate");
    let amount = text.strip_suffix("/s").ok_or_else(no_rate)?;
    let split = amount
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(amount.len());
    let (number, unit) = amount.split_at(split);
    let number: u64 = number.parse().map_err(|_| no_rate())?;
    let factor: u64 = match unit.trim() {
        "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _other => {
            return Err(format!(
                "'{text}' has no unit of B/s, kB/s, MB/s, GB/s, KiB/s, MiB/s or GiB/s"
            ));
        }
    };
    number
        .checked_mul(factor)
        .ok_or_else(|| format!("'{text}' is too much"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_a_number_and_a_unit() {
        assert_eq!(rate("200MB/s"), Ok(200_000_000));
        assert_eq!(rate("3 MiB/s"), Ok(3 << 20));
        assert_eq!(rate("0"), Ok(0));
        for wrong in ["", "5", "MB/s", "5MB", "-1MB/s", "5Mb/s", "99999999999GB/s"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_have_a_number_and_a_unit() {
        assert_eq!(duration("7d"), Ok(Duration::from_secs(7 * 86_400)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        for wrong in [
            "",
            "7",
            "d",
            "-1d",
            "1.5h",
            "99999999999999999w",
            "7 parsecs",
        ] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
