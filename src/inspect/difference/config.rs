//! The difference between two configurations.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Letter;
use crate::image::{ImageConfig, StringSet};

/// Something that two configurations say differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigChange {
    /// What: `env`, `label`, `port`, `volume`, `cmd`, `entrypoint`, `user`, `workdir`, `stopsignal`,
    /// `onbuild`, `platform`, `history`, or the member's name in the configuration.
    pub field: String,
    /// Which of them, for those that have names.
    pub name: Option<String>,
    /// What became of it.
    pub letter: Letter,
    /// What the first one says.
    pub before: Option<String>,
    /// What the second one says.
    pub after: Option<String>,
}

/// All differences, field by field. The time of creation and the author do not count.
#[must_use]
pub fn configs(before: &ImageConfig, after: &ImageConfig) -> Vec<ConfigChange> {
    let mut found = Changes::default();
    found.value("platform", platform(before), platform(after));
    let (old, new) = (&before.config, &after.config);
    found.map("env", &environment(&old.env), &environment(&new.env));
    found.value("entrypoint", list(&old.entrypoint), list(&new.entrypoint));
    found.value("cmd", list(&old.cmd), list(&new.cmd));
    found.value("workdir", word(&old.working_dir), word(&new.working_dir));
    found.value("user", word(&old.user), word(&new.user));
    found.map("label", &old.labels, &new.labels);
    found.set("port", &old.exposed_ports, &new.exposed_ports);
    found.set("volume", &old.volumes, &new.volumes);
    found.value("stopsignal", word(&old.stop_signal), word(&new.stop_signal));
    found.lines("onbuild", &old.on_build, &new.on_build);
    let others = |config: &ImageConfig| -> BTreeMap<String, String> {
        let members = ["Healthcheck", "Shell", "ArgsEscaped"];
        let all = members
            .iter()
            .filter_map(|m| Some((m, config.config.other.get(*m)?)));
        all.filter(|(_, v)| !matches!(v, Value::Null | Value::Bool(false)))
            .map(|(m, v)| (m.to_lowercase(), v.to_string()))
            .collect()
    };
    let (old, new) = (others(before), others(after));
    for name in ["healthcheck", "shell", "argsescaped"] {
        found.value(name, old.get(name).cloned(), new.get(name).cloned());
    }
    found.lines("history", &steps(before), &steps(after));
    found.0
}

#[derive(Default)]
struct Changes(Vec<ConfigChange>);

impl Changes {
    fn add(&mut self, field: &str, name: Option<&str>, old: Option<String>, new: Option<String>) {
        let letter = match (&old, &new) {
            (None, None) => return,
            (None, Some(_)) => Letter::Added,
            (Some(_), None) => Letter::Deleted,
            (Some(old), Some(new)) if old == new => return,
            _ => Letter::Changed,
        };
        self.0.push(ConfigChange {
            field: field.to_owned(),
            name: name.map(str::to_owned),
            letter,
            before: old,
            after: new,
        });
    }

    fn value(&mut self, field: &str, old: Option<String>, new: Option<String>) {
        self.add(field, None, old, new);
    }

    fn map(&mut self, field: &str, old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) {
        let mut names: Vec<_> = old.keys().chain(new.keys()).collect();
        names.sort();
        names.dedup();
        for name in names {
            self.add(
                field,
                Some(name),
                old.get(name).cloned(),
                new.get(name).cloned(),
            );
        }
    }

    fn set(&mut self, field: &str, old: &StringSet, new: &StringSet) {
        let map = |set: &StringSet| set.keys().map(|k| (k.clone(), String::new())).collect();
        self.map(field, &map(old), &map(new));
    }

    /// Lists, of which a beginning that is the same is passed over, and an end.
    fn lines(&mut self, field: &str, old: &[String], new: &[String]) {
        let diff = similar::capture_diff_slices(similar::Algorithm::Myers, old, new);
        for operation in diff {
            if operation.tag() == similar::DiffTag::Equal {
                continue;
            }
            for line in old.get(operation.old_range()).unwrap_or_default() {
                self.add(field, None, Some(line.clone()), None);
            }
            for line in new.get(operation.new_range()).unwrap_or_default() {
                self.add(field, None, None, Some(line.clone()));
            }
        }
    }
}

fn word(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn list(words: &Option<Vec<String>>) -> Option<String> {
    let words = words.as_ref().filter(|w| !w.is_empty())?;
    Some(Value::from(words.clone()).to_string())
}

fn platform(config: &ImageConfig) -> Option<String> {
    let mut text = format!("{}/{}", config.os, config.architecture);
    if let Some(variant) = config.variant.as_ref().filter(|v| !v.is_empty()) {
        text = format!("{text}/{variant}");
    }
    (text != "/").then_some(text)
}

fn environment(entries: &[String]) -> BTreeMap<String, String> {
    let pair = |entry: &String| match entry.split_once('=') {
        Some((name, value)) => (name.to_owned(), value.to_owned()),
        None => (entry.clone(), String::new()),
    };
    entries.iter().map(pair).collect()
}

fn steps(config: &ImageConfig) -> Vec<String> {
    let by = |step: &crate::image::History| step.created_by.clone().unwrap_or_default();
    config.history.iter().map(by).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{History, changes::apply};

    fn with(instructions: &[&str], steps: &[&str]) -> ImageConfig {
        let mut config = ImageConfig::default();
        for instruction in instructions {
            apply(&mut config.config, instruction).unwrap();
        }
        for step in steps {
            config.history.push(History {
                created_by: Some((*step).into()),
                ..History::default()
            });
        }
        config
    }

    #[test]
    fn each_field_has_its_line() {
        let old = with(
            &[
                "ENV A=1 B=2",
                "CMD [\"a\"]",
                "EXPOSE 80",
                "LABEL x=1",
                "USER u",
                "ONBUILD RUN a",
            ],
            &["one", "two"],
        );
        let new = with(
            &[
                "ENV B=3 C=4",
                "CMD [\"b\"]",
                "EXPOSE 81",
                "LABEL x=1",
                "WORKDIR /w",
                "VOLUME /d",
            ],
            &["one", "three", "two"],
        );
        let found: Vec<_> = configs(&old, &new)
            .into_iter()
            .map(|c| {
                let text = |t: Option<String>| t.unwrap_or("-".into());
                let name = c.name.map_or(String::new(), |n| format!(" {n}"));
                format!(
                    "{} {}{name} {} {}",
                    c.letter.char(),
                    c.field,
                    text(c.before),
                    text(c.after)
                )
            })
            .collect();
        let expected = [
            "D env A 1 -",
            "C env B 2 3",
            "A env C - 4",
            "C cmd [\"a\"] [\"b\"]",
            "A workdir - /w",
            "D user u -",
            "D port 80/tcp  -",
            "A port 81/tcp - ",
            "A volume /d - ",
            "D onbuild RUN a -",
            "A history - three",
        ];
        assert_eq!(found, expected);
        assert_eq!(configs(&old, &old), []);
    }
}
