//! podman of an ordinary user, with ranges of ids, in a user namespace that podman makes: a session on
//! strata says what one on the kernel's overlayfs says.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::common::cli::{Stopwatch, Strata, announce, can_mount, have, said};
use crate::samples::{Sample, big, small};

/// Devices, ranges and a user of its own, seen in this mount namespace only.
const USER: &str = r#"
    D=$PWD
    # What other tests have mounted must not live on in here.
    awk -v tmp="${TMPDIR:-/tmp}/" 'index($5, tmp) == 1 {print $5}' /proc/self/mountinfo | sort -r |
        while IFS= read -r m; do umount -l "$(printf %b "$m")" 2>/dev/null || true; done
    mkdir dev etc home run tmp
    mknod -m 666 dev/fuse c 10 229; mount --bind dev/fuse /dev/fuse
    mknod -m 666 dev/tun c 10 200; [ ! -e /dev/net/tun ] || mount --bind dev/tun /dev/net/tun
    echo "rootless:500000:65536" > etc/ids
    touch /etc/subuid /etc/subgid
    for f in subuid subgid; do mount --bind etc/ids /etc/$f; done
    (cat /etc/passwd; echo "rootless:x:4321:4321::$D/home:/bin/sh") > etc/passwd
    (cat /etc/group; echo "rootless:x:4321:") > etc/group
    for f in passwd group; do mount --bind etc/$f /etc/$f; done
    mkdir -p home/.config/containers
    printf '[storage]\ndriver = "overlay"\n' > home/.config/containers/storage.conf
    [ -z "$PROGRAM" ] || printf '[storage.options.overlay]\nmount_program = "%s"\n' "$PROGRAM" \
        >> home/.config/containers/storage.conf
    printf '[containers]\ndefault_ulimits = []\nnetns = "host"\nlog_driver = "k8s-file"\n[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\nruntime = "runc"\n' \
        > home/.config/containers/containers.conf
    chown -R 4321:4321 home run tmp
    chmod 700 run
    cd home
    exec setpriv --reuid=4321 --regid=4321 --clear-groups env -i PATH="$PATH" HOME="$D/home" \
        XDG_RUNTIME_DIR="$D/run" TMPDIR="$D/tmp" D="$D" IMAGE="$IMAGE" bash -euc "$SESSION"
"#;

/// What is printed must not depend on the storage. Lines of `podman diff` about directories do: with a
/// mount program podman compares two trees.
const SESSION: &str = r#"
    exec 3>&2 2>stderr
    # podman keeps its namespaces by a process that only waits.
    trap '[ $? = 0 ] || cat stderr >&3; kill $(cat $XDG_RUNTIME_DIR/libpod/tmp/pause.pid)' EXIT
    step() { echo "--- $*"; }
    step load and run
    podman load -q -i "$D/image.tar" >/dev/null
    podman run --rm "$IMAGE" sh -c 'id -u; ls /; stat -c %u:%g:%a /etc /tmp'
    step exec
    podman run -d --name c "$IMAGE" sleep 1000 >/dev/null
    podman exec c sh -euc '
        rm -rf /etc/issue; mkdir -p /d/e; echo new > /d/e/f; chown 5:6 /d; chmod 4755 /d/e/f; ln /d/e/f /d/g
        ln -s f /d/e/link; mkfifo /d/fifo; echo more >> /etc/passwd; chmod 600 /etc/group; chown -R 7:8 /root
        mv /etc/passwd /etc/moved; touch -d "2001-02-03 04:05:06" /etc/moved
        rm -r /d/e; mkdir /d/e; echo again > /d/e/f; stat -c "%n %u:%g:%a %h %F" /d /d/g /d/e/f /root /etc/group; cat /etc/moved'
    step cp
    echo outside > file
    podman cp file c:/put
    podman cp c:/d/e/f back; cat back
    podman exec c cat /put
    step diff
    podman diff c | grep -v -e ^C -e ' /run' | sort
    step ps -s
    podman ps -s | grep -c virtual
    podman rm -f -t 0 c >/dev/null
    podman create --name c "$IMAGE" >/dev/null
    root=$(podman unshare sh -euc 'm=$(podman mount c); echo x > $m/x; rm -r $m/home; podman umount c >/dev/null; echo $m')
    step commit
    podman commit -q c mine >/dev/null
    podman run --rm mine sh -c 'cat /x; test ! -e /home && echo gone'
    podman export c | tar -t | sort | sha256sum
    podman rm c >/dev/null
    step build
    printf 'FROM mine\nRUN rm -rf /x /etc/issue && mkdir -p /opt/b && echo b > /opt/b/b\nRUN touch -d "2020-01-01 00:00:00" /opt/b/b && chmod 700 /opt\nCOPY file /copied\n' > Containerfile
    podman build -q -t built . >/dev/null
    podman run --rm built sh -c 'cat /copied /opt/b/b; stat -c %Y:%a /opt/b/b; stat -c %a /opt; ls /'
    podman history --format '{{.CreatedBy}}' built
    podman save -q built | tar -t | grep -c layer.tar
    podman unshare sh -euc 'm=$(podman image mount built); find $m -printf "%P %y %m %U:%G %s %l\n" | grep -v -E "^[^ ]* d" | sort | sha256sum
        podman image umount built >/dev/null'
    step options
    podman run --rm --read-only built sh -c 'touch /x || echo refused' || true
    mkdir vol; echo outside > vol/f
    podman run --rm -v "$PWD/vol:/vol:O" built sh -c 'cat /vol/f; echo inside > /vol/f; cat /vol/f; rm /vol/f; ls /vol'
    cat vol/f
    podman run --rm --uidmap 0:1:5000 --gidmap 0:1:5000 built sh -c 'id -u; touch /new; chown 5:6 /new; stat -c %u:%g /new /opt /etc; rm -r /opt; ls /'
    podman run --rm --userns=keep-id --user 0 built sh -c 'stat -c %u:%g /opt; touch /new && stat -c %u:%g /new'
    step end
    podman rm -a -f >/dev/null
    podman unshare grep -c "$HOME.*\(fuse.strata\|overlay/.*/merged\)" /proc/mounts || true
"#;

fn session(dir: &Path, sample: &Sample, program: Option<&Path>) -> String {
    fs::create_dir_all(dir).unwrap();
    for path in [
        dir.parent().and_then(Path::parent).unwrap(),
        dir.parent().unwrap(),
        dir,
    ] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let program = program.map(|program| {
        let copy = dir.join("strata");
        fs::copy(program, &copy).unwrap();
        copy.to_str().unwrap().to_owned()
    });
    fs::copy(&sample.archive, dir.join("image.tar")).unwrap();
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private", "bash", "-euc", USER]);
    command.env("SESSION", SESSION).env("IMAGE", sample.name);
    command.env("PROGRAM", program.unwrap_or_default());
    said(command.current_dir(dir)).success()
}

fn compare(test: &'static str, sample: &Sample) {
    let programs = [
        "podman",
        "runc",
        "unshare",
        "setpriv",
        "newuidmap",
        "slirp4netns",
    ];
    if !(can_mount(test) && have(test, &programs)) {
        return;
    }
    let scratch = Strata::new();
    let mut watch = Stopwatch::start(test);
    let kernel = session(&scratch.path("k"), sample, None);
    watch.lap("the kernel's overlayfs");
    let program = Path::new(env!("CARGO_BIN_EXE_strata"));
    let ours = session(&scratch.path("s"), sample, Some(program));
    watch.lap("strata");
    assert_eq!(ours, kernel);
    assert!(ours.contains("--- end\n0\n"), "{ours}");
}

#[test]
fn a_session_of_an_ordinary_user() {
    const TEST: &str = "clients::rootless::a_session_of_an_ordinary_user";
    if let Some(sample) = small(TEST) {
        compare(TEST, &sample);
    }
}

#[test]
fn a_session_of_an_ordinary_user_with_fifty_thousand_files() {
    const TEST: &str = "clients::rootless::a_session_of_an_ordinary_user_with_fifty_thousand_files";
    if std::env::var_os("STRATA_TEST_LONG").is_none() {
        return announce(
            TEST,
            "STRATA_TEST_LONG is not set; scripts/test --long runs it",
        );
    }
    if let Some(sample) = big(TEST) {
        compare(TEST, &sample);
    }
}
