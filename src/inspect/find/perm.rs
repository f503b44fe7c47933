//! `-perm`: octal modes and chmod(1)'s symbolic ones.

/// Which bits must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// `MODE`: exactly these.
    Exactly,
    /// `-MODE`: all of these.
    All,
    /// `/MODE`: one of these, if it names any.
    Any,
}

/// A test of permission bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PermTest {
    how: How,
    bits: u32,
}

impl PermTest {
    /// Parses what comes after `-perm`; `None` when it is no mode.
    pub fn parse(word: &[u8]) -> Option<Self> {
        let (how, mode) = match word {
            [b'-', mode @ ..] => (How::All, mode),
            [b'/', mode @ ..] => (How::Any, mode),
            mode => (How::Exactly, mode),
        };
        let mode = std::str::from_utf8(mode).ok()?;
        let octal = !mode.is_empty() && mode.bytes().all(|b| matches!(b, b'0'..=b'7'));
        let bits = match octal {
            true => u32::from_str_radix(mode, 8).ok().filter(|m| *m <= 0o7777)?,
            false => symbolic(mode)?,
        };
        Some(Self { how, bits })
    }

    /// Whether permission bits pass.
    pub fn is(self, perm: u32) -> bool {
        match self.how {
            How::Exactly => perm == self.bits,
            How::All => perm & self.bits == self.bits,
            How::Any => self.bits == 0 || perm & self.bits != 0,
        }
    }
}

/// The mode that clauses like `u+rw,g=s,+t` make of 0.
fn symbolic(text: &str) -> Option<u32> {
    let mut mode = 0;
    for clause in text.split(',') {
        let at = clause.find(['+', '-', '='])?;
        let (who, action) = clause.split_at_checked(at)?;
        let mut letters = action.chars();
        let operator = letters.next()?;
        let mut groups = 0;
        for letter in who.chars() {
            groups |= match letter {
                'u' => 0o4700,
                'g' => 0o2070,
                'o' => 0o0007,
                'a' => 0o6777,
                _ => return None,
            };
        }
        // Nobody named is everybody; the sticky bit is nobody's.
        let all = who.is_empty() || who.contains('a');
        let groups = if groups == 0 { 0o6777 } else { groups };
        let mut bits = 0;
        for letter in letters {
            bits |= match letter {
                'r' => 0o444 & groups,
                'w' => 0o222 & groups,
                'x' => 0o111 & groups,
                's' => 0o6000 & groups,
                't' if all => 0o1000,
                't' => 0,
                _ => return None,
            };
        }
        match operator {
            '+' => mode |= bits,
            '-' => mode &= !bits,
            _ => mode = (mode & !groups) | bits,
        }
    }
    Some(mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(word: &str, perm: u32) -> bool {
        PermTest::parse(word.as_bytes()).unwrap().is(perm)
    }

    #[test]
    fn modes_are_those_of_find() {
        assert!(is("644", 0o644) && !is("644", 0o4644));
        assert!(is("-4000", 0o4755) && !is("-6000", 0o4755));
        assert!(is("/6000", 0o4755) && is("/0", 0o644));
        assert!(is("u=rw,g=r,o=r", 0o644) && is("-u+s", 0o4755));
        assert!(is("-a+x", 0o755) && !is("-a+x", 0o754));
        assert!(is("-+t", 0o1777) && is("/u+w,o+w", 0o602));
        for wrong in ["", "8", "77777", "u", "z+r", "u+q"] {
            assert!(PermTest::parse(wrong.as_bytes()).is_none(), "{wrong}");
        }
    }
}
