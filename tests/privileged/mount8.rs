//! mount(8), umount(8) and fstab(5) with strata installed, in a mount namespace of its own.

use std::path::Path;
use std::process::Command;

use crate::common::cli::{Said, Strata, can_mount, have, said};

/// What every script begins with: strata is installed as root would do it, over a copy of /usr/sbin
/// that only this namespace sees.
const INSTALLED: &str = r#"
    mkdir sbin.up sbin.work a b u w m
    echo lower > b/f
    mount -t overlay -o lowerdir=/usr/sbin,upperdir=sbin.up,workdir=sbin.work sbin /usr/sbin
    "$REPO/scripts/install" --binary "$STRATA" --prefix "$PWD/usr" --helpers /usr/sbin --fuse-overlayfs 2>/dev/null
    PATH=$PWD/usr/bin:$PATH
    LAYERS=lowerdir=$PWD/a:$PWD/b,upperdir=$PWD/u,workdir=$PWD/w
    shown() { grep " $PWD/m " /proc/mounts; }
    gone() { ! shown; }
    # set -e leaves out what stands behind an exclamation mark.
    fails() { if "$@" 2>err; then echo "succeeded: $*"; return 1; fi; }
"#;

/// Runs a shell script in a mount namespace of its own, in a scratch directory.
fn script(test: &str, body: &str) -> Option<(Strata, Said)> {
    if !can_mount(test) || !have(test, &["unshare", "mount", "umount"]) {
        return None;
    }
    let strata = Strata::new();
    let mut command = Command::new("unshare");
    command
        .args(["-m", "--propagation", "private", "bash", "-euc"])
        .arg(format!("{INSTALLED}\n{body}"))
        .env("REPO", env!("CARGO_MANIFEST_DIR"))
        .env("STRATA", env!("CARGO_BIN_EXE_strata"))
        .env("STRATA_ROOT", &strata.root)
        .current_dir(&strata.scratch);
    let said = said(&mut command);
    Some((strata, said))
}

/// Fails with what the script said.
fn passes(test: &str, body: &str) -> Option<(Strata, String)> {
    let (strata, said) = script(test, body)?;
    let err = said.err.clone();
    assert!(
        said.ok,
        "{}\n--- stdout\n{}--- stderr\n{err}",
        said.command, said.out
    );
    Some((strata, said.out))
}

#[test]
fn directory_layers_by_both_types() {
    passes(
        "mount8::directory_layers_by_both_types",
        r#"
        for type in strata fuse.strata; do
            mount -t $type strata m -o "$LAYERS,x-systemd.automount,nofail,noatime"
            shown | grep -q "^strata $PWD/m fuse.strata rw,.*noatime"
            [ "$(cat m/f)" = lower ]
            echo new > m/$type
            umount m
            gone
            [ "$(cat u/$type)" = new ]
        done
        mount -t strata -o lowerdir=$PWD/a:$PWD/b,ro overlay m
        shown | grep -q '^overlay .* ro,'
        fails touch m/x
        umount m"#,
    );
}

#[test]
fn lines_of_fstab() {
    passes(
        "mount8::lines_of_fstab",
        r#"
        echo "layers $PWD/m strata $LAYERS,x-systemd.requires=x,_netdev,defaults,nodev 0 0" > fstab
        mount -T fstab m
        shown | grep -q "^layers $PWD/m fuse.strata rw"
        # Again: it is there already.
        mount -T fstab -a
        [ "$(shown | wc -l)" = 1 ]
        umount m
        echo "layers $PWD/m fuse.strata noauto,$LAYERS 0 0" > fstab
        mount -T fstab -a
        gone
        mount -T fstab layers
        [ "$(cat m/f)" = lower ]
        umount layers
        gone"#,
    );
}

#[test]
fn mounts_change_their_flags() {
    passes(
        "mount8::mounts_change_their_flags",
        r#"
        for start in rw ro; do
            mount -t strata layers m -o "$LAYERS,$start,nosuid"
            mount -o remount,ro m
            shown | grep -q ' ro,'
            fails touch m/x
            mount -o remount,rw m
            shown | grep -q ' rw,'
            touch m/x
            rm m/x
            umount m
        done
        fails strata mount -o remount,ro a
        grep -q 'no strata mount is there' err"#,
    );
}

#[test]
fn failures_reach_who_called_mount() {
    passes(
        "mount8::failures_reach_who_called_mount",
        r#"
        status=0; mount -t strata x m -o lowerdir=/none/such 2>err || status=$?
        [ $status = 32 ]
        grep -q '/none/such' err
        status=0; mount -t strata x m -o lowerdirr=/a 2>err || status=$?
        [ $status != 0 ]
        grep -q 'did you mean lowerdir' err
        # Sloppy: what is unknown is left out. Fake: everything but the mount.
        mount -s -t strata x m -o "$LAYERS,frobnicate=1"
        umount m
        mount -f -t strata x m -o "$LAYERS"
        gone"#,
    );
}

#[test]
fn images_by_name_and_by_option() {
    let made = r#"
        mkdir rootfs; echo tiny > rootfs/name; tar -C rootfs -cf layer.tar .
        sum=$(sha256sum layer.tar | cut -d' ' -f1)
        echo '{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:'$sum'"]}}' > config.json
        echo '[{"Config":"config.json","RepoTags":["tiny:latest"],"Layers":["layer.tar"]}]' > manifest.json
        tar cf image.tar config.json manifest.json layer.tar
        strata load -q -i image.tar
        # mount(8) gives helpers its environment without STRATA_ROOT: the option says where.
        ROOT=root=$STRATA_ROOT"#;
    let body = format!(
        r#"{made}
        mount -t strata tiny m -o "ro,$ROOT"
        shown | grep -q '^tiny .* ro,'
        [ "$(cat m/name)" = tiny ]
        umount m
        mount -t strata none m -o "image=tiny,name=web,$ROOT"
        echo new > m/new
        umount m
        mount -t strata none m -o "container=web,$ROOT"
        [ "$(cat m/new)" = new ]
        umount m
        strata ps -a | grep -q web
        # An image below directories, with an upper of one's own.
        mount -t strata none m -o "image=tiny,$LAYERS,$ROOT"
        [ "$(cat m/name m/f)" = "$(printf 'tiny\nlower')" ]
        rm m/name
        umount m
        [ -c u/name ]"#
    );
    passes("mount8::images_by_name_and_by_option", &body);
}

#[test]
fn installed_and_uninstalled() {
    let Some((strata, _)) = passes(
        "mount8::installed_and_uninstalled",
        r#"
        fuse-overlayfs --version | grep -q strata
        fuse-overlayfs -o "$LAYERS" m
        umount m
        "$REPO/scripts/install" --uninstall --no-uring --prefix "$PWD/usr" --helpers /usr/sbin
        [ ! -e usr/bin/strata ] && [ ! -L usr/bin/fuse-overlayfs ] && [ ! -L /usr/sbin/mount.strata ]
        # What is somebody else's stays.
        echo other > usr/bin/fuse-overlayfs
        fails "$REPO/scripts/install" --binary "$STRATA" --prefix "$PWD/usr" --destdir "$PWD/d" --helpers /sbin --fuse-overlayfs --nonsense
        "$REPO/scripts/install" --binary "$STRATA" --destdir "$PWD/d" 2>/dev/null
        [ ! -e d/etc ]
        "$REPO/scripts/install" --binary "$STRATA" --destdir "$PWD/d" --uring 2>/dev/null
        grep -qx 'options fuse enable_uring=1' d/etc/modprobe.d/strata.conf
        [ "$(readlink d/sbin/mount.fuse.strata)" = /usr/local/bin/strata ] && [ ! -e d/usr/local/bin/fuse-overlayfs ]
        fails "$REPO/scripts/install" --binary "$STRATA" --prefix "$PWD/usr" --helpers "$PWD/sbin" --fuse-overlayfs
        grep -q "is not strata's" err
        [ "$(cat usr/bin/fuse-overlayfs)" = other ] && [ ! -e usr/bin/strata ]"#,
    ) else {
        return;
    };
    assert!(Path::new(&strata.scratch).exists());
}
