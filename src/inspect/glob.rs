//! Patterns of the shell (POSIX.1-2017, XCU 2.13) over bytes: `*`, `?`, `[…]`, and a backslash
//! before what is meant itself. A slash and a leading dot are like any other byte, as find(1) has
//! it. `?` and `[…]` stand for one character of UTF-8, or for one byte where there is none.

/// Whether upper and lower case of ASCII letters are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// They are not.
    Kept,
    /// They are.
    Ignored,
}

/// Whether a pattern matches the whole of a text.
#[must_use]
pub fn matches(pattern: &[u8], text: &[u8], case: Case) -> bool {
    match case {
        Case::Kept => wild(pattern, text),
        Case::Ignored => wild(&pattern.to_ascii_lowercase(), &text.to_ascii_lowercase()),
    }
}

/// The matching takes time in proportion to both lengths at most: only the last star is tried again.
fn wild(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        let rest = pattern.get(p..).unwrap_or_default();
        let left = text.get(t..).unwrap_or_default();
        if rest.first() == Some(&b'*') {
            star = Some((p + 1, t));
            p += 1;
            continue;
        }
        match one(rest, left) {
            Some((used, eaten)) => {
                p += used;
                t += eaten;
                continue;
            }
            None if rest.is_empty() && left.is_empty() => return true,
            None => {}
        }
        match star {
            Some((after, from)) if from < text.len() => {
                star = Some((after, from + 1));
                (p, t) = (after, from + 1);
            }
            _ => return false,
        }
    }
}

/// Matches the pattern's next element, which is no star; how long it is, and what it matched.
fn one(pattern: &[u8], text: &[u8]) -> Option<(usize, usize)> {
    let first = *text.first()?;
    match pattern {
        [] => None,
        [b'?', ..] => Some((1, char_len(text))),
        [b'\\', escaped, ..] => (*escaped == first).then_some((2, 1)),
        [b'[', ..] => match bracket(pattern, text) {
            Some((used, true)) => Some((used, char_len(text))),
            Some((_, false)) => None,
            // Not closed: a bracket is meant.
            None => (first == b'[').then_some((1, 1)),
        },
        [byte, ..] => (*byte == first).then_some((1, 1)),
    }
}

/// Length of the character at the start, in bytes.
fn char_len(text: &[u8]) -> usize {
    let start = text.get(..4.min(text.len())).unwrap_or_default();
    let valid = match std::str::from_utf8(start) {
        Ok(text) => text,
        Err(e) => start
            .get(..e.valid_up_to())
            .and_then(|valid| std::str::from_utf8(valid).ok())
            .unwrap_or_default(),
    };
    valid.chars().next().map_or(1, char::len_utf8)
}

/// The character at the start as a number; a byte that is none is past all characters.
fn code(text: &[u8]) -> (u32, usize) {
    let len = char_len(text);
    let valid = text.get(..len).and_then(|t| std::str::from_utf8(t).ok());
    match (valid.and_then(|t| t.chars().next()), text.first()) {
        (Some(c), _) => (c.into(), len),
        (None, Some(byte)) => (0x11_0000 + u32::from(*byte), 1),
        (None, None) => (0, 0),
    }
}

/// A bracket expression: how long it is, and whether it has the text's first character. `None` when
/// it isn't closed.
fn bracket(pattern: &[u8], text: &[u8]) -> Option<(usize, bool)> {
    let (wanted, _) = code(text);
    let mut at = 1;
    let negated = matches!(pattern.get(at), Some(b'!' | b'^'));
    at += usize::from(negated);
    let (start, mut found) = (at, false);
    loop {
        let rest = pattern.get(at..)?;
        match rest {
            [] => return None,
            [b']', ..] if at > start => return Some((at + 1, found != negated)),
            [b'[', b':', ..] => {
                if let Some((used, has)) = class(rest, wanted) {
                    found |= has;
                    at += used;
                    continue;
                }
            }
            _ => {}
        }
        let (low, used) = member(rest)?;
        at += used;
        let high = match pattern.get(at..)? {
            [b'-', next, ..] if *next != b']' => {
                let (high, used) = member(pattern.get(at + 1..)?)?;
                at += 1 + used;
                high
            }
            _ => low,
        };
        found |= (low..=high).contains(&wanted);
    }
}

/// One character of a bracket expression, and its length in the pattern.
fn member(rest: &[u8]) -> Option<(u32, usize)> {
    let (escape, rest) = match rest {
        [b'\\', rest @ ..] if !rest.is_empty() => (1, rest),
        rest => (0, rest),
    };
    let (code, len) = code(rest);
    (len > 0).then_some((code, len + escape))
}

/// `[:NAME:]`
fn class(rest: &[u8], wanted: u32) -> Option<(usize, bool)> {
    let end = rest.windows(2).position(|pair| pair == b":]")?;
    let name = rest.get(2..end)?;
    let c = char::from_u32(wanted);
    let is = |test: fn(char) -> bool| c.is_some_and(test);
    let has = match name {
        b"alpha" => is(char::is_alphabetic),
        b"digit" => is(|c| c.is_ascii_digit()),
        b"alnum" => is(char::is_alphanumeric),
        b"upper" => is(char::is_uppercase),
        b"lower" => is(char::is_lowercase),
        b"space" => is(char::is_whitespace),
        b"blank" => is(|c| matches!(c, ' ' | '\t')),
        b"punct" => is(|c| c.is_ascii_punctuation()),
        b"cntrl" => is(char::is_control),
        b"xdigit" => is(|c| c.is_ascii_hexdigit()),
        b"print" => is(|c| !c.is_control()),
        b"graph" => is(|c| !c.is_control() && !c.is_whitespace()),
        _ => return None,
    };
    Some((end + 2, has))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_find_has_it() {
        let yes: &[(&[u8], &[u8])] = &[
            (b"*", b""),
            (b"*", b".hidden"),
            (b"*.so", b"lib/x.so"),
            (b"a*b*c", b"a--b-b--c"),
            (b"?", "é".as_bytes()),
            (b"?", b"\xff"),
            (b"[a-c]x", b"bx"),
            (b"[!a-c]x", b"dx"),
            (b"[^a]", "é".as_bytes()),
            (b"[]]", b"]"),
            (b"[a-]", b"-"),
            (b"[[:digit:]_]*", b"_1"),
            (b"\\*", b"*"),
            (b"[", b"["),
            (b"[\xff]", b"\xff"),
        ];
        for (pattern, text) in yes {
            assert!(matches(pattern, text, Case::Kept), "{pattern:?} {text:?}");
        }
        let no: &[(&[u8], &[u8])] = &[
            (b"", b"a"),
            (b"a", b""),
            (b"?", b"ab"),
            (b"[a-c]", b"d"),
            (b"[!a-c]", b"a"),
            (b"\\*", b"x"),
            (b"*a", b"ab"),
            (b"A", b"a"),
        ];
        for (pattern, text) in no {
            assert!(!matches(pattern, text, Case::Kept), "{pattern:?} {text:?}");
        }
        assert!(matches(b"A*[X-Z]", b"abcy", Case::Ignored));
        // Many stars take no exponential time.
        let stars = b"*a".repeat(2000);
        assert!(!matches(&stars, &b"a".repeat(1999), Case::Kept));
    }
}
