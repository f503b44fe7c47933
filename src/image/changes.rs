//! `commit --change` and `import --change`: Dockerfile instructions applied to a configuration.

use serde_json::Map;

use super::RuntimeConfig;
use crate::error::Failure;

/// Applies instructions in turn. As in a Dockerfile, an ENTRYPOINT takes away a CMD that none of the
/// instructions before it has set.
///
/// # Errors
/// As [`apply`].
pub fn apply_all(
    config: &mut RuntimeConfig,
    instructions: &[impl AsRef<str>],
) -> Result<(), Failure> {
    let mut sets_cmd = false;
    for instruction in instructions {
        let instruction = instruction.as_ref();
        apply(config, instruction)?;
        let word = instruction.split_whitespace().next().unwrap_or_default();
        sets_cmd |= word.eq_ignore_ascii_case("CMD");
        if word.eq_ignore_ascii_case("ENTRYPOINT") && !sets_cmd {
            config.cmd = None;
        }
    }
    Ok(())
}

/// Applies one instruction: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL,
/// USER, VOLUME or WORKDIR.
///
/// # Errors
/// [`crate::error::FailureKind::Usage`], in Docker's words where it has them.
pub fn apply(config: &mut RuntimeConfig, instruction: &str) -> Result<(), Failure> {
    let instruction = instruction.trim();
    let (word, rest) = instruction
        .split_once(char::is_whitespace)
        .unwrap_or((instruction, ""));
    let (word, rest) = (word.to_ascii_uppercase(), rest.trim());
    let wants = |what: &str| Failure::usage(format!("{word} requires {what}: \"{instruction}\""));
    if rest.is_empty() {
        return Err(wants("at least one argument"));
    }
    match word.as_str() {
        "CMD" => config.cmd = Some(command(rest)),
        "HEALTHCHECK" => {
            let check = super::health::parse(rest)?;
            config.other.insert("Healthcheck".to_owned(), check);
        }
        "ENTRYPOINT" => config.entrypoint = Some(command(rest)),
        "ENV" => {
            for (name, value) in pairs(rest).map_err(|why| wants(&why))? {
                config.env.retain(|e| e.split('=').next() != Some(&name));
                config.env.push(format!("{name}={value}"));
            }
        }
        "LABEL" => config
            .labels
            .extend(pairs(rest).map_err(|why| wants(&why))?),
        "EXPOSE" => {
            for port in words(rest).map_err(|why| wants(&why))? {
                config.exposed_ports.insert(port_of(&port)?, Map::new());
            }
        }
        "VOLUME" => {
            let paths = match json_list(rest) {
                Some(list) => list,
                None => words(rest).map_err(|why| wants(&why))?,
            };
            for path in paths {
                config.volumes.insert(path, Map::new());
            }
        }
        "USER" => config.user = rest.to_owned(),
        "WORKDIR" => {
            config.working_dir = if rest.starts_with('/') || config.working_dir.is_empty() {
                format!("/{}", rest.trim_start_matches('/'))
            } else {
                format!("{}/{rest}", config.working_dir.trim_end_matches('/'))
            };
        }
        "STOPSIGNAL" => config.stop_signal = rest.to_owned(),
        "ONBUILD" => {
            let trigger = rest.split_whitespace().next().unwrap_or_default();
            match trigger.to_ascii_uppercase().as_str() {
                "ONBUILD" => {
                    let text = "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed";
                    return Err(Failure::usage(text));
                }
                word @ ("FROM" | "MAINTAINER") => {
                    let text = format!("{word} isn't allowed as an ONBUILD trigger");
                    return Err(Failure::usage(text));
                }
                _ => config.on_build.push(rest.to_owned()),
            }
        }
        _ => {
            return Err(Failure::usage(format!(
                "{} is not a valid change command",
                word.to_lowercase()
            )));
        }
    }
    Ok(())
}

/// The JSON form is taken as it is; the shell form runs in a shell.
fn command(text: &str) -> Vec<String> {
    json_list(text).unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into(), text.into()])
}

fn json_list(text: &str) -> Option<Vec<String>> {
    text.starts_with('[')
        .then(|| serde_json::from_str(text).ok())
        .flatten()
}

fn port_of(text: &str) -> Result<String, Failure> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (low, high) = port.split_once('-').unwrap_or((port, port));
    let number = |t: &str| t.parse::<u16>().ok();
    match (number(low), number(high), protocol) {
        (Some(low), Some(high), "tcp" | "udp" | "sctp") if low <= high => {
            Ok(format!("{port}/{protocol}"))
        }
        _ => Err(Failure::usage(format!("invalid containerPort: {text}"))),
    }
}

/// `NAME=VALUE …` with quotes, or the old form `NAME the whole rest`.
fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let words = words(text)?;
    if words.first().is_some_and(|w| !w.contains('=')) {
        let (name, value) = text.split_once(char::is_whitespace).ok_or("NAME=VALUE")?;
        return Ok(vec![(name.to_owned(), value.trim().to_owned())]);
    }
    let pair = |word: String| match word.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("NAME=VALUE, not \"{word}\"")),
    };
    words.into_iter().map(pair).collect()
}

/// Splits at spaces; quotes group, a backslash takes the next character as it is.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None | Some('"'), '\\') => {
                let next = chars.next().ok_or("something after the last backslash")?;
                word.get_or_insert_default().push(next);
            }
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if let Some(q) = quote {
        return Err(format!("a closing {q}"));
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(instructions: &[&str]) -> RuntimeConfig {
        let mut config = RuntimeConfig::default();
        for instruction in instructions {
            apply(&mut config, instruction).unwrap_or_else(|e| panic!("{instruction}: {e}"));
        }
        config
    }

    #[test]
    fn every_instruction_has_its_effect() {
        let config = with(&[
            r#"CMD ["sh", "-c", "echo hi"]"#,
            "entrypoint /run me",
            r#"ENV A=1 B="two words" C=it\ is"#,
            "ENV A=2",
            "ENV OLD the whole rest",
            "EXPOSE 80 53/udp 8000-8010",
            r#"LABEL k="v" 'x'=y"#,
            "ONBUILD RUN make",
            "STOPSIGNAL SIGINT",
            "USER www:www",
            r#"VOLUME ["/data", "/x y"]"#,
            "WORKDIR /srv",
            "WORKDIR app",
        ]);
        assert_eq!(config.cmd.unwrap(), ["sh", "-c", "echo hi"]);
        assert_eq!(config.entrypoint.unwrap(), ["/bin/sh", "-c", "/run me"]);
        assert_eq!(
            config.env,
            ["B=two words", "C=it is", "A=2", "OLD=the whole rest"]
        );
        let ports: Vec<_> = config.exposed_ports.into_keys().collect();
        assert_eq!(ports, ["53/udp", "80/tcp", "8000-8010/tcp"]);
        assert_eq!(config.labels["k"], "v");
        assert_eq!(config.labels["x"], "y");
        assert_eq!(config.on_build, ["RUN make"]);
        assert_eq!(
            (config.stop_signal.as_str(), config.user.as_str()),
            ("SIGINT", "www:www")
        );
        assert!(config.volumes.contains_key("/x y"));
        assert_eq!(config.working_dir, "/srv/app");
    }

    #[test]
    fn an_entrypoint_takes_away_the_command_below_it() {
        let mut config = with(&["CMD below"]);
        apply_all(&mut config, &["ENTRYPOINT [\"/run\"]"]).unwrap();
        assert_eq!(config.cmd, None);
        apply_all(&mut config, &["CMD [\"a\"]", "ENTRYPOINT [\"/other\"]"]).unwrap();
        assert_eq!(config.cmd.unwrap(), ["a"]);
    }

    #[test]
    fn what_docker_does_not_change_is_refused_in_its_words() {
        let refusal = |text: &str| {
            let mut config = RuntimeConfig::default();
            apply(&mut config, text).unwrap_err().to_string()
        };
        let shell = refusal("SHELL [\"sh\", \"-c\"]");
        assert_eq!(shell, "shell is not a valid change command");
        let unknown = refusal("HEALTHCHECK MAYBE x");
        assert_eq!(unknown, "Unknown type \"MAYBE\" in HEALTHCHECK (try CMD)");
    }

    #[test]
    fn what_cannot_be_applied_is_refused() {
        for bad in [
            "",
            "CMD",
            "RUN make",
            "FROM x",
            "ENV A",
            "ENV =x",
            "ENV A=\"x",
            "EXPOSE http",
            "EXPOSE 80/icmp",
            "EXPOSE 99999",
            "EXPOSE 20-10",
            "LABEL \\",
            "LABEL a=1 b",
            "SHELL [\"sh\", \"-c\"]",
            "HEALTHCHECK MAYBE x",
            "ONBUILD ONBUILD RUN x",
            "ONBUILD FROM x",
        ] {
            assert!(apply(&mut RuntimeConfig::default(), bad).is_err(), "{bad}");
        }
    }
}
