//! The time to live of a message in NATS, in the format of its header.

/// Remaining seconds of a TTL after this age, rounded up; `None` if it never expires.
///
/// # Errors
/// It is not a valid TTL.
pub(super) fn remaining_secs(ttl: &str, age_ms: u64) -> Result<Option<u32>, String> {
    let Some(whole) = millis(ttl)? else {
        return Ok(None);
    };
    let left = whole.saturating_sub(age_ms).div_ceil(1_000);
    Ok(Some(u32::try_from(left).unwrap_or(u32::MAX)))
}

/// Milliseconds: `None` for `never`, a number is seconds, and `1h30m` as in Go.
fn millis(ttl: &str) -> Result<Option<u64>, String> {
    let wrong = || format!("its header Nats-TTL is {ttl:?}, expected seconds, or such as 1h30m");
    let text = ttl.trim();
    if text == "never" {
        return Ok(None);
    }
    if let Ok(secs) = text.parse::<u64>() {
        return Ok(Some(secs.saturating_mul(1_000)));
    }
    let (mut rest, mut sum) = (text, 0.0);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, behind) = rest.split_at(end.ok_or_else(wrong)?);
        let end = behind.find(|c: char| c.is_ascii_digit());
        let (unit, behind) = behind.split_at(end.unwrap_or(behind.len()));
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let unit = match unit {
            "h" => 3_600_000.0,
            "m" => 60_000.0,
            "s" => 1_000.0,
            "ms" => 1.0,
            "us" | "µs" => 0.001,
            "ns" => 0.000_001,
            _ => return Err(wrong()),
        };
        sum += number * unit;
        rest = behind;
    }
    match text.is_empty() {
        true => Err(wrong()),
        // The conversion saturates.
        false => Ok(Some(sum as u64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ttl_is_seconds_or_a_duration_of_go() {
        for (ttl, left) in [
            ("10", Some(10)),
            ("10s", Some(10)),
            ("1h30m", Some(5_400)),
            ("1.5s", Some(2)),
            ("never", None),
            ("99999999999999", Some(u32::MAX)),
        ] {
            assert_eq!(remaining_secs(ttl, 0), Ok(left), "{ttl}");
        }
        assert_eq!(remaining_secs("10s", 9_001), Ok(Some(1)));
        assert_eq!(remaining_secs("10s", 10_000), Ok(Some(0)));
        for bad in ["", "s", "1x", "ten", "-5s", "1h30"] {
            assert!(remaining_secs(bad, 0).is_err(), "{bad}");
        }
    }
}
