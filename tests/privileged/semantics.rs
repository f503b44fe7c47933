//! One test for each promise that programs rely on (see SEMANTICS in the union module), on a live
//! mount over a directory.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, SeekFrom as RawSeek};
use rustix::io::Errno;
use stratafs::fuse::Transport;

use crate::common::cli;
use crate::common::live::{Live, chmod};

macro_rules! live {
    ($test:literal, $script:expr) => {{
        if !cli::can_mount($test) {
            return;
        }
        Live::new(concat!("umask 022; ", $script))
    }};
}

/// Runs a shell script in the mount; its output.
fn sh(live: &Live, script: &str) -> String {
    let mut command = Command::new("sh");
    command.args(["-ec", &format!("umask 022; {script}")]);
    cli::said(command.current_dir(&live.point)).success()
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn a_reader_of_a_lower_file_sees_what_is_written() {
    if !cli::can_mount("semantics::a_reader_of_a_lower_file_sees_what_is_written") {
        return;
    }
    let live = Live::cached("umask 022; printf 0123456789 >f; cp f g");
    for name in ["f", "g"] {
        let mut reader = File::open(live.path(name)).unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        let mut options = OpenOptions::new();
        if name == "f" {
            options
                .write(true)
                .open(live.path(name))
                .unwrap()
                .write_all_at(b"AB", 2)
                .unwrap();
        } else {
            options
                .append(true)
                .open(live.path(name))
                .unwrap()
                .write_all(b"AB")
                .unwrap();
        }
        let expected = if name == "f" {
            "01AB456789"
        } else {
            "0123456789AB"
        };
        reader.seek(SeekFrom::Start(0)).unwrap();
        text.clear();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, expected);
        assert_eq!(reader.metadata().unwrap().len(), expected.len() as u64);
        assert_eq!(
            fs::read(live.dir.path().join("lower").join(name)).unwrap(),
            b"0123456789"
        );
    }
}

#[test]
fn truncating_direct_and_synchronous_opens_copy_up() {
    let live = live!(
        "semantics::truncating_direct_and_synchronous_opens_copy_up",
        "for f in trunc direct sync; do head -c 8192 /dev/zero >$f; done"
    );
    File::create(live.path("trunc"))
        .unwrap()
        .write_all(b"new")
        .unwrap();
    assert_eq!(fs::read(live.path("trunc")).unwrap(), b"new");
    let open = |name: &str, flags: i32| {
        let mut options = OpenOptions::new();
        options
            .write(true)
            .custom_flags(flags)
            .open(live.path(name))
            .unwrap()
    };
    open("sync", libc::O_SYNC).write_all_at(b"x", 8000).unwrap();
    let sync = fs::read(live.path("sync")).unwrap();
    assert_eq!((sync.len(), sync[8000], sync[0]), (8192, b'x', 0));
    let direct = open("direct", libc::O_DIRECT);
    let space = vec![b'y'; 8192 + 4096];
    let start = space.as_ptr().align_offset(4096);
    direct
        .write_all_at(&space[start..start + 4096], 4096)
        .unwrap();
    let text = fs::read(live.path("direct")).unwrap();
    assert_eq!((text.len(), text[0], text[4096]), (8192, 0, b'y'));
}

#[test]
fn objects_of_every_kind_are_copied_up() {
    let live = live!(
        "semantics::objects_of_every_kind_are_copied_up",
        "mkfifo fifo; mknod dev c 1 3; mknod block b 7 99; ln -s target link; mkdir d
         python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"sock\")' 2>/dev/null || mknod sock p
         setfattr -n user.a -v b d; chown 7:8 fifo"
    );
    let names = ["fifo", "dev", "block", "link", "d", "sock"];
    let before = names.map(|n| fs::symlink_metadata(live.path(n)).unwrap());
    for name in names {
        if name != "link" {
            chmod(&live.path(name), 0o640);
        }
        std::os::unix::fs::lchown(live.path(name), Some(5), Some(6)).unwrap();
    }
    for (name, before) in names.iter().zip(before) {
        let after = fs::symlink_metadata(live.path(name)).unwrap();
        assert_eq!(
            (after.ino(), after.rdev()),
            (before.ino(), before.rdev()),
            "{name}"
        );
        assert_eq!(after.file_type(), before.file_type(), "{name}");
        assert_eq!(
            (after.uid(), after.gid(), after.dev()),
            (5, 6, before.dev()),
            "{name}"
        );
    }
    assert_eq!(
        fs::read_link(live.path("link")).unwrap(),
        Path::new("target")
    );
    assert!(
        fs::symlink_metadata(live.upper("dev"))
            .unwrap()
            .file_type()
            .is_char_device()
    );
}

#[test]
fn holes_stay_holes_and_huge_files_are_quick() {
    let live = live!(
        "semantics::holes_stay_holes_and_huge_files_are_quick",
        "truncate -s 1T huge; printf x | dd of=huge bs=1 seek=500G conv=notrunc 2>/dev/null"
    );
    let file = OpenOptions::new()
        .write(true)
        .open(live.path("huge"))
        .unwrap();
    file.write_all_at(b"y", 1 << 20).unwrap();
    drop(file);
    let upper = File::open(live.upper("huge")).unwrap();
    let stat = upper.metadata().unwrap();
    assert_eq!(stat.len(), 1 << 40);
    assert!(stat.blocks() < 64, "{} blocks", stat.blocks());
    let data = rustix::fs::seek(&upper, RawSeek::Data(2 << 20)).unwrap();
    assert_eq!(data >> 12, (500 << 30) >> 12);
}

#[test]
fn changing_attributes_copies_no_data() {
    let live = live!(
        "semantics::changing_attributes_copies_no_data",
        "head -c 4000000 /dev/urandom >big; cp big linked; ln linked linked2"
    );
    chmod(&live.path("big"), 0o600);
    let blocks = || fs::metadata(live.upper("big")).unwrap().blocks();
    assert!(blocks() <= 8, "attributes alone");
    let lower = fs::read(live.dir.path().join("lower/big")).unwrap();
    assert!(fs::read(live.path("big")).unwrap() == lower);
    let stat = fs::metadata(live.path("big")).unwrap();
    assert!(stat.blocks() > 0 && stat.len() == 4_000_000);
    let file = OpenOptions::new()
        .write(true)
        .open(live.path("big"))
        .unwrap();
    file.write_all_at(b"z", 0).unwrap();
    assert!(fs::read(live.path("big")).unwrap()[1..] == lower[1..]);
}

#[test]
fn groups_modes_and_default_acls_are_inherited() {
    let live = live!(
        "semantics::groups_modes_and_default_acls_are_inherited",
        "mkdir setgid acl sticky; chgrp 50 setgid; chmod 2777 setgid; chmod 1777 sticky; chmod 777 acl
         setfacl -d -m u:77:rwx,g::rx acl; touch sticky/roots"
    );
    let said = live.as_user(
        "umask 027; cd setgid; touch f; mkdir d; cd ../acl; touch f; mkdir d; cd ..
         rm -f sticky/roots 2>/dev/null && echo removed; touch sticky/own; rm sticky/own",
    );
    assert!(!said.out.contains("removed"), "the sticky bit holds");
    let group = |name: &str| fs::metadata(live.path(name)).unwrap().gid();
    assert_eq!((group("setgid/f"), group("setgid/d")), (50, 50));
    assert_eq!(mode(&live.path("setgid/d")), 0o2750);
    assert_eq!(mode(&live.path("setgid/f")), 0o640);
    // With a default ACL the umask doesn't count.
    let acl = sh(&live, "getfacl -cn acl/f; getfacl -cnd acl/d");
    assert!(acl.contains("user:77:rwx"), "{acl}");
    assert_eq!(mode(&live.path("acl/f")), 0o666);
    assert!(sh(&live, "getfacl -cnd acl/d").contains("user:77:rwx"));
}

#[test]
fn an_acl_by_a_stranger_to_the_group_clears_setgid() {
    let live = live!(
        "semantics::an_acl_by_a_stranger_to_the_group_clears_setgid",
        "touch f; chown 1000:50 f; chmod 2775 f"
    );
    let said = live.as_user("setfacl -m u:77:r f");
    assert!(said.ok, "{}", said.err);
    assert_eq!(mode(&live.path("f")) & 0o2000, 0);
}

#[test]
fn capabilities_go_when_a_file_is_written() {
    let live = live!(
        "semantics::capabilities_go_when_a_file_is_written",
        "cp /bin/true a; setcap cap_net_raw+ep a; cp --preserve=all a b"
    );
    let has = |name: &str| sh(&live, &format!("getcap {name}")).contains("cap_net_raw");
    assert!(has("a"));
    sh(&live, "chmod 755 a");
    assert!(has("a"), "changing the mode is no reason");
    OpenOptions::new()
        .append(true)
        .open(live.path("a"))
        .unwrap()
        .write_all(b"x")
        .unwrap();
    assert!(!has("a"));
    sh(&live, "chown 1 b");
    assert!(!has("b"));
}

#[test]
fn parents_times_change_with_their_entries_alone() {
    let live = live!(
        "semantics::parents_times_change_with_their_entries_alone",
        "mkdir -p d/e; echo x >d/e/f; touch -d @1000 d/e/f d/e d"
    );
    let mtime = |name: &str| fs::metadata(live.path(name)).unwrap().mtime();
    fs::write(live.path("d/e/f"), b"changed").unwrap();
    assert_eq!((mtime("d/e"), mtime("d")), (1000, 1000));
    for change in [
        "touch d/e/new",
        "ln d/e/f d/e/g",
        "mv d/e/g d/e/h",
        "rm d/e/f",
    ] {
        sh(&live, &format!("touch -d @1000 d/e; {change}"));
        assert!(mtime("d/e") > 1000, "{change}");
        assert_eq!(mtime("d"), 1000, "{change}");
    }
}

/// What the file system says, not what the kernel has kept of it.
fn ctime_by_asking(path: &std::path::Path) -> (i64, u32) {
    use rustix::fs::{AtFlags, CWD, StatxFlags};
    let ask = AtFlags::from_bits_retain(libc::AT_STATX_FORCE_SYNC.cast_unsigned());
    let flags = ask | AtFlags::SYMLINK_NOFOLLOW;
    let told = rustix::fs::statx(CWD, path, flags, StatxFlags::CTIME).unwrap();
    (told.stx_ctime.tv_sec, told.stx_ctime.tv_nsec)
}

#[test]
fn a_copy_up_changes_nothing_for_those_who_look() {
    let live = live!(
        "semantics::a_copy_up_changes_nothing_for_those_who_look",
        "mkdir -p a/b/c; echo x >a/b/c/f; echo x >a/g; echo x >a/h; ln a/h a/link; echo x >a/i"
    );
    let told = |name: &str| {
        let seen = fs::metadata(live.path(name)).unwrap();
        let asked = ctime_by_asking(&live.path(name));
        let kept = (seen.ctime(), u32::try_from(seen.ctime_nsec()).unwrap());
        assert_eq!(kept, asked, "{name}: what the kernel has kept isn't so");
        asked
    };
    let all = ["", "a", "a/b", "a/b/c", "a/b/c/f", "a/g", "a/h", "a/i"];
    let quiet = |what: &str, changed: &[&str], change: &dyn Fn()| {
        let before = all.map(told);
        change();
        for (name, before) in all.iter().zip(before) {
            let now = told(name);
            match changed.contains(name) {
                true => assert_ne!(now, before, "{what}: {name}"),
                false => assert_eq!(now, before, "{what}: {name}"),
            }
        }
    };
    let open = |name: &str| {
        drop(
            File::options()
                .read(true)
                .write(true)
                .open(live.path(name))
                .unwrap(),
        );
    };
    quiet("its directories", &["a/b/c"], &|| {
        fs::write(live.path("a/b/c/new"), b"").unwrap();
    });
    assert!(live.upper("a/b/c").exists());
    quiet("opened for writing", &[], &|| open("a/g"));
    quiet("of two names", &[], &|| open("a/h"));
    assert!(live.upper("a/g").exists() && live.upper("a/h").exists());
    // And what does change is seen, also right after a copy-up.
    quiet("written", &["a/b/c/f"], &|| {
        fs::write(live.path("a/b/c/f"), b"y").unwrap();
    });
    quiet("a mode", &["a/b"], &|| drop(sh(&live, "chmod 711 a/b")));
    quiet("an attribute", &["a"], &|| {
        drop(sh(&live, "setfattr -n user.x -v y a"));
    });
    quiet("an entry", &["a"], &|| drop(sh(&live, "touch a/new")));
    quiet("another name", &["a/i", "a"], &|| {
        fs::hard_link(live.path("a/i"), live.path("a/j")).unwrap();
    });
}

#[test]
fn copy_ups_beside_each_other_leave_their_directory_as_it_was() {
    let live = live!(
        "semantics::copy_ups_beside_each_other_leave_their_directory_as_it_was",
        "mkdir d; for i in $(seq 200); do echo $i >d/$i; done; touch -d @1000 d"
    );
    let seen = || {
        let path = live.path("d");
        let mtime = fs::metadata(&path).unwrap().mtime();
        (mtime, ctime_by_asking(&path))
    };
    let before = seen();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let live = &live;
            scope.spawn(move || {
                for i in (1..=200).filter(|i| i % 4 == thread) {
                    crate::common::live::chmod(&live.path(&format!("d/{i}")), 0o600);
                }
            });
        }
    });
    assert_eq!(seen(), before);
    assert_eq!(fs::read_dir(live.upper("d")).unwrap().count(), 200);
}

#[test]
fn numbers_are_the_same_everywhere() {
    let live = live!(
        "semantics::numbers_are_the_same_everywhere",
        "mkdir -p d/sub; for n in 1 2 3; do echo $n >d/$n; done; ln d/1 d/link; ln -s x d/l"
    );
    sh(
        &live,
        "echo new >d/2; mkdir d/made; touch d/made/f d/new; chmod 700 d/sub",
    );
    let device = fs::metadata(&live.point).unwrap().dev();
    for dir in ["", "d", "d/made"] {
        for entry in fs::read_dir(live.path(dir)).unwrap() {
            let entry = entry.unwrap();
            let stat = fs::symlink_metadata(entry.path()).unwrap();
            let d_ino = std::os::unix::fs::DirEntryExt::ino(&entry);
            assert_eq!(d_ino, stat.ino(), "{:?}", entry.path());
            assert_eq!(stat.dev(), device);
        }
    }
}

#[test]
fn locks_hold_between_processes() {
    let live = live!("semantics::locks_hold_between_processes", "touch f");
    let file = File::open(live.path("f")).unwrap();
    rustix::fs::flock(&file, FlockOperation::LockExclusive).unwrap();
    let refused = sh(&live, "flock -n f true && echo got || echo refused");
    assert_eq!(refused.trim(), "refused");
    drop(file);
    assert_eq!(sh(&live, "flock -n f echo got").trim(), "got");
    let script = "import fcntl,os,sys
f=open('f','r+'); fcntl.lockf(f,fcntl.LOCK_EX)
pid=os.fork()
if pid==0:
    g=open('f','r+')
    try: fcntl.lockf(g,fcntl.LOCK_EX|fcntl.LOCK_NB); os._exit(1)
    except OSError: os._exit(0)
sys.exit(os.WEXITSTATUS(os.waitpid(pid,0)[1]))";
    let mut python = Command::new("python3");
    cli::said(python.args(["-c", script]).current_dir(&live.point)).success();
}

#[test]
fn programs_run_and_cannot_be_written_meanwhile() {
    let live = live!(
        "semantics::programs_run_and_cannot_be_written_meanwhile",
        "cp /bin/sleep lower; mkdir d"
    );
    fs::copy("/bin/sleep", live.path("d/upper")).unwrap();
    for name in ["lower", "d/upper"] {
        let path = live.path(name);
        let mut program = Command::new(&path).arg("60").spawn().unwrap();
        let open = |flags| rustix::fs::open(&path, flags, Mode::empty()).map(drop);
        for flags in [
            OFlags::WRONLY,
            OFlags::RDWR | OFlags::TRUNC,
            OFlags::RDONLY | OFlags::TRUNC,
        ] {
            assert_eq!(open(flags), Err(Errno::TXTBSY), "{name}, {flags:?}");
        }
        assert!(program.try_wait().unwrap().is_none(), "{name} has ended");
        assert!(fs::read(&path).unwrap() == fs::read("/bin/sleep").unwrap());
        program.kill().unwrap();
        program.wait().unwrap();
        // The kernel tells the end of it a little later.
        let until = Instant::now() + Duration::from_secs(60);
        while let Err(e) = open(OFlags::RDONLY | OFlags::TRUNC) {
            assert!(Instant::now() < until, "{name}: {e}");
        }
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
    }
}

#[test]
fn watches_are_told() {
    use rustix::fs::inotify;
    let live = live!("semantics::watches_are_told", "mkdir d; echo x >d/f");
    let fd = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
    let all =
        inotify::WatchFlags::CREATE | inotify::WatchFlags::DELETE | inotify::WatchFlags::MODIFY;
    inotify::add_watch(&fd, live.path("d"), all).unwrap();
    sh(&live, "echo y >>d/f; touch d/new; rm d/f");
    let mut space = [std::mem::MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(&fd, &mut space);
    let mut seen = inotify::ReadFlags::empty();
    while let Ok(event) = reader.next() {
        seen |= event.events();
    }
    for flag in [
        inotify::ReadFlags::CREATE,
        inotify::ReadFlags::DELETE,
        inotify::ReadFlags::MODIFY,
    ] {
        assert!(seen.contains(flag), "{seen:?}");
    }
}

#[test]
fn figures_of_the_file_system_are_the_uppers() {
    let live = live!("semantics::figures_of_the_file_system_are_the_uppers", "");
    let (a, b) = (
        rustix::fs::statvfs(&live.point).unwrap(),
        rustix::fs::statvfs(live.dir.path().join("upper")).unwrap(),
    );
    assert_eq!(
        (a.f_blocks, a.f_files, a.f_namemax),
        (b.f_blocks, b.f_files, b.f_namemax)
    );
}

#[test]
fn what_fuse_cannot_do_is_refused_as_documented() {
    let live = live!(
        "semantics::what_fuse_cannot_do_is_refused_as_documented",
        "echo x >f"
    );
    let script = "import fcntl,errno
try: fcntl.ioctl(open('f'), 0xC020660B, bytearray(32))
except OSError as e: print(errno.errorcode[e.errno])";
    let mut python = Command::new("python3");
    let said = cli::said(python.args(["-c", script]).current_dir(&live.point)).success();
    assert_eq!(said.trim(), "ENOTSUP", "fiemap");
    let flags = OFlags::TMPFILE | OFlags::RDWR;
    let made = rustix::fs::open(&live.point, flags, Mode::RUSR);
    match crate::common::live::transport() {
        Transport::Dev => assert_eq!(made.map(drop), Err(Errno::OPNOTSUPP)),
        Transport::Uring => drop(made.unwrap()),
    }
}

#[test]
fn paths_longer_than_path_max_are_reached_step_by_step() {
    let live = live!(
        "semantics::paths_longer_than_path_max_are_reached_step_by_step",
        "echo x >f"
    );
    let name = "n".repeat(255);
    let mut at: std::os::fd::OwnedFd = File::open(&live.point).unwrap().into();
    for _ in 0..40 {
        rustix::fs::mkdirat(&at, name.as_str(), Mode::RWXU).unwrap();
        at = rustix::fs::openat(
            &at,
            name.as_str(),
            OFlags::RDONLY | OFlags::DIRECTORY,
            Mode::empty(),
        )
        .unwrap();
    }
    let flags = OFlags::CREATE | OFlags::RDWR;
    let file = File::from(rustix::fs::openat(&at, "deep", flags, Mode::RUSR).unwrap());
    file.write_all_at(b"deep", 0).unwrap();
    assert_eq!(rustix::fs::fstat(file.as_fd()).unwrap().st_size, 4);
    let (mount, up) = (File::open(&live.point).unwrap(), name.as_str());
    rustix::fs::renameat(&at, "deep", &mount, "shallow").unwrap();
    assert_eq!(fs::read(live.path("shallow")).unwrap(), b"deep");
    let flags = rustix::fs::AtFlags::REMOVEDIR;
    for _ in 0..40 {
        at = rustix::fs::openat(&at, "..", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
            .unwrap();
        rustix::fs::unlinkat(&at, up, flags).unwrap();
    }
    let long = rustix::fs::statat(
        CWD,
        live.path(&"x".repeat(256)),
        rustix::fs::AtFlags::empty(),
    );
    assert_eq!(long.map(drop), Err(Errno::NAMETOOLONG));
}

#[test]
fn a_removed_working_directory_stays_usable() {
    let live = live!(
        "semantics::a_removed_working_directory_stays_usable",
        "mkdir lower"
    );
    let said = sh(
        &live,
        "mkdir upper; for d in lower upper; do
           (cd $d; rmdir ../$d; stat -c %h .; ls -A; touch f 2>&1 | grep -o 'No such file' )
         done",
    );
    assert_eq!(
        said.lines().collect::<Vec<_>>(),
        ["0", "No such file", "0", "No such file"]
    );
}

#[test]
fn rename_replaces_as_everywhere() {
    let live = live!(
        "semantics::rename_replaces_as_everywhere",
        "mkdir full empty from; touch full/f from/g file"
    );
    let rename = |a: &str, b: &str| rustix::fs::rename(live.path(a), live.path(b));
    assert_eq!(rename("from", "full"), Err(Errno::NOTEMPTY));
    assert_eq!(rename("file", "empty"), Err(Errno::ISDIR));
    assert_eq!(rename("from", "file"), Err(Errno::NOTDIR));
    assert_eq!(rename("from", "from/below"), Err(Errno::INVAL));
    rename("from", "empty").unwrap();
    assert!(live.path("empty/g").exists() && !live.path("from").exists());
    rename("file", "full/f").unwrap();
    assert!(!live.path("file").exists());
}

#[test]
fn files_of_a_read_only_mount_are_passed_through() {
    let test = "semantics::files_of_a_read_only_mount_are_passed_through";
    if !cli::can_mount(test) {
        return;
    }
    let live = Live::read_only("head -c 3000000 /dev/urandom >f");
    let lower = live.dir.path().join("lower/f");
    let expected = fs::read(&lower).unwrap();
    let requests = live.requests(|| assert!(fs::read(live.path("f")).unwrap() == expected));
    // Over io_uring the birth time is asked for by itself.
    assert!(
        requests <= 4,
        "LOOKUP, OPEN, attributes, no READ: {requests}"
    );
    let refused = OpenOptions::new().write(true).open(live.path("f"));
    assert_eq!(
        refused.map(drop).unwrap_err().raw_os_error(),
        Some(libc::EROFS)
    );
    assert!(fs::read(&lower).unwrap() == expected);
}
