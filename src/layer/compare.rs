//! How two objects differ, as far as can be told without opening a layer's data.

use super::objects::{AsObjects, Object, Objects};
use crate::error::Result;
use crate::stat::FileType;

/// How two objects differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Differences {
    /// They are of different types.
    pub kind: bool,
    /// The bytes of a file, the target of a link, the device of a node. Of files that the index
    /// has no content key of (files with holes, a container's own) they count as different.
    pub content: bool,
    /// Permission bits.
    pub mode: bool,
    /// Owner or group.
    pub owner: bool,
    /// Time of the last change.
    pub times: bool,
    /// Extended attributes.
    pub xattrs: bool,
}

impl Differences {
    /// Whether there are any.
    #[must_use]
    pub fn any(self) -> bool {
        self != Self::default()
    }

    /// Whether it is more than attributes.
    #[must_use]
    pub fn in_content(self) -> bool {
        self.kind || self.content
    }

    /// Their names, for people and programs.
    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        let all = [
            (self.kind, "type"),
            (self.content, "content"),
            (self.mode, "mode"),
            (self.owner, "owner"),
            (self.times, "times"),
            (self.xattrs, "xattrs"),
        ];
        all.iter().filter(|(is, _)| *is).map(|(_, n)| *n).collect()
    }
}

/// How an object differs from one of another tree (or the same). What is in a directory does not
/// count.
///
/// # Errors
/// What the trees report.
pub fn compare<A: AsObjects, B: AsObjects>(
    before: (&A, &Object),
    now: (&B, &Object),
) -> Result<Differences> {
    let (old, new) = (before.1, now.1);
    let before = (before.0.objects(), old);
    let now = (now.0.objects(), new);
    let (a, b) = (&old.stat, &new.stat);
    Ok(Differences {
        kind: a.kind != b.kind,
        content: a.kind == b.kind && content_differs(before, now)?,
        mode: a.perm != b.perm,
        owner: (a.uid, a.gid) != (b.uid, b.gid),
        times: a.mtime != b.mtime,
        xattrs: before.0.xattrs(old)? != now.0.xattrs(new)?,
    })
}

fn content_differs(before: (&dyn Objects, &Object), now: (&dyn Objects, &Object)) -> Result<bool> {
    let ((old_tree, old), (new_tree, new)) = (before, now);
    Ok(match new.stat.kind {
        FileType::Regular if new.marks.metacopy => false,
        FileType::Regular => {
            let keys = (old_tree.content_key(old)?, new_tree.content_key(new)?);
            let known = keys.0.is_some() && keys.0 == keys.1;
            old.stat.size != new.stat.size || (!known && new.stat.size > 0)
        }
        FileType::Symlink => old_tree.read_link(old)? != new_tree.read_link(new)?,
        FileType::CharDevice | FileType::BlockDevice => old.stat.rdev != new.stat.rdev,
        FileType::Directory | FileType::Fifo | FileType::Socket => false,
    })
}
