//! A template's text, cut into tokens.

use serde_json::Number;

/// A token, and where in the template it begins and ends.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub at: usize,
    pub end: usize,
    /// Whether blanks stand before it: `.A .B` is two words, `.A.B` one.
    pub spaced: bool,
    pub kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// What is outside actions.
    Text(String),
    /// `{{`
    Open,
    /// `}}`
    Close,
    /// `.`
    Dot,
    /// `.Name`
    Field(String),
    /// `$name`; `$` alone is the data.
    Variable(String),
    /// A function or a keyword.
    Word(String),
    /// A string literal.
    Quoted(String),
    Number(Number),
    /// `:=`
    Declare,
    /// `=`
    Assign,
    Pipe,
    Comma,
    OpenGroup,
    CloseGroup,
}

/// What is wrong, and where.
pub(super) type Wrong = (usize, String);

const SPACE: [char; 4] = [' ', '\t', '\r', '\n'];

/// Cuts a template into tokens.
pub(super) fn tokens(source: &str) -> Result<Vec<Token>, Wrong> {
    let mut lexer = Lexer {
        source,
        at: 0,
        tokens: Vec::new(),
        trim: false,
    };
    while lexer.at < source.len() {
        lexer.text();
        lexer.action()?;
    }
    Ok(lexer.tokens)
}

struct Lexer<'s> {
    source: &'s str,
    at: usize,
    tokens: Vec<Token>,
    /// Whether the action before ended in `-}}`.
    trim: bool,
}

impl<'s> Lexer<'s> {
    fn rest(&self) -> &'s str {
        self.source.get(self.at..).unwrap_or_default()
    }

    fn push(&mut self, at: usize, spaced: bool, kind: Kind) {
        let end = self.at;
        self.tokens.push(Token {
            at,
            end,
            spaced,
            kind,
        });
    }

    /// What comes before the next action.
    fn text(&mut self) {
        let at = self.at;
        let rest = self.rest();
        let len = rest.find("{{").unwrap_or(rest.len());
        let mut text = rest.get(..len).unwrap_or_default();
        if std::mem::take(&mut self.trim) {
            text = text.trim_start_matches(SPACE);
        }
        let after = rest.get(len..).unwrap_or_default();
        if trims_before(after) {
            text = text.trim_end_matches(SPACE);
        }
        let text = text.to_owned();
        self.at += len;
        if !text.is_empty() {
            self.push(at, false, Kind::Text(text));
        }
    }

    /// One action or comment, from `{{` to `}}`.
    fn action(&mut self) -> Result<(), Wrong> {
        let at = self.at;
        if !self.rest().starts_with("{{") {
            return Ok(());
        }
        self.at += if trims_before(self.rest()) { 3 } else { 2 };
        let inside = self.rest().trim_start_matches(SPACE);
        if inside.starts_with("/*") {
            return self.comment(at);
        }
        self.push(at, false, Kind::Open);
        loop {
            let before = self.at;
            let blanks = self.rest().len() - self.rest().trim_start_matches(SPACE).len();
            self.at += blanks;
            if blanks > 0 && self.rest().starts_with("-}}") {
                self.at += 1;
                self.trim = true;
            }
            if self.rest().starts_with("}}") {
                let at = self.at;
                self.at += 2;
                self.push(at, blanks > 0, Kind::Close);
                return Ok(());
            }
            if self.rest().is_empty() {
                return Err((before, "unclosed action".into()));
            }
            self.token(blanks > 0)?;
        }
    }

    fn comment(&mut self, at: usize) -> Result<(), Wrong> {
        let rest = self.rest();
        let end = rest.find("*/").ok_or((at, "unclosed comment".to_owned()))? + 2;
        let after = rest.get(end..).unwrap_or_default();
        let (skip, trim) = if after.starts_with("}}") {
            (2, false)
        } else if after.starts_with(SPACE) && after.trim_start_matches(SPACE).starts_with("-}}") {
            (
                after.len() - after.trim_start_matches(SPACE).len() + 3,
                true,
            )
        } else {
            return Err((at, "comment ends before closing delimiter".into()));
        };
        self.at += end + skip;
        self.trim = trim;
        Ok(())
    }

    fn token(&mut self, spaced: bool) -> Result<(), Wrong> {
        let at = self.at;
        let rest = self.rest();
        let mut chars = rest.chars();
        let (first, second) = (chars.next().unwrap_or_default(), chars.next());
        let (len, kind) = match (first, second) {
            (':', Some('=')) => (2, Kind::Declare),
            ('=', _) => (1, Kind::Assign),
            ('|', _) => (1, Kind::Pipe),
            (',', _) => (1, Kind::Comma),
            ('(', _) => (1, Kind::OpenGroup),
            (')', _) => (1, Kind::CloseGroup),
            ('"', _) => quoted(rest).map_err(|why| (at, why))?,
            ('`', _) => raw(rest).map_err(|why| (at, why))?,
            ('\'', _) => character(rest).map_err(|why| (at, why))?,
            ('.', Some(c)) if c.is_ascii_digit() => number(rest).map_err(|why| (at, why))?,
            ('.', _) => match identifier(rest, 1) {
                1 => (1, Kind::Dot),
                len => (
                    len,
                    Kind::Field(rest.get(1..len).unwrap_or_default().into()),
                ),
            },
            ('$', _) => {
                let len = identifier(rest, 1);
                (
                    len,
                    Kind::Variable(rest.get(..len).unwrap_or_default().into()),
                )
            }
            ('+' | '-', Some(c)) if c.is_ascii_digit() || c == '.' => {
                number(rest).map_err(|why| (at, why))?
            }
            (c, _) if c.is_ascii_digit() => number(rest).map_err(|why| (at, why))?,
            (c, _) if c == '_' || c.is_alphabetic() => {
                let len = identifier(rest, 0);
                (len, Kind::Word(rest.get(..len).unwrap_or_default().into()))
            }
            (c, _) => {
                let what = if matches!(c, '}' | '{' | '!' | '-' | '+' | '*' | '/' | ':' | '&') {
                    format!("unexpected {:?} in operand", c.to_string())
                } else {
                    format!("unrecognized character in action: U+{:04X}", u32::from(c))
                };
                return Err((at, what));
            }
        };
        self.at += len;
        self.push(at, spaced, kind);
        Ok(())
    }
}

/// `{{- `: the blanks before it go.
fn trims_before(text: &str) -> bool {
    text.strip_prefix("{{-")
        .is_some_and(|t| t.starts_with(SPACE))
}

/// The length of `skip` bytes and the identifier after them.
fn identifier(text: &str, skip: usize) -> usize {
    let name = text.get(skip..).unwrap_or_default();
    let other = |c: char| c != '_' && !c.is_alphanumeric();
    skip + name.find(other).unwrap_or(name.len())
}

fn raw(text: &str) -> Result<(usize, Kind), String> {
    let inside = text.get(1..).unwrap_or_default();
    let end = inside.find('`').ok_or("unterminated raw quoted string")?;
    let value = inside.get(..end).unwrap_or_default();
    Ok((end + 2, Kind::Quoted(value.into())))
}

fn quoted(text: &str) -> Result<(usize, Kind), String> {
    let (len, value) = unquote(text, '"').ok_or("unterminated quoted string")?;
    Ok((len, Kind::Quoted(value)))
}

fn character(text: &str) -> Result<(usize, Kind), String> {
    let (len, value) = unquote(text, '\'').ok_or("unterminated character constant")?;
    let mut chars = value.chars();
    match (chars.next(), chars.next()) {
        (Some(c), None) => Ok((len, Kind::Number(u32::from(c).into()))),
        _ => Err("malformed character constant".into()),
    }
}

/// What is between quotes, with Go's escapes; `None` without an end or for an unknown escape.
fn unquote(text: &str, quote: char) -> Option<(usize, String)> {
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == quote => return Some((at + c.len_utf8(), value)),
            '\n' => return None,
            '\\' => {
                let (_, kind) = chars.next()?;
                let digits = |n: usize, radix: u32, chars: &mut dyn Iterator<Item = char>| {
                    let text: String = chars.take(n).collect();
                    let whole = text.chars().count() == n;
                    whole
                        .then(|| u32::from_str_radix(&text, radix).ok())
                        .flatten()
                        .and_then(char::from_u32)
                };
                let mut following = chars.by_ref().map(|(_, c)| c);
                value.push(match kind {
                    'a' => '\u{7}',
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    'v' => '\u{b}',
                    '\\' | '"' | '\'' => kind,
                    'x' => digits(2, 16, &mut following)?,
                    'u' => digits(4, 16, &mut following)?,
                    'U' => digits(8, 16, &mut following)?,
                    '0'..='7' => digits(3, 8, &mut std::iter::once(kind).chain(following))?,
                    _ => return None,
                });
            }
            c => value.push(c),
        }
    }
    None
}

fn number(text: &str) -> Result<(usize, Kind), String> {
    let part = |c: char, before: Option<char>| {
        c.is_alphanumeric()
            || matches!(c, '.' | '_')
            || matches!(c, '+' | '-') && matches!(before, None | Some('e' | 'E'))
    };
    let mut before = None;
    let mut len = 0;
    for c in text.chars() {
        if !part(c, before) {
            break;
        }
        before = Some(c);
        len += c.len_utf8();
    }
    let digits = text.get(..len).unwrap_or_default();
    let value = parse_number(&digits.replace('_', ""));
    let value = value.ok_or_else(|| format!("bad number syntax: {digits:?}"))?;
    Ok((len, Kind::Number(value)))
}

fn parse_number(text: &str) -> Option<Number> {
    if let Ok(whole) = text.parse::<i64>() {
        return Some(whole.into());
    }
    let (sign, bare) = match text.strip_prefix('-') {
        Some(bare) => (-1, bare),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    for (prefix, radix) in [("0x", 16), ("0X", 16), ("0o", 8), ("0b", 2)] {
        if let Some(digits) = bare.strip_prefix(prefix) {
            let whole = i64::from_str_radix(digits, radix).ok()?;
            return Some(whole.checked_mul(sign)?.into());
        }
    }
    let plain = |c: char| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-');
    if !text.chars().all(plain) {
        return None;
    }
    text.parse::<u64>()
        .ok()
        .map(Number::from)
        .or_else(|| Number::from_f64(text.parse().ok()?))
}
