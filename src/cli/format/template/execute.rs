//! A tree applied to data.

use std::borrow::Cow;

use serde_json::Value;

use super::functions::{Function, Kind, truth};
use super::parser::{Branch, BranchKind, Command, Node, Pipe, Word, WordKind};
use super::printf::plain;

/// How much a template may do: a range in a range in a range is soon more than anybody waits for.
const STEPS: u64 = 5_000_000;
/// How much it may print.
const OUTPUT: usize = 256 << 20;

/// What the data is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Any JSON.
    Data,
    /// A row of a list: JSON as Go's marshaller writes it, safe to be put into a page.
    Row,
    /// The headings: functions leave them as they are.
    Headings,
}

/// Where, to where, and why.
pub(super) type Wrong = (usize, usize, String);

type Data<'a> = Cow<'a, Value>;

pub(super) fn execute(
    source: &str,
    nodes: &[Node],
    data: &Value,
    mode: Mode,
) -> Result<String, Wrong> {
    let data = Cow::Borrowed(data);
    let mut execution = Execution {
        out: String::new(),
        variables: vec![("$".into(), data.clone())],
        steps: 0,
        mode,
        eof: source.len(),
    };
    execution.nodes(nodes, &data)?;
    Ok(execution.out)
}

enum Flow {
    Next,
    Break,
    Continue,
}

struct Execution<'a> {
    out: String,
    variables: Vec<(String, Data<'a>)>,
    steps: u64,
    mode: Mode,
    eof: usize,
}

impl<'a> Execution<'a> {
    fn nodes(&mut self, nodes: &[Node], dot: &Data<'a>) -> Result<Flow, Wrong> {
        let known = self.variables.len();
        let mut flow = Flow::Next;
        for node in nodes {
            flow = self.node(node, dot)?;
            if !matches!(flow, Flow::Next) {
                break;
            }
        }
        self.variables.truncate(known);
        Ok(flow)
    }

    fn step(&mut self, at: usize, end: usize) -> Result<(), Wrong> {
        self.steps += 1;
        if self.steps > STEPS || self.out.len() > OUTPUT {
            return Err((at, end, "the template does too much".into()));
        }
        Ok(())
    }

    fn node(&mut self, node: &Node, dot: &Data<'a>) -> Result<Flow, Wrong> {
        match node {
            Node::Text(text) => {
                self.step(self.eof, self.eof)?;
                self.out.push_str(text);
            }
            Node::Action(pipe) => {
                let value = self.pipe(pipe, dot)?;
                self.declare(pipe, &value);
                if pipe.variables.is_empty() {
                    self.out.push_str(&plain(&value));
                }
            }
            Node::Branch(branch) => return self.branch(branch, dot),
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    fn declare(&mut self, pipe: &Pipe, value: &Data<'a>) {
        for name in &pipe.variables {
            self.set(name, value.clone(), pipe.assigns);
        }
    }

    fn set(&mut self, name: &str, value: Data<'a>, assigns: bool) {
        let known = self.variables.iter_mut().rev().find(|(n, _)| n == name);
        match known {
            Some(variable) if assigns => variable.1 = value,
            _ => self.variables.push((name.to_owned(), value)),
        }
    }

    fn branch(&mut self, branch: &Branch, dot: &Data<'a>) -> Result<Flow, Wrong> {
        let known = self.variables.len();
        let value = self.pipe(&branch.pipe, dot)?;
        let flow = match branch.kind {
            BranchKind::Range => self.range(branch, &value, dot),
            kind => {
                self.declare(&branch.pipe, &value);
                match (truth(&value), kind) {
                    (true, BranchKind::With) => self.nodes(&branch.body, &value),
                    (true, _) => self.nodes(&branch.body, dot),
                    (false, _) => self.nodes(&branch.otherwise, dot),
                }
            }
        };
        self.variables.truncate(known);
        flow
    }

    fn range(&mut self, branch: &Branch, value: &Data<'a>, dot: &Data<'a>) -> Result<Flow, Wrong> {
        let items = match items(value) {
            Some(items) => items,
            None if self.mode == Mode::Headings => Vec::new(),
            None => {
                let (at, end) = span(&branch.pipe);
                let why = format!("range can't iterate over {}", plain(value));
                return Err((at, end, why));
            }
        };
        if items.is_empty() {
            return self.nodes(&branch.otherwise, dot);
        }
        let pipe = &branch.pipe;
        for (key, item) in items {
            let known = self.variables.len();
            let values = match pipe.variables.as_slice() {
                [_, _] => vec![Cow::Owned(key), item.clone()],
                _ => vec![item.clone()],
            };
            for (name, value) in pipe.variables.iter().zip(values) {
                self.set(name, value, pipe.assigns);
            }
            let (at, end) = span(pipe);
            self.step(at, end)?;
            let flow = self.nodes(&branch.body, &item)?;
            self.variables.truncate(known);
            if matches!(flow, Flow::Break) {
                break;
            }
        }
        Ok(Flow::Next)
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Data<'a>) -> Result<Data<'a>, Wrong> {
        let mut value = None;
        for command in &pipe.commands {
            value = Some(self.command(command, dot, value)?);
        }
        Ok(value.unwrap_or(Cow::Owned(Value::Null)))
    }

    fn command(
        &mut self,
        command: &Command,
        dot: &Data<'a>,
        piped: Option<Data<'a>>,
    ) -> Result<Data<'a>, Wrong> {
        let head = &command.head;
        let end = command.arguments.last().map_or(head.end, |w| w.end);
        self.step(head.at, end)?;
        let wrong = |why: String| (head.at, end, why);
        match &head.kind {
            WordKind::Function(function) => {
                self.call(function, command, dot, piped)
                    .map_err(|e| match e {
                        Trouble::Here(why) => {
                            wrong(format!("error calling {}: {why}", function.name))
                        }
                        Trouble::Usage(why) => wrong(why),
                        Trouble::Below(wrong) => wrong,
                    })
            }
            _ if command.arguments.is_empty() && piped.is_none() => self.word(head, dot),
            WordKind::Field(path) => {
                let mut arguments = Vec::new();
                for word in &command.arguments {
                    arguments.push(self.word(word, dot)?);
                }
                arguments.extend(piped);
                self.method(dot, path, &arguments).map_err(wrong)
            }
            _ => Err(wrong("can't give argument to non-function".to_owned())),
        }
    }

    /// `.Label "name"`, the one function that rows have.
    fn method(
        &self,
        dot: &Data<'a>,
        path: &[String],
        arguments: &[Data<'a>],
    ) -> Result<Data<'a>, String> {
        match (path, arguments) {
            ([method], [argument]) if method == "Label" && self.mode != Mode::Data => {
                let name = argument.as_str().unwrap_or_default();
                let label = match self.mode {
                    Mode::Headings => {
                        let last = name.rsplit('.').next().unwrap_or_default();
                        Value::from(last.replace(['-', '_'], " "))
                    }
                    _ => dot
                        .get("Label")
                        .and_then(|labels| labels.get(name))
                        .cloned()
                        .unwrap_or_else(|| Value::from("")),
                };
                Ok(Cow::Owned(label))
            }
            _ => Err(format!(
                "{} is not a method but has arguments",
                path.last().map_or("", String::as_str)
            )),
        }
    }

    fn word(&mut self, word: &Word, dot: &Data<'a>) -> Result<Data<'a>, Wrong> {
        let fields = |value: Data<'a>, path: &[String]| {
            fields(value, path, self.mode).map_err(|why| (word.at, word.end, why))
        };
        match &word.kind {
            WordKind::Dot => Ok(dot.clone()),
            WordKind::Nil => Ok(Cow::Owned(Value::Null)),
            WordKind::Bool(value) => Ok(Cow::Owned(Value::from(*value))),
            WordKind::Number(number) => Ok(Cow::Owned(Value::Number(number.clone()))),
            WordKind::Text(text) => Ok(Cow::Owned(Value::from(text.as_str()))),
            WordKind::Field(path) => fields(dot.clone(), path),
            WordKind::Variable(name, path) => {
                let known = self.variables.iter().rev().find(|(n, _)| n == name);
                let value = known.map_or(Cow::Owned(Value::Null), |(_, v)| v.clone());
                fields(value, path)
            }
            WordKind::Group(pipe, path) => {
                let value = self.pipe(pipe, dot)?;
                let mode = self.mode;
                super::execute::fields(value, path, mode).map_err(|why| (word.at, word.end, why))
            }
            WordKind::Function(_) => {
                let alone = Command {
                    head: word.clone(),
                    arguments: Vec::new(),
                };
                self.command(&alone, dot, None)
            }
        }
    }

    fn call(
        &mut self,
        function: &'static Function,
        command: &Command,
        dot: &Data<'a>,
        piped: Option<Data<'a>>,
    ) -> Result<Data<'a>, Trouble> {
        let given = command.arguments.len() + usize::from(piped.is_some());
        if !function.takes.contains(&given) {
            let (least, most) = (*function.takes.start(), *function.takes.end());
            let wants = match (least, most) {
                (least, most) if least == most => least.to_string(),
                (least, usize::MAX) => format!("at least {least}"),
                (least, most) => format!("{least} to {most}"),
            };
            return Err(Trouble::Usage(format!(
                "wrong number of args for {}: want {wants} got {given}",
                function.name
            )));
        }
        let mut values: Vec<Data<'a>> = Vec::with_capacity(given);
        // `and` and `or` look no further than they must.
        let until = match function.kind {
            Kind::And => Some(false),
            Kind::Or => Some(true),
            _ => None,
        };
        for word in &command.arguments {
            let value = self.word(word, dot).map_err(Trouble::Below)?;
            if until == Some(truth(&value)) {
                return Ok(value);
            }
            values.push(value);
        }
        values.extend(piped);
        match function.kind {
            Kind::And | Kind::Or => Ok(values.pop().unwrap_or(Cow::Owned(Value::Null))),
            Kind::Presentation(_) if self.mode == Mode::Headings => {
                // Cut, raised or marshalled, a heading stays what it is.
                let heading = values.into_iter().find(|v| v.is_string());
                Ok(heading.unwrap_or(Cow::Owned(Value::Null)))
            }
            Kind::Presentation(f) | Kind::Plain(f) => {
                let values: Vec<&Value> = values.iter().map(AsRef::as_ref).collect();
                f(&values, self.mode).map(Cow::Owned).map_err(Trouble::Here)
            }
        }
    }
}

enum Trouble {
    /// The function refused.
    Here(String),
    /// It can't be called like this.
    Usage(String),
    /// An argument failed.
    Below(Wrong),
}

fn span(pipe: &Pipe) -> (usize, usize) {
    let first = pipe.commands.first().map_or(0, |c| c.head.at);
    let last = pipe.commands.last();
    let end = last.map_or(first, |c| {
        c.arguments.last().map_or(c.head.end, |word| word.end)
    });
    (first, end)
}

/// What a range goes over, each with its index or key.
fn items<'a>(value: &Data<'a>) -> Option<Vec<(Value, Data<'a>)>> {
    fn of(value: &Value) -> Option<Vec<(Value, &Value)>> {
        match value {
            Value::Null => Some(Vec::new()),
            Value::Array(items) => Some(
                items
                    .iter()
                    .enumerate()
                    .map(|(at, v)| (at.into(), v))
                    .collect(),
            ),
            Value::Object(members) => {
                let mut items: Vec<_> = members.iter().collect();
                items.sort_by_key(|(key, _)| *key);
                Some(
                    items
                        .into_iter()
                        .map(|(k, v)| (k.as_str().into(), v))
                        .collect(),
                )
            }
            _ => None,
        }
    }
    match value {
        Cow::Borrowed(value) => {
            let all = of(value)?;
            Some(
                all.into_iter()
                    .map(|(k, v)| (k, Cow::Borrowed(v)))
                    .collect(),
            )
        }
        Cow::Owned(value) => {
            let all = of(value)?;
            Some(
                all.into_iter()
                    .map(|(k, v)| (k, Cow::Owned(v.clone())))
                    .collect(),
            )
        }
    }
}

fn fields<'a>(value: Data<'a>, path: &[String], mode: Mode) -> Result<Data<'a>, String> {
    let mut value = value;
    for name in path {
        value = match value {
            Cow::Borrowed(value) => {
                field(value, name, mode)?.map_or(Cow::Owned(Value::Null), Cow::Borrowed)
            }
            Cow::Owned(value) => {
                Cow::Owned(field(&value, name, mode)?.cloned().unwrap_or_default())
            }
        };
    }
    Ok(value)
}

/// A member. `None` for a key that a map doesn't have.
fn field<'v>(value: &'v Value, name: &str, mode: Mode) -> Result<Option<&'v Value>, String> {
    match value {
        Value::Null => Ok(None),
        Value::Object(members) => {
            let found = members.get(name);
            let is_struct = members
                .keys()
                .all(|k| k.starts_with(|c: char| c.is_ascii_uppercase()));
            if found.is_none() && is_struct && !members.is_empty() && mode != Mode::Headings {
                return Err(format!("no entry for key {name:?}"));
            }
            Ok(found)
        }
        _ if mode == Mode::Headings => Ok(None),
        Value::Array(_) => Err(format!("can't evaluate field {name} in a list")),
        Value::String(_) => Err(format!("can't evaluate field {name} in type string")),
        Value::Number(_) => Err(format!("can't evaluate field {name} in a number")),
        Value::Bool(_) => Err(format!("can't evaluate field {name} in type bool")),
    }
}
