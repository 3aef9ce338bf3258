//! Times on the command line.

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};

/// A time with its zone; of one that names a second, the end of that second, because lists show no more.
pub(super) fn zoned_time(text: &str) -> Result<DateTime<Utc>, String> {
    let time = exact_time(text)?;
    Ok(if text.contains('.') { time } else { time + TimeDelta::nanoseconds(999_999_999) })
}

/// A time with its zone. Without one it would mean something else on each host.
pub(super) fn exact_time(text: &str) -> Result<DateTime<Utc>, String> {
    for form in [
        "%Y-%m-%dT%H:%M:%S%.f%#z",
        "%Y-%m-%d %H:%M:%S%.f%#z",
        "%Y-%m-%dT%H:%M%#z",
        "%Y-%m-%d %H:%M%#z",
        "%Y-%m-%d %H:%M:%S%.f %#z",
        "%Y-%m-%d %H:%M %#z",
    ] {
        // chrono takes `Z` for `%#z` only in RFC 3339 itself.
        let zulu = text.strip_suffix('Z').or(text.strip_suffix(" UTC")).map(|local| format!("{local}+00:00"));
        if let Ok(time) = DateTime::parse_from_str(zulu.as_deref().unwrap_or(text), form) {
            return Ok(time.to_utc());
        }
    }
    let local = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"];
    if local.iter().any(|form| NaiveDateTime::parse_from_str(text, form).is_ok()) {
        return Err(format!("it has no time zone: write {}Z for UTC, or an offset like +01:00", text.replace(' ', "T")));
    }
    Err("expected a time with its zone, like 2026-11-21T03:00:00Z or 2026-11-21T04:00:00+01:00".to_owned())
}

#[cfg(test)]
mod tests {
    use super::zoned_time;

    #[test]
    fn times_carry_a_zone() {
        let expected = "2026-11-21T03:00:00.999999999Z".parse().unwrap();
        for text in [
            "2026-11-21T03:00:00Z",
            "2026-11-21 03:00:00Z",
            "2026-11-21T03:00Z",
            "2026-11-21 03:00 UTC",
            "2026-11-21T04:00:00+01:00",
            "2026-11-21 04:00 +0100",
            "2026-11-21 04:00:00+01",
        ] {
            assert_eq!(zoned_time(text), Ok(expected), "{text}");
        }
        assert_eq!(zoned_time("2026-11-21T03:00:00.5Z"), Ok("2026-11-21T03:00:00.5Z".parse().unwrap()));
        for text in ["2026-11-21T03:00:00", "2026-11-21 03:00"] {
            assert!(zoned_time(text).unwrap_err().contains("no time zone"), "{text}");
        }
        for text in ["", "yesterday", "2026-11-21", "2026-13-01T00:00:00Z"] {
            assert!(zoned_time(text).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics_and_every_time_is_read_as_it_is_printed(seconds in i64::MIN / 1_000_000_000..i64::MAX / 1_000_000_000, noise in "[-+0-9TZ:. ]{0,40}", year in "[+-]?[0-9]{1,7}") {
            let _ = (zoned_time(&noise), zoned_time(&format!("{year}-12-31T23:59:60Z")), zoned_time(&format!("{year}-12-31 23:59:59.9 -23:59")));
            let time = chrono::DateTime::from_timestamp(seconds, 500_000_000).unwrap();
            proptest::prop_assert_eq!(zoned_time(&time.to_rfc3339()), Ok(time));
        }
    }
}
