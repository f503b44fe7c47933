//! Docker's fuse-overlayfs driver on strata, which it finds on its PATH under that name.

use std::fs;

use crate::common::cli::{Strata, can_mount, have};
use crate::docker::Docker;
use crate::samples::small;

#[test]
fn a_session_of_docker() {
    const TEST: &str = "clients::docker_storage::a_session_of_docker";
    if !(can_mount(TEST) && have(TEST, &["dockerd", "docker", "containerd", "runc"])) {
        return;
    }
    let Some(sample) = small(TEST) else { return };
    let scratch = Strata::new();
    let docker = Docker::start(&scratch.path("docker"), "fuse-overlayfs");
    let driver = docker.ok(&["info", "--format", "{{.Driver}}"]);
    assert_eq!(driver, "fuse-overlayfs\n");
    docker.ok(&["load", "-q", "-i", sample.archive.to_str().unwrap()]);
    let script = "rm -rf /etc/issue /usr/share/words/a; mkdir /d; echo x > /d/f; chown 5:6 /d
        mv /usr/share/words/c /usr/share/words/moved; stat -c %u:%g /d";
    let run = ["run", "--network", "none", "--name", "first", sample.name];
    let printed = docker.ok(&[&run[..], &["sh", "-c", script]].concat());
    assert_eq!(printed, "5:6\n");
    let diff = docker.ok(&["diff", "first"]);
    for line in [
        "A /d/f",
        "D /etc/issue",
        "D /usr/share/words/a",
        "D /usr/share/words/c",
    ] {
        assert!(diff.lines().any(|l| l == line), "{line}: {diff}");
    }
    docker.ok(&["commit", "first", "mine"]);
    let context = scratch.path("context");
    fs::create_dir(&context).unwrap();
    fs::write(context.join("f"), "from outside").unwrap();
    let file = "FROM mine\nRUN rm -r /d && echo b > /built\nRUN touch /etc/passwd\nCOPY f /f\n";
    fs::write(context.join("Dockerfile"), file).unwrap();
    let context = context.to_str().unwrap();
    docker.ok(&["build", "-q", "--network", "none", "-t", "built", context]);
    let script = "cat /built /f; ls -d /d /etc/issue; ls /usr/share/words";
    let run = ["run", "--rm", "--network", "none", "built", "sh", "-c"];
    let said = docker.run(&[&run[..], &[script]].concat());
    assert_eq!(
        said.out, "b\nfrom outsideb\nd\ne\nf\nmoved\n",
        "{}",
        said.err
    );
    // Docker's archive is one that strata reads, with the same tree.
    let saved = scratch.path("saved.tar");
    docker.ok(&["save", "-o", saved.to_str().unwrap(), "built"]);
    scratch.load(&saved);
    let mounted = scratch.mount(&["-o", "ro"], "built");
    assert_eq!(fs::read(mounted.path("f")).unwrap(), b"from outside");
    assert!(!mounted.path("d").exists());
    mounted.unmount();
    docker.ok(&["rm", "-f", "first"]);
    let left: Vec<_> = docker.mounts();
    assert!(
        !left.iter().any(|point| point.contains("merged")),
        "{left:?}"
    );
}
