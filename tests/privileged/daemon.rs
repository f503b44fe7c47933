//! The daemon's life: coming up, handing over, ending, and being told to.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::common::cli::{self, Strata, can_mount, is_mounted, run};
use crate::common::live::wait_until;

/// A store with an image `tiny` of one layer.
fn store(test: &str) -> Option<Strata> {
    if !can_mount(test) {
        return None;
    }
    let strata = Strata::new();
    load_tiny(&strata);
    Some(strata)
}

fn load_tiny(strata: &Strata) {
    let dir = strata.path("made");
    let script = r#"
        mkdir -p rootfs/etc && echo tiny > rootfs/etc/name && cd rootfs && tar cf ../layer.tar . && cd ..
        sum=$(sha256sum layer.tar | cut -d' ' -f1)
        echo '{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:'$sum'"]}}' > config.json
        echo '[{"Config":"config.json","RepoTags":["tiny:latest"],"Layers":["layer.tar"]}]' > manifest.json
        tar cf image.tar config.json manifest.json layer.tar"#;
    fs::create_dir(&dir).unwrap();
    cli::said(Command::new("sh").args(["-ec", script]).current_dir(&dir)).success();
    strata.load(&dir.join("image.tar"));
}

fn point(strata: &Strata, name: &str) -> std::path::PathBuf {
    let point = strata.path(name);
    fs::create_dir_all(&point).unwrap();
    point
}

fn mount(strata: &Strata, words: &[&str], point: &Path) -> cli::Said {
    let mut command = strata.command();
    command.arg("mount").args(words).arg(point);
    cli::said(&mut command)
}

fn umount(point: &Path) {
    run("umount", &[point]).success();
}

/// The process that serves a container, from its record.
fn daemon_of(strata: &Strata) -> String {
    for entry in fs::read_dir(strata.root.join("strata/containers")).unwrap() {
        let record = entry.unwrap().path().join("mount.json");
        if let Ok(text) = fs::read_to_string(record) {
            let number = text.split("\"pid\":").nth(1).unwrap();
            return number.chars().take_while(char::is_ascii_digit).collect();
        }
    }
    panic!("no daemon");
}

#[test]
fn a_mount_follows_a_plain_umount_at_once() {
    let Some(strata) = store("daemon::a_mount_follows_a_plain_umount_at_once") else {
        return;
    };
    let point = point(&strata, "point");
    mount(&strata, &["--name", "web", "tiny"], &point).success();
    for round in 0..20 {
        fs::write(point.join("round"), round.to_string()).unwrap();
        umount(&point);
        mount(&strata, &["web"], &point).success();
        assert_eq!(
            fs::read_to_string(point.join("round")).unwrap(),
            round.to_string()
        );
    }
    strata.ok(&["umount", "web"]);
    assert!(!is_mounted(&point));
}

#[test]
fn containers_that_go_with_their_mount_are_gone_when_it_is() {
    let Some(strata) = store("daemon::containers_that_go_with_their_mount_are_gone_when_it_is")
    else {
        return;
    };
    let point = point(&strata, "point");
    for _ in 0..20 {
        mount(&strata, &["--rm", "--name", "short", "tiny"], &point).success();
        fs::write(point.join("new"), b"x").unwrap();
        strata.ok(&["umount".as_ref(), point.as_os_str()]);
        assert_eq!(strata.ok(&["ps", "-a", "-q"]), "");
    }
}

#[test]
fn a_mount_above_the_store_is_served() {
    let Some(strata) = store("daemon::a_mount_above_the_store_is_served") else {
        return;
    };
    let above = strata.root.parent().unwrap();
    let said = mount(&strata, &["--name", "web", "tiny"], above);
    said.success();
    let name = fs::read_to_string(above.join("etc/name"));
    fs::write(above.join("etc/name"), b"changed").unwrap();
    let changed = fs::read_to_string(above.join("etc/name"));
    umount(above);
    assert_eq!(name.unwrap(), "tiny\n");
    assert_eq!(changed.unwrap(), "changed");
    wait_until(|| !strata.ok(&["ps", "-q"]).contains(char::is_alphanumeric));
}

#[test]
fn signals_unmount_what_is_idle_and_still_ours() {
    let Some(strata) = store("daemon::signals_unmount_what_is_idle_and_still_ours") else {
        return;
    };
    let point = point(&strata, "point");
    mount(&strata, &["--name", "web", "tiny"], &point).success();
    let pid = daemon_of(&strata);
    let busy = fs::File::open(point.join("etc/name")).unwrap();
    run("kill", &["-TERM", &pid]).success();
    std::thread::sleep(Duration::from_millis(200));
    assert!(is_mounted(&point), "in use");
    drop(busy);
    run("kill", &["-TERM", &pid]).success();
    wait_until(|| !is_mounted(&point));
    // The old daemon doesn't touch a new mount at the place.
    mount(&strata, &["web"], &point).success();
    assert_ne!(daemon_of(&strata), pid);
    std::thread::sleep(Duration::from_millis(100));
    assert!(is_mounted(&point));
    strata.ok(&["umount", "web"]);
}

#[test]
fn a_dead_mount_is_replaced_and_the_changes_are_there() {
    let Some(strata) = store("daemon::a_dead_mount_is_replaced_and_the_changes_are_there") else {
        return;
    };
    let point = point(&strata, "point");
    mount(&strata, &["--name", "web", "tiny"], &point).success();
    fs::write(point.join("kept"), b"kept").unwrap();
    run("kill", &["-KILL", &daemon_of(&strata)]).success();
    wait_until(|| fs::read_dir(&point).is_err());
    mount(&strata, &["web"], &point).success();
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let here = mounts.matches(point.to_str().unwrap()).count();
    assert_eq!(here, 1, "the dead one is not below the new one");
    assert_eq!(fs::read(point.join("kept")).unwrap(), b"kept");
    run("kill", &["-KILL", &daemon_of(&strata)]).success();
    wait_until(|| fs::read_dir(&point).is_err());
    strata.ok(&["umount".as_ref(), point.as_os_str()]);
    assert!(!is_mounted(&point));
}

#[test]
fn what_is_in_use_is_unmounted_lazily_only_when_asked() {
    let Some(strata) = store("daemon::what_is_in_use_is_unmounted_lazily_only_when_asked") else {
        return;
    };
    let point = point(&strata, "point");
    mount(&strata, &["--name", "web", "tiny"], &point).success();
    let busy = fs::File::open(point.join("etc/name")).unwrap();
    let said = strata.run(&["umount", "web"]).failure();
    assert!(said.contains("in use"), "{said}");
    strata.ok(&["umount", "--lazy", "web"]);
    assert!(!is_mounted(&point));
    let mut text = String::new();
    std::io::Read::read_to_string(&mut &busy, &mut text).unwrap();
    assert_eq!(text, "tiny\n");
    drop(busy);
    mount(&strata, &["web"], &point).success();
    strata.ok(&["umount", "web"]);
}

#[test]
fn layers_are_handed_over_too() {
    if !can_mount("daemon::layers_are_handed_over_too") {
        return;
    }
    let strata = Strata::new();
    let [lower, upper, work, at] = ["lower", "upper", "work", "point"].map(|n| point(&strata, n));
    fs::write(lower.join("f"), b"lower").unwrap();
    let words = format!(
        "lowerdir={},upperdir={},workdir={},fsname=named",
        lower.display(),
        upper.display(),
        work.display()
    );
    for round in 0..5 {
        mount(&strata, &["-o", &words], &at).success();
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let line = mounts
            .lines()
            .find(|l| l.contains(at.to_str().unwrap()))
            .unwrap();
        assert!(
            line.starts_with("named ") && line.contains(" fuse.strata "),
            "{line}"
        );
        fs::write(at.join(format!("new{round}")), b"x").unwrap();
        umount(&at);
    }
    assert_eq!(fs::read_dir(&upper).unwrap().count(), 5);
}

#[test]
fn what_cannot_be_mounted_is_refused_in_one_line() {
    let Some(strata) = store("daemon::what_cannot_be_mounted_is_refused_in_one_line") else {
        return;
    };
    let at = point(&strata, "point");
    fs::write(strata.path("file"), b"").unwrap();
    mount(&strata, &["--name", "web", "tiny"], &at).success();
    let elsewhere = point(&strata, "elsewhere");
    let inside = strata.root.join("blobs");
    for (words, at, why) in [
        (
            &["nothing"][..],
            elsewhere.as_path(),
            "No such image or container",
        ),
        (&["web"], &elsewhere, "is mounted at"),
        (&["tiny"], &strata.path("none"), "No such file or directory"),
        (&["tiny"], &strata.path("file"), "not a directory"),
        (&["tiny"], &inside, "inside the store"),
        (&["-o", "rro", "tiny"], &elsewhere, "did you mean"),
        (&["-o", "lowerdir=/none"], &elsewhere, "/none"),
    ] {
        let said = mount(&strata, words, at).failure();
        assert!(said.contains(why) && said.lines().count() == 1, "{said}");
        assert!(!is_mounted(at));
    }
    strata.ok(&["umount", "web"]);
    assert_eq!(
        strata.ok(&["ps", "-a", "-q"]).lines().count(),
        1,
        "no container was left"
    );
}
