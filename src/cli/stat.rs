//! `strata stat`

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use serde_json::Value;

use super::format::{Format, show};
use super::look::{
    NAMES_HELP, Names, device, full_time, kind_name, link_target, mode_letters, open, owner,
    quoted, row, time,
};
use super::{Context, complain};
use crate::error::Failure;
use crate::inspect::path::Last;
use crate::inspect::{Entry, Image, Object, Owners, Tree};
use crate::stat::FileType;

/// Show all that is known of files of images, as stat(1) does.
#[derive(Debug, clap::Args)]
#[command(after_help = format!(
    "In FORMAT: %a %A mode, %b blocks, %F type, %f raw mode, %g %u ids, %G %U names, %h links, %i \
     inode,\n%n name, %N quoted name, %s size, %t %T device, %x %X %y %Y %z %Z times, %l the layer of \
     its content.\n\n{NAMES_HELP}\n\nExample:\n  strata stat -c '%a %u:%g %n' nginx:/etc/shadow"
))]
pub struct Args {
    /// Links themselves are always meant; this follows them.
    #[arg(short = 'L', long)]
    dereference: bool,

    /// json, a template, or stat(1)'s FORMAT.
    #[arg(short = 'c', long, value_name = "FORMAT")]
    format: Option<String>,

    /// The files.
    #[arg(required = true, value_name = "IMAGE[:PATH]")]
    names: Vec<OsString>,
}

/// So many names of a file are shown.
const NAMES_SHOWN: usize = 10;
/// What stat(1) says of a user or group without a name.
const UNKNOWN: &[u8] = b"UNKNOWN";

/// A file that was found.
struct Found<'a> {
    image: &'a Image,
    tree: &'a Tree,
    owners: Owners,
    path: &'a [u8],
    object: Object,
}

impl Args {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let mut code = ExitCode::SUCCESS;
        let percent = self
            .format
            .as_deref()
            .filter(|f| f.contains('%') && !f.contains("{{"));
        let format = match percent {
            Some(_) => Format::Table,
            None => Format::of(self.format.as_deref())?,
        };
        for name in &self.names {
            match self.one(context, name, percent, &format) {
                Ok(text) => std::io::stdout().lock().write_all(&text)?,
                Err(failure) => {
                    complain(&failure);
                    code = ExitCode::FAILURE;
                }
            }
        }
        Ok(code)
    }

    fn one(
        &self,
        context: &Context,
        name: &OsString,
        percent: Option<&str>,
        format: &Format,
    ) -> Result<Vec<u8>, Failure> {
        let (target, image) = open(context, name)?;
        let tree = image.tree()?;
        let last = match self.dereference {
            true => Last::Follow,
            false => Last::Keep,
        };
        let about = |e: Failure| e.context(image.name.escape_debug());
        let found = tree.find(target.path(), last).map_err(about)?;
        let found = Found {
            image: &image,
            tree: &tree,
            owners: Owners::of(&image, &tree),
            path: target.path(),
            object: found.object,
        };
        match (percent, format) {
            (Some(percent), _) => found.by_letters(percent),
            (None, Format::Table) => found.in_full(),
            (None, format) => {
                let row = found.row()?;
                Ok(show(format, &[("PATH", "Path")], &[row])?.into_bytes())
            }
        }
    }
}

impl Found<'_> {
    fn row(&self) -> Result<Value, Failure> {
        let entry = Entry::Object(self.object);
        let mut row = row(self.tree, &self.owners, self.path, &entry)?;
        let xattrs = self.tree.xattrs(&self.object)?;
        if let Value::Object(row) = &mut row {
            let stat = &self.object.stat;
            row.insert("AccessTime".into(), full_time(stat.atime).into());
            row.insert("ChangeTime".into(), full_time(stat.ctime).into());
            row.insert("Blocks".into(), stat.blocks.into());
            let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
            let attrs = xattrs
                .iter()
                .map(|(n, v)| (text(n), Value::from(text(v))))
                .collect();
            row.insert("Xattrs".into(), Value::Object(attrs));
            let paths = self.tree.paths_of(&self.object)?;
            if paths.len() > 1 {
                let paths: Vec<_> = paths
                    .iter()
                    .map(|p| String::from_utf8_lossy(p).into_owned())
                    .collect();
                row.insert("Names".into(), paths.into());
            }
        }
        Ok(row)
    }

    fn in_full(&self) -> Result<Vec<u8>, Failure> {
        let stat = &self.object.stat;
        let names = Names::of_stdout();
        let mut out = b"  File: ".to_vec();
        out.extend(names.show(self.path));
        if let Some(target) = link_target(self.tree, &self.object)? {
            out.extend_from_slice(b" -> ");
            out.extend(names.show(&target));
        }
        let kind = match self.object.marks.link_below {
            true => "hard link to a file of a layer below",
            false => kind_name(stat.kind),
        };
        write!(
            out,
            "\n  Size: {:<15} Blocks: {:<10} {kind}\n Inode: {:<15} Links: {}",
            stat.size, stat.blocks, stat.ino, stat.nlink
        )?;
        if let Some((major, minor)) = device(stat) {
            write!(out, "     Device type: {major},{minor}")?;
        }
        let mode = mode_letters(&Entry::Object(self.object));
        write!(
            out,
            "\nAccess: ({:04o}/{mode})  Uid: ({:5}/{:>8})   Gid: ({:5}/{:>8})\n",
            stat.perm,
            stat.uid,
            owner(
                Some(self.owners.user(stat.uid).unwrap_or(UNKNOWN)),
                stat.uid
            ),
            stat.gid,
            owner(
                Some(self.owners.group(stat.gid).unwrap_or(UNKNOWN)),
                stat.gid
            ),
        )?;
        for (what, at) in [
            ("Access", stat.atime),
            ("Modify", stat.mtime),
            ("Change", stat.ctime),
        ] {
            writeln!(out, "{what}: {}", full_time(at))?;
        }
        for (name, value) in self.tree.xattrs(&self.object)? {
            let (name, value) = (name.escape_ascii(), value.escape_ascii());
            writeln!(out, " Xattr: {name}=\"{value}\"")?;
        }
        let paths = self.tree.paths_of(&self.object)?;
        if paths.len() > 1 {
            for path in paths.iter().take(NAMES_SHOWN) {
                out.extend_from_slice(b"  Name: ");
                out.extend(names.show(path));
                out.push(b'\n');
            }
            if let Some(more) = paths.len().checked_sub(NAMES_SHOWN).filter(|n| *n > 0) {
                writeln!(out, "  Name: and {more} more")?;
            }
        }
        if let Some((number, _)) = self.tree.origin(&self.object)?
            && self.tree.index().is_some_and(|i| i.layer_count() > 1)
            && let Ok(layer) = self.image.layer(number)
        {
            let by = super::format::printable(&layer.created_by().replace(['\n', '\t'], " "));
            let by = super::format::ellipsis(&by, 60);
            writeln!(out, " Layer: {number} {by}")?;
        }
        Ok(out)
    }

    /// stat(1)'s `--format`; with a newline, as its `-c` has it.
    fn by_letters(&self, format: &str) -> Result<Vec<u8>, Failure> {
        let mut out = Vec::new();
        let mut letters = format.chars();
        while let Some(c) = letters.next() {
            if c != '%' {
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            match letters.next() {
                Some(letter) => self.letter(letter, &mut out)?,
                None => out.push(b'%'),
            }
        }
        out.push(b'\n');
        Ok(out)
    }

    fn letter(&self, letter: char, out: &mut Vec<u8>) -> Result<(), Failure> {
        let stat = &self.object.stat;
        let (major, minor) = device(stat).unwrap_or_default();
        let text = match letter {
            'a' => format!("{:o}", stat.perm),
            'A' => mode_letters(&Entry::Object(self.object)),
            'b' => stat.blocks.to_string(),
            'B' => "512".to_owned(),
            'f' => format!("{:x}", stat.mode()),
            'F' if stat.kind == FileType::Regular && stat.size == 0 => {
                "regular empty file".to_owned()
            }
            'F' => kind_name(stat.kind).to_owned(),
            'g' => stat.gid.to_string(),
            'G' => owner(
                Some(self.owners.group(stat.gid).unwrap_or(UNKNOWN)),
                stat.gid,
            ),
            'u' => stat.uid.to_string(),
            'U' => owner(
                Some(self.owners.user(stat.uid).unwrap_or(UNKNOWN)),
                stat.uid,
            ),
            'h' => stat.nlink.to_string(),
            'i' => stat.ino.to_string(),
            'n' => {
                out.extend(Names::of_stdout().show(self.path));
                return Ok(());
            }
            'N' => {
                out.extend(quoted(self.path));
                if let Some(target) = link_target(self.tree, &self.object)? {
                    out.extend_from_slice(b" -> ");
                    out.extend(quoted(&target));
                }
                return Ok(());
            }
            's' => stat.size.to_string(),
            't' => format!("{major:x}"),
            'T' => format!("{minor:x}"),
            'x' => full_time(stat.atime),
            'X' => time(stat.atime, "%s"),
            'y' => full_time(stat.mtime),
            'Y' => time(stat.mtime, "%s"),
            'z' => full_time(stat.ctime),
            'Z' => time(stat.ctime, "%s"),
            'l' => match self.tree.origin(&self.object)? {
                Some((layer, _)) => layer.to_string(),
                None => "-".to_owned(),
            },
            '%' => "%".to_owned(),
            other => {
                return Err(Failure::usage(format!(
                    "stat: %{} is not one of the letters that there are",
                    other.escape_debug()
                )));
            }
        };
        out.extend_from_slice(text.as_bytes());
        Ok(())
    }
}
