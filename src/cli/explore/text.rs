//! Bytes as text that a terminal only shows, and its width in columns.

use unicode_width::UnicodeWidthChar as _;

/// How many columns a tab goes at most.
const TAB: usize = 8;

/// Whether a character only shows itself: it does nothing to a terminal, nor to the order in which
/// its neighbours are read, and can be seen.
fn is_plain(c: char) -> bool {
    let hidden = matches!(u32::from(c),
        0xad | 0x61c | 0x180e | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0xfeff
        | 0xfff9..=0xfffb | 0xe0000..=0xe0fff);
    !c.is_control() && !hidden
}

/// Adds a text's characters to `out`, with escapes for what isn't plain and, without `unicode`, for
/// what isn't ASCII.
fn push_text(out: &mut String, text: &str, unicode: bool) {
    for c in text.chars() {
        match is_plain(c) && (unicode || c.is_ascii()) {
            true => out.push(c),
            false if c.is_ascii() => push_bytes(out, &[c as u8]),
            false => out.extend(c.escape_unicode()),
        }
    }
}

fn push_bytes(out: &mut String, bytes: &[u8]) {
    out.push_str(&bytes.escape_ascii().to_string());
}

/// A name, a path or any other bytes in one line: `\n`, `\x1b`, `\u{202e}` and `\xff` for what is no
/// plain text.
pub fn shown(bytes: &[u8], unicode: bool) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        push_text(&mut out, chunk.valid(), unicode);
        push_bytes(&mut out, chunk.invalid());
    }
    out
}

/// As [`shown`], of a line of a file: its tabs are spaces.
pub fn line(bytes: &[u8], unicode: bool) -> String {
    let mut out = String::with_capacity(bytes.len());
    let mut parts = bytes.split(|b| *b == b'\t').peekable();
    while let Some(part) = parts.next() {
        out.push_str(&shown(part, unicode));
        if parts.peek().is_some() {
            let fill = TAB - width(&out) % TAB;
            out.extend(std::iter::repeat_n(' ', fill));
        }
    }
    out
}

/// Columns that a text takes.
pub fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

fn char_width(c: char) -> usize {
    c.width().unwrap_or(0)
}

/// The beginning of a text that fits into so many columns.
pub fn cut(text: &str, columns: usize) -> &str {
    let mut used = 0;
    for (at, c) in text.char_indices() {
        used += char_width(c);
        if used > columns {
            return text.get(..at).unwrap_or_default();
        }
    }
    text
}

/// What is left of a text without at least the first so many columns.
pub fn without(text: &str, columns: usize) -> &str {
    let mut used = 0;
    for (at, c) in text.char_indices() {
        // A combining character belongs to the one before it.
        if used >= columns && (columns == 0 || char_width(c) > 0) {
            return text.get(at..).unwrap_or_default();
        }
        used += char_width(c);
    }
    ""
}

/// A text in at most so many columns; `more` stands for what is cut off.
pub fn fit(text: &str, columns: usize, more: &str) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let kept = cut(text, columns.saturating_sub(width(more)));
    let mut out = kept.to_owned();
    out.push_str(cut(more, columns));
    out
}

/// A text in at most so many columns of which the end is kept.
pub fn fit_end(text: &str, columns: usize, more: &str) -> String {
    let all = width(text);
    if all <= columns {
        return text.to_owned();
    }
    let more = cut(more, columns);
    let kept = without(text, all + width(more) - columns);
    format!("{more}{kept}")
}

/// A text in lines of at most so many columns, broken at spaces where there are any.
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(1);
    let mut lines = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let mut head = cut(rest, columns);
        if head.is_empty() {
            // One character that is wider than the line.
            head = rest
                .get(..rest.chars().next().map_or(1, char::len_utf8))
                .unwrap_or(rest);
        }
        let ends = rest.get(head.len()..).unwrap_or_default().starts_with(' ');
        if head.len() < rest.len()
            && !ends
            && let Some(space) = head.rfind(' ').filter(|at| *at > 0)
        {
            head = head.get(..space).unwrap_or(head);
        }
        lines.push(head.trim_end().to_owned());
        rest = rest.get(head.len()..).unwrap_or_default().trim_start();
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_acts_on_is_escaped() {
        for (bytes, text) in [
            (&b"plain name"[..], "plain name"),
            (b"\x1b[31mred\x07", "\\x1b[31mred\\x07"),
            (b"a\nb\tc\r", "a\\nb\\tc\\r"),
            (b"\xff\xfe.txt", "\\xff\\xfe.txt"),
            ("\u{9b}31m".as_bytes(), "\\u{9b}31m"),
            ("a\u{202e}txt".as_bytes(), "a\\u{202e}txt"),
            ("zero\u{200b}width".as_bytes(), "zero\\u{200b}width"),
            ("日本e\u{301}".as_bytes(), "日本e\u{301}"),
        ] {
            assert_eq!(shown(bytes, true), text);
        }
        assert_eq!(shown("é日".as_bytes(), false), "\\u{e9}\\u{65e5}");
        assert_eq!(
            line(b"a\tb\x00\t\t\xc3", true),
            "a       b\\x00           \\xc3"
        );
    }

    #[test]
    fn texts_are_cut_by_columns() {
        assert_eq!(width("日本e\u{301}"), 5);
        assert_eq!(cut("日本語", 5), "日本");
        assert_eq!(cut("e\u{301}x", 1), "e\u{301}");
        assert_eq!(fit("日本語", 6, "…"), "日本語");
        assert_eq!(fit("日本語", 5, "…"), "日本…");
        assert_eq!(fit("日本語", 4, "…"), "日…");
        assert_eq!(fit("abc", 0, "…"), "");
        assert_eq!(fit_end("/usr/share/doc", 6, "…"), "…e/doc");
        assert_eq!(fit_end("日本語", 4, "…"), "…語");
        assert_eq!(without("e\u{301}x", 1), "x");
        assert_eq!(
            wrap("RUN apt-get install curl", 11),
            ["RUN apt-get", "install", "curl"]
        );
        assert_eq!(wrap("abcdefgh", 3), ["abc", "def", "gh"]);
        assert_eq!(wrap("日本", 1), ["日", "本"]);
        assert!(wrap("  ", 3).is_empty());
    }
}
