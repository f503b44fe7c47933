//! `strata grep`

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStringExt as _;
use std::process::ExitCode;

use serde_json::json;

use super::bytes::{Contents, shown};
use super::format::{Format, Listing};
use super::look::open;
use super::progress::{Bars, Output};
use super::{Context, complain};
use crate::error::Failure;
use crate::inspect::grep::pattern::{Options, Syntax, compile};
use crate::inspect::grep::search::{Binary, Hit, Want};
use crate::inspect::grep::{Finder, Owner, Place, Query, State, all_layers, visible};

/// Search the contents of files in an image, container or archive.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Patterns are grep(1)'s basic ones, without back-references. Lines longer than \
    1 MiB are shown in pieces. With --all-layers, files are found that a later layer removed: each line \
    says the layer (or that it is the container's), and what became of the file.\n\nExit status: 0 found, 1 not found, 2 it failed.\n\n\
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
        let bars = Bars::new();
        let mut printer = Printer {
            out: Output::new(&bars),
            contents: Contents::new(),
            format,
            want: query.want,
            numbers: self.line_number,
            found: false,
            failed: false,
        };
        match self.all_layers {
            true => all_layers(&image, target.path(), &query, &bars, &mut printer),
            false => visible(&image, target.path(), &query, &bars, &mut printer),
        }
        .and(Ok(printer.out.flush()?))?;
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
            whole: false,
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
    out: Output<'o>,
    contents: Contents,
    format: Format,
    want: Want,
    numbers: bool,
    found: bool,
    failed: bool,
}

/// Who has a file, in words.
fn owner(owner: Owner) -> String {
    match owner {
        Owner::Layer(number) => format!("layer {number}"),
        Owner::Container => "container".into(),
    }
}

/// What became of a file, in words.
fn state(state: State) -> String {
    match state {
        State::Visible => "visible".into(),
        State::Replaced(by) => format!("replaced by {}", owner(by)),
        State::Removed(by) => format!("removed by {}", owner(by)),
    }
}

/// The name that comes before what is found.
fn label(place: &Place) -> String {
    let path = shown(&place.path);
    match place.of {
        Some((of, became)) => format!("{} ({}):{path}", owner(of), state(became)),
        None => path,
    }
}

impl Printer<'_> {
    fn row(&mut self, place: &Place, more: serde_json::Value) -> Result<(), Failure> {
        let mut row = json!({ "Path": shown(&place.path) });
        if let Some(row) = row.as_object_mut() {
            if let Some((of, became)) = place.of {
                let layer = match of {
                    Owner::Layer(number) => number.into(),
                    Owner::Container => "container".into(),
                };
                row.insert("Layer".into(), layer);
                row.insert("State".into(), state(became).into());
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
        Ok(self.out.pace()?)
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
        Ok(self.out.pace()?)
    }

    fn trouble(&mut self, _place: &Place, failure: Failure) {
        self.out.beside(|| complain(&failure));
        self.failed = true;
    }
}
