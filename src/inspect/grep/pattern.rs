//! Patterns: grep(1)'s basic and extended expressions in the regex crate's form, and fixed texts.

use regex::bytes::{Regex, RegexBuilder};

use crate::error::Failure;

/// How a pattern is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Syntax {
    /// POSIX basic, with GNU's `\|`, `\+`, `\?`.
    #[default]
    Basic,
    /// POSIX extended, and what else the regex crate knows.
    Extended,
    /// Itself. Lines are patterns of their own.
    Fixed,
    /// Emacs's, which is find(1)'s: as basic, but `+` and `?` need no backslash, and there are no
    /// intervals.
    Emacs,
}

/// What else a pattern is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// The syntax.
    pub syntax: Syntax,
    /// Upper and lower case are the same.
    pub ignore_case: bool,
    /// Only whole words match.
    pub words: bool,
    /// Only the whole text matches, whatever lines it has.
    pub whole: bool,
}

/// The longest compiled pattern, in bytes.
const MAX_COMPILED: usize = 16 << 20;

/// Compiles a pattern. Back-references are not known. Bytes that are no UTF-8 stand for themselves.
///
/// # Errors
/// `Usage` with what is wrong with it.
pub fn compile(pattern: &[u8], options: Options) -> Result<Regex, Failure> {
    let part = |text: &str| match options.syntax {
        Syntax::Fixed => regex::escape(text),
        Syntax::Basic => translate(text, &BASIC),
        Syntax::Extended => translate(text, &EXTENDED),
        Syntax::Emacs => translate(text, &EMACS),
    };
    let line = |line: &[u8]| {
        let mut out = String::new();
        for chunk in line.utf8_chunks() {
            out.push_str(&part(chunk.valid()));
            for byte in chunk.invalid() {
                out.push_str(&format!("(?-u:\\x{byte:02x})"));
            }
        }
        out
    };
    // A pattern of several lines is several patterns.
    let lines: Vec<_> = pattern
        .split(|b| *b == b'\n')
        .map(|l| format!("(?:{})", line(l)))
        .collect();
    let mut text = lines.join("|");
    if options.words {
        text = format!(r"\b{{start-half}}(?:{text})\b{{end-half}}");
    }
    if options.whole {
        text = format!(r"\A(?s:{text})\z");
    }
    RegexBuilder::new(&text)
        .case_insensitive(options.ignore_case)
        .size_limit(MAX_COMPILED)
        .build()
        .map_err(|e| {
            let why = e.to_string();
            let why = why.lines().last().unwrap_or_default().trim();
            let why = why.strip_prefix("error: ").unwrap_or(why);
            Failure::usage(format!("pattern \"{}\": {why}", pattern.escape_ascii()))
        })
}

/// What a syntax makes of the characters that can be operators.
struct Rules {
    /// Operators with a backslash before them.
    escaped: &'static str,
    /// Themselves without one.
    plain: &'static str,
    /// Themselves at the start, and operators elsewhere.
    not_first: &'static str,
    /// `^` and `$` are anchors at the ends only.
    ends_only: bool,
}

const BASIC: Rules = Rules {
    escaped: "({|)}+?",
    plain: "(){}|+?",
    not_first: "*",
    ends_only: true,
};
const EXTENDED: Rules = Rules {
    escaped: "",
    plain: "",
    not_first: "",
    ends_only: false,
};
const EMACS: Rules = Rules {
    escaped: "(|)",
    plain: "(){}|",
    not_first: "*+?",
    ends_only: true,
};

/// An expression in the regex crate's form.
fn translate(pattern: &str, rules: &Rules) -> String {
    let mut out = String::new();
    let mut chars = pattern.chars().peekable();
    // Where a `*` stands for itself.
    let mut start = true;
    while let Some(c) = chars.next() {
        let at_start = std::mem::take(&mut start);
        match c {
            '\\' => match chars.next() {
                Some(c) if rules.escaped.contains(c) => {
                    out.push(c);
                    start = matches!(c, '(' | '|');
                }
                Some('`') => out.push_str(r"\A"),
                Some('\'') => out.push_str(r"\z"),
                // Classes, borders of words and back-references are the crate's to judge.
                Some(c) if c.is_ascii_alphanumeric() || c == '<' || c == '>' => {
                    out.push('\\');
                    out.push(c);
                }
                Some(c) => out.push_str(&regex::escape(&c.to_string())),
                None => out.push_str(r"\\"),
            },
            '[' => bracket(&mut chars, &mut out),
            c if at_start && rules.not_first.contains(c) => {
                out.push('\\');
                out.push(c);
            }
            '^' => {
                // In the middle of a basic expression it is itself.
                let anchor = !rules.ends_only || at_start;
                out.push_str(if anchor { "^" } else { r"\^" });
                start = anchor;
            }
            '$' if rules.ends_only => {
                let rest: String = chars.clone().take(2).collect();
                let anchor = rest.is_empty() || rest == "\\)" || rest == "\\|";
                out.push_str(if anchor { "$" } else { r"\$" });
            }
            c if rules.plain.contains(c) => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

/// A bracket expression: a backslash in it is itself, and so is what the crate has given a meaning.
fn bracket(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) {
    out.push('[');
    if chars.peek() == Some(&'^') {
        chars.next();
        out.push('^');
    }
    let mut first = true;
    while let Some(c) = chars.next() {
        match c {
            ']' if !first => {
                out.push(']');
                return;
            }
            '[' if chars.peek() == Some(&':') => {
                out.push('[');
                for c in chars.by_ref() {
                    out.push(c);
                    if c == ']' {
                        break;
                    }
                }
            }
            '\\' | '[' | ']' | '&' | '~' => {
                out.push('\\');
                out.push(c);
            }
            // `--` would be a difference of classes.
            '-' if chars.peek() == Some(&'-') => out.push_str(r"\-"),
            c => out.push(c),
        }
        first = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, syntax: Syntax, text: &str) -> bool {
        let options = Options {
            syntax,
            ..Options::default()
        };
        compile(pattern.as_bytes(), options)
            .unwrap()
            .is_match(text.as_bytes())
    }

    #[test]
    fn basic_expressions() {
        for (pattern, yes, no) in [
            ("a(b", "a(b", "ab"),
            (r"a\(b\)*c", "abbc", "a(b)c"),
            (r"x\{2\}", "xx", "x{2}"),
            ("a+", "a+", "aa"),
            (r"a\+$", "aa", "ab"),
            ("*x", "*x", "x"),
            (r"\(*x\)", "*x", "x"),
            ("a^b", "a^b", "ab"),
            ("^a", "ab", "ba"),
            ("a$b", "a$b", "ab"),
            (r"a\|b", "b", "|"),
            (r"[\n]x", r"\x", "\nx"),
            ("[]a]", "]", "b"),
            ("[^]a]", "b", "]"),
            ("[[:digit:]]", "5", "d"),
            ("[a&&b]", "&", "c"),
            (r"\<ab\>", "x ab", "xab"),
            ("one\ntwo", "two", "three"),
        ] {
            assert!(matches(pattern, Syntax::Basic, yes), "{pattern} {yes}");
            assert!(!matches(pattern, Syntax::Basic, no), "{pattern} {no}");
        }
        for (pattern, yes, no) in [
            ("a+b?", "aa", "b"),
            (r"x\(a\|b\)+", "xab", "x(a)"),
            (r"a\+", "a+", "aa"),
            ("a{2}", "a{2}", "aa"),
            ("+a", "+a", "aa"),
            ("^a$", "a", "b"),
        ] {
            assert!(matches(pattern, Syntax::Emacs, yes), "{pattern} {yes}");
            assert!(!matches(pattern, Syntax::Emacs, no), "{pattern} {no}");
        }
        assert!(matches("a(b|c)+", Syntax::Extended, "acb"));
        assert!(matches("a.b*", Syntax::Fixed, "a.b*"));
        assert!(!matches("a.b*", Syntax::Fixed, "axbb"));
        assert!(
            compile(
                b"a(",
                Options {
                    syntax: Syntax::Extended,
                    ..Options::default()
                }
            )
            .is_err()
        );
        assert!(compile(br"\(a\)\1", Options::default()).is_err());
    }

    #[test]
    fn words_and_cases() {
        let options = Options {
            ignore_case: true,
            words: true,
            ..Options::default()
        };
        let regex = compile(b"key", options).unwrap();
        assert!(regex.is_match(b"the KEY is"));
        assert!(!regex.is_match(b"keys monkey"));
    }
}
