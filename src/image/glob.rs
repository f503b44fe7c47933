//! Patterns of names, as Go's `path.Match` has them: Docker's `reference=` filter.

use crate::error::Failure;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// `*`: any characters but `/`.
    Any,
    /// `?`: one character but `/`.
    One,
    Char(char),
    /// `[a-z]`, `[^a-z]`
    Class(Vec<(char, char)>, Not),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Not {
    Inside,
    Outside,
}

/// A pattern: `*`, `?`, `[a-z]`, `[^a-z]` and `\` before a character that is meant as it is.
///
/// ```
/// use stratafs::image::Glob;
///
/// let pattern = Glob::parse("host:5000/*:v?")?;
/// assert!(pattern.matches("host:5000/app:v1"));
/// assert!(!pattern.matches("host:5000/team/app:v1"));
/// assert!(Glob::parse("[a").is_err());
/// # Ok::<(), stratafs::error::Failure>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(Vec<Piece>);

impl Glob {
    /// Parses a pattern.
    ///
    /// # Errors
    /// `Usage`: an open class, or nothing after a backslash.
    pub fn parse(text: &str) -> Result<Glob, Failure> {
        let wrong = || Failure::usage(format!("{text:?}: syntax error in pattern"));
        let mut pieces = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            pieces.push(match c {
                '*' => Piece::Any,
                '?' => Piece::One,
                '\\' => Piece::Char(chars.next().ok_or_else(wrong)?),
                '[' => class(&mut chars).ok_or_else(wrong)?,
                c => Piece::Char(c),
            });
        }
        pieces.dedup_by(|a, b| *a == Piece::Any && *b == Piece::Any);
        Ok(Glob(pieces))
    }

    /// Whether the whole of a text fits.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let chars: Vec<char> = text.chars().collect();
        let (mut piece, mut at) = (0, 0);
        // Where to go on when what follows the last `*` doesn't fit: it takes one character more.
        let mut again: Option<(usize, usize)> = None;
        loop {
            let c = chars.get(at).copied();
            match (self.0.get(piece), c) {
                (None, None) => return true,
                (Some(Piece::Any), _) => {
                    again = Some((piece + 1, at));
                    piece += 1;
                    continue;
                }
                (Some(wanted), Some(c)) if wanted.takes(c) => {
                    piece += 1;
                    at += 1;
                    continue;
                }
                _ => {}
            }
            match again {
                Some((after, from)) if chars.get(from).is_some_and(|c| *c != '/') => {
                    again = Some((after, from + 1));
                    (piece, at) = (after, from + 1);
                }
                _ => return false,
            }
        }
    }
}

impl Piece {
    fn takes(&self, c: char) -> bool {
        match self {
            Piece::Any => false,
            Piece::One => c != '/',
            Piece::Char(wanted) => *wanted == c,
            Piece::Class(ranges, not) => {
                let inside = ranges.iter().any(|(low, high)| (*low..=*high).contains(&c));
                c != '/' && inside == (*not == Not::Inside)
            }
        }
    }
}

/// What follows `[`.
fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Piece> {
    let not = match chars.next_if_eq(&'^') {
        Some(_) => Not::Outside,
        None => Not::Inside,
    };
    let one = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| match chars.next()? {
        '\\' => chars.next(),
        '-' | ']' => None,
        c => Some(c),
    };
    let mut ranges = Vec::new();
    loop {
        let low = one(chars)?;
        let high = match chars.next_if_eq(&'-') {
            Some(_) => one(chars)?,
            None => low,
        };
        ranges.push((low, high));
        if chars.next_if_eq(&']').is_some() {
            return Some(Piece::Class(ranges, not));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Glob;

    #[test]
    fn patterns_are_gos() {
        for (pattern, text, fits) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[^e-g]", "abc", true),
            ("ab[^c]", "abc", false),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a\u{e9}b", true),
            ("a?b", "a/b", false),
            ("[\\]a]", "]", true),
            ("*x", "xxx", true),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(
                Glob::parse(pattern).unwrap().matches(text),
                fits,
                "{pattern} {text}"
            );
        }
        for bad in [
            "[]a]", "[-]", "[x-]", "[-x]", "[", "[^", "[^bc", "a[", "\\", "[a-",
        ] {
            assert!(Glob::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn many_stars_take_no_time() {
        let pattern = Glob::parse(&"*a".repeat(2_000)).unwrap();
        assert!(!pattern.matches(&"a".repeat(1_999)));
        assert!(pattern.matches(&"a".repeat(2_000)));
    }
}
