//! What `cp SOURCE DESTINATION` means: Docker's rules (docs.docker.com, `docker container cp`).
//!
//! | source | destination | result |
//! |---|---|---|
//! | a file | free, its directory is there | the file under that name |
//! | a file | free, with `/` at its end | an error |
//! | a file | a file | it is replaced |
//! | a file | a directory | the file in it, under its own name |
//! | a directory | free | made, with the source's contents |
//! | a directory | a file | an error |
//! | a directory | a directory | the source in it, under its own name |
//! | a directory with `/.` at its end | a directory | the source's contents in it |

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::channel::{NOBODY, stream};
use super::host::HostTree;
use super::pack::pack;
use super::unpack::{UnpackOptions, Unpacked, unpack};
use super::walk::{Links, Reached, Walk};
use super::{Tree, TreeMut};
use crate::archive::progress::{Progress, Silent};
use crate::error::{Context, Errno, Error, Failure, FailureKind};
use crate::name::{Name, NameBuf};

/// How to copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CopyOptions {
    /// Owners are the source's (`-a`); without, root's in a container, and the caller's on the host.
    pub archive: bool,
    /// A source that is a symbolic link is followed (`-L`).
    pub follow: bool,
}

/// What is to be copied.
pub struct Origin<N> {
    node: N,
    is_dir: bool,
    /// Its own name; empty where it has none (the root).
    name: Vec<u8>,
    /// Whether its contents are meant, not itself.
    contents: bool,
}

/// Where it is to go.
pub struct Target<'t, T: TreeMut> {
    tree: &'t T,
    dir: Walk<'t, T>,
    /// The name in the directory; `None`: into the directory.
    name: Option<NameBuf>,
    exists: bool,
    /// Whether the path says that it is a directory.
    slash: bool,
}

/// Whether a path says that a directory is meant, and whether its contents are.
fn endings(path: &[u8]) -> (bool, bool) {
    let contents = path == b"." || path.ends_with(b"/.");
    let up = path == b".." || path.ends_with(b"/..");
    (contents || up || path.ends_with(b"/"), contents)
}

/// An errno about a path, in its class.
fn about_path(path: &[u8]) -> impl Fn(Error) -> Failure + '_ {
    move |error| {
        let kind = match error.errno() {
            Errno::ENOENT | Errno::ENOTDIR => FailureKind::NotFound,
            Errno::EACCES | Errno::EPERM | Errno::EROFS => FailureKind::Denied,
            _ => FailureKind::System,
        };
        Failure::new(kind, error.to_string()).context(String::from_utf8_lossy(path).escape_debug())
    }
}

/// The last component of a path that a name can be.
fn own_name(path: &[u8]) -> Option<&[u8]> {
    let last = path.split(|b| *b == b'/').rfind(|c| !c.is_empty())?;
    Name::from_bytes(last).ok().map(Name::as_bytes)
}

/// The object at a path of a tree.
///
/// # Errors
/// `NotFound`; what the tree reports.
pub fn origin_in<T: Tree>(
    tree: &T,
    path: &[u8],
    options: CopyOptions,
) -> Result<Origin<T::Node>, Failure> {
    let (slash, contents) = endings(path);
    let last = match options.follow || slash {
        true => Links::Follow,
        false => Links::Refuse,
    };
    let trouble = about_path(path);
    let walk = match Walk::new(tree)
        .to(path, Links::Follow, last)
        .map_err(&trouble)?
    {
        Reached::Object(walk) => walk,
        Reached::Free(..) => return Err(trouble(Error::new(Errno::ENOENT))),
    };
    let node = walk.node();
    let is_dir = tree.stat(&node).map_err(&trouble)?.is_dir();
    if slash && !is_dir {
        return Err(trouble(Error::new(Errno::ENOTDIR)));
    }
    // A link that was followed keeps its name.
    let name = own_name(path).or_else(|| walk.name().map(Name::as_bytes));
    let name = name.unwrap_or_default().to_vec();
    Ok(Origin {
        contents: contents || name.is_empty(),
        node,
        is_dir,
        name,
    })
}

/// The object at a path of the host.
///
/// # Errors
/// As [`origin_in`].
pub fn origin_on_host(
    path: &Path,
    options: CopyOptions,
) -> Result<(HostTree, Origin<Arc<OwnedFd>>), Failure> {
    let bytes = path.as_os_str().as_bytes();
    let (slash, contents) = endings(bytes);
    let trouble = about_path(bytes);
    // The objects of a host tree are reached from descriptors: which tree is of no matter.
    let tree = HostTree::open(Path::new("/")).map_err(&trouble)?;
    let last = match options.follow || slash {
        true => Links::Follow,
        false => Links::Refuse,
    };
    let node = HostTree::object(path, last).map_err(&trouble)?;
    let is_dir = tree.stat(&node).map_err(&trouble)?.is_dir();
    if slash && !is_dir {
        return Err(trouble(Error::new(Errno::ENOTDIR)));
    }
    let name = match own_name(bytes) {
        Some(name) => name.to_vec(),
        None => {
            let real = std::fs::canonicalize(path).map_err(Error::from);
            let real = real.map_err(&trouble)?;
            real.file_name().unwrap_or_default().as_bytes().to_vec()
        }
    };
    let origin = Origin {
        contents: contents || name.is_empty(),
        node,
        is_dir,
        name,
    };
    Ok((tree, origin))
}

/// The place at a path of a tree.
///
/// # Errors
/// `NotFound` when its directory isn't there; what the tree reports.
pub fn target_in<'t, T: TreeMut>(tree: &'t T, path: &[u8]) -> Result<Target<'t, T>, Failure> {
    let (slash, _) = endings(path);
    let trouble = about_path(path);
    let reached = Walk::new(tree).to(path, Links::Follow, Links::Follow);
    let (dir, name, exists) = match reached.map_err(&trouble)? {
        Reached::Free(dir, name) => {
            if !tree.stat(&dir.node()).map_err(&trouble)?.is_dir() {
                return Err(trouble(Error::new(Errno::ENOTDIR)));
            }
            (dir, Some(name), false)
        }
        Reached::Object(walk) => {
            if tree.stat(&walk.node()).map_err(&trouble)?.is_dir() {
                (walk, None, true)
            } else if slash {
                return Err(trouble(Error::new(Errno::ENOTDIR)));
            } else {
                let name = walk.name().map(NameBuf::from);
                (walk.parent(), name, true)
            }
        }
    };
    Ok(Target {
        tree,
        dir,
        name,
        exists,
        slash,
    })
}

/// A place on the host: the directory that it is in, or is, and its name there.
pub struct HostPlace {
    tree: HostTree,
    name: Option<NameBuf>,
    exists: bool,
    slash: bool,
}

impl HostPlace {
    /// The place at a path, links on the way, and at its end, followed.
    ///
    /// # Errors
    /// `NotFound` when its directory isn't there.
    pub fn at(path: &Path) -> Result<Self, Failure> {
        let bytes = path.as_os_str().as_bytes();
        let (slash, _) = endings(bytes);
        let trouble = about_path(bytes);
        let mut path = path.to_path_buf();
        for _ in 0..LINKS_MAX {
            match HostTree::open(&path) {
                Ok(tree) => {
                    return Ok(Self {
                        tree,
                        name: None,
                        exists: true,
                        slash,
                    });
                }
                Err(e) if matches!(e.errno(), Errno::ENOENT | Errno::ENOTDIR) => {}
                Err(e) => return Err(trouble(e)),
            }
            // No directory: a file, a link to one or to nothing, or nothing.
            let Some(name) = path.file_name().map(ToOwned::to_owned) else {
                return Err(trouble(Error::new(Errno::ENOENT)));
            };
            let above = match path.parent() {
                Some(above) if !above.as_os_str().is_empty() => above.to_path_buf(),
                _ => PathBuf::from("."),
            };
            let bare = above.join(&name);
            match std::fs::read_link(&bare) {
                Ok(target) => path = above.join(target),
                Err(_) => {
                    let exists = std::fs::symlink_metadata(&bare).is_ok();
                    if exists && slash {
                        return Err(trouble(Error::new(Errno::ENOTDIR)));
                    }
                    return Ok(Self {
                        tree: HostTree::open(&above).map_err(&trouble)?,
                        name: Some(NameBuf::new(name.as_bytes()).map_err(&trouble)?),
                        exists,
                        slash,
                    });
                }
            }
        }
        Err(trouble(Error::new(Errno::ELOOP)))
    }

    /// As a target.
    #[must_use]
    pub fn target(&self) -> Target<'_, HostTree> {
        Target {
            tree: &self.tree,
            dir: Walk::new(&self.tree),
            name: self.name.clone(),
            exists: self.exists,
            slash: self.slash,
        }
    }
}

/// How many links may lead on to a place.
const LINKS_MAX: u32 = 40;

/// Whose copies are, and what links among them mean.
fn unpack_options(options: CopyOptions, links: Links, owner: Option<(u32, u32)>) -> UnpackOptions {
    UnpackOptions {
        links,
        owner: if options.archive { None } else { owner },
        chown: options.archive || owner.is_some(),
        root: false,
    }
}

/// Copies an object by Docker's rules. Without `archive`, everything is to belong to `owner`, or to
/// whoever makes it.
///
/// # Errors
/// `Conflict` or `NotFound` where the rules say so; `Denied`; what the trees report.
pub fn copy<S: Tree, T: TreeMut>(
    from: &S,
    origin: &Origin<S::Node>,
    target: &Target<'_, T>,
    (options, links, owner): (CopyOptions, Links, Option<(u32, u32)>),
    progress: &dyn Progress,
) -> Result<Unpacked, Failure> {
    let name = match (&target.name, origin.is_dir) {
        (None, true) if origin.contents => Vec::new(),
        (None, _) => origin.name.clone(),
        (Some(_), true) if target.exists => {
            return Err(Failure::conflict("cannot copy a directory to a file"));
        }
        (Some(name), false) if !target.exists && target.slash => {
            return Err(Failure::not_found(format!(
                "no such directory: {}",
                &**name
            )));
        }
        (Some(name), _) => name.as_bytes().to_vec(),
    };
    let unpacking = unpack_options(options, links, owner);
    let (sending, mut receiving) = stream();
    std::thread::scope(|scope| {
        let packing = scope.spawn(|| -> Result<(), Failure> {
            Ok(pack(from, &origin.node, &name, sending, &Silent)?.finish()?)
        });
        let unpacked = unpack(
            target.tree,
            &target.dir,
            &mut receiving,
            unpacking,
            progress,
        );
        drop(receiving);
        let packed = packing
            .join()
            .unwrap_or_else(|_| Err(Failure::system("a thread of the copy panicked")));
        match packed {
            Err(e) if !e.to_string().ends_with(NOBODY) => Err(e),
            _ => unpacked,
        }
    })
}

/// Writes an object of a tree as a tar.
///
/// # Errors
/// As [`origin_in`] and [`pack`].
pub fn pack_path<T: Tree>(
    tree: &T,
    path: &[u8],
    options: CopyOptions,
    out: &mut dyn Write,
    progress: &dyn Progress,
) -> Result<(), Failure> {
    let origin = origin_in(tree, path, options)?;
    let name = match origin.contents {
        true => &[][..],
        false => &origin.name,
    };
    pack(tree, &origin.node, name, out, progress).map(drop)
}

/// Unpacks a tar into a directory of a tree, with the owners that it says.
///
/// # Errors
/// `Conflict` when the path is no directory; as [`unpack`].
pub fn unpack_path<T: TreeMut>(
    tree: &T,
    path: &[u8],
    input: &mut dyn Read,
    progress: &dyn Progress,
) -> Result<Unpacked, Failure> {
    let target = target_in(tree, path)?;
    let shown = || String::from_utf8_lossy(path).into_owned();
    if target.name.is_some() {
        return Err(Failure::conflict(format!(
            "destination \"{}\" must be a directory",
            shown().escape_debug()
        )));
    }
    let options = UnpackOptions {
        links: Links::Follow,
        owner: None,
        chown: rustix::process::geteuid().is_root(),
        root: false,
    };
    unpack(tree, &target.dir, input, options, progress).context(shown)
}
