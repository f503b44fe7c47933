//! The other tools, each with its state in a directory of its own.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::common::cli::{Said, run, said};

/// Copies an image from one transport to another with skopeo.
pub fn skopeo_copy(from: &str, to: &str) {
    run("skopeo", &["--insecure-policy", "copy", "-q", from, to]).success();
}

/// The layers' digests as skopeo sees them.
pub fn skopeo_layers(image: &str) -> Vec<String> {
    let text = run("skopeo", &["inspect", image]).success();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    value["Layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| layer.as_str().unwrap().to_owned())
        .collect()
}

/// `umoci unpack`; gives the root file system.
pub fn umoci_unpack(layout: &Path, name: &str, bundle: &Path) -> PathBuf {
    let image = format!("{}:{name}", layout.display());
    run(
        "umoci",
        &["unpack", "--image", &image, bundle.to_str().unwrap()],
    )
    .success();
    bundle.join("rootfs")
}

/// `oci-image-tool validate` of a whole layout. It opens every file below the directory that it is given, and
/// fails on a socket or waits at a fifo that a container holds, so it sees links to the layout's own parts only.
pub fn validate(layout: &Path) {
    let view = tempfile::tempdir_in(layout.parent().unwrap()).unwrap();
    let mut copy = Command::new("cp");
    copy.arg("-al")
        .args(["oci-layout", "index.json", "blobs"].map(|part| layout.join(part)))
        .arg(view.path());
    said(&mut copy).success();
    let said = run(
        "oci-image-tool",
        &["validate", "--type", "image", view.path().to_str().unwrap()],
    );
    assert!(
        said.ok,
        "oci-image-tool refuses {}:\n{}{}",
        layout.display(),
        said.out,
        said.err
    );
}

/// podman with a store of its own.
pub struct Podman {
    dir: PathBuf,
    /// podman refuses a run root whose path has more than 50 characters.
    run: TempDir,
    /// What mounts its containers; `None`: the kernel's overlayfs.
    mount_program: Option<PathBuf>,
}

impl Podman {
    /// An empty store below `dir`, whose containers a program mounts.
    pub fn with_mount_program(dir: &Path, program: &Path) -> Podman {
        let mut podman = Podman::new(dir);
        podman.mount_program = Some(program.to_owned());
        podman
    }

    /// An empty store below `dir`.
    pub fn new(dir: &Path) -> Podman {
        fs::create_dir_all(dir).unwrap();
        let configuration = "[containers]\n\
            default_ulimits = [\"nofile=1024:20000\", \"nproc=4096:4096\"]\n\
            netns = \"host\"\n\
            log_driver = \"k8s-file\"\n\
            [engine]\n\
            cgroup_manager = \"cgroupfs\"\n\
            events_logger = \"file\"\n\
            runtime = \"runc\"\n";
        fs::write(dir.join("containers.conf"), configuration).unwrap();
        let run = TempDir::with_prefix_in("strata-", "/tmp").unwrap();
        Podman {
            dir: dir.to_owned(),
            run,
            mount_program: None,
        }
    }

    /// The directory of its store.
    pub fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    /// Runs a podman command.
    pub fn run(&self, arguments: &[&str]) -> Said {
        said(&mut self.command("podman", arguments))
    }

    /// Runs a podman command that must succeed; its output.
    pub fn ok(&self, arguments: &[&str]) -> String {
        self.run(arguments).success()
    }

    /// A command line of podman, or of buildah, which takes the same options for its store.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut options: Vec<OsString> = vec!["--root".into(), self.dir.join("root").into()];
        options.extend(["--runroot".into(), self.run.path().into()]);
        options.extend(["--storage-driver", "overlay"].map(OsString::from));
        if let Some(program) = &self.mount_program {
            let option = format!("overlay.mount_program={}", program.display());
            options.extend(["--storage-opt".into(), option.into()]);
        }
        if program == "podman" {
            options.push("--cgroup-manager=cgroupfs".into());
        }
        let mut command = Command::new(program);
        command.env("CONTAINERS_CONF", self.dir.join("containers.conf"));
        command.args(options).args(arguments);
        command
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        for arguments in [&["rm", "-a", "-f", "-t", "0"][..], &["rmi", "-a", "-f"]] {
            let said = self.run(arguments);
            if !said.ok && !std::thread::panicking() {
                eprintln!("{}: {}", said.command, said.err);
            }
        }
        // podman leaves its storage directory bind-mounted on itself.
        let mut umount = Command::new("umount");
        umount
            .args(["-q", "-l"])
            .arg(self.dir.join("root/overlay"))
            .status()
            .ok();
    }
}
