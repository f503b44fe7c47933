//! The outputs of Docker 20.10 for containers and archives, and strata's for the same image and the
//! same changes.

use std::fs;
use std::path::Path;

use crate::common::cli::{Strata, can_mount, chroot, said};
use crate::common::golden::{busybox, committed, docker_said, normalised};

/// What was run in the container that Docker committed.
const CHANGES: &str = "echo 1 > /newf; rm /bin/vi; mkdir -p /etc/n/m; echo x >> /etc/passwd; \
    rm -rf /tmp; mkdir /tmp; ln -s a /sl; mknod /nod c 1 3; mkfifo /ff; chmod 700 /root; \
    mv /usr/bin /usr/bin2; ln /bin/busybox /hard";

/// A store with busybox in it; gives what loading it printed.
fn with_busybox(strata: &Strata) -> String {
    let archive = strata.path("busybox.docker.tar");
    fs::write(&archive, busybox()).unwrap();
    strata.ok(&["load", "-i", archive.to_str().unwrap()])
}

/// A container with the changes, not mounted any more.
fn with_changes(strata: &Strata) {
    strata.ok(&["create", "--name", "d2", "busybox", "sh", "-c", CHANGES]);
    let mounted = strata.mount(&[], "d2");
    chroot(&mounted.point, &["/bin/sh", "-c", CHANGES]).success();
    mounted.unmount();
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn a_container_is_listed_compared_and_committed_as_by_docker() {
    if !can_mount("clients::golden_containers::a_container_is_listed_compared_and_committed") {
        return;
    }
    let strata = Strata::new();
    assert_eq!(with_busybox(&strata), docker_said("load-busybox"));
    let archive = strata.path("busybox.docker.tar");
    let quiet = strata.ok(&["load", "-q", "-i", archive.to_str().unwrap()]);
    assert_eq!(quiet, docker_said("load-quiet"));
    with_changes(&strata);
    // Docker lists in the order in which it meets the changes, strata sorted.
    let diff = strata.ok(&["diff", "d2"]);
    assert_eq!(sorted(&diff), sorted(&docker_said("diff-bb")));

    // Of its own columns Docker has PORTS, and strata MOUNTPOINT in their place.
    let without = |text: &str, column: &str| normalised(text).replace(&format!(" | {column}"), "");
    for (name, arguments) in [("ps", "-a"), ("ps-size", "-as")] {
        let docker = without(&docker_said(name), "PORTS");
        let ours = without(&strata.ok(&["ps", arguments]), "MOUNTPOINT");
        let line = |text: &str, with: &str| {
            let found = text.lines().find(|l| l.contains(with));
            found.unwrap_or_else(|| panic!("{with}: {text}")).to_owned()
        };
        assert_eq!(
            line(&ours, "CONTAINER ID"),
            line(&docker, "CONTAINER ID"),
            "{name}"
        );
        assert_eq!(line(&ours, "d2"), line(&docker, "d2"), "{name}");
    }
    let whole = strata.ok(&["ps", "-a", "--no-trunc"]);
    assert!(
        whole.contains("mv /usr/bin /usr/bin2; ln /bin/busybox /hard'\""),
        "{whole}"
    );

    let committed = strata.ok(&[
        "commit",
        "-m",
        "a message",
        "-a",
        "An Author <a@b.c>",
        "-c",
        "ENV X=y",
        "-c",
        "CMD [\"sh\",\"-c\",\"echo hi\"]",
        "-c",
        "LABEL k=v",
        "d2",
        "localhost/committed:1",
    ]);
    assert_eq!(
        normalised(&committed),
        normalised(&docker_said("commit-bb"))
    );
    let untagged = strata.ok(&["commit", "d2"]);
    assert_eq!(
        normalised(&untagged),
        normalised(&docker_said("commit-node"))
    );
    same_configuration(&strata);
}

/// The configuration of our commit is that of Docker's, as far as an image has one.
fn same_configuration(strata: &Strata) {
    let other = Strata::new();
    let archive = other.path("committed.tar");
    fs::write(&archive, committed()).unwrap();
    other.load(&archive);
    let config = |strata: &Strata| -> serde_json::Value {
        let text = strata.ok(&["inspect", "localhost/committed:1"]);
        serde_json::from_str::<serde_json::Value>(&text).unwrap()[0].take()
    };
    let (ours, docker) = (config(strata), config(&other));
    for key in ["Cmd", "Env", "Labels"] {
        assert_eq!(ours["Config"][key], docker["Config"][key], "{key}");
    }
    assert_eq!(ours["Author"], docker["Author"]);
    let text = |strata: &Strata| strata.ok(&["history", "--no-trunc", "localhost/committed:1"]);
    let (ours, docker) = (text(strata), text(&other));
    let step = |text: &str| normalised(text).lines().nth(1).unwrap().to_owned();
    let (ours, docker) = (step(&ours), step(&docker));
    assert!(
        ours.contains("sh -c echo 1 > /newf") && ours.ends_with("a message"),
        "{ours}"
    );
    let by = |step: &str| step.split(" | ").nth(2).unwrap().to_owned();
    assert_eq!(by(&ours), by(&docker));
}

#[test]
fn creating_removing_and_stopping_print_what_docker_prints() {
    if !can_mount("clients::golden_containers::creating_removing_and_stopping") {
        return;
    }
    let strata = Strata::new();
    with_busybox(&strata);
    let created = strata.ok(&["create", "--name", "d4", "busybox", "true"]);
    assert_eq!(
        normalised(&created),
        normalised(&docker_said("export-create"))
    );
    for name in ["d1", "d2", "d3"] {
        strata.ok(&["create", "--name", name, "busybox"]);
    }
    let mounted = strata.mount(&[], "d3");
    assert_eq!(strata.ok(&["stop", "-t", "1", "d3"]), docker_said("stop"));
    assert!(!crate::common::cli::is_mounted(&mounted.point));
    assert_eq!(strata.ok(&["rm", "d1", "d2", "d3"]), docker_said("rm"));
}

#[test]
fn an_imported_tree_has_dockers_history() {
    if !can_mount("clients::golden_containers::an_imported_tree_has_dockers_history") {
        return;
    }
    let strata = Strata::new();
    with_busybox(&strata);
    strata.ok(&["create", "--name", "d4", "busybox", "true"]);
    let tar = strata.path("export-bb.tar");
    let tar = tar.to_str().unwrap();
    strata.ok(&["export", "-o", tar, "d4"]);
    let image = "localhost/imported:1";
    let import = ["import", "-m", "imported", "-c", "CMD [\"sh\"]", tar, image];
    let printed = strata.ok(&import);
    assert_eq!(normalised(&printed), normalised(&docker_said("import")));
    let history = strata.ok(&["history", image]);
    let docker = docker_said("history-import");
    assert_eq!(normalised(&history), normalised(&docker));
}

#[test]
fn saving_prints_nothing_and_saves_every_name() {
    if !can_mount("clients::golden_containers::saving_prints_nothing") {
        return;
    }
    let strata = Strata::new();
    with_busybox(&strata);
    let archive = strata.path("committed.tar");
    fs::write(&archive, committed()).unwrap();
    strata.load(&archive);
    strata.ok(&["tag", "busybox", "example.test/team/app:v1"]);
    let save = |out: &Path, images: &[&str]| {
        let mut command = strata.command();
        command.args(["save", "-o"]).arg(out).args(images);
        said(&mut command).success()
    };
    let out = strata.path("multi.tar");
    assert_eq!(
        save(&out, &["localhost/committed:1"]),
        docker_said("save-commit")
    );
    let images = [
        "localhost/committed:1",
        "busybox:latest",
        "example.test/team/app:v1",
    ];
    assert_eq!(save(&out, &images), docker_said("save-multi"));
    let again = Strata::new();
    let loaded = again.load(&out);
    let mut expected: Vec<_> = images.map(|i| format!("Loaded image: {i}")).to_vec();
    expected.sort();
    assert_eq!(sorted(&loaded), expected);
    let ids = |strata: &Strata| {
        images.map(|name| {
            let text = strata.ok(&["inspect", name]);
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            (value[0]["Id"].clone(), value[0]["Digest"].clone())
        })
    };
    assert_eq!(ids(&strata), ids(&again));
}
