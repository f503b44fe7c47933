//! Words to an expression: `!` binds before "and" (which needs no word), that before `-o`.

use super::perm::PermTest;
use super::{Action, Age, Case, Expr, Find, Last, Number, Owners, Test, Tree, Whole};
use crate::error::Failure;
use crate::inspect::grep::pattern::{Options, Syntax, compile};
use crate::stat::Timespec;

/// How deep parentheses and `!` may lie in each other.
const DEPTH_MAX: usize = 200;

fn now() -> Timespec {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let since = since.unwrap_or_default();
    Timespec {
        sec: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nsec: since.subsec_nanos(),
    }
}

struct Words<'a> {
    words: std::iter::Peekable<std::slice::Iter<'a, Vec<u8>>>,
    tree: &'a Tree,
    depth: usize,
    min_depth: usize,
    max_depth: usize,
    acts: bool,
    /// How regular expressions are written from here on.
    syntax: Syntax,
}

pub(super) fn parse(words: &[Vec<u8>], tree: &Tree) -> Result<Find, Failure> {
    let mut parser = Words {
        words: words.iter().peekable(),
        tree,
        depth: 0,
        min_depth: 0,
        max_depth: usize::MAX,
        acts: false,
        syntax: Syntax::Emacs,
    };
    let expr = match words.is_empty() {
        true => Expr::Test(Test::Always(true)),
        false => parser.any()?,
    };
    if let Some(word) = parser.words.next() {
        return Err(usage(word, "nothing is open that it could close"));
    }
    let expr = match parser.acts {
        true => expr,
        false => Expr::All(vec![expr, Expr::Test(Test::Do(Action::Print))]),
    };
    Ok(Find {
        expr,
        min_depth: parser.min_depth,
        max_depth: parser.max_depth,
    })
}

fn usage(word: &[u8], why: &str) -> Failure {
    Failure::usage(format!("find: {}: {why}", word.escape_ascii()))
}

impl Words<'_> {
    fn peek(&mut self) -> Option<&[u8]> {
        self.words.peek().map(|word| word.as_slice())
    }

    fn any(&mut self) -> Result<Expr, Failure> {
        let mut any = vec![self.all()?];
        while matches!(self.peek(), Some(b"-o" | b"-or")) {
            self.words.next();
            any.push(self.all()?);
        }
        Ok(match any.len() {
            1 => any.remove(0),
            _ => Expr::Any(any),
        })
    }

    fn all(&mut self) -> Result<Expr, Failure> {
        let mut all = vec![self.one()?];
        loop {
            match self.peek() {
                None | Some(b"-o" | b"-or" | b")") => break,
                Some(b"-a" | b"-and") => drop(self.words.next()),
                Some(_) => {}
            }
            all.push(self.one()?);
        }
        Ok(match all.len() {
            1 => all.remove(0),
            _ => Expr::All(all),
        })
    }

    fn one(&mut self) -> Result<Expr, Failure> {
        let Some(word) = self.words.next() else {
            return Err(Failure::usage("find: an expression ends too early"));
        };
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(usage(word, "the expression is nested too deeply"));
        }
        let expr = match word.as_slice() {
            b"!" | b"-not" => Expr::Not(Box::new(self.one()?)),
            b"(" => {
                let inner = self.any()?;
                match self.words.next().map(Vec::as_slice) {
                    Some(b")") => inner,
                    _ => return Err(usage(word, "it is not closed")),
                }
            }
            _ => Expr::Test(self.test(word)?),
        };
        self.depth -= 1;
        Ok(expr)
    }

    fn argument(&mut self, of: &[u8]) -> Result<&[u8], Failure> {
        let word = self.words.next().map(Vec::as_slice);
        word.ok_or_else(|| usage(of, "it needs an argument"))
    }

    fn number(&mut self, of: &[u8]) -> Result<Number, Failure> {
        let word = self.argument(of)?;
        number(word).ok_or_else(|| usage(of, "want a number, +number or -number"))
    }

    fn depth(&mut self, of: &[u8]) -> Result<usize, Failure> {
        let word = std::str::from_utf8(self.argument(of)?).ok();
        let depth = word.and_then(|word| word.parse().ok());
        depth.ok_or_else(|| usage(of, "want a number of levels"))
    }

    fn test(&mut self, word: &[u8]) -> Result<Test, Failure> {
        let always = Ok(Test::Always(true));
        match word {
            b"-maxdepth" => {
                self.max_depth = self.depth(word)?;
                always
            }
            b"-mindepth" => {
                self.min_depth = self.depth(word)?;
                always
            }
            b"-true" => always,
            b"-false" => Ok(Test::Always(false)),
            b"-name" => Ok(Test::Name(self.argument(word)?.into(), Case::Kept)),
            b"-iname" => Ok(Test::Name(self.argument(word)?.into(), Case::Ignored)),
            b"-path" | b"-wholename" => Ok(Test::Path(self.argument(word)?.into(), Case::Kept)),
            b"-ipath" | b"-iwholename" => {
                Ok(Test::Path(self.argument(word)?.into(), Case::Ignored))
            }
            b"-lname" => Ok(Test::LinkName(self.argument(word)?.into(), Case::Kept)),
            b"-ilname" => Ok(Test::LinkName(self.argument(word)?.into(), Case::Ignored)),
            b"-type" => self.types(word),
            b"-size" => self.size(word),
            b"-newer" => {
                let path = self.argument(word)?.to_vec();
                let found = self.tree.find(&path, Last::Keep);
                let found = found.map_err(|e| e.context("find: -newer"))?;
                Ok(Test::Newer(found.object.stat.mtime))
            }
            b"-mtime" => self.age(word, 86_400, false),
            b"-mmin" => self.age(word, 60, true),
            b"-regex" => self.regex(word, false),
            b"-iregex" => self.regex(word, true),
            b"-regextype" => {
                self.syntax = self.syntax(word)?;
                always
            }
            b"-user" => self
                .who(word, "/etc/passwd", Owners::user_id)
                .map(Test::Uid),
            b"-group" => self
                .who(word, "/etc/group", Owners::group_id)
                .map(Test::Gid),
            b"-nouser" => Ok(Test::NoUser),
            b"-nogroup" => Ok(Test::NoGroup),
            b"-uid" => self.number(word).map(Test::Uid),
            b"-gid" => self.number(word).map(Test::Gid),
            b"-links" => self.number(word).map(Test::Links),
            b"-inum" => self.number(word).map(Test::Inode),
            b"-layer" => self.number(word).map(Test::Layer),
            b"-perm" => {
                let mode = PermTest::parse(self.argument(word)?);
                let mode = mode.ok_or_else(|| usage(word, "want a mode, -mode or /mode"))?;
                Ok(Test::Perm(mode))
            }
            b"-empty" => Ok(Test::Empty),
            b"-xattr" => Ok(Test::Xattr(self.argument(word)?.into())),
            b"-prune" => Ok(Test::Prune),
            b"-print" => Ok(self.action(Action::Print)),
            b"-print0" => Ok(self.action(Action::Print0)),
            b"-ls" => Ok(self.action(Action::List)),
            _ => Err(refused(word)),
        }
    }

    fn action(&mut self, action: Action) -> Test {
        self.acts = true;
        Test::Do(action)
    }

    fn types(&mut self, word: &[u8]) -> Result<Test, Failure> {
        let letters: Vec<&[u8]> = self.argument(word)?.split(|b| *b == b',').collect();
        let mut types = Vec::new();
        for letter in letters {
            match letter {
                [letter] if b"fdlcbpsw".contains(letter) => types.push(*letter),
                _ => {
                    let why = "want letters of f, d, l, c, b, p, s and w (whiteout), with commas";
                    return Err(usage(word, why));
                }
            }
        }
        Ok(Test::Type(types))
    }

    fn size(&mut self, word: &[u8]) -> Result<Test, Failure> {
        let text = self.argument(word)?;
        let (digits, unit) = match text {
            [digits @ .., b'c'] => (digits, 1),
            [digits @ .., b'w'] => (digits, 2),
            [digits @ .., b'b'] => (digits, 512),
            [digits @ .., b'k'] => (digits, 1 << 10),
            [digits @ .., b'M'] => (digits, 1 << 20),
            [digits @ .., b'G'] => (digits, 1 << 30),
            digits => (digits, 512),
        };
        let number = number(digits);
        let number = number.ok_or_else(|| usage(word, "want a number and one of cwbkMG"))?;
        Ok(Test::Size(number, unit))
    }

    fn age(&mut self, word: &[u8], unit: u64, round_up: bool) -> Result<Test, Failure> {
        let number = self.number(word)?;
        let now = now();
        Ok(Test::Age(Age {
            number,
            unit,
            round_up,
            now,
        }))
    }

    fn regex(&mut self, word: &[u8], ignore_case: bool) -> Result<Test, Failure> {
        let options = Options {
            syntax: self.syntax,
            ignore_case,
            whole: true,
            ..Options::default()
        };
        let regex = compile(self.argument(word)?, options);
        let regex = regex.map_err(|e| e.context(format!("find: {}", word.escape_ascii())))?;
        Ok(Test::Regex(Whole(regex)))
    }

    fn syntax(&mut self, word: &[u8]) -> Result<Syntax, Failure> {
        match self.argument(word)? {
            b"emacs" | b"findutils-default" => Ok(Syntax::Emacs),
            b"posix-basic" | b"grep" | b"ed" | b"sed" => Ok(Syntax::Basic),
            b"posix-extended" | b"egrep" | b"posix-egrep" => Ok(Syntax::Extended),
            _ => Err(usage(word, "want emacs, posix-basic or posix-extended")),
        }
    }

    /// A user or group by number or by name.
    fn who(
        &mut self,
        word: &[u8],
        file: &str,
        look: impl Fn(&Owners, &[u8]) -> Option<u32>,
    ) -> Result<Number, Failure> {
        let name = self.argument(word)?.to_vec();
        if let Some(number) = number(&name) {
            return Ok(number);
        }
        match look(&Owners::of_tree(self.tree), &name) {
            Some(id) => Ok(Number::Equal(id.into())),
            None => Err(Failure::not_found(format!(
                "find: {} {}: the image's {file} has no such name",
                word.escape_ascii(),
                name.escape_ascii()
            ))),
        }
    }
}

fn number(word: &[u8]) -> Option<Number> {
    let text = std::str::from_utf8(word).ok()?;
    let (make, digits): (fn(u64) -> Number, _) = match text.as_bytes().first()? {
        b'+' => (Number::More, text.get(1..)?),
        b'-' => (Number::Less, text.get(1..)?),
        _ => (Number::Equal, text),
    };
    let digits_only = digits.bytes().all(|b| b.is_ascii_digit());
    digits_only.then(|| digits.parse().ok().map(make)).flatten()
}

/// Why a word isn't taken.
fn refused(word: &[u8]) -> Failure {
    let why = match word {
        b"-delete" => "an image doesn't change; mount it and commit what you delete there",
        b"-exec" | b"-execdir" | b"-ok" | b"-okdir" => {
            "there are no files to run it on; print the paths, or mount the image"
        }
        b"-fprint" | b"-fprint0" | b"-fls" | b"-fprintf" => "redirect the output instead",
        b")" => "nothing is open that it could close",
        [b'-', ..] => "not one of the tests that there are (strata find --help lists them)",
        _ => "a path comes before the expression",
    };
    usage(word, why)
}
