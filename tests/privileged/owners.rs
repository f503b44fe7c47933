//! Owners and modes that are shown otherwise than they are on disk.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use crate::common::cli::{self, run};
use crate::dirs::{Dirs, LAYERS, owner};

#[test]
fn uid_and_gid_mapping() {
    let script = "touch a/zero a/five a/out; chown 5:6 a/five; chown 70000:70000 a/out
        mkdir a/d; chmod 777 a/d";
    let Some(dirs) = Dirs::new("owners::uid_and_gid_mapping", script) else {
        return;
    };
    // As podman writes them.
    let maps = "uidmapping=:0:100000:65536,gidmapping=:0:100000:65536";
    dirs.mounted(&format!("{LAYERS},{maps}"));
    let shown = ["zero", "five", "out"].map(|name| owner(&dirs.path(name)));
    let made = dirs.as_user(
        100_007,
        "cd d; touch f; mkdir sub; ln -s x link; mkfifo fifo; chmod 600 f; echo x >f",
    );
    let new = owner(&dirs.path("d/f"));
    let stranger = dirs.as_user(9, "mkdir d/strange");
    let chowned = std::os::unix::fs::chown(dirs.path("five"), Some(100_009), Some(100_010));
    let five = owner(&dirs.path("five"));
    let refused = std::os::unix::fs::chown(dirs.path("five"), Some(9), None);
    let zero = dirs.path("zero");
    let acl = run(
        "setfacl",
        &["-m".as_ref(), "u:100003:rw".as_ref(), zero.as_os_str()],
    );
    let acl_back = run("getfacl", &["-nc".as_ref(), zero.as_os_str()]);
    dirs.umount();
    assert_eq!(
        shown,
        [(100_000, 100_000), (100_005, 100_006), (65534, 65534)]
    );
    made.success();
    assert_eq!(new, (100_007, 100_007));
    for name in ["f", "sub", "link", "fifo"] {
        assert_eq!(owner(&dirs.strata.path("u/d").join(name)), (7, 7), "{name}");
    }
    stranger.success();
    assert_eq!(owner(&dirs.strata.path("u/d/strange")), (65534, 65534));
    chowned.unwrap();
    assert_eq!(five, (100_009, 100_010));
    assert_eq!(owner(&dirs.strata.path("u/five")), (9, 10));
    assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::EINVAL));
    acl.success();
    assert!(acl_back.success().contains("user:100003:rw-"));
    let below = dirs.strata.path("u/zero");
    let below = run("getfacl", &["-nc".as_ref(), below.as_os_str()]).success();
    assert!(below.contains("user:3:rw-"), "{below}");
}

#[test]
fn squashed_owners() {
    let script = "touch a/f; chown 5:6 a/f; mkdir a/d; chown 8:8 a/d";
    let Some(dirs) = Dirs::new("owners::squashed_owners", script) else {
        return;
    };
    for (words, file) in [
        ("squash_to_root", (0, 0)),
        ("squash_to_uid=1000", (1000, 6)),
        ("squash_to_gid=1000", (5, 1000)),
        ("squash_to_root,squash_to_uid=7,squash_to_gid=9", (7, 9)),
    ] {
        dirs.mounted(&format!("{LAYERS},{words}"));
        let shown = owner(&dirs.path("f"));
        dirs.umount();
        assert_eq!(shown, file, "{words}");
    }
    // Everything is the user's own: he may do all with it.
    dirs.mounted(&format!("{LAYERS},squash_to_uid=1000,squash_to_gid=1000"));
    let said = dirs.as_user(
        1000,
        "echo x >> f; chmod 600 f; touch d/new; rm f; stat -c %u:%g d/new",
    );
    dirs.umount();
    assert_eq!(said.success(), "1000:1000\n");
}

const RECORD: &str = "user.containers.override_stat";

fn record(path: &Path) -> String {
    let said = run(
        "getfattr",
        &["--only-values", "-hn", RECORD, path.to_str().unwrap()],
    );
    said.success()
}

/// What the tests look at: type and mode, owner, device number.
fn shown(path: &Path) -> (u32, u32, u32, u64) {
    let meta = fs::symlink_metadata(path).unwrap();
    (meta.mode(), meta.uid(), meta.gid(), meta.rdev())
}

/// A layer as containers/storage writes it with `force_mask`: 0755 throughout, the truth in an attribute.
const FORCED: &str =
    "umask 022; mkdir -p a/d; echo text >a/d/f; echo secret >a/shadow; : >a/pipe; : >a/null;
    chmod 755 a a/d a/d/f a/shadow; ln -s f a/d/link
    r() { setfattr -n user.containers.override_stat -v $2 $1; }
    r a 0:0:0555; r a/d 5:6:02770; r a/d/f 7:8:04711; r a/shadow 0:42:0640
    r a/pipe 1:2:0600:pipe; r a/null 0:0:0666:char-1-3";

#[test]
fn owners_and_modes_kept_in_attributes_are_read() {
    let Some(dirs) = Dirs::new(
        "owners::owners_and_modes_kept_in_attributes_are_read",
        FORCED,
    ) else {
        return;
    };
    dirs.mounted("lowerdir=a:b");
    let at = |name: &str| shown(&dirs.path(name));
    assert_eq!(at("."), (0o40_555, 0, 0, 0));
    assert_eq!(at("d"), (0o42_770, 5, 6, 0));
    assert_eq!(at("d/f"), (0o104_711, 7, 8, 0));
    assert_eq!(at("shadow"), (0o100_640, 0, 42, 0));
    assert_eq!(at("pipe"), (0o10_600, 1, 2, 0));
    assert_eq!(at("null"), (0o20_666, 0, 0, rustix::fs::makedev(1, 3)));
    assert!(
        fs::symlink_metadata(dirs.path("d/link"))
            .unwrap()
            .is_symlink()
    );
    // A listing tells the types too, and nothing shows the attribute.
    let kinds = run(
        "find",
        &[
            dirs.path(".").to_str().unwrap(),
            "-mindepth",
            "1",
            "-type",
            "p",
        ],
    );
    assert_eq!(
        kinds.success().trim(),
        dirs.path("./pipe").to_str().unwrap()
    );
    let names = run(
        "getfattr",
        &["-m", "-", "-d", dirs.path("shadow").to_str().unwrap()],
    );
    assert_eq!(names.success(), "");
    // The kernel checks the mode that is shown.
    let said = dirs.as_user(1000, "cat shadow");
    assert!(said.failure().contains("Permission denied"));
    dirs.umount();
    // Elsewhere than in a mount program the attribute is one like any other.
    dirs.mounted_by_command("lowerdir=a:b");
    assert_eq!(at("shadow"), (0o100_755, 0, 0, 0));
    dirs.umount();
}

#[test]
fn owners_and_modes_are_kept_in_attributes() {
    let Some(dirs) = Dirs::new("owners::owners_and_modes_are_kept_in_attributes", FORCED) else {
        return;
    };
    let options = format!("{LAYERS},xattr_permissions=2");
    dirs.mounted(&options);
    let script = "umask 022; mkdir new; chown 10:20 new; chmod 2750 new; echo x >new/file; mkdir new/dir
        chown 11:12 new/file; chmod 4755 new/file; mkfifo -m 600 new/fifo; mknod new/zero c 1 5
        mknod new/none c 0 0; ln -s x new/link; chown -h 3:4 new/link; echo more >>shadow; chown 9 d/f; chmod 600 pipe null
        rm -r d/link; touch -d @1000 shadow; mv new/zero new/zero2";
    let mut shell = std::process::Command::new("sh");
    cli::said(shell.args(["-ec", script]).current_dir(&dirs.point)).success();
    let check = |when: &str| {
        let at = |name: &str| shown(&dirs.path(name));
        assert_eq!(at("new"), (0o42_750, 10, 20, 0), "{when}");
        assert_eq!(at("new/dir"), (0o42_755, 0, 20, 0), "{when}");
        assert_eq!(at("new/file"), (0o104_755, 11, 12, 0), "{when}");
        assert_eq!(at("new/fifo"), (0o10_600, 0, 20, 0), "{when}");
        let zero = rustix::fs::makedev(1, 5);
        assert_eq!(at("new/zero2"), (0o20_644, 0, 20, zero), "{when}");
        assert_eq!(at("new/none"), (0o20_644, 0, 20, 0), "{when}");
        assert_eq!(at("shadow"), (0o100_640, 0, 42, 0), "{when}");
        assert_eq!(at("d/f").1, 9, "{when}");
        assert_eq!(at("pipe"), (0o10_600, 1, 2, 0), "{when}");
        let null = rustix::fs::makedev(1, 3);
        assert_eq!(at("null"), (0o20_600, 0, 0, null), "{when}");
        assert!(!dirs.path("d/link").is_symlink(), "{when}");
        let text = fs::read_to_string(dirs.path("shadow")).unwrap();
        assert_eq!(text, "secret\nmore\n", "{when}");
    };
    check("at first");
    let acl = run(
        "setfacl",
        &["-m", "u:5:r", dirs.path("shadow").to_str().unwrap()],
    );
    assert!(acl.failure().contains("not supported"));
    dirs.umount();
    dirs.mounted(&options);
    check("after a remount");
    dirs.umount();

    // On disk everything is root's and 0755, and no special file.
    let upper = |name: &str| dirs.strata.path("u").join(name);
    for name in ["new", "new/file", "new/fifo", "new/zero2", "shadow", "pipe"] {
        let (mode, uid, gid, _) = shown(&upper(name));
        assert_eq!((mode & 0o7777, uid, gid), (0o755, 0, 0), "{name}");
        assert!(
            !fs::symlink_metadata(upper(name))
                .unwrap()
                .file_type()
                .is_fifo()
        );
    }
    assert_eq!(record(&upper("new/file")), "11:12:04755");
    assert_eq!(record(&upper("new/zero2")), "0:20:0644:char-1-5");
    // A later mount that has the upper as a lower knows by its root.
    fs::set_permissions(dirs.strata.path("u"), fs::Permissions::from_mode(0o755)).unwrap();
    dirs.mounted("lowerdir=u:a:b");
    check("as a lower");
    dirs.umount();
}
