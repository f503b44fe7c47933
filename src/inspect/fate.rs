//! What became of something that a layer has: whether it still shows, and which layer above took it
//! away.

use crate::error::Result;
use crate::index::Index;
use crate::index::format::{DirentKind, Inode, OPAQUE, REPLACES};
use crate::index::reader::{InodeNo, ROOT};
use crate::stat::FileType;

/// What became of a path of a layer. Layers are counted from 0, the bottom one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fate {
    /// It shows.
    Visible,
    /// That layer has something else at its place.
    Replaced {
        /// The layer.
        by: usize,
    },
    /// That layer removed it, or a directory above it.
    Removed {
        /// The layer.
        by: usize,
    },
}

/// What became of the file or link at `path` (components from the root) of layer `at` of a stack,
/// bottom first.
///
/// # Errors
/// `EIO` when an index is damaged.
pub fn fate(layers: &[&Index], at: usize, path: &[&[u8]]) -> Result<Fate> {
    for (by, layer) in layers.iter().enumerate().skip(at + 1) {
        match touch(layer, path)? {
            Touch::Nothing => {}
            Touch::Replaces => return Ok(Fate::Replaced { by }),
            Touch::Removes => return Ok(Fate::Removed { by }),
        }
    }
    Ok(Fate::Visible)
}

/// What one layer does to a path of the layers below it.
enum Touch {
    Nothing,
    Replaces,
    Removes,
}

fn touch(layer: &Index, path: &[&[u8]]) -> Result<Touch> {
    let mut dir = ROOT;
    let mut hidden = layer.inode(ROOT)?.marks & (OPAQUE | REPLACES) != 0;
    for (depth, name) in path.iter().enumerate() {
        let last = depth + 1 == path.len();
        let Some(dirent) = layer.lookup(dir, name)? else {
            break;
        };
        match (dirent.kind, dirent.inode) {
            (DirentKind::Node(FileType::Directory), Some(inode)) if !last => {
                hidden |= layer.inode(inode)?.marks & (OPAQUE | REPLACES) != 0;
                dir = inode;
            }
            (DirentKind::Whiteout, _) => return Ok(Touch::Removes),
            _ if last => return Ok(Touch::Replaces),
            // Where a directory was, there is something else.
            _ => return Ok(Touch::Removes),
        }
    }
    Ok(match hidden {
        true => Touch::Removes,
        false => Touch::Nothing,
    })
}

/// What an index has at a path (components from the root); `None` for nothing and for a whiteout.
/// Links are not followed.
///
/// # Errors
/// `EIO` when the index is damaged.
pub fn at(index: &Index, path: &[&[u8]]) -> Result<Option<(InodeNo, Inode)>> {
    let mut number = ROOT;
    let mut inode = index.inode(ROOT)?;
    for name in path {
        if !inode.is_dir() {
            return Ok(None);
        }
        let Some(next) = index.lookup(number, name)?.and_then(|d| d.inode) else {
            return Ok(None);
        };
        number = next;
        inode = index.inode(number)?;
    }
    Ok(Some((number, inode)))
}
