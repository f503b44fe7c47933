//! `strata grep`

use std::ffi::OsString;
use std::io::{BufWriter, StdoutLock, Write};
use std::os::unix::ffi::OsStringExt as _;
use std::process::ExitCode;

use serde_json::json;

use super::bytes::{Contents, shown};
use super::format::{Format, Listing};
use super::look::open;
use super::{Context, complain};
use crate::error::Failure;
use crate::inspect::fate::Fate;
use crate::inspect::grep::pattern::{Options, Syntax, compile};
use crate::inspect::grep::search::{Binary, Hit, Want};
use crate::inspect::grep::{Finder, Place, Query, all_layers, visible};

/// Search the contents of files in an image, container or archive.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Patterns are grep(1)'s basic ones, without back-references. Lines longer than \
    1 MiB are shown in pieces. With --all-layers, files are found that a later layer removed: each line \
    says the layer, and what became of the file.\n\nExit status: 0 found, 1 not found, 2 it failed.\n\n\
    Examples:\n  strata grep -n root nginx:/etc\n  strata grep --all-layers -F 'BEGIN PRIVATE KEY' app"
)]
pub struct Args {
    /// Upper and lower case are the same.
    #[arg(short, long)]
    ignore_case: bool,

    /// Only the names of files that match.
    #[arg(short = 'l', long)]
    files_with_matches: bool,

    /// The number of each line.
    #[arg(short = 'n', long)]
    line_number: bool,

    /// How many lines match, file by file.
    #[arg(short, long, conflicts_with = "files_with_matches")]
    count: bool,

    /// The pattern is a text, not an expression.
    #[arg(short = 'F', long, conflicts_with = "extended_regexp")]
    fixed_strings: bool,

    /// The pattern is an extended expression.
    #[arg(short = 'E', long)]
    extended_regexp: bool,

    /// Whole words only.
    #[arg(short, long)]
    word_regexp: bool,

    /// Binary files are text.
    #[arg(short = 'a', long)]
    text: bool,

    /// Only files whose names match.
    #[arg(long, value_name = "GLOB")]
    include: Vec<OsString>,

    /// No files whose names match.
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<OsString>,

    /// Every layer's files, also what later layers removed or replaced.
    #[arg(long)]
    all_layers: bool,

    /// How to show what is found: json, or a Go template.
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,

    /// What to search for.
    #[arg(allow_hyphen_values = true)]
    pattern: OsString,

    /// What to search: IMAGE[:PATH].
    #[arg(value_name = "IMAGE[:PATH]")]
    image: OsString,
}

impl Args {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let done = self.search(context);
        Ok(done.unwrap_or_else(|failure| {
            complain(&failure);
            ExitCode::from(2)
        }))
    }

    fn search(self, context: &Context) -> Result<ExitCode, Failure> {
        let query = self.query()?;
        let format = Format::of(self.format.as_deref())?;
        let (target, image) = open(context, &self.image)?;
        let mut printer = Printer {
            out: BufWriter::new(std::io::stdout().lock()),
            contents: Contents::new(),
            format,
            want: query.want,
            numbers: self.line_number,
            found: false,
            failed: false,
        };
        match self.all_layers {
            true => all_layers(&image, target.path(), &query, &mut printer)?,
            false => visible(&image, target.path(), &query, &mut printer)?,
        }
        printer.out.flush()?;
        Ok(match (printer.failed, printer.found) {
            (true, _) => ExitCode::from(2),
            (_, true) => ExitCode::SUCCESS,
            (_, false) => ExitCode::from(1),
        })
    }

    fn query(&self) -> Result<Query, Failure> {
        let syntax = match (self.fixed_strings, self.extended_regexp) {
            (true, _) => Syntax::Fixed,
            (_, true) => Syntax::Extended,
            _ => Syntax::Basic,
        };
        let options = Options {
            syntax,
            ignore_case: self.ignore_case,
            words: self.word_regexp,
        };
        let globs = |all: &[OsString]| all.iter().map(|g| g.clone().into_vec()).collect();
        Ok(Query {
            pattern: compile(&self.pattern.clone().into_vec(), options)?,
            want: match (self.files_with_matches, self.count) {
                (true, _) => Want::Any,
                (_, true) => Want::Count,
                _ => Want::Lines,
            },
            binary: match self.text {
                true => Binary::Text,
                false => Binary::Mention,
            },
            include: globs(&self.include),
            exclude: globs(&self.exclude),
        })
    }
}

const LISTING: Listing<'static> = Listing {
    columns: &[("PATH", "Path"), ("LINE", "Line"), ("TEXT", "Text")],
    others: &[
        ("LAYER", "Layer"),
        ("STATE", "State"),
        ("COUNT", "Count"),
        ("BINARY", "Binary"),
    ],
};

/// Prints what is found.
struct Printer<'o> {
    out: BufWriter<StdoutLock<'o>>,
    contents: Contents,
    format: Format,
    want: Want,
    numbers: bool,
    found: bool,
    failed: bool,
}

/// What became of a file, in words.
fn state(fate: Fate) -> String {
    match fate {
        Fate::Visible => "visible".into(),
        Fate::Replaced { by } => format!("replaced by layer {by}"),
        Fate::Removed { by } => format!("removed by layer {by}"),
    }
}

/// The name that comes before what is found.
fn label(place: &Place) -> String {
    let path = shown(&place.path);
    match place.layer {
        Some((layer, fate)) => format!("layer {layer} ({}):{path}", state(fate)),
        None => path,
    }
}

impl Printer<'_> {
    fn row(&mut self, place: &Place, more: serde_json::Value) -> Result<(), Failure> {
        let mut row = json!({ "Path": shown(&place.path) });
        if let Some(row) = row.as_object_mut() {
            if let Some((layer, fate)) = place.layer {
                row.insert("Layer".into(), layer.into());
                row.insert("State".into(), state(fate).into());
            }
            if let serde_json::Value::Object(more) = more {
                row.extend(more);
            }
        }
        let text = LISTING.show(&self.format, &[row])?;
        Ok(self.out.write_all(&self.contents.of(text.as_bytes()))?)
    }
}

impl Finder for Printer<'_> {
    fn hit(&mut self, place: &Place, hit: Hit<'_>) -> Result<(), Failure> {
        let table = matches!(self.format, Format::Table);
        match hit {
            Hit::Binary if table => {
                writeln!(self.out, "{}: binary file matches", label(place))?;
            }
            Hit::Binary => self.row(place, json!({ "Binary": true }))?,
            Hit::Line { number, text, cut } if table => {
                write!(self.out, "{}:", label(place))?;
                if self.numbers {
                    write!(self.out, "{number}:")?;
                }
                self.out.write_all(&self.contents.of(text))?;
                self.out.write_all(if cut { b"...\n" } else { b"\n" })?;
            }
            Hit::Line { number, text, .. } => {
                let text = String::from_utf8_lossy(text);
                self.row(place, json!({ "Line": number, "Text": text }))?;
            }
        }
        Ok(())
    }

    fn file(&mut self, place: &Place, count: u64) -> Result<(), Failure> {
        self.found |= count > 0;
        let table = matches!(self.format, Format::Table);
        match self.want {
            Want::Any if count > 0 && table => writeln!(self.out, "{}", label(place))?,
            Want::Any if count > 0 => self.row(place, json!({}))?,
            Want::Count if table => writeln!(self.out, "{}:{count}", label(place))?,
            Want::Count => self.row(place, json!({ "Count": count }))?,
            _ => {}
        }
        Ok(())
    }

    fn trouble(&mut self, _place: &Place, failure: Failure) {
        complain(&failure);
        self.failed = true;
    }
}
