//! `strata tree`

use std::ffi::OsString;
use std::io::{BufWriter, Write};
use std::process::ExitCode;

use super::format::Format;
use super::look::{NAMES_HELP, Names, link_target, open, row};
use super::{Context, print};
use crate::error::Failure;
use crate::inspect::path::Last;
use crate::inspect::{Child, Descend, Entry, Object, Owners, Tree, Visit};

/// Show a tree of files, as tree(1) does.
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{NAMES_HELP}\n\nExample:\n  strata tree -L 2 nginx:/etc"))]
pub struct Args {
    /// So many levels only.
    #[arg(short = 'L', value_name = "LEVELS", value_parser = clap::value_parser!(u32).range(1..))]
    levels: Option<u32>,

    /// Names that begin with a dot too.
    #[arg(short)]
    all: bool,

    /// Directories only.
    #[arg(short)]
    directories: bool,

    /// json, or a template for each object.
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,

    /// What to show.
    #[arg(value_name = "IMAGE[:PATH]")]
    name: OsString,
}

/// A directory whose entries are being shown.
struct Level {
    left: std::vec::IntoIter<Child>,
}

impl Args {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let (target, image) = open(context, &self.name)?;
        let tree = image.tree()?;
        let found = tree.find(target.path(), Last::Follow);
        let found = found.map_err(|e| e.context(image.name.escape_debug()))?;
        let format = Format::of(self.format.as_deref())?;
        if !matches!(format, Format::Table) {
            let owners = Owners::of(&image, &tree);
            return self.rows((&tree, &owners), target.path(), found.object, &format);
        }
        let names = Names::of_stdout();
        let mut out = BufWriter::new(std::io::stdout().lock());
        let title = match target.path {
            Some(path) => [image.name.as_bytes(), b":", &path].concat(),
            None => image.name.clone().into_bytes(),
        };
        out.write_all(&names.show(&title))?;
        out.write_all(b"\n")?;
        let (mut dirs, mut files) = (0_u64, 0_u64);
        let mut levels = vec![self.level(&tree, &found.object)?];
        while let Some(level) = levels.last_mut() {
            let Some(child) = level.left.next() else {
                levels.pop();
                continue;
            };
            for (depth, above) in levels.iter().enumerate() {
                let last = above.left.as_slice().is_empty();
                let here = depth + 1 == levels.len();
                let part = match (here, last) {
                    (true, false) => "├── ",
                    (true, true) => "└── ",
                    (false, false) => "│   ",
                    (false, true) => "    ",
                };
                out.write_all(part.as_bytes())?;
            }
            out.write_all(&names.show(child.name.as_bytes()))?;
            let object = child.entry.object();
            if let Some(object) = &object
                && let Some(link) = link_target(&tree, object)?
            {
                out.write_all(b" -> ")?;
                out.write_all(&names.show(&link))?;
            }
            let mark: &[u8] = match child.entry {
                Entry::Whiteout => b" (removed)\n",
                Entry::Object(object) if object.marks.opaque => b" (opaque)\n",
                Entry::Object(_) => b"\n",
            };
            out.write_all(mark)?;
            match object.filter(Object::is_dir) {
                Some(dir) => {
                    dirs += 1;
                    if self.goes_to(levels.len()) {
                        levels.push(self.level(&tree, &dir)?);
                    }
                }
                None => files += 1,
            }
        }
        let ending = |n: u64, one, many| if n == 1 { one } else { many };
        let dirs_word = ending(dirs, "directory", "directories");
        match self.directories {
            true => writeln!(out, "\n{dirs} {dirs_word}")?,
            false => {
                let files_word = ending(files, "file", "files");
                writeln!(out, "\n{dirs} {dirs_word}, {files} {files_word}")?;
            }
        }
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }

    /// Whether there are levels below one of this depth.
    fn goes_to(&self, depth: usize) -> bool {
        self.levels.is_none_or(|levels| depth < levels as usize)
    }

    fn shows(&self, name: &[u8], entry: &Entry) -> bool {
        let dir = entry.object().is_some_and(|object| object.is_dir());
        (self.all || !name.starts_with(b".")) && (dir || !self.directories)
    }

    fn level(&self, tree: &Tree, dir: &Object) -> Result<Level, Failure> {
        let mut children = match dir.is_dir() {
            true => tree.children(dir)?,
            false => Vec::new(),
        };
        children.retain(|child| self.shows(child.name.as_bytes(), &child.entry));
        let left = children.into_iter();
        Ok(Level { left })
    }

    fn rows(
        &self,
        (tree, owners): (&Tree, &Owners),
        path: &[u8],
        start: Object,
        format: &Format,
    ) -> Result<ExitCode, Failure> {
        let mut each = |visit: &Visit<'_>| {
            if visit.depth > 0 && !self.shows(visit.name(), &visit.entry) {
                return Ok(Descend::Over);
            }
            let row = row(tree, owners, visit.path, &visit.entry)?;
            print(&super::format::show(format, &[("PATH", "Path")], &[row])?)?;
            Ok(match self.goes_to(visit.depth) {
                true => Descend::Into,
                false => Descend::Over,
            })
        };
        tree.walk(path, start, &mut each)?;
        Ok(ExitCode::SUCCESS)
    }
}
