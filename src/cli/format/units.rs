//! Sizes and ages as Docker writes them (go-units).

/// A size in decimal units with three significant digits, as Docker lists images and layers.
#[must_use]
pub fn size(bytes: u64) -> String {
    digits(bytes, 3)
}

/// A size in decimal units with four significant digits, as Docker shows the use of disks.
#[must_use]
pub fn exact_size(bytes: u64) -> String {
    digits(bytes, 4)
}

/// Go's `%.Ng` with a unit.
#[expect(clippy::cast_precision_loss, reason = "few digits are shown")]
fn digits(bytes: u64, significant: usize) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut value = bytes as f64;
    let mut unit = UNITS.iter();
    let mut name = unit.next();
    while value >= 1000.0 {
        match unit.next() {
            Some(next) => name = Some(next),
            None => break,
        }
        value /= 1000.0;
    }
    // The exponent after rounding to so many digits is the number of digits before the point.
    let rounded = format!("{value:.*e}", significant - 1);
    let exponent = rounded.rsplit('e').next().and_then(|e| e.parse().ok());
    let places = (significant - 1).saturating_sub(exponent.unwrap_or(0));
    let text = format!("{value:.places$}");
    let text = if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        &text
    };
    format!("{text}{}", name.unwrap_or(&"B"))
}

/// How long ago something was, in words.
#[must_use]
pub fn age(seconds: i64) -> String {
    let plain = |n: i64, unit: &str| format!("{n} {unit}");
    let minutes = seconds / 60;
    let hours = (seconds + 1800) / 3600;
    let text = match seconds {
        s if s < 1 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        s if s < 60 => plain(s, "seconds"),
        _ if minutes == 1 => "About a minute".to_owned(),
        _ if minutes < 60 => plain(minutes, "minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => plain(hours, "hours"),
        _ if hours < 24 * 7 * 2 => plain(hours / 24, "days"),
        _ if hours < 24 * 30 * 2 => plain(hours / 24 / 7, "weeks"),
        _ if hours < 24 * 365 * 2 => plain(hours / 24 / 30, "months"),
        s => plain(s / 3600 / 24 / 365, "years"),
    };
    format!("{text} ago")
}

/// An RFC 3339 time as Go prints one: `2026-11-23 05:25:41 +0000 UTC`. What is none stays as it is.
#[must_use]
pub fn go_time(text: &str) -> String {
    match crate::image::time::parse(text) {
        Some(time) => time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_dockers() {
        for (bytes, text) in [
            (0, "0B"),
            (950, "950B"),
            (1_000, "1kB"),
            (9_390, "9.39kB"),
            (1_981_954, "1.98MB"),
            (127_123_456, "127MB"),
            (563_800_000, "564MB"),
            (1_500_000_000, "1.5GB"),
            (12_345_678, "12.3MB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        for (bytes, text) in [
            (0, "0B"),
            (1_981_954, "1.982MB"),
            (563_812_345, "563.8MB"),
            (1_347_000, "1.347MB"),
            (999_960, "1000kB"),
            (12_000, "12kB"),
        ] {
            assert_eq!(exact_size(bytes), text);
        }
    }

    #[test]
    fn times_are_gos() {
        assert_eq!(
            go_time("2026-11-23T05:25:41.102794512Z"),
            "2026-11-23 05:25:41 +0000 UTC"
        );
        assert_eq!(go_time("once"), "once");
    }

    #[test]
    fn ages_are_dockers() {
        for (seconds, text) in [
            (-5, "Less than a second ago"),
            (1, "1 second ago"),
            (59, "59 seconds ago"),
            (61, "About a minute ago"),
            (27 * 60, "27 minutes ago"),
            (3600, "About an hour ago"),
            (47 * 3600, "47 hours ago"),
            (5 * 86_400, "5 days ago"),
            (20 * 86_400, "2 weeks ago"),
            (100 * 86_400, "3 months ago"),
            (3 * 365 * 86_400 + 9, "3 years ago"),
        ] {
            assert_eq!(age(seconds), text);
        }
    }
}
