//! HEALTHCHECK, as Docker's images have it (`Healthcheck` in the configuration).

use serde_json::{Map, Value, json};

use super::time::parse_duration;
use crate::error::Failure;

/// The shortest time that Docker takes.
const SHORTEST_NANOS: i128 = 1_000_000;

/// Parses what comes after HEALTHCHECK: `NONE`, or options and `CMD …`.
///
/// # Errors
/// `Usage`, in Docker's words.
pub(super) fn parse(text: &str) -> Result<Value, Failure> {
    let mut check = Map::new();
    let mut rest = text;
    while let Some(option) = rest.strip_prefix("--") {
        let (option, after) = option
            .split_once(char::is_whitespace)
            .unwrap_or((option, ""));
        let (name, value) = option.split_once('=').ok_or_else(|| {
            Failure::usage(format!(
                "Missing a value on flag: {}",
                option.escape_debug()
            ))
        })?;
        let (key, value) = setting(name, value)?;
        check.insert(key.to_owned(), value);
        rest = after.trim_start();
    }
    let (kind, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let command = command.trim();
    let test = match kind.to_ascii_uppercase().as_str() {
        "" => return Err(Failure::usage("HEALTHCHECK requires at least one argument")),
        "NONE" if !command.is_empty() => {
            return Err(Failure::usage("HEALTHCHECK NONE takes no arguments"));
        }
        "NONE" => json!(["NONE"]),
        "CMD" if command.is_empty() => {
            return Err(Failure::usage("Missing command after HEALTHCHECK CMD"));
        }
        "CMD" => match serde_json::from_str::<Vec<String>>(command) {
            Ok(words) if words.is_empty() => {
                return Err(Failure::usage("Missing command after HEALTHCHECK CMD"));
            }
            Ok(words) => Value::from([vec!["CMD".to_owned()], words].concat()),
            Err(_) => json!(["CMD-SHELL", command]),
        },
        _ => {
            return Err(Failure::usage(format!(
                "Unknown type \"{}\" in HEALTHCHECK (try CMD)",
                kind.escape_debug()
            )));
        }
    };
    check.insert("Test".to_owned(), test);
    Ok(Value::Object(check))
}

fn setting(name: &str, value: &str) -> Result<(&'static str, Value), Failure> {
    let key = match name {
        "interval" => "Interval",
        "timeout" => "Timeout",
        "start-period" => "StartPeriod",
        "start-interval" => "StartInterval",
        "retries" => {
            let count = value.parse::<u32>().ok().filter(|n| *n > 0);
            let count = count.ok_or_else(|| {
                Failure::usage(format!(
                    "--retries must be at least 1 (not {})",
                    value.escape_debug()
                ))
            })?;
            return Ok(("Retries", count.into()));
        }
        _ => {
            return Err(Failure::usage(format!(
                "Unknown flag: {}",
                name.escape_debug()
            )));
        }
    };
    let nanos = parse_duration(value).map(|d| d.as_nanos());
    let nanos = nanos
        .ok_or_else(|| Failure::usage(format!("invalid duration \"{}\"", value.escape_debug())))?;
    if nanos != 0 && nanos < SHORTEST_NANOS {
        return Err(Failure::usage(format!(
            "Interval \"{name}\" cannot be less than 1ms"
        )));
    }
    let nanos = i64::try_from(nanos).unwrap_or(i64::MAX);
    Ok((key, nanos.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_as_docker_keeps_them() {
        let check = parse("--interval=5m --timeout=3s --retries=2 CMD curl -f http://localhost/");
        let expected = json!({
            "Interval": 300_000_000_000_i64,
            "Timeout": 3_000_000_000_i64,
            "Retries": 2,
            "Test": ["CMD-SHELL", "curl -f http://localhost/"],
        });
        assert_eq!(check.unwrap(), expected);
        let exec = parse(r#"CMD ["/check", "-q"]"#).unwrap();
        assert_eq!(exec, json!({"Test": ["CMD", "/check", "-q"]}));
        assert_eq!(parse("none").unwrap(), json!({"Test": ["NONE"]}));
    }

    #[test]
    fn what_is_wrong_is_said_in_dockers_words() {
        for (text, message) in [
            ("CMD", "Missing command after HEALTHCHECK CMD"),
            ("CMD []", "Missing command after HEALTHCHECK CMD"),
            ("NONE x", "HEALTHCHECK NONE takes no arguments"),
            ("RUN x", "Unknown type \"RUN\" in HEALTHCHECK (try CMD)"),
            ("--often CMD x", "Missing a value on flag: often"),
            ("--often=1 CMD x", "Unknown flag: often"),
            ("--interval=soon CMD x", "invalid duration \"soon\""),
            (
                "--interval=1us CMD x",
                "Interval \"interval\" cannot be less than 1ms",
            ),
            ("--retries=0 CMD x", "--retries must be at least 1 (not 0)"),
            ("--retries=1", "HEALTHCHECK requires at least one argument"),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), message);
        }
    }
}
