//! The union without a mount: over directory layers in a temporary directory.

use std::ffi::OsStr;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::layer::Contents;
use crate::layer::dir::{DirForms, DirLayer};
use crate::layer::format::MarkSpace;
use crate::name::Name;

struct Stack {
    dir: tempfile::TempDir,
    union: Arc<Union>,
}

impl Stack {
    /// Two lowers, `top` and `bottom`, made by a shell script, and an upper.
    fn new(script: &str) -> Stack {
        let dir = tempfile::tempdir().unwrap();
        let said = std::process::Command::new("sh")
            .args(["-ec", &format!("mkdir top bottom upper work; {script}")])
            .current_dir(dir.path())
            .status()
            .unwrap();
        assert!(said.success());
        let union = Self::mount(dir.path());
        Stack { dir, union }
    }

    fn mount(dir: &Path) -> Arc<Union> {
        let layer = |name: &str| -> Arc<dyn Layer> {
            Arc::new(DirLayer::open(&dir.join(name), DirForms::default()).unwrap())
        };
        let space = MarkSpace::Trusted;
        let upper = Upper::open(&dir.join("upper"), &dir.join("work"), space, true).unwrap();
        let lowers = vec![layer("top"), layer("bottom")];
        let options = UnionOptions {
            metacopy: true,
            ..UnionOptions::default()
        };
        Union::new(lowers, Some(upper), options).unwrap()
    }

    fn remount(self) -> Stack {
        drop(self.union);
        let union = Self::mount(self.dir.path());
        Stack {
            dir: self.dir,
            union,
        }
    }

    fn try_find(&self, path: &str) -> Option<Arc<Node>> {
        path.split('/')
            .filter(|c| !c.is_empty())
            .try_fold(self.union.root(), |at, name| {
                Some(
                    self.union
                        .lookup(&at, Name::new(name).unwrap())
                        .unwrap()?
                        .node,
                )
            })
    }

    fn find(&self, path: &str) -> Arc<Node> {
        self.try_find(path).unwrap_or_else(|| panic!("{path}"))
    }

    fn names(&self, path: &str) -> Vec<String> {
        let list = self.union.read_dir(&self.find(path)).unwrap();
        let mut names: Vec<_> = list.iter().map(|e| e.name.to_string()).collect();
        names.sort();
        names
    }

    fn read(&self, path: &str) -> String {
        let caller = Caller::default();
        let opened = self
            .union
            .open(&self.find(path), OpenFlags(libc::O_RDONLY), caller)
            .unwrap();
        let Contents::File(file) = opened.contents else {
            panic!("not a host file")
        };
        let mut text = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
        file.read_exact_at(&mut text, 0).unwrap();
        String::from_utf8(text).unwrap()
    }

    fn write(&self, path: &str, text: &str) {
        let caller = Caller::default();
        let opened = self
            .union
            .open(&self.find(path), OpenFlags(libc::O_WRONLY), caller)
            .unwrap();
        let Contents::File(file) = opened.contents else {
            panic!("not a host file")
        };
        file.write_all_at(text.as_bytes(), 0).unwrap();
    }

    fn upper(&self, path: &str) -> std::path::PathBuf {
        self.dir.path().join("upper").join(path)
    }

    fn is_whiteout(&self, path: &str) -> bool {
        use std::os::unix::fs::FileTypeExt as _;
        std::fs::symlink_metadata(self.upper(path))
            .is_ok_and(|m| m.file_type().is_char_device() && m.rdev() == 0)
    }
}

fn layer_of(s: &Stack, name: &str) -> Arc<dyn Layer> {
    Arc::new(DirLayer::open(&s.dir.path().join(name), DirForms::default()).unwrap())
}

fn name(n: &str) -> &Name {
    Name::new(n).unwrap()
}

fn root_only() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: whiteouts and trusted.* need root");
    }
    root
}

#[test]
fn directories_merge_and_files_hide() {
    if !root_only() {
        return;
    }
    let s = Stack::new(
        "mkdir -p top/d bottom/d/sub; echo new >top/d/f; echo old >bottom/d/f; echo b >bottom/d/g
         mknod top/d/gone c 0 0; echo x >bottom/d/gone; mkdir top/o bottom/o; touch bottom/o/hidden
         setfattr -n trusted.overlay.opaque -v y top/o",
    );
    assert_eq!(s.names("d"), ["f", "g", "sub"]);
    assert_eq!(s.read("d/f"), "new\n");
    assert!(s.try_find("d/gone").is_none());
    assert!(s.names("o").is_empty());
    assert_eq!(s.find("d").lower().len(), 2);
}

#[test]
fn copy_up_keeps_what_was_and_changes_no_lower() {
    if !root_only() {
        return;
    }
    let s = Stack::new(
        "mkdir -p bottom/d/e; echo lower >bottom/d/e/f; setfattr -n user.x -v y bottom/d/e/f
         chmod 4751 bottom/d/e/f; chown 5:6 bottom/d/e/f; chmod 4751 bottom/d/e/f
         touch -d @1000000000.123456789 bottom/d/e/f bottom/d/e",
    );
    let before = s.union.getattr(&s.find("d/e/f")).unwrap();
    s.write("d/e/f", "UPPER");
    let after = s.union.getattr(&s.find("d/e/f")).unwrap();
    assert_eq!(s.read("d/e/f"), "UPPER\n");
    assert_eq!(
        std::fs::read(s.dir.path().join("bottom/d/e/f")).unwrap(),
        b"lower\n"
    );
    let shown = |st: &crate::stat::Stat| (st.ino, st.uid, st.gid, st.perm, st.nlink, st.size);
    assert_eq!(shown(&before), shown(&after));
    let x = s
        .union
        .xattr(&s.find("d/e/f"), OsStr::new("user.x"))
        .unwrap();
    assert_eq!(x.as_deref(), Some(&b"y"[..]));
    assert_eq!(
        s.union.getattr(&s.find("d/e")).unwrap().mtime.sec,
        1_000_000_000
    );
    assert!(
        std::fs::read_dir(s.dir.path().join("work/work"))
            .unwrap()
            .next()
            .is_none()
    );
}

#[test]
fn whiteouts_only_where_a_lower_has_the_name() {
    if !root_only() {
        return;
    }
    let s = Stack::new("echo l >bottom/l; echo u >upper/u; mkdir bottom/dir; mkdir upper/updir");
    let root = s.union.root();
    s.write("l", "L");
    for file in ["l", "u"] {
        s.union.unlink(&root, name(file)).unwrap();
    }
    for dir in ["dir", "updir"] {
        s.union.rmdir(&root, name(dir)).unwrap();
    }
    assert!(s.names("").is_empty());
    assert!(s.is_whiteout("l") && s.is_whiteout("dir"));
    assert!(!s.upper("u").exists() && !s.upper("updir").exists());
    let inode = |p: &str| std::fs::symlink_metadata(s.upper(p)).unwrap().ino();
    assert_eq!(
        inode("l"),
        inode("dir"),
        "whiteouts are links of one device"
    );
    assert!(s.remount().names("").is_empty());
}

#[test]
fn a_new_directory_does_not_show_the_old_ones_files() {
    if !root_only() {
        return;
    }
    let s = Stack::new("mkdir bottom/d; touch bottom/d/old");
    let root = s.union.root();
    let d = s.find("d");
    s.union.unlink(&d, name("old")).unwrap();
    s.union.rmdir(&root, name("d")).unwrap();
    s.union
        .mkdir(&root, name("d"), 0o755, Caller::default())
        .unwrap();
    assert!(s.names("d").is_empty());
    let s = s.remount();
    assert!(s.names("d").is_empty());
}

#[test]
fn unlinked_objects_stay_usable() {
    if !root_only() {
        return;
    }
    let s = Stack::new("echo lower >bottom/l; echo upper >upper/u");
    let root = s.union.root();
    let (l, u) = (s.find("l"), s.find("u"));
    s.union.unlink(&root, name("l")).unwrap();
    s.union.unlink(&root, name("u")).unwrap();
    assert_eq!(s.union.getattr(&l).unwrap().nlink, 0);
    assert_eq!(s.union.getattr(&u).unwrap().nlink, 0);
    let set = SetAttr {
        perm: Some(0o640),
        size: Some(2),
        ..SetAttr::default()
    };
    for node in [&l, &u] {
        let stat = s
            .union
            .setattr(node, &set, Caller::default(), None)
            .unwrap();
        assert_eq!((stat.perm, stat.size, stat.nlink), (0o640, 2, 0));
    }
    assert!(s.union.get(u.id()).is_ok());
    for node in [l, u] {
        let id = node.id();
        drop(node);
        s.union.forget(id, 1);
        assert!(s.union.get(id).is_err(), "forgotten");
    }
}

#[test]
fn rename_of_files_directories_and_over_whiteouts() {
    if !root_only() {
        return;
    }
    let s = Stack::new(
        "mkdir -p bottom/d bottom/e; echo f >bottom/f; echo g >bottom/g; touch bottom/e/x",
    );
    let root = s.union.root();
    let replace = RenameFlags::Replace;
    s.union
        .rename(&root, name("f"), &root, name("n"), replace)
        .unwrap();
    assert!(s.is_whiteout("f"));
    s.union
        .rename(&root, name("n"), &root, name("g"), replace)
        .unwrap();
    assert_eq!(s.read("g"), "f\n");
    let exists = s
        .union
        .rename(&root, name("g"), &root, name("d"), RenameFlags::NoReplace);
    assert_eq!(exists.unwrap_err().errno(), Errno::EEXIST);
    let made = s
        .union
        .mkdir(&root, name("new"), 0o755, Caller::default())
        .unwrap()
        .node;
    s.union
        .create(
            &made,
            name("inside"),
            0o644,
            OpenFlags(libc::O_RDWR),
            Caller::default(),
        )
        .unwrap();
    // Onto an empty lower directory: nothing of it may show through.
    s.union
        .rename(&root, name("new"), &root, name("d"), replace)
        .unwrap();
    assert_eq!(s.names("d"), ["inside"]);
    let not_empty = s.union.rename(&root, name("d"), &root, name("e"), replace);
    assert_eq!(not_empty.unwrap_err().errno(), Errno::ENOTEMPTY);
    let s = s.remount();
    assert_eq!(s.names("d"), ["inside"]);
    assert_eq!(s.names(""), ["d", "e", "g"]);
}

#[test]
fn memory_follows_what_the_kernel_holds() {
    if !root_only() {
        return;
    }
    let s = Stack::new("mkdir -p bottom/d; for i in 1 2 3 4 5 6 7 8; do touch bottom/d/$i; done");
    let mut ids = Vec::new();
    for i in 1..=8 {
        ids.push(s.find(&format!("d/{i}")).id());
    }
    let d = s.find("d").id();
    assert_eq!(s.union.node_count(), 10);
    // The directory first: it stays while its children need it.
    s.union.forget(d, 9);
    assert_eq!(s.union.node_count(), 10);
    for id in ids {
        s.union.forget(id, 1);
    }
    assert_eq!(s.union.node_count(), 1);
}

#[test]
fn overlay_attributes_are_hidden_and_escaped() {
    if !root_only() {
        return;
    }
    let s = Stack::new("mkdir bottom/d; setfattr -n trusted.overlay.origin -v x bottom/d");
    let d = s.find("d");
    assert!(s.union.xattr_names(&d).unwrap().is_empty());
    let opaque = OsStr::new("trusted.overlay.opaque");
    s.union.set_xattr(&d, opaque, b"y", 0).unwrap();
    assert_eq!(
        s.union.xattr(&d, opaque).unwrap().as_deref(),
        Some(&b"y"[..])
    );
    assert_eq!(
        s.union.xattr_names(&d).unwrap(),
        [b"trusted.overlay.opaque".to_vec()]
    );
    let s = s.remount();
    assert_eq!(
        s.find("d").lower().len(),
        1,
        "the directory did not become opaque"
    );
}

#[test]
fn lower_directories_move_with_what_is_in_them() {
    if !root_only() {
        return;
    }
    let s = Stack::new(
        "mkdir -p top/d/sub bottom/d bottom/e; touch top/d/t bottom/d/b top/d/sub/x bottom/e/hidden",
    );
    let root = s.union.root();
    let id = s.find("d").id();
    s.union
        .rename(&root, name("d"), &root, name("moved"), RenameFlags::Replace)
        .unwrap();
    assert_eq!(s.names("moved"), ["b", "sub", "t"]);
    assert_eq!(s.find("moved").id(), id);
    assert!(s.is_whiteout("d"));
    let moved = s.find("moved");
    s.union.unlink(&moved, name("b")).unwrap();
    s.union
        .rename(&moved, name("sub"), &root, name("e2"), RenameFlags::Replace)
        .unwrap();
    s.union
        .rename(&root, name("e"), &root, name("e2"), RenameFlags::Exchange)
        .unwrap();
    let s = s.remount();
    assert_eq!(s.names(""), ["e", "e2", "moved"]);
    assert_eq!(s.names("moved"), ["t"]);
    assert_eq!(s.names("e"), ["x"]);
    assert_eq!(s.names("e2"), ["hidden"]);
    assert_eq!(s.find("moved").id(), id);
}

#[test]
fn redirects_of_lowers_are_followed() {
    if !root_only() {
        return;
    }
    let s = Stack::new(
        "mkdir -p top/new top/p/near bottom/old/deep bottom/p/far; touch bottom/old/f bottom/p/far/g
         setfattr -n trusted.overlay.redirect -v /old top/new; mknod top/old c 0 0
         setfattr -n trusted.overlay.redirect -v far top/p/near; mknod top/p/far c 0 0
         mkdir -p top/bad; setfattr -n trusted.overlay.redirect -v /../../etc top/bad",
    );
    assert_eq!(s.names("new"), ["deep", "f"]);
    assert_eq!(s.names("p"), ["near"]);
    assert_eq!(s.names("p/near"), ["g"]);
    assert!(s.names("bad").is_empty());
}

#[test]
fn attributes_change_without_a_copy_of_the_data() {
    if !root_only() {
        return;
    }
    let s = Stack::new("head -c 300000 /dev/zero | tr '\\000' z >bottom/f; chmod 4711 bottom/f");
    let set = SetAttr {
        perm: Some(0o600),
        uid: Some(7),
        ..SetAttr::default()
    };
    let f = s.find("f");
    let before = s.union.getattr(&f).unwrap();
    s.union.setattr(&f, &set, Caller::default(), None).unwrap();
    let meta = std::fs::metadata(s.upper("f")).unwrap();
    assert_eq!(meta.len(), 300_000);
    assert!(
        meta.blocks() <= 16,
        "no data, at most a block of attributes"
    );
    assert!(s.union.needs_copy_up(&f));
    assert_eq!(s.union.getattr(&f).unwrap().blocks, before.blocks);
    assert_eq!(s.read("f").len(), 300_000);
    drop(f);
    let s = s.remount();
    assert!(s.read("f").bytes().all(|b| b == b'z'));
    let stat = s.union.getattr(&s.find("f")).unwrap();
    assert_eq!(
        (stat.perm, stat.uid, stat.ino, stat.mtime),
        (0o600, 7, before.ino, before.mtime)
    );
    s.write("f", "start");
    assert!(!s.union.needs_copy_up(&s.find("f")));
    let s = s.remount();
    let text = s.read("f");
    assert!(text.starts_with("startzz") && text.len() == 300_000);
    assert_eq!(s.union.getattr(&s.find("f")).unwrap().perm, 0o600);
}

#[test]
fn data_only_layers_are_seen_through_redirects_alone() {
    if !root_only() {
        return;
    }
    let s = Stack::new(
        "mkdir -p data/d; echo 'the data' >data/d/blob; truncate -s 9 top/f; echo x >bottom/g
         setfattr -n trusted.overlay.metacopy top/f
         setfattr -n trusted.overlay.redirect -v /d/blob top/f",
    );
    let options = UnionOptions {
        data_lowers: vec![layer_of(&s, "data")],
        ..UnionOptions::default()
    };
    let lowers = vec![layer_of(&s, "top"), layer_of(&s, "bottom")];
    let union = Union::new(lowers, None, options).unwrap();
    let s = Stack { dir: s.dir, union };
    assert_eq!(s.names(""), ["f", "g"]);
    assert_eq!(s.read("f"), "the data\n");
    let options = UnionOptions {
        redirect: RedirectDir::NoFollow,
        ..UnionOptions::default()
    };
    let without = Union::new(vec![layer_of(&s, "top")], None, options).unwrap();
    let gone = without.lookup(&without.root(), name("f")).unwrap_err();
    assert_eq!(gone.errno(), Errno::EIO);
}

#[test]
fn without_redirects_lower_directories_do_not_move() {
    if !root_only() {
        return;
    }
    let s = Stack::new("mkdir bottom/d");
    let lowers = vec![layer_of(&s, "bottom")];
    let (upper, work) = (s.dir.path().join("upper2"), s.dir.path().join("work2"));
    std::fs::create_dir(&upper).unwrap();
    std::fs::create_dir(&work).unwrap();
    let upper = Upper::open(&upper, &work, MarkSpace::Trusted, true).unwrap();
    let options = UnionOptions {
        redirect: RedirectDir::Follow,
        ..UnionOptions::default()
    };
    let union = Union::new(lowers, Some(upper), options).unwrap();
    let root = union.root();
    let rename = |from, to| union.rename(&root, name(from), &root, name(to), RenameFlags::Replace);
    assert_eq!(rename("d", "e").unwrap_err().errno(), Errno::EXDEV);
    let caller = Caller::default();
    union.mkdir(&root, name("new"), 0o755, caller).unwrap();
    rename("new", "newer").unwrap();
}

/// Names, nodes and sizes, as a listing that was taken before is answered now.
fn looked_up(s: &Stack, dir: &Arc<Node>, list: &DirList) -> Vec<(String, NodeId, u64)> {
    let shown = |entry: DirEntry<'_>| {
        let found = s.union.lookup_entry(dir, list, &entry).unwrap()?;
        Some((entry.name.to_string(), found.id, found.stat.size))
    };
    let mut all: Vec<_> = list.iter().filter_map(shown).collect();
    all.sort();
    all
}

#[test]
fn what_was_read_ahead_is_given_until_it_changes() {
    if !root_only() {
        return;
    }
    let s = Stack::new(
        "mkdir -p top/d bottom/d/sub bottom/long upper/u; echo top >top/d/f
         echo b >bottom/d/f; echo b >bottom/d/g; echo b >bottom/d/l; ln bottom/d/l bottom/link
         (cd bottom/long; seq 600 | xargs touch)",
    );
    let ahead = |path: &str| s.union.read_ahead(&s.find(path)).unwrap();
    assert!(ahead("").is_none() && ahead("u").is_none(), "in the upper");
    assert!(ahead("long").is_none());
    let (dir, list) = (s.find("d"), ahead("d").unwrap());
    let plain = looked_up(&s, &dir, &s.union.read_dir(&dir).unwrap());
    assert_eq!(plain.len(), 4);
    for _ in 0..2 {
        assert_eq!(looked_up(&s, &dir, &list), plain);
    }
    // What changes after it was read is seen as it is then.
    let list = ahead("d").unwrap();
    s.write("d/g", "longer");
    s.union.unlink(&dir, name("f")).unwrap();
    assert!(!dir.is_lower_alone() && ahead("d").is_none());
    let now = looked_up(&s, &dir, &list);
    let size = |name: &str| now.iter().find(|e| e.0 == name).map(|e| e.2);
    assert_eq!((size("f"), size("g"), size("l")), (None, Some(6), Some(2)));
}

#[test]
fn a_look_from_before_a_copy_up_makes_no_node_of_the_lower() {
    if !root_only() {
        return;
    }
    let s = Stack::new("mkdir bottom/d; echo lower >bottom/f; echo lower >bottom/d/g");
    for (dir, file) in [("", "f"), ("d", "g")] {
        let (dir, path) = (s.find(dir), format!("{dir}/{file}"));
        let look = || {
            let since = s.union.copy_ups();
            (s.union.see(&dir, name(file)).unwrap().unwrap(), since)
        };
        let (seen, since) = look();
        let (other, _) = look();
        s.write(&path, "longer than it was");
        let id = s.find(&path).id();
        s.union.forget(id, 2);
        assert!(!s.union.has(id), "{path}");
        // The kernel has forgotten the node, and now hears of the look.
        let named = s.union.give((&dir, name(file)), seen, since);
        assert_eq!((named.id, named.stat.size), (id, 18), "{path}");
        let node = s.union.get(id).unwrap();
        assert!(node.has_upper_data(), "{path}");
        assert_eq!(s.read(&path), "longer than it was");
        // One more, while the node is known.
        let found = s.union.node_for((&dir, name(file)), other, 1, since);
        assert!(Arc::ptr_eq(&found.node, &node));
        assert_eq!(found.stat.size, 18, "{path}");
    }
}
