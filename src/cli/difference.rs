//! `strata diff A B`: two images, containers, layers or archives.

use std::ffi::OsStr;
use std::io::{BufWriter, StdoutLock, Write};
use std::process::ExitCode;

use serde_json::{Value, json};

use super::bytes::{Contents, shown};
use super::format::{Format, Listing, printable};
use super::{Context, complain, look};
use crate::error::Failure;
use crate::inspect::difference::config::{ConfigChange, configs};
use crate::inspect::difference::text::{Content, content};
use crate::inspect::difference::{Letter, Stat, TreeChange, trees};
use crate::inspect::path::Last;
use crate::inspect::tree::{Entry, Tree};
use crate::inspect::{Image, Target};

/// What is shown of a difference between two images.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Of two images: the lines of text files that are different.
    #[arg(long)]
    pub content: bool,

    /// Of two images: only how much is different.
    #[arg(long, conflicts_with = "content")]
    pub stat: bool,

    /// Of two images: differences that don't count.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WHAT")]
    pub ignore: Vec<Ignored>,

    /// Of two images: json, or a Go template.
    #[arg(long, value_name = "FORMAT", conflicts_with_all = ["content", "stat"])]
    pub format: Option<String>,
}

/// A difference that may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Ignored {
    /// Times of the last change.
    Times,
    /// Owners and groups.
    Owner,
    /// Permissions.
    Mode,
    /// Extended attributes.
    Xattrs,
    /// Configurations.
    Config,
}

impl Options {
    /// Whether one was given.
    pub fn given(&self) -> bool {
        self.content || self.stat || !self.ignore.is_empty() || self.format.is_some()
    }
}

/// Compares two images. Exit status as diff(1): 0 the same, 1 different, 2 it failed.
pub fn run(context: &Context, a: &OsStr, b: &OsStr, options: &Options) -> ExitCode {
    match differ(context, a, b, options) {
        Ok(false) => ExitCode::SUCCESS,
        Ok(true) => ExitCode::from(1),
        Err(failure) => {
            complain(&failure);
            ExitCode::from(2)
        }
    }
}

fn differ(context: &Context, a: &OsStr, b: &OsStr, options: &Options) -> Result<bool, Failure> {
    let format = Format::of(options.format.as_deref())?;
    let (a, old) = look::open(context, a)?;
    let (b, new) = look::open(context, b)?;
    let (old_tree, new_tree) = (old.tree()?, new.tree()?);
    let before = old_tree.find(a.path(), Last::Follow)?;
    let after = new_tree.find(b.path(), Last::Follow)?;
    let mut printer = Printer {
        out: BufWriter::new(std::io::stdout().lock()),
        contents: Contents::new(),
        format,
        options,
        trees: (&old_tree, &new_tree),
        stat: Stat::default(),
        fields: 0,
    };
    trees((&old_tree, &before), (&new_tree, &after), &mut |change| {
        printer.tree(change)
    })?;
    // A part of an image, or a layer, has no configuration of its own.
    let whole = |target: &Target, image: &Image| {
        target.path.is_none() && target.span == crate::inspect::Span::All && image.id.is_some()
    };
    if whole(&a, &old) && whole(&b, &new) && !options.ignore.contains(&Ignored::Config) {
        for change in configs(&old.config, &new.config) {
            printer.config(&change)?;
        }
    }
    printer.finish()
}

const LISTING: Listing<'static> = Listing {
    columns: &[
        ("CHANGE", "Change"),
        ("KIND", "Kind"),
        ("NAME", "Name"),
        ("DIFFERENCES", "Differences"),
    ],
    others: &[("BEFORE", "Before"), ("AFTER", "After")],
};

struct Printer<'a> {
    out: BufWriter<StdoutLock<'static>>,
    contents: Contents,
    format: Format,
    options: &'a Options,
    trees: (&'a Tree, &'a Tree),
    stat: Stat,
    /// Differences of the configurations.
    fields: u64,
}

impl Printer<'_> {
    fn tree(&mut self, mut change: TreeChange) -> Result<(), Failure> {
        for ignored in &self.options.ignore {
            match ignored {
                Ignored::Times => change.differences.times = false,
                Ignored::Owner => change.differences.owner = false,
                Ignored::Mode => change.differences.mode = false,
                Ignored::Xattrs => change.differences.xattrs = false,
                Ignored::Config => {}
            }
        }
        let counts = change.differences.any() || change.marks;
        if change.letter == Letter::Changed && !counts {
            return Ok(());
        }
        self.stat.count(&change);
        if self.options.stat {
            return Ok(());
        }
        let words = change.words().join(", ");
        if !matches!(self.format, Format::Table) {
            let row = json!({
                "Kind": "tree",
                "Change": change.letter.char().to_string(),
                "Name": shown(&change.path),
                "Differences": words,
                "Before": object(change.before),
                "After": object(change.after),
            });
            return self.row(row);
        }
        let (letter, path) = (change.letter.char(), shown(&change.path));
        match words.is_empty() {
            true => writeln!(self.out, "{letter} {path}")?,
            false => writeln!(self.out, "{letter} {path} ({words})")?,
        }
        if self.options.content {
            self.content(&change)?;
        }
        Ok(())
    }

    fn content(&mut self, change: &TreeChange) -> Result<(), Failure> {
        match content(self.trees.0, self.trees.1, change)? {
            None => {}
            Some(Content::Text(lines)) => self.out.write_all(&self.contents.of(&lines))?,
            Some(Content::Binary) => writeln!(self.out, "Binary files differ")?,
            Some(Content::Long) => {
                writeln!(self.out, "Files differ, and are too long to be shown")?
            }
        }
        Ok(())
    }

    fn config(&mut self, change: &ConfigChange) -> Result<(), Failure> {
        self.fields += 1;
        if self.options.stat {
            return Ok(());
        }
        let name = match &change.name {
            Some(name) => format!("{} {name}", change.field),
            None => change.field.clone(),
        };
        if !matches!(self.format, Format::Table) {
            let row = json!({
                "Kind": "config",
                "Change": change.letter.char().to_string(),
                "Name": name,
                "Differences": change.field,
                "Before": change.before,
                "After": change.after,
            });
            return self.row(row);
        }
        let values: Vec<&str> = [&change.before, &change.after]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .filter(|v| !v.is_empty())
            .collect();
        let line = format!("{} {name}: {}", change.letter.char(), values.join(" -> "));
        let line = line.strip_suffix(": ").unwrap_or(&line);
        writeln!(self.out, "{}", printable(line))?;
        Ok(())
    }

    fn row(&mut self, row: Value) -> Result<(), Failure> {
        let text = LISTING.show(&self.format, &[row])?;
        Ok(self.out.write_all(&self.contents.of(text.as_bytes()))?)
    }

    /// Whether there was a difference.
    fn finish(mut self) -> Result<bool, Failure> {
        let Stat {
            added,
            changed,
            deleted,
            bytes_added,
            bytes_deleted,
        } = self.stat;
        if self.options.stat {
            writeln!(
                self.out,
                "{added} added, {changed} changed, {deleted} deleted, +{bytes_added} -{bytes_deleted} \
                 bytes; configuration: {} changes",
                self.fields
            )?;
        }
        self.out.flush()?;
        Ok(added + changed + deleted + self.fields > 0)
    }
}

/// An object's attributes.
fn object(entry: Option<Entry>) -> Value {
    match entry {
        None => Value::Null,
        Some(Entry::Whiteout) => json!({ "Type": "whiteout" }),
        Some(Entry::Object(object)) => json!({
            "Type": format!("{:?}", object.stat.kind).to_lowercase(),
            "Mode": format!("{:04o}", object.stat.perm),
            "Uid": object.stat.uid,
            "Gid": object.stat.gid,
            "Size": if object.is_dir() { 0 } else { object.stat.size },
            "Mtime": object.stat.mtime.sec,
        }),
    }
}
