//! strata as other programs call it to mount: podman's and buildah's `mount_program` and Docker's
//! `fuse-overlayfs` (`PROG -o OPTIONS TARGET`), mount(8)'s helper (`mount.strata SOURCE TARGET -o
//! OPTIONS`), and containerd (`PROG SOURCE TARGET -o OPTIONS`).
//!
//! The command ends when the mount is live, with status 0; else with one line on standard error that
//! says why. The daemon keeps none of the caller's streams, and ends when the mount is gone.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::archive::progress::Silent;
use crate::error::{Failure, FailureKind};
use crate::mount::{self, MountOptions, MountRequest, Source};
use crate::store::Store;

/// As what strata was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A drop-in for fuse-overlayfs: defaults as overlayfs's, and the forms of whiteouts that
    /// containers/storage leaves on disk are read.
    MountProgram,
    /// mount(8)'s helper ("External helpers").
    Helper,
    /// A program that mounts.
    Plain,
}

/// Exit status for mount(8): "incorrect invocation or permissions".
const WRONG: u8 = 1;
/// Exit status for mount(8): "mount failure".
const FAILED: u8 = 32;

impl Role {
    /// What a command line asks for, by the program's name, or by its shape; `None` when it is for
    /// the ordinary command line.
    #[must_use]
    pub fn of(words: &[OsString]) -> Option<Self> {
        let name = words.first().map(Path::new).and_then(Path::file_name);
        let name = name.unwrap_or_default().as_bytes();
        if name == b"fuse-overlayfs" {
            return Some(Role::MountProgram);
        }
        if name.starts_with(b"mount.") {
            return Some(Role::Helper);
        }
        let first = words.get(1)?.as_bytes();
        if first.starts_with(b"-o") || [&b"-f"[..], b"-d", b"--debug"].contains(&first) {
            return Some(Role::MountProgram);
        }
        let is_word = !first.starts_with(b"-") && !crate::cli::is_command(first);
        let has_options = words.iter().any(|w| w.as_bytes().starts_with(b"-o"));
        (is_word && has_options).then_some(Role::Plain)
    }
}

/// What a command line says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Line {
    lists: Vec<OsString>,
    operands: Vec<OsString>,
    foreground: bool,
    debug: bool,
    fake: bool,
    sloppy: bool,
    asks: Option<Asks>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asks {
    Help,
    Version,
}

impl Line {
    fn parse(role: Role, words: &[OsString]) -> Result<Self, Failure> {
        let mut line = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = |what: &str| {
                let missing = || Failure::usage(format!("{what} needs a value"));
                words.next().cloned().ok_or_else(missing)
            };
            match word.as_bytes() {
                b"-o" | b"--options" => line.lists.push(value("-o")?),
                [b'-', b'o', list @ ..] => line.lists.push(OsStr::from_bytes(list).to_owned()),
                // mount(8) gives its helpers -f for "everything but the system call".
                b"-f" if role == Role::Helper => line.fake = true,
                b"-f" => line.foreground = true,
                b"-d" | b"--debug" => line.debug = true,
                b"-s" if role == Role::Helper => line.sloppy = true,
                b"-s" | b"-n" | b"-v" => {}
                b"-t" | b"-N" => drop(value("it")?),
                b"-h" | b"--help" => line.asks = Some(Asks::Help),
                b"-V" | b"--version" => line.asks = Some(Asks::Version),
                b"--" => line.operands.extend(words.by_ref().cloned()),
                [b'-', _, ..] => {
                    let word = word.to_string_lossy();
                    return Err(Failure::usage(format!(
                        "unknown option {}",
                        word.escape_debug()
                    )));
                }
                _ => line.operands.push(word.clone()),
            }
        }
        Ok(line)
    }

    fn request(&self, role: Role) -> Result<MountRequest, Failure> {
        let mut options = MountOptions::default();
        for list in &self.lists {
            if self.sloppy {
                options.parse_known(list)?;
            } else {
                options.parse(list)?;
            }
        }
        if role == Role::MountProgram {
            options.as_mount_program();
        }
        let (named, mountpoint) = match self.operands.as_slice() {
            [mountpoint] => (None, mountpoint),
            [source, mountpoint] => (Some(source.to_string_lossy().into_owned()), mountpoint),
            [] => return Err(Failure::usage("where is it to be mounted?")),
            _ => return Err(Failure::usage("more than a source and a mount point")),
        };
        let source = if options.remount {
            Source::default()
        } else {
            Source::choose(named.as_deref(), &options)?
        };
        Ok(MountRequest {
            source,
            label: named,
            mountpoint: PathBuf::from(mountpoint),
            foreground: self.foreground || self.debug || options.debug,
            options,
        })
    }
}

fn store_root() -> PathBuf {
    std::env::var_os("STRATA_ROOT").map_or_else(Store::default_root, PathBuf::from)
}

/// Mounts as the command line says.
#[must_use]
pub fn main(role: Role, words: &[OsString]) -> ExitCode {
    mount::logger::install(|record| {
        let level = record.level().as_str().to_lowercase();
        eprintln!("strata: {level}: {}", record.args());
    });
    let failed = |failure: &Failure| {
        eprintln!("strata: {failure}");
        ExitCode::from(match (role, failure.kind()) {
            (Role::Helper, FailureKind::Usage) => WRONG,
            (Role::Helper, _) => FAILED,
            (_, FailureKind::Usage) => 2,
            _ => 1,
        })
    };
    let line = match Line::parse(role, words.get(1..).unwrap_or_default()) {
        Ok(line) => line,
        Err(failure) => return failed(&failure),
    };
    match line.asks {
        Some(Asks::Help) => print!("{HELP}"),
        Some(Asks::Version) => println!("strata {}", env!("CARGO_PKG_VERSION")),
        None => {
            if let Err(failure) = run(role, &line) {
                return failed(&failure);
            }
        }
    }
    ExitCode::SUCCESS
}

fn run(role: Role, line: &Line) -> Result<(), Failure> {
    let request = line.request(role)?;
    if request.options.debug || line.debug {
        log::set_max_level(log::LevelFilter::Debug);
    }
    if let Some(notice) = request.options.notice() {
        eprintln!("strata: {notice}");
    }
    if line.fake {
        return Ok(());
    }
    mount::mount(&store_root(), &request, &Silent).map(drop)
}

const HELP: &str = "\
Mounts layers as one tree, called as fuse-overlayfs, mount.strata, mount.fuse.strata, or with -o first.

  PROG -o lowerdir=A:B[,upperdir=U,workdir=W][,OPTION…] TARGET
  PROG [IMAGE|CONTAINER|LABEL] TARGET -o OPTION[,OPTION…]

  -o OPTIONS      options of mount(8), overlayfs and fuse-overlayfs; image=, container=, root=, name=, rm
  -f              serve in the foreground (for mount.strata: do everything but mount)
  -d, --debug     the same, and say much
  -V, --version   show the version
  -h, --help      show this

strata --help shows the ordinary command line.
";

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    fn parsed(line: &str) -> Line {
        let words = words(line);
        Line::parse(Role::of(&words).unwrap(), &words[1..]).unwrap()
    }

    #[test]
    fn roles_by_name_and_by_shape() {
        for (line, role) in [
            (
                "/usr/bin/fuse-overlayfs --version",
                Some(Role::MountProgram),
            ),
            ("fuse-overlayfs", Some(Role::MountProgram)),
            ("/sbin/mount.fuse.strata a /b", Some(Role::Helper)),
            ("mount.strata a /b -o ro", Some(Role::Helper)),
            ("strata -o lowerdir=/a /b", Some(Role::MountProgram)),
            ("strata -olowerdir=/a /b", Some(Role::MountProgram)),
            ("strata -f -o lowerdir=/a /b", Some(Role::MountProgram)),
            ("strata overlay /b -o lowerdir=/a", Some(Role::Plain)),
            ("strata /b -o lowerdir=/a", Some(Role::Plain)),
            ("strata mount -o ro nginx /b", None),
            ("strata save -o f nginx", None),
            ("strata --root /r mount -o ro nginx /b", None),
            ("strata --version", None),
            ("strata nonsense", None),
            ("strata", None),
        ] {
            assert_eq!(Role::of(&words(line)), role, "{line}");
        }
    }

    #[test]
    fn lines_are_taken_apart() {
        let line = parsed("fuse-overlayfs -o a,b -oc -f -d /t");
        assert_eq!(line.lists, words("a,b c"));
        assert!(line.foreground && line.debug && !line.fake);
        assert_eq!(line.operands, words("/t"));
        let line = parsed("mount.strata src /t -f -n -s -v -t fuse.strata -o rw");
        assert!(line.fake && line.sloppy && !line.foreground);
        assert_eq!(line.operands, words("src /t"));
        assert_eq!(parsed("fuse-overlayfs -V").asks, Some(Asks::Version));
        assert_eq!(parsed("strata -f -- -odd").operands, words("-odd"));
        for wrong in ["fuse-overlayfs -x", "fuse-overlayfs -o"] {
            let words = words(wrong);
            assert!(Line::parse(Role::MountProgram, &words[1..]).is_err());
        }
    }

    #[test]
    fn a_mount_program_has_overlayfs_defaults() {
        let line = parsed("strata -o lowerdir=/l:/m,upperdir=/u,workdir=/w,,volatile, /t");
        let request = line.request(Role::MountProgram).unwrap();
        assert!(request.options.aufs && request.options.volatile);
        assert_eq!(
            request.options.redirect_dir,
            Some(crate::union::RedirectDir::Follow)
        );
        let plain = line.request(Role::Plain).unwrap();
        assert!(!plain.options.aufs);
        assert_eq!(plain.options.redirect_dir, None);
    }
}
