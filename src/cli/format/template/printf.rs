//! Values as text, and `printf`, as Go's fmt writes them.

use serde_json::{Number, Value};

/// The widest field and the highest precision.
const WIDEST: usize = 10_000;

/// A value by itself.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".into(),
        Value::String(text) => text.clone(),
        other => nested(other),
    }
}

fn nested(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number_text(number),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(nested).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(key, _)| *key);
            let members: Vec<_> = members
                .into_iter()
                .map(|(key, value)| format!("{key}:{}", nested(value)))
                .collect();
            format!("map[{}]", members.join(" "))
        }
    }
}

fn number_text(number: &Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() => general(float, None),
        _ => number.to_string(),
    }
}

/// `%g`: exponents from 1e+21 and below 1e-4.
fn general(value: f64, precision: Option<usize>) -> String {
    let value = match precision {
        Some(precision) => format!("{value:.*e}", precision.saturating_sub(1))
            .parse()
            .unwrap_or(value),
        None => value,
    };
    let most = precision.map_or(1e21, |p| 10_f64.powi(i32::try_from(p.max(1)).unwrap_or(21)));
    let size = value.abs();
    if size != 0.0 && !(1e-4..most).contains(&size) && value.is_finite() {
        exponent(&format!("{value:e}"))
    } else {
        value.to_string()
    }
}

/// Rust's exponent in Go's form: a sign and two digits.
fn exponent(text: &str) -> String {
    let Some((mantissa, exponent)) = text.split_once('e') else {
        return text.to_owned();
    };
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent),
    };
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// Go's Print: spaces between neighbours that are both no text.
pub(super) fn print(values: &[&Value]) -> String {
    let mut out = String::new();
    let mut text_before = true;
    for value in values {
        let is_text = value.is_string();
        if !out.is_empty() && !is_text && !text_before {
            out.push(' ');
        }
        out.push_str(&match value {
            Value::Null => "<nil>".into(),
            other => nested(other),
        });
        text_before = is_text;
    }
    out
}

#[derive(Default)]
struct Flags {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// Go's Sprintf.
pub(super) fn printf(format: &str, values: &[&Value]) -> String {
    let mut out = String::new();
    let mut values = values.iter().copied();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut flags = Flags::default();
        while let Some(c) = chars.next_if(|c| "-+# 0".contains(*c)) {
            match c {
                '-' => flags.minus = true,
                '+' => flags.plus = true,
                '#' => flags.sharp = true,
                ' ' => flags.space = true,
                _ => flags.zero = true,
            }
        }
        match count(&mut chars, &mut values) {
            Ok((width, left)) => {
                flags.width = width;
                flags.minus |= left;
            }
            Err(bad) => out.push_str(&format!("%!(BADWIDTH{bad})")),
        }
        if chars.next_if_eq(&'.').is_some() {
            match count(&mut chars, &mut values) {
                Ok((precision, _)) => flags.precision = Some(precision.unwrap_or(0)),
                Err(bad) => out.push_str(&format!("%!(BADPREC{bad})")),
            }
        }
        match chars.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(verb) => match values.next() {
                None => out.push_str(&format!("%!{verb}(MISSING)")),
                Some(value) => out.push_str(&pad(&one(verb, value, &flags), &flags, value)),
            },
        }
    }
    let rest: Vec<_> = values.map(typed).collect();
    if !rest.is_empty() {
        out.push_str(&format!("%!(EXTRA {})", rest.join(", ")));
    }
    out
}

/// A width or precision: digits, or `*` for an argument. Negative means to the left.
fn count<'v>(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    values: &mut impl Iterator<Item = &'v Value>,
) -> Result<(Option<usize>, bool), &'static str> {
    let bounded = |n: u64| usize::try_from(n).ok().filter(|n| *n <= WIDEST);
    if chars.next_if_eq(&'*').is_some() {
        let given = values.next().and_then(Value::as_i64).ok_or("")?;
        let n = bounded(given.unsigned_abs()).ok_or("")?;
        return Ok((Some(n), given < 0));
    }
    let mut n: Option<u64> = None;
    while let Some(c) = chars.next_if(char::is_ascii_digit) {
        let digit = u64::from(c.to_digit(10).unwrap_or(0));
        n = Some(n.unwrap_or(0).saturating_mul(10).saturating_add(digit));
    }
    match n {
        None => Ok((None, false)),
        Some(n) => bounded(n).map(|n| (Some(n), false)).ok_or(""),
    }
}

fn pad(text: &str, flags: &Flags, value: &Value) -> String {
    let width = flags.width.unwrap_or(0);
    let missing = width.saturating_sub(text.chars().count());
    if flags.minus {
        format!("{text}{}", " ".repeat(missing))
    } else if flags.zero && (value.is_number() || value.is_string()) {
        let (sign, digits) = match text.strip_prefix(['-', '+']) {
            Some(digits) if value.is_number() => text.split_at(text.len() - digits.len()),
            _ => ("", text),
        };
        format!("{sign}{}{digits}", "0".repeat(missing))
    } else {
        format!("{}{text}", " ".repeat(missing))
    }
}

fn one(verb: char, value: &Value, flags: &Flags) -> String {
    match (verb, value) {
        ('v', Value::Null) => "<nil>".into(),
        ('v', value) if flags.sharp => value.to_string(),
        ('v', Value::String(text)) | ('s', Value::String(text)) => cut(text, flags),
        ('v', Value::Number(number)) => signed(number_text(number), flags),
        ('v', value) => nested(value),
        ('s', Value::Array(_) | Value::Object(_)) => nested(value),
        ('q', Value::String(text)) => {
            if flags.sharp && !text.contains('`') {
                format!("`{text}`")
            } else {
                format!("{:?}", cut(text, flags))
            }
        }
        ('q', Value::Array(items)) => {
            let items: Vec<_> = items.iter().map(|i| one('q', i, flags)).collect();
            format!("[{}]", items.join(" "))
        }
        ('x' | 'X', Value::String(text)) => {
            let hex: String = text.bytes().map(|b| format!("{b:02x}")).collect();
            if verb == 'X' { hex.to_uppercase() } else { hex }
        }
        ('t', Value::Bool(value)) => value.to_string(),
        (verb, Value::Number(number)) => match number_verb(verb, number, flags) {
            Some(text) => text,
            None => wrong(verb, value),
        },
        (verb, value) => wrong(verb, value),
    }
}

fn wrong(verb: char, value: &Value) -> String {
    format!("%!{verb}({})", typed(value))
}

fn cut(text: &str, flags: &Flags) -> String {
    match flags.precision {
        Some(precision) => text.chars().take(precision).collect(),
        None => text.to_owned(),
    }
}

fn typed(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::Bool(_) => format!("bool={}", nested(value)),
        Value::Number(number) if number.is_f64() => format!("float64={}", nested(value)),
        Value::Number(_) => format!("int={}", nested(value)),
        Value::String(_) => format!("string={}", nested(value)),
        Value::Array(_) => format!("[]interface {{}}={}", nested(value)),
        Value::Object(_) => format!("map[string]interface {{}}={}", nested(value)),
    }
}

fn number_verb(verb: char, number: &Number, flags: &Flags) -> Option<String> {
    let whole = || {
        number
            .as_i64()
            .map(i128::from)
            .or(number.as_u64().map(i128::from))
    };
    let based = |digits: fn(u128) -> String, prefix: &str| {
        let n = whole()?;
        let sign = if n < 0 { "-" } else { "" };
        let prefix = if flags.sharp { prefix } else { "" };
        Some(format!("{sign}{prefix}{}", digits(n.unsigned_abs())))
    };
    let float = || number.as_f64().filter(|_| number.is_f64());
    let precision = flags.precision.unwrap_or(6);
    match verb {
        'd' => whole().map(|n| signed(n.to_string(), flags)),
        'x' => based(|n| format!("{n:x}"), "0x"),
        'X' => based(|n| format!("{n:X}"), "0X"),
        'o' => based(|n| format!("{n:o}"), "0"),
        'b' => based(|n| format!("{n:b}"), "0b"),
        'c' | 'q' | 'U' => {
            let code = u32::try_from(whole()?).ok();
            let c = code.and_then(char::from_u32).unwrap_or('\u{fffd}');
            Some(match verb {
                'c' => c.to_string(),
                'q' => format!("{c:?}"),
                _ => format!("U+{:04X}", u32::from(c)),
            })
        }
        'f' | 'F' => float().map(|n| signed(format!("{n:.precision$}"), flags)),
        'e' | 'E' => {
            let text = float().map(|n| signed(exponent(&format!("{n:.precision$e}")), flags))?;
            Some(if verb == 'E' {
                text.to_uppercase()
            } else {
                text
            })
        }
        'g' | 'G' => float().map(|n| signed(general(n, flags.precision), flags)),
        _ => None,
    }
}

fn signed(text: String, flags: &Flags) -> String {
    let positive = !text.starts_with('-');
    match (positive, flags.plus, flags.space) {
        (true, true, _) => format!("+{text}"),
        (true, false, true) => format!(" {text}"),
        _ => text,
    }
}
