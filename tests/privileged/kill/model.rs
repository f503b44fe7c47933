//! What a directory must look like: changed by the same steps as the real one.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{
    DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, RenameFlags};

use crate::common::random::Random;

/// One object.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Object {
    Dir { mode: u32 },
    Symlink { target: String },
    File { id: u64 },
}

/// A file, which may have several names.
#[derive(Clone, PartialEq, Eq)]
struct Contents {
    data: Arc<Vec<u8>>,
    mode: u32,
}

/// A directory tree. Paths have at most two components.
#[derive(Clone, PartialEq, Eq)]
struct State {
    names: BTreeMap<String, Object>,
    files: BTreeMap<u64, Contents>,
}

/// The tree as it is when all that was answered has happened, and as it may be besides, if
/// something was under way that was never answered.
pub struct Model {
    now: State,
    perhaps: Vec<State>,
    next: u64,
    /// The last steps and what became of them, for who has to find out why.
    last: VecDeque<String>,
}

const KEPT: usize = 6;

/// How a step ended.
#[derive(PartialEq, Eq)]
pub enum Done {
    /// It happened, or was refused.
    Answered,
    /// The daemon is dead.
    Gone,
}

/// Something that changes a directory.
#[derive(Debug, Clone)]
pub enum Step {
    Create(String, Vec<u8>),
    Write(String, u64, Vec<u8>),
    Append(String, Vec<u8>),
    Rewrite(String, Vec<u8>),
    Truncate(String, u64),
    Chmod(String, u32),
    Mkdir(String),
    Symlink(String),
    Link(String, String),
    Unlink(String),
    Rmdir(String),
    Rename(String, String),
    Exchange(String, String),
    Sync(String),
}

const NAMES: [&str; 13] = [
    "f0", "f1", "f2", "big", "g0", "d0", "d1", "d2", "d0/f0", "d0/f1", "d1/f0", "d2/f0", "d0/d3",
];

impl Step {
    /// A step; most often with a name that is there.
    pub fn random(random: &mut Random, model: &Model) -> Step {
        let known: Vec<String> = model.now.names.keys().cloned().collect();
        let mut name = || {
            if random.below(3) == 0 || known.is_empty() {
                random.pick(&NAMES).to_owned()
            } else {
                random.pick(&known)
            }
        };
        let (a, b) = (name(), name());
        let size = random.pick(&[0, 1, 700, 4096, 20_000]);
        let data = vec![u8::try_from(random.below(256)).unwrap(); size];
        match random.below(26) {
            0..=2 => Step::Create(a, data),
            3..=5 => Step::Write(a, random.pick(&[0, 100, 5000]), data),
            6 | 7 => Step::Append(a, data),
            8 | 9 => Step::Rewrite(a, data),
            10 => Step::Truncate(a, random.pick(&[0, 5, 6000])),
            11..=13 => Step::Chmod(a, random.pick(&[0o600, 0o644, 0o755])),
            14 => Step::Mkdir(a),
            15 => Step::Symlink(a),
            16 | 17 => Step::Link(a, b),
            18 | 19 => Step::Unlink(a),
            20 => Step::Rmdir(a),
            21..=23 => Step::Rename(a, b),
            24 => Step::Exchange(a, b),
            _ => Step::Sync(a),
        }
    }

    /// The step without its data.
    fn short(&self) -> String {
        let text = format!("{self:?}");
        text.chars().take(60).collect()
    }

    /// Does it in a real directory.
    fn run(&self, dir: &Path) -> io::Result<()> {
        let open = |name: &str, options: &mut OpenOptions| options.open(dir.join(name));
        match self {
            Step::Create(name, data) => {
                let mut options = OpenOptions::new();
                options.write(true).create_new(true).mode(0o600);
                open(name, &mut options)?.write_all(data)
            }
            Step::Write(name, at, data) => {
                open(name, OpenOptions::new().write(true))?.write_all_at(data, *at)
            }
            Step::Append(name, data) => {
                open(name, OpenOptions::new().append(true))?.write_all(data)
            }
            Step::Rewrite(name, data) => {
                open(name, OpenOptions::new().write(true).truncate(true))?.write_all(data)
            }
            Step::Truncate(name, size) => {
                open(name, OpenOptions::new().write(true))?.set_len(*size)
            }
            Step::Chmod(name, mode) => chmod(&dir.join(name), *mode),
            Step::Mkdir(name) => fs::DirBuilder::new().mode(0o700).create(dir.join(name)),
            Step::Symlink(name) => symlink(TARGET, dir.join(name)),
            // The model has one name for each symbolic link.
            Step::Link(from, _) if dir.join(from).is_symlink() => {
                Err(io::Error::other("not tried"))
            }
            Step::Link(from, to) => fs::hard_link(dir.join(from), dir.join(to)),
            Step::Unlink(name) => fs::remove_file(dir.join(name)),
            Step::Rmdir(name) => fs::remove_dir(dir.join(name)),
            Step::Rename(from, to) => fs::rename(dir.join(from), dir.join(to)),
            Step::Exchange(a, b) => {
                let flags = RenameFlags::EXCHANGE;
                Ok(rustix::fs::renameat_with(
                    CWD,
                    dir.join(a),
                    CWD,
                    dir.join(b),
                    flags,
                )?)
            }
            Step::Sync(name) => File::open(dir.join(name))?.sync_all(),
        }
    }
}

/// Where symbolic links lead: nowhere.
const TARGET: &str = "no/where";

impl Model {
    /// The tree that the lowers have for every writer.
    pub fn first() -> Model {
        let mut model = Model {
            now: State {
                names: BTreeMap::new(),
                files: BTreeMap::new(),
            },
            perhaps: Vec::new(),
            next: 0,
            last: VecDeque::new(),
        };
        for (name, size) in [("f0", 10), ("f1", 5000), ("big", 3 << 20), ("d0/f0", 100)] {
            let data = vec![u8::try_from(name.len()).unwrap(); size];
            model.now.add_file(&mut model.next, name, data, 0o644);
        }
        for dir in ["d0", "d1"] {
            let dir_object = Object::Dir { mode: 0o755 };
            model.now.names.insert(dir.to_owned(), dir_object);
        }
        model
            .now
            .add_file(&mut model.next, "d1/f0", b"x".to_vec(), 0o600);
        model
    }

    /// Makes the tree out of two lowers: `d0` is in both, `d1` in the second.
    pub fn make(&self, [top, bottom]: [PathBuf; 2]) {
        for (name, object) in &self.now.names {
            let at = match name.as_str() {
                "f0" | "d0/f0" => &top,
                _ => &bottom,
            };
            match object {
                Object::Dir { mode } => {
                    for at in [&top, &bottom] {
                        if at == &bottom || name == "d0" {
                            fs::create_dir(at.join(name)).unwrap();
                            chmod(&at.join(name), *mode).unwrap();
                        }
                    }
                }
                Object::Symlink { target } => symlink(target, at.join(name)).unwrap(),
                Object::File { id } => {
                    let contents = &self.now.files[id];
                    fs::write(at.join(name), &*contents.data).unwrap();
                    chmod(&at.join(name), contents.mode).unwrap();
                }
            }
        }
    }

    /// Does a step, in the directory and here.
    pub fn run(&mut self, dir: &Path, step: &Step) -> Done {
        let mut states = self.now.after(step, &mut self.next);
        let done = step.run(dir);
        self.last.push_back(format!("{} {done:?}", step.short()));
        self.last.drain(..self.last.len().saturating_sub(KEPT));
        match done {
            Ok(()) => {
                let last = states.pop();
                self.now = last.unwrap_or_else(|| panic!("{step:?} succeeded"));
                Done::Answered
            }
            Err(e) if is_gone(&e) => {
                self.perhaps = states;
                Done::Gone
            }
            // What is refused is refused as a whole.
            Err(_) => Done::Answered,
        }
    }

    /// Which of the possible trees the real one is; from here on that one.
    pub fn settle(&mut self, dir: &Path) -> Result<(), String> {
        let real = State::read(dir).map_err(|e| format!("read the tree: {e}"))?;
        let real = real.shown();
        let mut possible: Vec<_> = self.perhaps.drain(..).collect();
        possible.insert(0, self.now.clone());
        let mut why = String::new();
        for state in possible {
            let difference = differences(&state.shown(), &real);
            if difference.is_empty() {
                self.now = state;
                return Ok(());
            }
            why = format!("{why}\n {difference}");
        }
        let last = self.last.make_contiguous().join("\n  ");
        Err(format!(
            "neither the old nor the new:{why}\nlast:\n  {last}"
        ))
    }
}

/// What is shown under each name.
type Shown = BTreeMap<String, String>;

fn differences(expected: &Shown, real: &Shown) -> String {
    let mut lines = Vec::new();
    for name in expected.keys().chain(real.keys()) {
        let (expected, real) = (expected.get(name), real.get(name));
        let line = format!("{name}: {expected:?}, but it is {real:?}");
        if expected != real && !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines.join("\n  ")
}

impl State {
    fn add_file(&mut self, next: &mut u64, name: &str, data: Vec<u8>, mode: u32) {
        *next += 1;
        let data = Arc::new(data);
        self.files.insert(*next, Contents { data, mode });
        self.names
            .insert(name.to_owned(), Object::File { id: *next });
    }

    /// The states that a step leads through, the last is its end; none if it must be refused.
    fn after(&self, step: &Step, next: &mut u64) -> Vec<State> {
        self.try_after(step, next).unwrap_or_default()
    }

    fn try_after(&self, step: &Step, next: &mut u64) -> Option<Vec<State>> {
        let mut state = self.clone();
        let mut states = Vec::new();
        match step {
            Step::Create(name, data) => {
                state.vacant(name)?;
                state.add_file(next, name, Vec::new(), 0o600);
                states.push(state.clone());
                state.write(name, 0, data, &mut states)?;
            }
            Step::Write(name, at, data) => {
                let at = usize::try_from(*at).ok()?;
                state.write(name, at, data, &mut states)?;
            }
            Step::Append(name, data) => {
                let end = state.file(name)?.data.len();
                state.write(name, end, data, &mut states)?;
            }
            Step::Rewrite(name, data) => {
                state.file(name)?.data = Arc::default();
                states.push(state.clone());
                state.write(name, 0, data, &mut states)?;
            }
            Step::Truncate(name, size) => {
                let size = usize::try_from(*size).ok()?;
                Arc::make_mut(&mut state.file(name)?.data).resize(size, 0);
            }
            Step::Chmod(name, mode) => match state.names.get_mut(name)? {
                Object::Dir { mode: now } => *now = *mode,
                _ => state.file(name)?.mode = *mode,
            },
            Step::Mkdir(name) => {
                state.vacant(name)?;
                state
                    .names
                    .insert(name.clone(), Object::Dir { mode: 0o700 });
            }
            Step::Symlink(name) => {
                state.vacant(name)?;
                let target = TARGET.to_owned();
                state.names.insert(name.clone(), Object::Symlink { target });
            }
            Step::Sync(name) => {
                if let Object::Symlink { .. } = state.names.get(name)? {
                    return None;
                }
            }
            _ => state.rename_and_remove(step)?,
        }
        states.push(state);
        Some(states)
    }

    fn rename_and_remove(&mut self, step: &Step) -> Option<()> {
        match step {
            Step::Link(from, to) => {
                self.vacant(to)?;
                let object = self.names.get(from)?.clone();
                if !matches!(object, Object::File { .. }) {
                    return None;
                }
                self.names.insert(to.clone(), object);
            }
            Step::Unlink(name) => match self.names.get(name)? {
                Object::Dir { .. } => return None,
                _ => drop(self.names.remove(name)),
            },
            Step::Rmdir(name) => {
                self.empty_dir(name)?;
                self.names.remove(name);
            }
            Step::Rename(from, to) => {
                let object = self.names.get(from)?.clone();
                self.has_parent(to)?;
                let (is_dir, there) = (matches!(object, Object::Dir { .. }), self.names.get(to));
                let same =
                    matches!((&object, there), (Object::File { .. }, Some(o)) if *o == object);
                if from == to || same {
                    return Some(());
                }
                match there {
                    None => {}
                    Some(Object::Dir { .. }) if is_dir => self.empty_dir(to)?,
                    Some(Object::Dir { .. }) => return None,
                    Some(_) if is_dir => return None,
                    Some(_) => {}
                }
                if below(to, from) {
                    return None;
                }
                self.names.remove(to);
                self.moved(&[(from, to)]);
            }
            Step::Exchange(a, b) => {
                self.names.get(a).and(self.names.get(b))?;
                if below(a, b) || below(b, a) {
                    return None;
                }
                self.moved(&[(a, b), (b, a)]);
            }
            _ => return None,
        }
        Some(())
    }

    /// Gives names, and all below them, other names, all at once.
    fn moved(&mut self, pairs: &[(&String, &String)]) {
        let renamed = |name: &String| {
            for (from, to) in pairs {
                if name == *from {
                    return (*to).clone();
                }
                if below(name, from) {
                    return format!("{to}{}", &name[from.len()..]);
                }
            }
            name.clone()
        };
        let names = std::mem::take(&mut self.names);
        self.names = names.into_iter().map(|(n, o)| (renamed(&n), o)).collect();
    }

    fn has_parent(&self, name: &str) -> Option<()> {
        match name.rsplit_once('/') {
            None => Some(()),
            Some((dir, _)) => matches!(self.names.get(dir)?, Object::Dir { .. }).then_some(()),
        }
    }

    fn vacant(&self, name: &str) -> Option<()> {
        self.has_parent(name)?;
        (!self.names.contains_key(name)).then_some(())
    }

    fn empty_dir(&self, name: &str) -> Option<()> {
        let is_dir = matches!(self.names.get(name)?, Object::Dir { .. });
        (is_dir && !self.names.keys().any(|n| below(n, name))).then_some(())
    }

    fn file(&mut self, name: &str) -> Option<&mut Contents> {
        match self.names.get(name)? {
            Object::File { id } => self.files.get_mut(id),
            _ => None,
        }
    }

    /// One write(2); one that is cut off has written whole pages.
    fn write(&mut self, name: &str, at: usize, data: &[u8], states: &mut Vec<State>) -> Option<()> {
        const PAGE: usize = 4096;
        self.file(name)?;
        let mut done = 0;
        while done < data.len() {
            let part = (PAGE - (at + done) % PAGE).min(data.len() - done);
            let bytes = Arc::make_mut(&mut self.file(name)?.data);
            bytes.resize(bytes.len().max(at + done + part), 0);
            bytes[at + done..at + done + part].copy_from_slice(&data[done..done + part]);
            done += part;
            states.push(self.clone());
        }
        Some(())
    }

    /// Reads a real directory.
    fn read(dir: &Path) -> io::Result<State> {
        let mut state = State {
            names: BTreeMap::new(),
            files: BTreeMap::new(),
        };
        let mut pending = vec![String::new()];
        while let Some(prefix) = pending.pop() {
            for entry in fs::read_dir(dir.join(&prefix))? {
                let entry = entry?;
                let name = format!("{prefix}{}", entry.file_name().into_string().unwrap());
                let meta = entry.path().symlink_metadata()?;
                let mode = meta.mode() & 0o7777;
                let object = if meta.is_dir() {
                    pending.push(format!("{name}/"));
                    Object::Dir { mode }
                } else if meta.is_symlink() {
                    let target = fs::read_link(entry.path())?.into_os_string();
                    let target = target.into_string().unwrap();
                    Object::Symlink { target }
                } else {
                    let data = fs::read(entry.path())?;
                    if data.len() as u64 != meta.len() {
                        return Err(io::Error::other(format!("{name}: a wrong size")));
                    }
                    let data = Arc::new(data);
                    state.files.insert(meta.ino(), Contents { data, mode });
                    Object::File { id: meta.ino() }
                };
                state.names.insert(name, object);
            }
        }
        Ok(state)
    }

    /// Each name with all that it shows.
    fn shown(&self) -> Shown {
        let mut first: BTreeMap<u64, String> = BTreeMap::new();
        let show = |(name, object): (&String, &Object)| {
            let text = match object {
                Object::File { id } => {
                    let Contents { data, mode } = &self.files[id];
                    let same_as = first.entry(*id).or_insert_with(|| name.clone());
                    let sum = crc32fast::hash(data);
                    format!(
                        "file {mode:o} of {} bytes, {sum:08x}, as {same_as}",
                        data.len()
                    )
                }
                other => format!("{other:?}"),
            };
            (name.clone(), text)
        };
        self.names.iter().map(show).collect()
    }
}

fn below(name: &str, dir: &str) -> bool {
    name.strip_prefix(dir)
        .is_some_and(|rest| rest.starts_with('/'))
}

fn chmod(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn is_gone(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::ENOTCONN | libc::ECONNABORTED))
}
