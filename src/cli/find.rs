//! `strata find`

use std::ffi::OsString;
use std::io::{BufWriter, Write};
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

use super::Context;
use super::format::{Format, show};
use super::look::{
    NAMES_HELP, Names, device, link_target, mode_letters, open, owner, row, short_time,
};
use crate::error::Failure;
use crate::inspect::find::{Action, Find};
use crate::inspect::path::Last;
use crate::inspect::{Entry, Owners, Tree, Visit};

/// Find files of an image, as find(1) does.
#[derive(Debug, clap::Args)]
#[command(after_help = format!(
    "Tests: -name -iname -path -ipath -regex -iregex (-regextype emacs, posix-basic or \
     posix-extended)\n  -lname -type -size -mtime -mmin -newer PATH -user -uid -nouser -group -gid \
     -nogroup -perm\n  -links -inum -empty -true -false, -xattr PATTERN (it has such an extended attribute),\n  \
     -layer N (its content comes from layer N)\nActions: -print -print0 -ls -prune\n\
     Limits: -maxdepth -mindepth\nBetween them: ! -not -a -and -o -or ( )\n\n\
     A user's or group's name, other than root, is looked up in the image's own /etc/passwd or \
     /etc/group.\n\n{NAMES_HELP}\n\n\
     Examples:\n  strata find nginx -perm -4000 -ls\n  strata find nginx:/etc -name '*.conf' -size +4k"
))]
pub struct Args {
    /// json, or a template for each object. It goes before the image.
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,

    /// The image.
    #[arg(value_name = "IMAGE[:PATH]")]
    name: OsString,

    /// Where to start, and the expression.
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "PATH… EXPRESSION"
    )]
    words: Vec<OsString>,
}

impl Args {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let (target, image) = open(context, &self.name)?;
        let tree = image.tree()?;
        let format = Format::of(self.format.as_deref())?;
        let words: Vec<_> = self.words.into_iter().map(OsString::into_vec).collect();
        let is_path = |word: &&Vec<u8>| !matches!(word.first(), Some(b'-' | b'(' | b'!' | b')'));
        let count = words.iter().take_while(is_path).count();
        let (paths, expression) = words.split_at_checked(count).unwrap_or((&words, &[]));
        let find = Find::parse(expression, &tree)?;
        let starts: Vec<Vec<u8>> = match (paths, &target.path) {
            ([], _) => vec![target.path().to_vec()],
            (paths, None) => paths.to_vec(),
            (_, Some(_)) => {
                return Err(Failure::usage(
                    "find: a path is in the image's name or after it, not both",
                ));
            }
        };
        let mut out = Lines {
            tree: &tree,
            owners: Owners::of(&image, &tree),
            format,
            names: Names::of_stdout(),
            out: BufWriter::new(std::io::stdout().lock()),
        };
        let mut code = ExitCode::SUCCESS;
        for path in starts {
            let found = match tree.find(&path, Last::Keep) {
                Ok(found) => found,
                Err(e) => {
                    super::complain(&e.context(image.name.escape_debug()));
                    code = ExitCode::FAILURE;
                    continue;
                }
            };
            let mut sink = |action, visit: &Visit<'_>| out.take(action, visit);
            find.run(&tree, &path, found.object, &mut sink)?;
        }
        out.out.flush()?;
        Ok(code)
    }
}

struct Lines<'t> {
    tree: &'t Tree,
    owners: Owners,
    format: Format,
    names: Names,
    out: BufWriter<std::io::StdoutLock<'static>>,
}

impl Lines<'_> {
    fn take(&mut self, action: Action, visit: &Visit<'_>) -> Result<(), Failure> {
        if !matches!(self.format, Format::Table) {
            let row = row(self.tree, &self.owners, visit.path, &visit.entry)?;
            let text = show(&self.format, &[("PATH", "Path")], &[row])?;
            return Ok(self.out.write_all(text.as_bytes())?);
        }
        match action {
            // Read by programs, never by a terminal's user.
            Action::Print0 => {
                self.out.write_all(visit.path)?;
                self.out.write_all(b"\0")?;
            }
            Action::Print => {
                self.out.write_all(&self.names.show(visit.path))?;
                self.out.write_all(b"\n")?;
            }
            Action::List => self.list(visit)?,
        }
        Ok(())
    }

    fn list(&mut self, visit: &Visit<'_>) -> Result<(), Failure> {
        let mode = mode_letters(&visit.entry);
        if let Entry::Object(object) = &visit.entry {
            let stat = &object.stat;
            let size = match device(stat) {
                Some((major, minor)) => format!("{major}, {minor:>3}"),
                None => stat.size.to_string(),
            };
            write!(
                self.out,
                "{:>9} {:>6} {mode} {:>3} {:<8} {:<8} {size:>8} {} ",
                stat.ino,
                stat.blocks.div_ceil(2),
                stat.nlink,
                owner(self.owners.user(stat.uid), stat.uid),
                owner(self.owners.group(stat.gid), stat.gid),
                short_time(stat.mtime),
            )?;
        } else {
            let dash = "-";
            write!(
                self.out,
                "{dash:>9} {dash:>6} {mode} {dash:>3} {dash:<8} {dash:<8} {dash:>8} {dash:<12} "
            )?;
        }
        self.out.write_all(&self.names.show(visit.path))?;
        if let Some(object) = visit.entry.object()
            && let Some(target) = link_target(self.tree, &object)?
        {
            self.out.write_all(b" -> ")?;
            self.out.write_all(&self.names.show(&target))?;
        }
        self.out.write_all(b"\n")?;
        Ok(())
    }
}
