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
}
