//! Containers that are mounted: copies through the live view, exports, states, logs.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::cli::{Strata, can_mount, is_mounted, said};
use crate::common::golden::busybox;
use crate::common::tree;

fn with_busybox() -> Strata {
    let strata = Strata::new();
    let archive = strata.path("busybox.tar");
    fs::write(&archive, busybox()).unwrap();
    strata.load(&archive);
    strata
}

#[test]
fn copies_into_a_mounted_container_are_seen_at_once() {
    if !can_mount("containers::copies_into_a_mounted_container_are_seen_at_once") {
        return;
    }
    let strata = with_busybox();
    let blobs = strata.blobs();
    let mounted = strata.mount(&["--name", "box"], "busybox");
    // The kernel knows both the file and the absence of the other.
    let before = fs::read(mounted.path("etc/passwd")).unwrap();
    assert!(!mounted.path("etc/new").exists());
    let file = strata.path("new");
    fs::write(&file, "new\n").unwrap();
    let from = file.to_str().unwrap();
    strata.ok(&["cp", from, "box:/etc/new"]);
    strata.ok(&["cp", from, "box:/etc/passwd"]);
    for name in ["etc/new", "etc/passwd"] {
        assert_eq!(fs::read_to_string(mounted.path(name)).unwrap(), "new\n");
    }
    // And out again, of what was only written through the mount.
    fs::write(mounted.path("root/live"), "live\n").unwrap();
    let out = strata.path("out");
    strata.ok(&["cp", "box:/root/live", out.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(&out).unwrap(), "live\n");
    // Links lead about in the container only.
    std::os::unix::fs::symlink("/etc", mounted.path("link")).unwrap();
    strata.ok(&["cp", from, "box:/link/by-link"]);
    assert!(mounted.path("etc/by-link").exists());
    mounted.unmount();
    let diff = strata.ok(&["diff", "box"]);
    for line in [
        "A /etc/new",
        "C /etc/passwd",
        "A /etc/by-link",
        "A /root/live",
    ] {
        assert!(diff.lines().any(|l| l == line), "{line}: {diff}");
    }
    strata.ok(&["cp", "box:/etc/passwd", out.to_str().unwrap()]);
    assert_ne!(fs::read(&out).unwrap(), before);
    strata.assert_blobs_intact(&blobs);
}

/// Unpacks a tar and lists what came of it.
fn unpacked(strata: &Strata, tar: &std::path::Path) -> tree::Tree {
    let dir = tempfile::tempdir_in(&strata.scratch).unwrap();
    let mut untar = Command::new("tar");
    untar.args([
        "x",
        "-p",
        "--xattrs",
        "--xattrs-include=*",
        "--numeric-owner",
        "-C",
    ]);
    said(untar.arg(dir.path()).arg("-f").arg(tar)).success();
    tree::list(dir.path())
}

#[test]
fn an_export_is_the_tree_that_the_mount_shows() {
    if !can_mount("containers::an_export_is_the_tree_that_the_mount_shows") {
        return;
    }
    let strata = with_busybox();
    let mounted = strata.mount(&["-o", "dev", "--name", "box"], "busybox");
    let script = "cd $1; rm -rf bin/vi etc/group tmp; mkdir -p tmp 'a b'; ln bin/busybox hard
        mknod nod c 1 3; mkfifo ff; ln -s a sl; chmod 4751 bin/sh; chown 7:8 tmp
        setfattr -n user.k -v v tmp; mv usr/bin moved; touch -d @1500000000.5 etc/passwd
        truncate -s 1G big; printf x | dd of=big bs=1 seek=500M conv=notrunc status=none
        printf 'n\\n' > \"$(printf 'bad\\377\\nname')\"";
    let mut shell = Command::new("sh");
    shell.args(["-ec", script, "sh"]).arg(&mounted.point);
    said(&mut shell).success();
    let shown = mounted.tree();
    let tar = strata.path("box.tar");
    let export = |name: &str| {
        let tar = strata.path(name);
        strata.ok(&["export", "-o", tar.to_str().unwrap(), "box"]);
        fs::read(&tar).unwrap()
    };
    let live = export("box.tar");
    assert!(live.len() < 64 << 20, "holes were written: {}", live.len());
    tree::assert_same(("mount", &shown), ("export", &unpacked(&strata, &tar)));
    mounted.unmount();
    assert!(export("still.tar") == live, "mounted and not mounted");
    let copied = strata
        .command()
        .args(["cp", "box:/", "-"])
        .output()
        .unwrap();
    assert!(copied.stdout == live, "cp of the root is an export");
}

#[test]
fn states_follow_the_mount() {
    if !can_mount("containers::states_follow_the_mount") {
        return;
    }
    let strata = with_busybox();
    strata.ok(&["create", "--name", "box", "busybox"]);
    let state = || strata.ok(&["ps", "-a", "--format", "json"]);
    assert!(state().contains("\"State\":\"created\""), "{}", state());
    let mounted = strata.mount(&[], "box");
    let shown = strata.ok(&["ps", "-s"]);
    assert!(
        shown.contains("Up ") && shown.contains("0B (virtual 1.98MB)"),
        "{shown}"
    );
    assert!(shown.contains(mounted.point.to_str().unwrap()), "{shown}");
    let refused = strata.run(&["rm", "box"]).failure();
    assert!(
        refused.contains("cannot remove a running container"),
        "{refused}"
    );
    strata.ok(&["rename", "box", "renamed"]);
    assert_eq!(
        strata
            .ok(&["ps", "-q", "-f", "name=renamed"])
            .lines()
            .count(),
        1
    );
    fs::write(mounted.path("some"), vec![1; 3000]).unwrap();
    mounted.unmount();
    assert!(state().contains("Exited (0)"), "{}", state());
    assert!(strata.ok(&["ps", "-as"]).contains("3kB (virtual 1.99MB)"));
    // A daemon that is killed leaves its record.
    let mounted = strata.mount(&[], "renamed");
    let inspected: serde_json::Value =
        serde_json::from_str(&strata.ok(&["inspect", "renamed"])).unwrap();
    let pid = inspected[0]["State"]["Pid"].as_i64().unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while !state().contains("Exited (137)") {
        assert!(Instant::now() < until, "{}", state());
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut umount = Command::new("umount");
    said(umount.arg("-l").arg(&mounted.point)).success();
    assert_eq!(strata.ok(&["rm", "-f", "renamed"]), "renamed\n");
}

#[test]
fn a_mount_in_use_is_stopped_in_the_end() {
    if !can_mount("containers::a_mount_in_use_is_stopped_in_the_end") {
        return;
    }
    let strata = with_busybox();
    let mounted = strata.mount(&["--name", "box"], "busybox");
    let open = fs::File::open(mounted.path("etc/passwd")).unwrap();
    assert_eq!(strata.ok(&["stop", "-t", "0", "box"]), "box\n");
    assert!(!is_mounted(&mounted.point));
    // Whoever has it open goes on.
    assert!(std::io::Read::read(&mut &open, &mut [0; 8]).unwrap() > 0);
    drop(open);
    let until = Instant::now() + Duration::from_secs(60);
    while !strata.ok(&["ps", "-q"]).is_empty() {
        assert!(Instant::now() < until, "the daemon stays");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(strata.ok(&["container", "stop", "box"]), "box\n");
}

#[test]
fn daemons_log_what_happens() {
    if !can_mount("containers::daemons_log_what_happens") {
        return;
    }
    let strata = with_busybox();
    strata.ok(&["create", "--name", "box", "busybox"]);
    assert_eq!(strata.ok(&["logs", "box"]), "");
    let mounted = strata.mount(&[], "box");
    let mut follower = strata.command();
    follower.args(["logs", "-f", "box"]).stdout(Stdio::piped());
    let follower = follower.spawn().unwrap();
    strata.ok(&["commit", "box", "mine:1"]);
    mounted.unmount();
    let followed = follower.wait_with_output().unwrap();
    let followed = String::from_utf8(followed.stdout).unwrap();
    let read = strata.ok(&["logs", "box"]);
    assert_eq!(followed, read);
    let messages = [
        " mounted ",
        "changes are held",
        "changes go on",
        "the mount has ended",
    ];
    let places = messages.map(|m| read.find(m).unwrap_or_else(|| panic!("{m}: {read}")));
    assert!(places.is_sorted(), "{read}");
    assert_eq!(strata.ok(&["logs", "-n", "1", "box"]).lines().count(), 1);
    assert_eq!(strata.ok(&["logs", "--until", "1h", "box"]), "");
    assert_eq!(strata.ok(&["logs", "--since", "1h", "box"]), read);
    for line in strata.ok(&["logs", "--format", "json", "box"]).lines() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(
            record["time"].is_string() && record["level"] == "INFO",
            "{line}"
        );
    }
    // Before it there may be a line on the transport.
    let lines = strata.ok(&["logs", "--format", "json", "box"]);
    let mounted = lines.lines().find(|line| line.contains("mountpoint"));
    let mounted: serde_json::Value = serde_json::from_str(mounted.unwrap()).unwrap();
    assert!(mounted["fields"]["pid"].is_i64() && mounted["fields"]["mountpoint"].is_string());
    // Less is logged when less is asked for.
    let point = strata.path("quiet");
    fs::create_dir(&point).unwrap();
    strata.ok(&[
        "--log-level",
        "error",
        "mount",
        "box",
        point.to_str().unwrap(),
    ]);
    strata.ok(&["umount", "box"]);
    assert_eq!(strata.ok(&["logs", "box"]), read);
    strata.run(&["logs", "-n", "x", "box"]).failure();
}

#[test]
fn an_installation_has_pages_and_completions() {
    let strata = Strata::new();
    let root = strata.path("root");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/install");
    let install = |more: &[&str]| {
        let mut install = Command::new(script);
        install.args(["--binary", env!("CARGO_BIN_EXE_strata"), "--destdir"]);
        said(install.arg(&root).args(more)).success()
    };
    install(&[]);
    let share = root.join("usr/local/share");
    let files = [
        "man/man1/strata.1",
        "man/man1/strata-container-ls.1",
        "bash-completion/completions/strata",
        "zsh/site-functions/_strata",
        "fish/vendor_completions.d/strata.fish",
    ];
    for file in files {
        assert!(
            fs::metadata(share.join(file)).unwrap().len() > 100,
            "{file}"
        );
    }
    install(&["--uninstall"]);
    for file in files {
        assert!(!share.join(file).exists(), "{file}");
    }
}
