//! Times of images: RFC 3339, in UTC, as Go writes them.

use jiff::Timestamp;

/// A text as a point in time; `None` when it is no RFC 3339 time.
#[must_use]
pub fn parse(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// A point in time as Go's `time.RFC3339Nano` writes it in UTC: no trailing zeros, `Z`.
#[must_use]
pub fn format(time: Timestamp) -> String {
    time.to_string()
}

/// A moment as a person gives it: RFC 3339 (without a zone: UTC), seconds since 1970,
/// or how long ago (`90s`, `10m`, `1h30m`, `2d`).
///
/// # Errors
/// [`crate::error::FailureKind::Usage`] when it is none of these.
pub fn parse_moment(text: &str) -> Result<Timestamp, crate::error::Failure> {
    let seconds = || match text.split_once('.') {
        None => Timestamp::from_second(text.parse().ok()?).ok(),
        Some((whole, part)) => {
            let nanos = format!("{part:0<9}").get(..9)?.parse().ok()?;
            Timestamp::new(whole.parse().ok()?, nanos).ok()
        }
    };
    let ago = || Timestamp::now().checked_sub(parse_duration(text)?).ok();
    let bare = || {
        let time: jiff::civil::DateTime = text.parse().ok()?;
        Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
    };
    let moment = parse(text).or_else(seconds).or_else(ago).or_else(bare);
    moment.ok_or_else(|| {
        crate::error::Failure::usage(format!(
            "\"{}\" is no time: want 2026-01-02T15:04:05Z, seconds since 1970, or how long ago, \
             such as 10m or 1h30m",
            text.escape_debug()
        ))
    })
}

/// A length of time as Go writes it (`1h30m`, `1.5s`, `500ms`), and with days; `None` when it is none.
#[must_use]
pub fn parse_duration(text: &str) -> Option<jiff::SignedDuration> {
    let mut rest = text;
    let mut nanos: i128 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let (number, after) = rest.split_at_checked(digits)?;
        let end = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(end)?;
        let scale: i128 = match unit {
            "ns" => 1,
            "us" | "\u{b5}s" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "d" => 86_400_000_000_000,
            _ => return None,
        };
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && part.is_empty() || part.len() > 18 || whole.len() > 12 {
            return None;
        }
        let whole: i128 = if whole.is_empty() {
            0
        } else {
            whole.parse().ok()?
        };
        nanos += whole * scale;
        if !part.is_empty() {
            let digits = u32::try_from(part.len()).ok()?;
            nanos += part.parse::<i128>().ok()? * scale / 10_i128.pow(digits);
        }
        rest = after;
    }
    if text.is_empty() {
        return None;
    }
    let nanos = i64::try_from(nanos).ok()?;
    Some(jiff::SignedDuration::from_nanos(nanos))
}

/// The current time, or that of `SOURCE_DATE_EPOCH` (seconds since 1970) where it is set: outputs
/// are reproducible then (reproducible-builds.org).
///
/// # Errors
/// [`crate::error::FailureKind::Usage`] when the variable is no number of seconds.
pub fn now() -> Result<Timestamp, crate::error::Failure> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Err(_) => Ok(Timestamp::now()),
        Ok(text) => {
            let time = text
                .parse()
                .ok()
                .and_then(|s| Timestamp::from_second(s).ok());
            time.ok_or_else(|| {
                crate::error::Failure::usage(format!(
                    "SOURCE_DATE_EPOCH is \"{}\": want seconds since 1970",
                    text.escape_debug()
                ))
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_go_writes_them() {
        for text in ["2026-11-23T05:53:18.716758853Z", "2023-11-14T22:13:20Z"] {
            assert_eq!(format(parse(text).unwrap()), text);
        }
        assert_eq!(
            format(parse("2023-11-14T23:13:20.500+01:00").unwrap()),
            "2023-11-14T22:13:20.5Z"
        );
        assert_eq!(parse("yesterday"), None);
    }

    #[test]
    fn moments_and_durations_are_as_people_give_them() {
        for (text, nanos) in [
            ("90s", 90_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5s", 1_500_000_000),
            ("500ms", 500_000_000),
            ("2d", 172_800_000_000_000),
            (".5m", 30_000_000_000),
        ] {
            let duration = parse_duration(text).unwrap();
            assert_eq!(duration.as_nanos(), nanos, "{text}");
        }
        for bad in ["", "5", "m", "5x", "-5m", "1h30", "9999999999999h", "."] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
        assert_eq!(
            parse_moment("1700000000.5").unwrap(),
            parse("2023-11-14T22:13:20.5Z").unwrap()
        );
        assert_eq!(parse_moment("0").unwrap(), Timestamp::UNIX_EPOCH);
        assert!(parse_moment("10m").unwrap() < Timestamp::now());
        assert!(parse_moment("2023-11-14T22:13:20").is_ok());
        assert!(parse_moment("yesterday").is_err());
    }
}
