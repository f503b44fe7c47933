//! Thresholds for waste, in dive's words: the file `.dive-ci`.
//!
//! ```text
//! rules:
//!   lowestEfficiency: 0.95            a share from 0 to 1; less fails
//!   highestWastedBytes: 20MB          as much or more fails; B, KB, MB, GB, TB, KiB … or bytes
//!   highestUserWastedPercent: 0.20    a share from 0 to 1; as much or more fails
//! ```
//!
//! Each may be `disabled`. Names may be written with hyphens (`lowest-efficiency`). What a file does
//! not name has dive's default: 0.9, disabled, 0.1. dive's file is YAML; of it, this much is read:
//! comments, quoted or plain values, and the rules below `rules:` or at the top.

use super::Waste;
use crate::error::Failure;

/// Limits; `None` is one that is not checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// The lowest efficiency that passes, from 0 to 1.
    pub lowest_efficiency: Option<f64>,
    /// So many wasted bytes, and more, fail.
    pub highest_wasted_bytes: Option<u64>,
    /// Such a share of the bytes above the bottom layer, and more, fails.
    pub highest_user_wasted_ratio: Option<f64>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            lowest_efficiency: Some(0.9),
            highest_wasted_bytes: None,
            highest_user_wasted_ratio: Some(0.1),
        }
    }
}

/// What came of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It holds.
    Pass,
    /// It doesn't.
    Fail,
    /// It was not asked for.
    Skip,
}

/// A rule that was checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The rule, in dive's words.
    pub rule: &'static str,
    /// What came of it.
    pub outcome: Outcome,
    /// Why, for people.
    pub why: String,
}

const EFFICIENCY: &str = "lowestEfficiency";
const WASTED: &str = "highestWastedBytes";
const RATIO: &str = "highestUserWastedPercent";

impl Rules {
    /// Reads a file of rules.
    ///
    /// # Errors
    /// `Invalid`, naming the line, for what is no rule, a rule that is there twice, and a value
    /// that is none.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let mut rules = Self::default();
        let mut seen = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let wrong = |why: &str| Failure::invalid(format!("line {number}: {why}"));
            let line = uncommented(line);
            if line.trim().is_empty() || matches!(line.trim(), "---" | "..." | "rules:") {
                continue;
            }
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| wrong("not NAME: VALUE"))?;
            let value = unquoted(value.trim());
            let rule = rule_of(unquoted(name.trim()))
                .ok_or_else(|| wrong(&format!("no such rule: {}", name.trim().escape_debug())))?;
            if seen.contains(&rule) {
                return Err(wrong(&format!("{rule} is there twice")));
            }
            seen.push(rule);
            rules.set(rule, value).map_err(|e| wrong(&e))?;
        }
        Ok(rules)
    }

    fn set(&mut self, rule: &'static str, value: &str) -> Result<(), String> {
        let off = value.eq_ignore_ascii_case("disabled");
        let share = || {
            let share = value
                .parse::<f64>()
                .ok()
                .filter(|s| (0.0..=1.0).contains(s));
            share.ok_or_else(|| {
                format!(
                    "{rule} is a share from 0 to 1, or disabled, not \"{}\"",
                    value.escape_debug()
                )
            })
        };
        match rule {
            EFFICIENCY => self.lowest_efficiency = if off { None } else { Some(share()?) },
            RATIO => self.highest_user_wasted_ratio = if off { None } else { Some(share()?) },
            _ => {
                let bytes = || {
                    bytes(value).ok_or_else(|| {
                        format!(
                            "{rule} is a number of bytes (as 20MB), or disabled, not \"{}\"",
                            value.escape_debug()
                        )
                    })
                };
                self.highest_wasted_bytes = if off { None } else { Some(bytes()?) };
            }
        }
        Ok(())
    }

    /// Checks an image against them.
    #[must_use]
    pub fn check(&self, waste: &Waste) -> Vec<Verdict> {
        let share = |value: f64| format!("{value:.4}");
        vec![
            verdict(EFFICIENCY, self.lowest_efficiency, |low| {
                let is = waste.efficiency();
                (is >= low, format!("{}, at least {}", share(is), share(low)))
            }),
            verdict(WASTED, self.highest_wasted_bytes, |high| {
                let is = waste.wasted_bytes;
                (is < high, format!("{is} bytes, less than {high}"))
            }),
            verdict(RATIO, self.highest_user_wasted_ratio, |high| {
                let is = waste.user_wasted_ratio();
                (
                    is < high,
                    format!("{}, less than {}", share(is), share(high)),
                )
            }),
        ]
    }
}

fn verdict<T>(
    rule: &'static str,
    limit: Option<T>,
    check: impl FnOnce(T) -> (bool, String),
) -> Verdict {
    let (outcome, why) = match limit.map(check) {
        None => (Outcome::Skip, "disabled".to_owned()),
        Some((true, why)) => (Outcome::Pass, why),
        Some((false, why)) => (Outcome::Fail, why.replace(", ", ", must be ")),
    };
    Verdict { rule, outcome, why }
}

fn rule_of(name: &str) -> Option<&'static str> {
    match name {
        EFFICIENCY | "lowest-efficiency" => Some(EFFICIENCY),
        WASTED | "highest-wasted-bytes" => Some(WASTED),
        RATIO | "highest-user-wasted-percent" => Some(RATIO),
        _ => None,
    }
}

/// A line without its comment: `#` at its beginning or after a space.
fn uncommented(line: &str) -> &str {
    let comment = line.match_indices('#').find(|(at, _)| {
        line.get(..*at)
            .is_some_and(|b| b.is_empty() || b.ends_with([' ', '\t']))
    });
    comment.and_then(|(at, _)| line.get(..at)).unwrap_or(line)
}

fn unquoted(text: &str) -> &str {
    ['"', '\'']
        .iter()
        .find_map(|q| text.strip_prefix(*q)?.strip_suffix(*q))
        .unwrap_or(text)
}

/// A number of bytes with a unit.
fn bytes(text: &str) -> Option<u64> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    let unit: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1_000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "t" | "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return None,
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(unit);
    }
    let value = number.parse::<f64>().ok()? * unit as f64;
    (value.is_finite() && value < u64::MAX as f64).then_some(value as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dives_file_is_read() {
        let text = "# comment\nrules:\n  # If X%, fail\n  lowestEfficiency: 0.95 # here\n\n  \
            highestWastedBytes: \"20MB\"\n  highestUserWastedPercent: disabled\n";
        let rules = Rules {
            lowest_efficiency: Some(0.95),
            highest_wasted_bytes: Some(20_000_000),
            highest_user_wasted_ratio: None,
        };
        assert_eq!(Rules::parse(text).unwrap(), rules);
        assert_eq!(Rules::parse("").unwrap(), Rules::default());
        let one = Rules::parse("rules:\n  highest-wasted-bytes: '1.5KiB'\n").unwrap();
        assert_eq!(one.highest_wasted_bytes, Some(1536));
        for bad in [
            "lowestEfficiency: 95",
            "lowestEfficiency: NaN",
            "highestWastedBytes: -1",
            "highestWastedBytes: 1XB",
            "highestWastedBytes: 99999999999TB",
            "lowestEficiency: 0.1",
            "rules: 5",
            "lowestEfficiency 0.5",
            "lowestEfficiency: 0.1\nlowest-efficiency: 0.2",
        ] {
            let failure = Rules::parse(bad).unwrap_err();
            assert!(failure.to_string().starts_with("line "), "{bad}: {failure}");
        }
    }

    #[test]
    fn limits_are_met_or_not() {
        let waste = Waste {
            stored_bytes: 1000,
            wasted_bytes: 100,
            ..Waste::default()
        };
        let outcomes = |efficiency, bytes| {
            let rules = Rules {
                lowest_efficiency: efficiency,
                highest_wasted_bytes: bytes,
                highest_user_wasted_ratio: Some(0.1),
            };
            let verdicts = rules.check(&waste);
            verdicts.iter().map(|v| v.outcome).collect::<Vec<_>>()
        };
        assert_eq!(
            outcomes(Some(0.9), Some(101)),
            [Outcome::Pass, Outcome::Pass, Outcome::Pass]
        );
        assert_eq!(
            outcomes(Some(0.91), Some(100)),
            [Outcome::Fail, Outcome::Fail, Outcome::Pass]
        );
        assert_eq!(
            outcomes(None, None),
            [Outcome::Skip, Outcome::Skip, Outcome::Pass]
        );
    }
}
