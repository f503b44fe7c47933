//! Archives between strata and docker, podman, skopeo, umoci and ctr, both ways: ids agree.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::cli::{Said, Strata, can_mount, have, said};
use crate::common::golden::busybox;
use crate::common::tree::{assert_same, list};
use crate::docker::Docker;
use crate::peers::{Podman, skopeo_copy, umoci_unpack};

/// An image with a second layer and a configuration of its own, as strata makes it.
const NAME: &str = "localhost/exchange:1";

/// containerd with a state of its own; it goes on drop.
struct Containerd {
    dir: PathBuf,
    daemon: Child,
}

impl Containerd {
    fn start(dir: &Path) -> Containerd {
        fs::create_dir_all(dir).unwrap();
        let at = |name: &str| dir.join(name).display().to_string();
        let disabled = [
            "io.containerd.grpc.v1.cri",
            "io.containerd.internal.v1.restart",
            "io.containerd.snapshotter.v1.btrfs",
            "io.containerd.snapshotter.v1.devmapper",
            "io.containerd.snapshotter.v1.zfs",
        ];
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = {disabled:?}\n\
             [grpc]\n  address = {:?}\n[ttrpc]\n  address = {:?}\n\
             [plugins.\"io.containerd.internal.v1.opt\"]\n  path = {:?}\n",
            at("root"),
            at("state"),
            at("containerd.sock"),
            at("containerd.sock.ttrpc"),
            at("opt"),
        );
        fs::write(dir.join("config.toml"), config).unwrap();
        let log = fs::File::create(dir.join("log")).unwrap();
        let daemon = Command::new("containerd")
            .arg("--config")
            .arg(dir.join("config.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let containerd = Containerd {
            dir: dir.to_owned(),
            daemon,
        };
        let until = Instant::now() + Duration::from_secs(120);
        while !containerd.run(&["version"]).ok {
            let log = || fs::read_to_string(dir.join("log")).unwrap();
            assert!(
                Instant::now() < until,
                "containerd does not answer: {}",
                log()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        containerd
    }

    fn run(&self, arguments: &[&str]) -> Said {
        let mut command = Command::new("ctr");
        command.arg("-a").arg(self.dir.join("containerd.sock"));
        said(command.args(arguments))
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.daemon);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
        self.daemon.wait().ok();
    }
}

/// strata with the image in it, and an archive of it.
fn made() -> (Strata, PathBuf) {
    let strata = Strata::new();
    let base = strata.path("busybox.tar");
    fs::write(&base, busybox()).unwrap();
    strata.load(&base);
    strata.ok(&[
        "create", "--name", "box", "-l", "a=b", "busybox", "cat", "/added",
    ]);
    fs::write(strata.path("added"), "exchange\n").unwrap();
    let added = strata.path("added");
    strata.ok(&["cp", added.to_str().unwrap(), "box:/"]);
    strata.ok(&["commit", "-c", "ENV X=y", "box", NAME]);
    let archive = strata.path("exchange.tar");
    strata.ok(&["save", "-o", archive.to_str().unwrap(), NAME]);
    (strata, archive)
}

fn inspected(strata: &Strata, key: &str) -> String {
    let text = strata.ok(&["inspect", NAME]);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    value[0][key].as_str().unwrap().to_owned()
}

/// An archive of another tool loads as the same image.
fn same_in_strata(form: &str, archive: &Path, strata: &Strata, keys: &[&str]) {
    let other = Strata::new();
    let printed = other.load(archive);
    assert_eq!(printed, format!("Loaded image: {NAME}\n"), "{form}");
    for key in keys {
        assert_eq!(
            inspected(&other, key),
            inspected(strata, key),
            "{form}: {key}"
        );
    }
    other.assert_blobs_intact(&[]);
}

#[test]
fn with_containerd() {
    const TEST: &str = "clients::exchange::with_containerd";
    if !(can_mount(TEST) && have(TEST, &["containerd", "ctr"])) {
        return;
    }
    let (strata, archive) = made();
    let scratch = Strata::new();
    let containerd = Containerd::start(&scratch.path("containerd"));
    let import = ["images", "import", "--no-unpack", archive.to_str().unwrap()];
    let imported = containerd.run(&import);
    let imported = if imported.ok {
        imported
    } else {
        // ctr before 2.0 has no such option.
        containerd.run(&["images", "import", archive.to_str().unwrap()])
    };
    imported.success();
    let listed = containerd.run(&["images", "ls"]).success();
    let line = listed.lines().find(|l| l.starts_with(NAME));
    let line = line.unwrap_or_else(|| panic!("{listed}"));
    assert!(line.contains(&inspected(&strata, "Digest")), "{line}");
    let out = scratch.path("ctr.tar");
    let export = ["images", "export", out.to_str().unwrap(), NAME];
    containerd.run(&export).success();
    same_in_strata("ctr's archive", &out, &strata, &["Id", "Digest"]);
}

#[test]
fn with_docker() {
    const TEST: &str = "clients::exchange::with_docker";
    if !(can_mount(TEST) && have(TEST, &["dockerd"]) && Path::new("/usr/bin/docker").exists()) {
        return;
    }
    let (strata, archive) = made();
    let scratch = Strata::new();
    let docker = Docker::start(&scratch.path("docker"), "vfs");
    docker.ok(&["load", "-q", "-i", archive.to_str().unwrap()]);
    let id = docker.ok(&["inspect", "--format", "{{.Id}}", NAME]);
    assert_eq!(id.trim(), inspected(&strata, "Id"));
    // Docker's copies and exports, of the same container.
    docker.ok(&["create", "--name", "box", NAME]);
    let out = scratch.path("docker.tar");
    docker.ok(&["save", "-o", out.to_str().unwrap(), NAME]);
    same_in_strata("docker's archive", &out, &strata, &["Id"]);
    let exported = scratch.path("export.tar");
    docker.ok(&["export", "-o", exported.to_str().unwrap(), "box"]);
    strata.ok(&["create", "--name", "other", NAME]);
    let ours = strata.path("export.tar");
    strata.ok(&["export", "-o", ours.to_str().unwrap(), "other"]);
    let names = |tar: &Path| {
        let mut list = Command::new("tar");
        let text = said(list.arg("tf").arg(tar)).success();
        let mut names: Vec<String> = text
            .lines()
            .map(|l| l.trim_start_matches("./").to_owned())
            .filter(|l| !l.is_empty())
            .collect();
        names.sort();
        names
    };
    // What Docker makes in every container: mount points and files for the network.
    let dockers = ["dev", "proc", "sys", "etc/", ".dockerenv"];
    let kept = |name: &String| !dockers.iter().any(|d| name.starts_with(d));
    let theirs: Vec<_> = names(&exported).into_iter().filter(kept).collect();
    let ours: Vec<_> = names(&ours).into_iter().filter(kept).collect();
    assert_eq!(ours, theirs);
}

#[test]
fn with_podman_skopeo_and_umoci() {
    const TEST: &str = "clients::exchange::with_podman_skopeo_and_umoci";
    if !(can_mount(TEST) && have(TEST, &["podman", "skopeo", "umoci"])) {
        return;
    }
    let (strata, archive) = made();
    let scratch = Strata::new();
    let podman = Podman::new(&scratch.path("podman"));
    podman.ok(&["load", "-q", "-i", archive.to_str().unwrap()]);
    let id = podman.ok(&["inspect", "--format", "{{.Id}}", NAME]);
    assert_eq!(format!("sha256:{}", id.trim()), inspected(&strata, "Id"));
    let out = scratch.path("podman.tar");
    podman.ok(&["save", "-q", "-o", out.to_str().unwrap(), NAME]);
    same_in_strata("podman's archive", &out, &strata, &["Id"]);

    let from = format!("docker-archive:{}", archive.display());
    let layout = scratch.path("layout");
    skopeo_copy(&from, &format!("oci:{}:{NAME}", layout.display()));
    same_in_strata("skopeo's layout", &layout, &strata, &["Id"]);
    let from = format!("oci-archive:{}:{NAME}", archive.display());
    let oci = scratch.path("oci");
    skopeo_copy(&from, &format!("oci:{}:{NAME}", oci.display()));
    same_in_strata("skopeo's layout of our OCI side", &oci, &strata, &["Id"]);

    let dir = strata.path("dir");
    strata.ok(&[
        "save",
        "--format",
        "oci-dir",
        "-o",
        dir.to_str().unwrap(),
        NAME,
    ]);
    let image = format!("{}:{NAME}", dir.display());
    let mut tag = Command::new("umoci");
    said(tag.args(["tag", "--image", &image, "localhost/umoci:1"])).success();
    // What umoci unpacks of the image is what we export of a container of it.
    let rootfs = umoci_unpack(&dir, NAME, &scratch.path("bundle"));
    strata.ok(&["create", "--name", "fresh", NAME]);
    let (tar, root) = (strata.path("fresh.tar"), strata.path("fresh"));
    strata.ok(&["export", "-o", tar.to_str().unwrap(), "fresh"]);
    fs::create_dir(&root).unwrap();
    let mut untar = Command::new("tar");
    untar.args(["x", "-p", "--xattrs", "--numeric-owner", "-C"]);
    said(untar.arg(&root).arg("-f").arg(&tar)).success();
    assert_same(("umoci", &list(&rootfs)), ("export", &list(&root)));
    let other = Strata::new();
    let printed = other.load(&dir);
    assert!(
        printed.contains("Loaded image: localhost/umoci:1\n"),
        "{printed}"
    );
    assert_eq!(inspected(&other, "Id"), inspected(&strata, "Id"));
}
