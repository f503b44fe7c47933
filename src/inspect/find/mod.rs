//! find(1)'s expressions, applied to a tree.

mod parse;
mod perm;

use regex::bytes::Regex;

use super::glob::{Case, matches};
use super::owners::Owners;
use super::path::Last;
use super::tree::{Entry, Object, Tree};
use super::walk::{Descend, Visit};
use crate::error::{Failure, Result};
use crate::stat::{FileType, Timespec};
use perm::PermTest;

/// A number to compare with: `n`, `+n` or `-n`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    Equal(u64),
    More(u64),
    Less(u64),
}

impl Number {
    fn is(self, value: u64) -> bool {
        match self {
            Number::Equal(n) => value == n,
            Number::More(n) => value > n,
            Number::Less(n) => value < n,
        }
    }
}

/// What is done with what is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The path and a newline.
    Print,
    /// The path and a NUL.
    Print0,
    /// A line as of `ls -dils`.
    List,
}

#[derive(Debug, Clone, PartialEq)]
enum Test {
    Always(bool),
    Name(Vec<u8>, Case),
    Path(Vec<u8>, Case),
    LinkName(Vec<u8>, Case),
    /// Letters of types.
    Type(Vec<u8>),
    /// A number of units of so many bytes.
    Size(Number, u64),
    Newer(Timespec),
    Age(Age),
    Regex(Whole),
    NoUser,
    NoGroup,
    Uid(Number),
    Gid(Number),
    Links(Number),
    Inode(Number),
    Perm(PermTest),
    Empty,
    Xattr(Vec<u8>),
    Layer(Number),
    /// True, and what is in the directory is passed over.
    Prune,
    Do(Action),
}

/// An expression.
#[derive(Debug, Clone, PartialEq)]
enum Expr {
    Test(Test),
    Not(Box<Expr>),
    All(Vec<Expr>),
    Any(Vec<Expr>),
}

/// A parsed expression with its limits.
#[derive(Debug, Clone, PartialEq)]
pub struct Find {
    expr: Expr,
    min_depth: usize,
    max_depth: usize,
}

/// How long ago something changed, beside the time at which the expression was parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Age {
    number: Number,
    /// Seconds that a unit has.
    unit: u64,
    /// Whether parts of a unit count as a whole one (`-mmin`), or not at all (`-mtime`).
    round_up: bool,
    now: Timespec,
}

impl Age {
    fn is(self, time: Timespec) -> bool {
        const SECOND: i128 = 1_000_000_000;
        let nanoseconds = |t: Timespec| i128::from(t.sec) * SECOND + i128::from(t.nsec);
        let age = nanoseconds(self.now) - nanoseconds(time);
        let unit = i128::from(self.unit) * SECOND;
        let first = if self.round_up { -1 } else { 0 };
        match self.number {
            Number::Equal(n) => {
                let from = (i128::from(n) + first) * unit;
                from <= age && age < from + unit
            }
            Number::More(n) => age > (i128::from(n) + first + 1) * unit,
            Number::Less(n) => age < i128::from(n) * unit,
        }
    }
}

/// An expression that is to match the whole of a path.
#[derive(Debug, Clone)]
struct Whole(Regex);

impl PartialEq for Whole {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

/// Is told what is found.
pub type Sink<'s> = dyn FnMut(Action, &Visit<'_>) -> Result<(), Failure> + 's;

impl Find {
    /// Parses an expression; what it says of files and users is looked up in `tree`. Without an
    /// action, what is found is printed.
    ///
    /// # Errors
    /// [`Failure`] of kind `Usage` that names the word; `NotFound` for a file or user that the tree
    /// doesn't have.
    pub fn parse(words: &[Vec<u8>], tree: &Tree) -> Result<Self, Failure> {
        parse::parse(words, tree)
    }

    /// Applies it to an object and all below it.
    ///
    /// # Errors
    /// [`Failure`] of kind `System` when an index is damaged; what `sink` returns.
    pub fn run(
        &self,
        tree: &Tree,
        path: &[u8],
        start: Object,
        sink: &mut Sink<'_>,
    ) -> Result<(), Failure> {
        let owners = Owners::of_tree(tree);
        let mut enter = |visit: &Visit<'_>| {
            let mut search = Search {
                tree,
                owners: &owners,
                visit,
                sink,
                prune: false,
            };
            if visit.depth >= self.min_depth {
                search.holds(&self.expr)?;
            }
            let deeper = visit.depth < self.max_depth && !search.prune;
            Ok(match deeper {
                true => Descend::Into,
                false => Descend::Over,
            })
        };
        tree.walk(path, start, &mut enter)
    }
}

/// An expression on its way through one object.
struct Search<'a, 's> {
    tree: &'a Tree,
    owners: &'a Owners,
    visit: &'a Visit<'a>,
    sink: &'a mut Sink<'s>,
    prune: bool,
}

impl Search<'_, '_> {
    fn holds(&mut self, expr: &Expr) -> Result<bool, Failure> {
        match expr {
            Expr::Test(test) => self.test(test),
            Expr::Not(inner) => Ok(!self.holds(inner)?),
            Expr::All(all) => {
                for expr in all {
                    if !self.holds(expr)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Expr::Any(any) => {
                for expr in any {
                    if self.holds(expr)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }

    fn test(&mut self, test: &Test) -> Result<bool, Failure> {
        let visit = self.visit;
        match test {
            Test::Always(answer) => return Ok(*answer),
            Test::Name(pattern, case) => return Ok(matches(pattern, base_name(visit), *case)),
            Test::Path(pattern, case) => return Ok(matches(pattern, visit.path, *case)),
            Test::Regex(Whole(regex)) => return Ok(regex.is_match(visit.path)),
            Test::Type(letters) => return Ok(letters.contains(&type_letter(&visit.entry))),
            Test::Prune => {
                self.prune = true;
                return Ok(true);
            }
            Test::Do(action) => {
                (self.sink)(*action, visit)?;
                return Ok(true);
            }
            _ => {}
        }
        // Of what is only removed, nothing more is known.
        match visit.entry {
            Entry::Whiteout => Ok(false),
            Entry::Object(object) => Ok(self.of_object(test, &object)?),
        }
    }

    fn of_object(&self, test: &Test, object: &Object) -> Result<bool> {
        let (tree, stat) = (self.tree, &object.stat);
        Ok(match test {
            Test::Size(number, unit) => number.is(stat.size.div_ceil(*unit)),
            Test::Newer(time) => stat.mtime > *time,
            Test::Age(age) => age.is(stat.mtime),
            Test::NoUser => self.owners.user(stat.uid).is_none(),
            Test::NoGroup => self.owners.group(stat.gid).is_none(),
            Test::Uid(number) => number.is(stat.uid.into()),
            Test::Gid(number) => number.is(stat.gid.into()),
            Test::Links(number) => number.is(stat.nlink.into()),
            Test::Inode(number) => number.is(stat.ino),
            Test::Perm(perm) => perm.is(stat.perm),
            Test::Empty => match stat.kind {
                FileType::Directory => tree.children(object)?.is_empty(),
                FileType::Regular => stat.size == 0 && !object.marks.link_below,
                _ => false,
            },
            Test::LinkName(pattern, case) => {
                stat.kind == FileType::Symlink && matches(pattern, &tree.read_link(object)?, *case)
            }
            Test::Xattr(pattern) => tree
                .xattrs(object)?
                .iter()
                .any(|(name, _)| matches(pattern, name, Case::Kept)),
            Test::Layer(number) => tree
                .origin(object)?
                .is_some_and(|(layer, _)| number.is(layer as u64)),
            _ => false,
        })
    }
}

/// The last component; of the root `/`, as find(1) has it.
fn base_name<'a>(visit: &Visit<'a>) -> &'a [u8] {
    let path = visit.path;
    let end = path.iter().rposition(|b| *b != b'/').map_or(0, |at| at + 1);
    let trimmed = path.get(..end).unwrap_or_default();
    match trimmed.rsplit(|b| *b == b'/').next() {
        Some(b"") | None => b"/",
        Some(name) => name,
    }
}

/// The letter of a type, `w` for a whiteout.
#[must_use]
pub fn type_letter(entry: &Entry) -> u8 {
    let Entry::Object(object) = entry else {
        return b'w';
    };
    match object.stat.kind {
        FileType::Regular => b'f',
        FileType::Directory => b'd',
        FileType::Symlink => b'l',
        FileType::CharDevice => b'c',
        FileType::BlockDevice => b'b',
        FileType::Fifo => b'p',
        FileType::Socket => b's',
    }
}
