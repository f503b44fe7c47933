//! `strata ls`

use std::ffi::OsString;
use std::io::{BufWriter, IsTerminal, Write};
use std::process::ExitCode;

use super::format::Format;
use super::look::{
    NAMES_HELP, Names, device, full_time, human, link_target, mode_letters, open, owner, row,
    short_time,
};
use super::{Context, complain};
use crate::error::{Failure, FailureKind};
use crate::inspect::path::Last;
use crate::inspect::{Entry, Image, Object, Owners, Tree};
use crate::stat::FileType;

/// List files of images, as ls(1) does.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true, after_help = format!(
    "{NAMES_HELP}\n\nOwners' names are those of the image's own /etc/passwd and /etc/group; -n doesn't \
     read them.\nTimes are in UTC. In a layer, w is a whiteout and h a hard link to a file of a layer \
     below.\n\nExamples:\n  strata ls -l nginx:/etc\n  strata ls -lR nginx@2"
))]
pub struct Args {
    /// Mode, links, owner, group, size and time too.
    #[arg(short)]
    long: bool,

    /// Names that begin with a dot too.
    #[arg(short)]
    all: bool,

    /// As -a, without . and ..
    #[arg(short = 'A')]
    almost_all: bool,

    /// Sizes with units.
    #[arg(short)]
    human: bool,

    /// Directories with all that is below them.
    #[arg(short = 'R')]
    recursive: bool,

    /// Largest first.
    #[arg(short = 'S')]
    size_order: bool,

    /// Newest first.
    #[arg(short)]
    time_order: bool,

    /// The other way round.
    #[arg(short)]
    reverse: bool,

    /// One name a line.
    #[arg(short = '1')]
    one: bool,

    /// Directories themselves, not what is in them.
    #[arg(short)]
    directory: bool,

    /// As -l, with numbers for owner and group.
    #[arg(short)]
    numeric: bool,

    /// The inode's number first.
    #[arg(short)]
    inode: bool,

    /// As -l, with times in full.
    #[arg(long)]
    full_time: bool,

    /// json, or a template for each object.
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,

    /// Show this help.
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,

    /// What to list.
    #[arg(required = true, value_name = "IMAGE[:PATH]")]
    names: Vec<OsString>,
}

/// One line.
struct Item {
    name: Vec<u8>,
    path: Vec<u8>,
    entry: Entry,
}

/// An argument that was found.
struct Start {
    /// What is listed stays in the store meanwhile.
    _image: Image,
    tree: Tree,
    owners: Owners,
    path: Vec<u8>,
    object: Object,
    /// What stands before paths, where there are several arguments.
    label: Vec<u8>,
}

impl Args {
    pub fn run(mut self, context: &Context) -> Result<ExitCode, Failure> {
        self.long |= self.numeric || self.full_time;
        let format = Format::of(self.format.as_deref())?;
        let mut code = ExitCode::SUCCESS;
        let mut starts = Vec::new();
        for name in &self.names {
            match self.start(context, name) {
                Ok(start) => starts.push(start),
                Err(failure) if failure.kind() == FailureKind::Usage => return Err(failure),
                Err(failure) => {
                    complain(&failure);
                    code = ExitCode::from(2);
                }
            }
        }
        let mut out = Output {
            args: &self,
            format,
            names: Names::of_stdout(),
            terminal: std::io::stdout().is_terminal(),
            out: BufWriter::new(std::io::stdout().lock()),
            begun: false,
        };
        let several = self.names.len() > 1;
        let (dirs, others): (Vec<_>, Vec<_>) = starts
            .into_iter()
            .partition(|start| start.object.is_dir() && !self.directory);
        for start in &others {
            let name = [&start.label[..], &start.path].concat();
            let item = Item {
                name,
                path: start.path.clone(),
                entry: Entry::Object(start.object),
            };
            out.items(start, vec![item], false)?;
        }
        for start in &dirs {
            out.directories(start, several || self.recursive)?;
        }
        out.out.flush()?;
        Ok(code)
    }

    fn start(&self, context: &Context, name: &OsString) -> Result<Start, Failure> {
        let (target, image) = open(context, name)?;
        let tree = image.tree()?;
        let last = match self.long || self.directory {
            true => Last::Keep,
            false => Last::Follow,
        };
        let about = |e: Failure| e.context(image.name.escape_debug());
        // A link to nowhere is listed as itself.
        let found = tree.find(target.path(), last);
        let found = found.or_else(|e| tree.find(target.path(), Last::Keep).map_err(|_| e));
        let object = found.map_err(about)?.object;
        let label = match self.names.len() {
            1 => Vec::new(),
            _ => format!("{}:", image.name).into_bytes(),
        };
        Ok(Start {
            owners: Owners::of(&image, &tree),
            tree,
            path: target.path().to_vec(),
            object,
            label,
            _image: image,
        })
    }

    fn shows(&self, name: &[u8]) -> bool {
        self.all || self.almost_all || !name.starts_with(b".")
    }

    fn sort(&self, items: &mut [Item]) {
        let size = |item: &Item| item.entry.object().map_or(0, |o| o.stat.size);
        let time = |item: &Item| item.entry.object().map(|o| o.stat.mtime);
        items.sort_by(|a, b| {
            let order = match (self.time_order, self.size_order) {
                (true, _) => time(b).cmp(&time(a)),
                (false, true) => size(b).cmp(&size(a)),
                (false, false) => std::cmp::Ordering::Equal,
            };
            let order = order.then_with(|| a.name.cmp(&b.name));
            if self.reverse { order.reverse() } else { order }
        });
    }
}

/// What goes out.
struct Output<'a> {
    args: &'a Args,
    format: Format,
    names: Names,
    terminal: bool,
    out: BufWriter<std::io::StdoutLock<'static>>,
    begun: bool,
}

impl Output<'_> {
    /// A directory, with all below it where that is asked for.
    fn directories(&mut self, start: &Start, headings: bool) -> Result<(), Failure> {
        let mut left = vec![(start.path.clone(), start.object)];
        while let Some((path, dir)) = left.pop() {
            let items = self.inside(&start.tree, &path, &dir)?;
            if headings && matches!(self.format, Format::Table) {
                if self.begun {
                    self.out.write_all(b"\n")?;
                }
                let label = [&start.label[..], &path].concat();
                self.out.write_all(&self.names.show(&label))?;
                self.out.write_all(b":\n")?;
            }
            if self.args.recursive {
                let below = items
                    .iter()
                    .rev()
                    .filter(|item| !matches!(item.name.as_slice(), b"." | b".."))
                    .filter_map(|item| Some((item.path.clone(), item.entry.object()?)));
                left.extend(below.filter(|(_, object)| object.is_dir()));
            }
            self.items(start, items, true)?;
        }
        Ok(())
    }

    fn inside(&self, tree: &Tree, path: &[u8], dir: &Object) -> Result<Vec<Item>, Failure> {
        let mut items = Vec::new();
        let below = |name: &[u8]| {
            let mut below = path.to_vec();
            if below.last() != Some(&b'/') {
                below.push(b'/');
            }
            below.extend_from_slice(name);
            below
        };
        if self.args.all {
            let up = tree.find(&below(b".."), Last::Follow)?;
            for (name, object) in [(&b"."[..], *dir), (b"..", up.object)] {
                items.push(Item {
                    name: name.into(),
                    path: below(name),
                    entry: Entry::Object(object),
                });
            }
        }
        for child in tree.children(dir)? {
            let name = child.name.as_bytes();
            if self.args.shows(name) {
                items.push(Item {
                    name: name.into(),
                    path: below(name),
                    entry: child.entry,
                });
            }
        }
        self.args.sort(&mut items);
        Ok(items)
    }

    fn items(&mut self, start: &Start, items: Vec<Item>, total: bool) -> Result<(), Failure> {
        self.begun = true;
        match &self.format {
            Format::Table if self.args.long => return self.long(start, &items, total),
            Format::Table if self.terminal && !self.args.one => return self.columns(&items),
            Format::Table => {}
            format => {
                let mut rows = Vec::with_capacity(items.len());
                for item in &items {
                    rows.push(row(&start.tree, &start.owners, &item.path, &item.entry)?);
                }
                let text = super::format::show(format, &[("PATH", "Path")], &rows)?;
                return Ok(self.out.write_all(text.as_bytes())?);
            }
        }
        for item in &items {
            self.inode(item)?;
            self.out.write_all(&self.names.show(&item.name))?;
            self.out.write_all(b"\n")?;
        }
        Ok(())
    }

    fn inode(&mut self, item: &Item) -> Result<(), Failure> {
        if self.args.inode {
            let ino = item.entry.object().map_or(0, |o| o.stat.ino);
            write!(self.out, "{ino} ")?;
        }
        Ok(())
    }

    fn size(&self, size: u64) -> String {
        match self.args.human {
            true => human(size),
            false => size.to_string(),
        }
    }

    fn long(&mut self, start: &Start, items: &[Item], total: bool) -> Result<(), Failure> {
        if total {
            let blocks: u64 = items
                .iter()
                .filter_map(|item| item.entry.object())
                .map(|object| object.stat.blocks)
                .fold(0, u64::saturating_add);
            let total = match self.args.human {
                true => human(blocks.saturating_mul(512)),
                false => blocks.div_ceil(2).to_string(),
            };
            writeln!(self.out, "total {total}")?;
        }
        let cells = items.iter().map(|item| self.cells(&start.owners, item));
        let cells: Vec<[String; 5]> = cells.collect();
        let width = |at: usize| {
            let cells = cells.iter().filter_map(|c| c.get(at));
            let lengths = cells.map(|text| text.chars().count());
            lengths.max().unwrap_or(0)
        };
        let (links, user, group, size) = (width(0), width(1), width(2), width(3));
        for (item, [a, b, c, d, when]) in items.iter().zip(&cells) {
            self.inode(item)?;
            let mode = mode_letters(&item.entry);
            write!(self.out, "{mode} {a:>links$} ")?;
            match self.args.numeric {
                true => write!(self.out, "{b:>user$} {c:>group$} ")?,
                false => write!(self.out, "{b:<user$} {c:<group$} ")?,
            }
            write!(self.out, "{d:>size$} {when} ")?;
            self.out.write_all(&self.names.show(&item.name))?;
            let target = match item.entry.object() {
                Some(object) => link_target(&start.tree, &object)?.map(|t| (object.stat.kind, t)),
                None => None,
            };
            if let Some((kind, target)) = target {
                let arrow: &[u8] = match kind {
                    FileType::Symlink => b" -> ",
                    _ => b" link to ",
                };
                self.out.write_all(arrow)?;
                self.out.write_all(&self.names.show(&target))?;
            }
            self.out.write_all(b"\n")?;
        }
        Ok(())
    }

    /// Links, owner, group, size or device, and time.
    fn cells(&self, owners: &Owners, item: &Item) -> [String; 5] {
        let Entry::Object(object) = &item.entry else {
            return ["0", "-", "-", "-", "-"].map(str::to_owned);
        };
        let stat = &object.stat;
        let (user, group) = match self.args.numeric {
            true => (None, None),
            false => (owners.user(stat.uid), owners.group(stat.gid)),
        };
        let size = match device(stat) {
            Some((major, minor)) => format!("{major}, {minor:>3}"),
            None => self.size(stat.size),
        };
        let when = match self.args.full_time {
            true => full_time(stat.mtime),
            false => short_time(stat.mtime),
        };
        [
            stat.nlink.to_string(),
            owner(user, stat.uid),
            owner(group, stat.gid),
            size,
            when,
        ]
    }

    /// Names beside each other, as many as there is room for, down first.
    fn columns(&mut self, items: &[Item]) -> Result<(), Failure> {
        let shown: Vec<Vec<u8>> = items.iter().map(|i| self.names.show(&i.name)).collect();
        let length = |name: &Vec<u8>| String::from_utf8_lossy(name).chars().count();
        let widest = shown.iter().map(length).max().unwrap_or(0) + 2;
        let room: usize = std::env::var("COLUMNS")
            .ok()
            .and_then(|columns| columns.parse().ok())
            .unwrap_or(80);
        let across = (room / widest).max(1);
        let down = shown.len().div_ceil(across).max(1);
        for line in 0..down {
            let mut cells = shown.iter().skip(line).step_by(down).peekable();
            while let Some(cell) = cells.next() {
                self.out.write_all(cell)?;
                match cells.peek() {
                    Some(_) => write!(self.out, "{:1$}", "", widest - length(cell))?,
                    None => self.out.write_all(b"\n")?,
                }
            }
        }
        Ok(())
    }
}
