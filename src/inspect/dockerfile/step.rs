//! One step of a history as an instruction.

use super::text::{health, json_list, pairs, plain_list, quote, quoted_list, unexpanded};
use crate::image::{History, RuntimeConfig};

/// What a step of the history came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Step {
    /// The instruction, of several lines where it is a long one or a here-document; empty when the
    /// step is none (a commit, an import).
    pub instruction: String,
    /// What is to be known about it, a line each.
    pub notes: Vec<String>,
}

/// The shell of instructions, before SHELL says otherwise.
const SHELL: &str = "/bin/sh -c";
/// What the classic builder wrote before instructions that ran nothing.
const NOP: &str = "#(nop)";
/// What buildkit writes after its instructions.
const BUILDKIT: &str = "# buildkit";

const INSTRUCTIONS: [&str; 17] = [
    "RUN",
    "ADD",
    "COPY",
    "ENV",
    "LABEL",
    "ARG",
    "CMD",
    "ENTRYPOINT",
    "EXPOSE",
    "VOLUME",
    "USER",
    "WORKDIR",
    "STOPSIGNAL",
    "ONBUILD",
    "HEALTHCHECK",
    "SHELL",
    "MAINTAINER",
];

/// Reads the steps of one history, in order.
pub struct Steps<'c> {
    config: &'c RuntimeConfig,
    /// The shell's words, as histories print them.
    shell: String,
    /// Arguments that an ARG has declared.
    args: Vec<String>,
}

impl<'c> Steps<'c> {
    /// A history whose image has this configuration.
    #[must_use]
    pub fn new(config: &'c RuntimeConfig) -> Self {
        Self {
            config,
            shell: SHELL.into(),
            args: Vec::new(),
        }
    }

    /// The next step.
    pub fn read(&mut self, step: &History) -> Step {
        let by = step.created_by.as_deref().unwrap_or_default().trim();
        let comment = step.comment.as_deref().unwrap_or_default();
        let buildkit = by.ends_with(BUILDKIT);
        let text = by.strip_suffix(BUILDKIT).unwrap_or(by).trim_end();
        if let Some(nop) = text.find(NOP).filter(|at| *at < 40) {
            let instruction = text.get(nop + NOP.len()..).unwrap_or_default();
            return self.instruction(instruction.trim(), false);
        }
        if text.starts_with('|') || self.command(text).is_some() {
            return self.run(text, false);
        }
        let word = text.split_whitespace().next().unwrap_or_default();
        if INSTRUCTIONS.contains(&word) {
            return self.instruction(text, buildkit);
        }
        Step {
            instruction: String::new(),
            notes: vec![unknown(by, comment)],
        }
    }

    fn instruction(&mut self, text: &str, buildkit: bool) -> Step {
        let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let rest = rest.trim();
        if word == "RUN" {
            return self.run(rest, buildkit);
        }
        let said = match word {
            "ADD" | "COPY" => return copy(word, rest),
            "ENV" | "LABEL" => self.assignments(word, rest),
            "ARG" => Some(self.arg(rest)),
            "CMD" | "ENTRYPOINT" => quoted_list(rest)
                .map(|l| json_list(&l))
                .or(Some(rest.into())),
            "SHELL" => Some(self.set_shell(rest)),
            "VOLUME" => Some(json_list(
                &quoted_list(rest).unwrap_or_else(|| plain_list(rest)),
            )),
            "EXPOSE" => Some(plain_list(rest).join(" ")),
            "HEALTHCHECK" => health_check(rest),
            "USER" | "WORKDIR" | "STOPSIGNAL" => Some(unexpanded(rest)),
            _ => Some(rest.to_owned()),
        };
        let fits =
            |text: &String| !text.is_empty() && !text.contains(['\n', '\r']) && !ends_open(text);
        match said.filter(fits) {
            Some(rest) => Step {
                instruction: format!("{word} {rest}"),
                notes: Vec::new(),
            },
            None => Step {
                instruction: String::new(),
                notes: vec![format!(
                    "not to be said in a Dockerfile: {}",
                    one_line(text)
                )],
            },
        }
    }

    /// ENV and LABEL, quoted anew.
    fn assignments(&self, word: &str, text: &str) -> Option<String> {
        let found = pairs(text, |name, value| match word {
            "ENV" => {
                let entry = self.config.env.iter().find_map(|e| {
                    let (n, v) = e.split_once('=')?;
                    (n == name).then_some(v)
                });
                entry == Some(value)
            }
            _ => self.config.labels.get(name).is_some_and(|v| v == value),
        });
        match found {
            Some(found) => {
                let pair = |(n, v): &(String, String)| format!("{}={}", quote(n), quote_value(v));
                Some(found.iter().map(pair).collect::<Vec<_>>().join(" "))
            }
            // The old form: `ENV NAME the whole rest`.
            None => {
                let (name, value) = text.split_once(char::is_whitespace)?;
                Some(format!("{}={}", quote(name), quote_value(value.trim())))
            }
        }
    }

    fn arg(&mut self, text: &str) -> String {
        let found = pairs(text, |_, _| false);
        let Some(found) = found else {
            self.args.extend(text.split_whitespace().map(str::to_owned));
            return text.to_owned();
        };
        self.args.extend(found.iter().map(|(n, _)| n.clone()));
        let pair = |(n, v): &(String, String)| format!("{n}={}", quote_value(v));
        found.iter().map(pair).collect::<Vec<_>>().join(" ")
    }

    fn set_shell(&mut self, text: &str) -> String {
        let words = quoted_list(text).unwrap_or_else(|| {
            let plain = plain_list(text);
            // The last SHELL is in the configuration, with its words apart.
            let last = self.config.other.get("Shell").and_then(|s| s.as_array());
            let last: Option<Vec<String>> = last.map(|l| {
                l.iter()
                    .filter_map(|w| w.as_str().map(str::to_owned))
                    .collect()
            });
            last.filter(|l| l.join(" ") == plain.join(" "))
                .unwrap_or(plain)
        });
        self.shell = words.join(" ");
        json_list(&words)
    }

    /// The command that a shell runs, if the text is that shell and a command.
    fn command<'t>(&self, text: &'t str) -> Option<&'t str> {
        [self.shell.as_str(), SHELL].iter().find_map(|shell| {
            let rest = text.strip_prefix(shell)?;
            rest.strip_prefix(' ').or((rest.is_empty()).then_some(""))
        })
    }

    /// A command that was run, with the values of build arguments before it.
    fn run(&mut self, text: &str, exec: bool) -> Step {
        let mut step = Step::default();
        let (arguments, text) = self.arguments(text);
        for (name, value) in arguments {
            if !self.args.contains(&name) {
                step.instruction
                    .push_str(&format!("ARG {name}={}\n", quote_value(&value)));
                self.args.push(name);
            } else {
                step.notes.push(format!(
                    "built with {}",
                    one_line(&format!("{name}={value}"))
                ));
            }
        }
        let command = self.command(text);
        let command = match (command, exec) {
            (Some(""), _) => {
                step.notes
                    .push("a shell was run, and what was typed is not recorded".into());
                return step;
            }
            (Some(command), _) => command.to_owned(),
            // Without a shell it was a list of words, whose borders are lost.
            (None, true) if !text.is_empty() => {
                json_list(&text.split(' ').map(str::to_owned).collect::<Vec<_>>())
            }
            (None, _) => text.to_owned(),
        };
        match run(&command, exec || self.command(text).is_none()) {
            Some(run) => step.instruction.push_str(&run),
            None => step.notes.push("a command that is not recorded".into()),
        }
        step
    }

    /// Splits `|2 A=1 B=2 /bin/sh -c make` into the arguments and the command.
    fn arguments<'t>(&self, text: &'t str) -> (Vec<(String, String)>, &'t str) {
        let parse = || {
            let (count, rest) = text.strip_prefix('|')?.split_once(' ')?;
            let count: usize = count.parse().ok()?;
            let end = [format!(" {} ", self.shell), format!(" {SHELL} ")]
                .iter()
                .filter_map(|s| rest.find(s.as_str()))
                .min();
            let (arguments, command) = match (end, count) {
                (_, 0) => ("", rest),
                (Some(end), _) => rest.split_at_checked(end)?,
                // Without a shell: as many words as there are arguments.
                (None, _) => {
                    let at = rest.match_indices(' ').nth(count - 1)?.0;
                    rest.split_at_checked(at)?
                }
            };
            let mut found = pairs(arguments, |_, _| false).unwrap_or_default();
            // What is too much belongs to a value that holds something like a pair.
            while found.len() > count.max(1) {
                let extra = found
                    .iter()
                    .skip(1)
                    .position(|(n, _)| !self.args.contains(n))
                    .map_or(found.len() - 1, |at| at + 1);
                let (name, value) = found.remove(extra);
                if let Some(before) = found.get_mut(extra - 1) {
                    before.1 = format!("{} {name}={value}", before.1);
                }
            }
            Some((found, command.trim_start()))
        };
        parse().unwrap_or((Vec::new(), text))
    }
}

/// Whether the next line would be taken as a part of it.
fn ends_open(text: &str) -> bool {
    text.ends_with('\\')
}

fn quote_value(value: &str) -> String {
    match value {
        "" => "\"\"".into(),
        value => quote(value),
    }
}

/// RUN, as one line, as several, or as a here-document where a line would mean something else.
fn run(command: &str, exec: bool) -> Option<String> {
    if command.trim().is_empty() {
        return None;
    }
    let first = command.trim_start();
    let strange = command.contains(['\n', '\r'])
        || command.contains("<<")
        || ends_open(command.trim_end())
        || first.starts_with("--")
        || first.starts_with('#')
        || !exec && first.starts_with('[')
        || command.starts_with(char::is_whitespace);
    if !strange {
        return Some(format!("RUN {}", broken(command)));
    }
    let mut end = "EOF".to_owned();
    while command.lines().any(|l| l.trim() == end) {
        end.push('F');
    }
    let body = command.strip_suffix('\n').unwrap_or(command);
    Some(format!("RUN <<{end}\n{body}\n{end}"))
}

/// Lines broken before `&&` and `||` where several spaces say that there was an end of line.
fn broken(command: &str) -> String {
    let mut out = String::new();
    let mut rest = command;
    while let Some(at) = next_break(rest) {
        let (line, tail) = rest.split_at_checked(at).unwrap_or((rest, ""));
        out.push_str(line);
        out.push_str("\\\n");
        rest = tail;
    }
    out.push_str(rest);
    out
}

/// The second of several spaces before `&&` or `||`.
fn next_break(text: &str) -> Option<usize> {
    let found = |operator| {
        text.match_indices(operator).find_map(|(at, _)| {
            let before = text.get(..at)?;
            let start = before.trim_end_matches([' ', '\t']).len();
            let blank = before.len() - start;
            (blank >= 2 && start > 0).then_some(start + 1)
        })
    };
    let places: [Option<usize>; 2] = [found("&&"), found("||")];
    places.into_iter().flatten().min()
}

/// ADD and COPY: of classic builders a hash instead of the source's name, of buildkit the names.
fn copy(word: &str, text: &str) -> Step {
    let mut step = Step::default();
    let hashed = text.split_once(" in ").filter(|(source, _)| {
        let source = source.rsplit(' ').next().unwrap_or_default();
        ["file:", "dir:", "multi:", "archive:"]
            .iter()
            .any(|p| source.starts_with(p))
    });
    let line = match hashed {
        Some((source, place)) => {
            step.notes
                .push("the history has a hash of the source, not its name".into());
            let place = place.trim();
            match place.contains(char::is_whitespace) {
                false => format!("{word} {} {}", unexpanded(source), unexpanded(place)),
                true => format!(
                    "{word} {}",
                    json_list(&[unexpanded(source), unexpanded(place)])
                ),
            }
        }
        None => format!("{word} {}", unexpanded(text)),
    };
    let documents: Vec<&str> = text
        .split_whitespace()
        .filter_map(|w| w.strip_prefix("<<"))
        .map(|w| w.trim_start_matches('-').trim_matches(['"', '\'']))
        .collect();
    let sound = documents.iter().all(|d| {
        !d.is_empty()
            && d.chars()
                .all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
    });
    if line.contains(['\n', '\r'])
        || text.is_empty()
        || !sound
        || text.split_whitespace().count() < 2
    {
        return Step {
            instruction: String::new(),
            notes: vec![format!(
                "not to be said in a Dockerfile: {}",
                one_line(&line)
            )],
        };
    }
    step.instruction = line;
    for document in documents {
        step.notes
            .push("the history does not have the text of here-documents".into());
        step.instruction.push_str(&format!("\n{document}"));
    }
    step
}

fn health_check(text: &str) -> Option<String> {
    let Some(check) = health(text) else {
        return (!text.starts_with("&{")).then(|| text.to_owned());
    };
    let mut words = Vec::new();
    let names = ["interval", "timeout", "start-period", "start-interval"];
    for (name, value) in names.iter().zip(&check.durations) {
        if value != "0s" {
            words.push(format!("--{name}={value}"));
        }
    }
    if check.retries > 0 {
        words.push(format!("--retries={}", check.retries));
    }
    match check.test.split_first() {
        Some((kind, [])) if kind == "NONE" => return Some("NONE".into()),
        Some((kind, [command])) if kind == "CMD-SHELL" => words.push(format!("CMD {command}")),
        Some((kind, list)) if kind == "CMD" => words.push(format!("CMD {}", json_list(list))),
        _ => return None,
    }
    Some(words.join(" "))
}

/// What is shown of a step that is no instruction.
fn unknown(by: &str, comment: &str) -> String {
    let said: Vec<_> = [by, comment]
        .iter()
        .filter(|t| !t.is_empty())
        .map(|t| one_line(t))
        .collect();
    match said.is_empty() {
        true => "a step that no instruction made (a commit, or an import)".into(),
        false => format!(
            "a step that no instruction made (a commit, or an import): {}",
            said.join(", ")
        ),
    }
}

/// A text as one line of a comment: without what a terminal or a parser would act on.
pub fn one_line(text: &str) -> String {
    text.chars()
        .flat_map(|c| match c.is_control() {
            true => c.escape_default().collect::<Vec<_>>(),
            false => vec![c],
        })
        .collect()
}
