//! The functions that templates can call: Go's, and Docker's.

use std::cmp::Ordering;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::execute::Mode;
use super::printf::{plain, print, printf};

/// How many characters `pad` adds at most.
const PAD: u64 = 100_000;

/// A function.
#[derive(Debug)]
pub(super) struct Function {
    pub name: &'static str,
    /// How many arguments.
    pub takes: RangeInclusive<usize>,
    pub kind: Kind,
}

type Call = fn(&[&Value], Mode) -> Result<Value, String>;

#[derive(Debug)]
pub(super) enum Kind {
    And,
    Or,
    Plain(Call),
    /// Changes how a value looks, which headings don't take part in.
    Presentation(Call),
}

const fn plain_function(name: &'static str, takes: RangeInclusive<usize>, call: Call) -> Function {
    Function {
        name,
        takes,
        kind: Kind::Plain(call),
    }
}

const fn presentation(name: &'static str, takes: RangeInclusive<usize>, call: Call) -> Function {
    Function {
        name,
        takes,
        kind: Kind::Presentation(call),
    }
}

const ANY: usize = usize::MAX;

static FUNCTIONS: [Function; 26] = [
    Function {
        name: "and",
        takes: 1..=ANY,
        kind: Kind::And,
    },
    Function {
        name: "or",
        takes: 1..=ANY,
        kind: Kind::Or,
    },
    plain_function("not", 1..=1, |v, _| Ok(Value::from(!truth(at(v, 0))))),
    plain_function("eq", 2..=ANY, |v, _| eq(v)),
    plain_function("ne", 2..=2, |v, _| {
        Ok(Value::from(!equal(at(v, 0), at(v, 1))?))
    }),
    plain_function("lt", 2..=2, |v, _| order(v, Ordering::is_lt)),
    plain_function("le", 2..=2, |v, _| order(v, Ordering::is_le)),
    plain_function("gt", 2..=2, |v, _| order(v, Ordering::is_gt)),
    plain_function("ge", 2..=2, |v, _| order(v, Ordering::is_ge)),
    plain_function("len", 1..=1, |v, _| len(at(v, 0))),
    plain_function("index", 1..=ANY, |v, _| index(v)),
    plain_function("slice", 1..=4, |v, _| slice(v)),
    plain_function("print", 0..=ANY, |v, _| Ok(Value::from(print(v)))),
    plain_function("println", 0..=ANY, |v, _| Ok(Value::from(println(v)))),
    plain_function("printf", 1..=ANY, |v, _| {
        let format = text(at(v, 0))?;
        Ok(Value::from(printf(format, v.get(1..).unwrap_or_default())))
    }),
    plain_function("html", 0..=ANY, |v, _| Ok(Value::from(html(&print(v))))),
    plain_function("js", 0..=ANY, |v, _| Ok(Value::from(js(&print(v))))),
    plain_function("urlquery", 0..=ANY, |v, _| {
        Ok(Value::from(urlquery(&print(v))))
    }),
    presentation("json", 1..=1, |v, mode| {
        Ok(Value::from(json(at(v, 0), mode)))
    }),
    plain_function("split", 2..=2, |v, _| {
        split(text(at(v, 0))?, text(at(v, 1))?)
    }),
    plain_function("join", 2..=2, |v, _| join(at(v, 0), text(at(v, 1))?)),
    presentation("lower", 1..=1, |v, _| {
        Ok(Value::from(text(at(v, 0))?.to_lowercase()))
    }),
    presentation("upper", 1..=1, |v, _| {
        Ok(Value::from(text(at(v, 0))?.to_uppercase()))
    }),
    presentation("title", 1..=1, |v, _| {
        Ok(Value::from(title(text(at(v, 0))?)))
    }),
    presentation("truncate", 2..=2, |v, _| {
        truncate(text(at(v, 0))?, at(v, 1))
    }),
    plain_function("pad", 3..=3, |v, _| {
        pad(text(at(v, 0))?, at(v, 1), at(v, 2))
    }),
];

/// The function of this name.
pub(super) fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|f| f.name == name)
}

fn at<'v>(values: &[&'v Value], at: usize) -> &'v Value {
    values.get(at).copied().unwrap_or(&Value::Null)
}

fn text(value: &Value) -> Result<&str, String> {
    match value {
        Value::String(text) => Ok(text),
        Value::Null => Ok(""),
        other => Err(format!(
            "wrong type for value; expected string; got {}",
            kind(other)
        )),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nil",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

/// What counts as true: all but `false`, 0, nil and what is empty.
pub(super) fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
    }
}

fn eq(values: &[&Value]) -> Result<Value, String> {
    let first = at(values, 0);
    for other in values.iter().skip(1) {
        if equal(first, other)? {
            return Ok(true.into());
        }
    }
    Ok(false.into())
}

fn equal(a: &Value, b: &Value) -> Result<bool, String> {
    match (a, b) {
        (Value::Null, _) | (_, Value::Null) => Ok(a == b),
        (Value::Array(_) | Value::Object(_), _) | (_, Value::Array(_) | Value::Object(_)) => {
            Err("non-comparable type".into())
        }
        _ => compare(a, b).map(Ordering::is_eq),
    }
}

fn compare(a: &Value, b: &Value) -> Result<Ordering, String> {
    match (a, b) {
        (Value::String(a), Value::String(b)) => Ok(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => Ok(a.cmp(b)),
        (Value::Number(a), Value::Number(b)) => {
            let whole =
                |n: &serde_json::Number| n.as_i64().map(i128::from).or(n.as_u64().map(i128::from));
            match (whole(a), whole(b)) {
                (Some(a), Some(b)) => Ok(a.cmp(&b)),
                _ => a
                    .as_f64()
                    .partial_cmp(&b.as_f64())
                    .ok_or_else(|| "incompatible types for comparison".into()),
            }
        }
        _ => Err("incompatible types for comparison".into()),
    }
}

fn order(values: &[&Value], wanted: fn(Ordering) -> bool) -> Result<Value, String> {
    let (a, b) = (at(values, 0), at(values, 1));
    if matches!(a, Value::Bool(_)) {
        return Err("invalid type for comparison".into());
    }
    compare(a, b).map(|order| Value::from(wanted(order)))
}

fn len(value: &Value) -> Result<Value, String> {
    match value {
        Value::Null => Ok(0.into()),
        Value::String(text) => Ok(text.len().into()),
        Value::Array(items) => Ok(items.len().into()),
        Value::Object(members) => Ok(members.len().into()),
        other => Err(format!("len of type {}", kind(other))),
    }
}

fn whole(value: &Value) -> Result<usize, String> {
    let wrong = || format!("cannot index slice/array with type {}", kind(value));
    match value {
        Value::Number(number) => {
            let number = number.as_i64().ok_or_else(wrong)?;
            usize::try_from(number).map_err(|_| format!("index out of range: {number}"))
        }
        _ => Err(wrong()),
    }
}

fn index(values: &[&Value]) -> Result<Value, String> {
    let mut value = at(values, 0);
    for key in values.iter().skip(1) {
        value = match value {
            Value::Null => &Value::Null,
            Value::Array(items) => {
                let at = whole(key)?;
                items
                    .get(at)
                    .ok_or_else(|| format!("index out of range: {at}"))?
            }
            Value::String(text) => {
                let at = whole(key)?;
                let byte = text.as_bytes().get(at);
                let byte = *byte.ok_or_else(|| format!("index out of range: {at}"))?;
                return Ok(byte.into());
            }
            Value::Object(members) => match key {
                Value::String(key) => members.get(key).unwrap_or(&Value::Null),
                other => return Err(format!("value has type {}; should be string", kind(other))),
            },
            other => return Err(format!("can't index item of type {}", kind(other))),
        };
    }
    Ok(value.clone())
}

fn slice(values: &[&Value]) -> Result<Value, String> {
    let value = at(values, 0);
    let len = match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.len(),
        other => return Err(format!("can't slice item of type {}", kind(other))),
    };
    let mut bounds = [0, len];
    for (bound, given) in bounds.iter_mut().zip(values.iter().skip(1)) {
        *bound = whole(given)?;
    }
    let [from, to] = bounds;
    if to > len {
        return Err(format!("index out of range: {to}"));
    }
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    match value {
        Value::String(text) => {
            let bytes = text.as_bytes().get(from..to).unwrap_or_default();
            Ok(Value::from(String::from_utf8_lossy(bytes)))
        }
        Value::Array(items) => Ok(items.get(from..to).unwrap_or_default().to_vec().into()),
        _ => Ok(Value::Null),
    }
}

fn println(values: &[&Value]) -> String {
    let words: Vec<_> = values.iter().map(|v| plain(v)).collect();
    format!("{}\n", words.join(" "))
}

/// Compact JSON. In a row an object is written as Go's marshaller does it: sorted, safe to be put
/// into a page, without the members that are functions.
pub(super) fn json(value: &Value, mode: Mode) -> String {
    match value {
        Value::Object(members) if mode == Mode::Row => {
            let mut members: Vec<_> = members.iter().filter(|(k, _)| *k != "Label").collect();
            members.sort_by_key(|(key, _)| *key);
            let sorted: Map<_, _> = members
                .into_iter()
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect();
            Value::Object(sorted)
                .to_string()
                .replace('<', "\\u003c")
                .replace('>', "\\u003e")
                .replace('&', "\\u0026")
        }
        other => other.to_string(),
    }
}

fn split(whole: &str, separator: &str) -> Result<Value, String> {
    if separator.is_empty() {
        return Ok(whole.chars().map(|c| Value::from(c.to_string())).collect());
    }
    Ok(whole.split(separator).map(Value::from).collect())
}

fn join(value: &Value, separator: &str) -> Result<Value, String> {
    match value {
        Value::Null => Ok(Value::from("")),
        Value::Array(items) => {
            let words: Vec<_> = items.iter().map(plain).collect();
            Ok(Value::from(words.join(separator)))
        }
        other => Err(format!(
            "wrong type for value; expected a list; got {}",
            kind(other)
        )),
    }
}

fn title(text: &str) -> String {
    let mut before = ' ';
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if before.is_alphanumeric() || matches!(before, '_' | '\'') {
            out.push(c);
        } else {
            out.extend(c.to_uppercase());
        }
        before = c;
    }
    out
}

fn truncate(whole: &str, length: &Value) -> Result<Value, String> {
    let length = length.as_u64().ok_or("expected a length")?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    Ok(Value::from(whole.chars().take(length).collect::<String>()))
}

fn pad(whole: &str, before: &Value, after: &Value) -> Result<Value, String> {
    if whole.is_empty() {
        return Ok(Value::from(""));
    }
    let spaces = |n: &Value| match n.as_u64() {
        Some(n) if n <= PAD => Ok(" ".repeat(usize::try_from(n).unwrap_or_default())),
        _ => Err(format!("pad by {n}: not a number up to {PAD}")),
    };
    Ok(Value::from(format!(
        "{}{whole}{}",
        spaces(before)?,
        spaces(after)?
    )))
}

fn html(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c => out.push(c),
        }
    }
    out
}

fn js(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

fn urlquery(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            b if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~') => {
                out.push(char::from(b));
            }
            b => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}
