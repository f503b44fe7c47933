//! The tree oracle: everything that a directory tree shows, in a form that can be compared.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CString, OsString};
use std::fmt::Write as _;
use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// One object of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// `dir`, `file`, `symlink`, `char`, `block`, `fifo` or `socket`.
    pub kind: &'static str,
    /// Permission bits, setuid, setgid and sticky included.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes; 0 for directories, whose size is the file system's own business.
    pub size: u64,
    /// Modification time in whole seconds.
    pub mtime: i64,
    /// For objects with several names: how many, and the first of those names inside the tree.
    pub links: Option<(u64, PathBuf)>,
    /// Symlink target.
    pub target: Option<OsString>,
    /// Extended attributes.
    pub xattrs: BTreeMap<OsString, Vec<u8>>,
    /// Major and minor number of a device.
    pub rdev: Option<(u32, u32)>,
    /// SHA-256 of a file's contents.
    pub sha256: Option<String>,
}

/// A tree: path below its root (the root itself is the empty path) to object.
pub type Tree = BTreeMap<PathBuf, Object>;

/// Lists the tree below `root` completely, contents included.
pub fn list(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut first_name = HashMap::new();
    let mut pending = vec![PathBuf::new()];
    let mut linked = Vec::new();
    while let Some(path) = pending.pop() {
        let full = if path.as_os_str().is_empty() {
            root.to_owned()
        } else {
            root.join(&path)
        };
        let meta = fs::symlink_metadata(&full).unwrap_or_else(|e| panic!("lstat {full:?}: {e}"));
        if meta.is_dir() {
            let names = fs::read_dir(&full).unwrap_or_else(|e| panic!("readdir {full:?}: {e}"));
            for name in names {
                let name = name
                    .unwrap_or_else(|e| panic!("readdir {full:?}: {e}"))
                    .file_name();
                pending.push(path.join(name));
            }
        } else if meta.nlink() > 1 {
            let id = (meta.dev(), meta.ino());
            let name = first_name.entry(id).or_insert_with(|| path.clone());
            if path < *name {
                name.clone_from(&path);
            }
            linked.push((path.clone(), id));
        }
        let object = object(&full, &meta).unwrap_or_else(|e| panic!("read {full:?}: {e}"));
        let twice = tree.insert(path.clone(), object);
        assert!(twice.is_none(), "{path:?} was listed twice");
    }
    for (path, id) in linked {
        if let (Some(object), Some(first)) = (tree.get_mut(&path), first_name.get(&id)) {
            let nlink = object.links.as_ref().map_or(0, |(nlink, _)| *nlink);
            object.links = Some((nlink, first.clone()));
        }
    }
    tree
}

fn object(full: &Path, meta: &Metadata) -> io::Result<Object> {
    let kind = meta.file_type();
    let rdev = || {
        Some((
            rustix::fs::major(meta.rdev()),
            rustix::fs::minor(meta.rdev()),
        ))
    };
    Ok(Object {
        kind: match () {
            () if kind.is_dir() => "dir",
            () if kind.is_file() => "file",
            () if kind.is_symlink() => "symlink",
            () if kind.is_char_device() => "char",
            () if kind.is_block_device() => "block",
            () if kind.is_fifo() => "fifo",
            () => "socket",
        },
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
        size: if kind.is_dir() { 0 } else { meta.size() },
        mtime: meta.mtime(),
        links: (!kind.is_dir() && meta.nlink() > 1).then(|| (meta.nlink(), PathBuf::new())),
        target: if kind.is_symlink() {
            Some(fs::read_link(full)?.into_os_string())
        } else {
            None
        },
        xattrs: xattrs(full)?,
        rdev: if kind.is_char_device() || kind.is_block_device() {
            rdev()
        } else {
            None
        },
        sha256: if kind.is_file() {
            Some(sha256(full)?)
        } else {
            None
        },
    })
}

fn xattrs(full: &Path) -> io::Result<BTreeMap<OsString, Vec<u8>>> {
    let path = CString::new(full.as_os_str().as_bytes())?;
    let mut names = vec![0; 64 * 1024];
    let used = match rustix::fs::llistxattr(&path, &mut names) {
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        used => used?,
    };
    names.truncate(used);
    let mut found = BTreeMap::new();
    for name in names
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        let mut value = vec![0; 64 * 1024];
        let used = rustix::fs::lgetxattr(&path, name, &mut value)?;
        value.truncate(used);
        found.insert(OsString::from_vec(name.to_vec()), value);
    }
    Ok(found)
}

/// The SHA-256 of a file, in hex.
pub fn sha256(path: &Path) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(buffer.get(..n).unwrap_or_default());
    }
}

/// Bytes in hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").ok();
        text
    })
}

/// The differences of two trees, one line each; `changed` shows the fields that differ.
pub fn differences(left: &Tree, right: &Tree) -> Vec<String> {
    let mut lines = Vec::new();
    for (path, object) in left {
        match right.get(path) {
            None => lines.push(format!("only left:  {path:?} {}", object.kind)),
            Some(other) if other != object => lines.push(changed(path, object, other)),
            Some(_) => {}
        }
    }
    for (path, object) in right {
        if !left.contains_key(path) {
            lines.push(format!("only right: {path:?} {}", object.kind));
        }
    }
    lines
}

fn changed(path: &Path, left: &Object, right: &Object) -> String {
    let mut line = format!("differs:    {path:?}");
    let mut field = |name: &str, left: &dyn std::fmt::Debug, right: &dyn std::fmt::Debug| {
        let (left, right) = (format!("{left:?}"), format!("{right:?}"));
        if left != right {
            write!(line, " {name} {left} | {right}").ok();
        }
    };
    field("kind", &left.kind, &right.kind);
    field(
        "mode",
        &format_args!("{:o}", left.mode),
        &format_args!("{:o}", right.mode),
    );
    field("owner", &(left.uid, left.gid), &(right.uid, right.gid));
    field("size", &left.size, &right.size);
    field("mtime", &left.mtime, &right.mtime);
    field("links", &left.links, &right.links);
    field("target", &left.target, &right.target);
    field("xattrs", &left.xattrs, &right.xattrs);
    field("rdev", &left.rdev, &right.rdev);
    field("sha256", &left.sha256, &right.sha256);
    line
}

/// Fails with the first differences when the trees are not the same.
pub fn assert_same(left: (&str, &Tree), right: (&str, &Tree)) {
    let lines = differences(left.1, right.1);
    if !lines.is_empty() {
        let shown = lines
            .iter()
            .take(25)
            .cloned()
            .collect::<Vec<_>>()
            .join("\n  ");
        panic!(
            "the trees differ in {} of {} places (left: {}, right: {}):\n  {shown}",
            lines.len(),
            left.1.len(),
            left.0,
            right.0
        );
    }
}

/// Fails when an object is missing or is not of that kind; gives it otherwise.
pub fn expect<'t>(tree: &'t Tree, path: &str, kind: &str) -> &'t Object {
    let object = tree
        .get(Path::new(path))
        .unwrap_or_else(|| panic!("{path} is missing"));
    assert_eq!(object.kind, kind, "{path}");
    object
}

/// Fails when the path exists.
pub fn expect_absent(tree: &Tree, path: &str) {
    assert!(
        !tree.contains_key(Path::new(path)),
        "{path} should not be there"
    );
}
