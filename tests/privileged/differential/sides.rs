//! The two sides: the kernel's overlayfs, and the trees that both are put over.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::cli;
use crate::common::tree;

/// The lowers' tree: a bit of everything.
pub fn make_lower(lower: &Path) {
    let script = r#"
        set -e
        mkdir -p a/b/c a/d b/a b/g c d/a/f
        printf 'in a' >a/f; printf 'in b' >b/f; printf 'deep' >a/b/c/f; printf top >f; : >g
        head -c 100000 /dev/zero | tr '\0' x >a/g
        ln a/f b/h; ln a/f h; ln a/b/c/f a/b/f
        ln -s ../f a/h; ln -s nowhere d/g; mkfifo c/f
        chmod 777 . a/b d; chmod 2775 b; chmod 1777 c; chown 1000:1000 a/d f g; chmod 4755 f; chown 1:2 a/g; chown 3:4 d
        setfattr -n user.one -v lower a/f; setfattr -n user.two -v dir a
        touch -d @1500000000.5 a/f f; touch -h -d @1400000000 a/h a/b/c d b/g
    "#;
    fs::create_dir_all(lower).unwrap();
    let said = cli::said(Command::new("sh").arg("-c").arg(script).current_dir(lower));
    said.success();
}

/// An archive, as `docker save` writes them, whose one layer is the tree.
pub fn make_archive(lower: &Path, archive: &Path) {
    let dir = archive.with_extension("d");
    fs::create_dir_all(&dir).unwrap();
    let tar = |out: &Path, from: &Path, what: &[&str]| {
        let mut command = Command::new("tar");
        command.args([
            "--xattrs",
            "--xattrs-include=*",
            "--format=pax",
            "--numeric-owner",
            "-cf",
        ]);
        cli::said(command.arg(out).arg("-C").arg(from).args(what)).success();
    };
    tar(&dir.join("layer.tar"), lower, &["."]);
    let diff_id = tree::sha256(&dir.join("layer.tar")).unwrap();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["sha256:{diff_id}"]}}}}"#
    );
    fs::write(dir.join("config.json"), config).unwrap();
    let manifest =
        r#"[{"Config":"config.json","RepoTags":["differential:latest"],"Layers":["layer.tar"]}]"#;
    fs::write(dir.join("manifest.json"), manifest).unwrap();
    tar(
        archive,
        &dir,
        &["manifest.json", "config.json", "layer.tar"],
    );
}

/// Two directory layers: the upper one changes, hides and adds to the lower one.
pub fn make_lowers(top: &Path, bottom: &Path) {
    make_lower(bottom);
    fs::create_dir_all(top).unwrap();
    let script = r#"
        set -e
        mkdir -p a/b b c/d; printf 'from the top' >a/b/f; mknod a/g c 0 0; mknod g c 0 0
        setfattr -n trusted.overlay.opaque -v y c; printf x >c/d/g; ln c/d/g c/h; ln c/d/g b/d
        chmod 777 . b; printf top >d; ln -s a/b f.link; setfattr -n user.two -v top b
    "#;
    cli::said(Command::new("sh").arg("-c").arg(script).current_dir(top)).success();
}

/// A kernel overlay mount that goes with the value.
pub struct Overlay {
    pub point: PathBuf,
    options: String,
}

impl Overlay {
    /// Lowers as the `lowerdir` option has them; `work` and the mount point in `dir`.
    pub fn new(dir: &Path, lower: &str, upper: &Path, options: &str) -> Overlay {
        Self::with_work(dir, lower, upper, &dir.join("work"), options)
    }

    pub fn with_work(dir: &Path, lower: &str, upper: &Path, work: &Path, options: &str) -> Overlay {
        let point = dir.join("merged");
        for d in [work, &point] {
            fs::create_dir_all(d).unwrap();
        }
        let options = format!(
            "lowerdir={},upperdir={},workdir={},{options}",
            lower,
            upper.display(),
            work.display()
        );
        let overlay = Overlay { point, options };
        overlay.mount();
        overlay
    }

    pub fn mount(&self) {
        let mut command = Command::new("mount");
        command
            .args(["-t", "overlay", "overlay", "-o", &self.options])
            .arg(&self.point);
        // A mount namespace that somebody has made meanwhile keeps the mount before for as long as it
        // lives: the upper is in use until then.
        let until = Instant::now() + Duration::from_secs(600);
        loop {
            let said = cli::said(&mut command);
            if said.ok || !said.err.contains("already mounted") || Instant::now() > until {
                said.success();
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    pub fn unmount(&self) {
        cli::until_free(|| cli::run("umount", &[self.point.as_os_str()])).success();
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        if cli::is_mounted(&self.point) {
            cli::run("umount", &[OsStr::new("-l"), self.point.as_os_str()]);
        }
    }
}
