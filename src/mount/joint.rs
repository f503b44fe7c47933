//! Joint mounts: a read-only mount of the layers below another mount becomes a part of that one.
//!
//! podman's and Docker's `diff`, `commit` and `build` mount a container and, beside it, its image, and
//! compare every object of both. They pass over what has one device and one number in both, which two
//! mounts never have; two places of one mount do ([`Union::lower_view`](crate::union::Union::lower_view)).
//!
//! The daemon of a mount that others may join listens at an abstract socket (unix(7)), which names
//! what is below its changes, and is gone with the daemon. Who is to mount just that asks those that
//! are there which of them the same program has just looked at, or mounted. Where there is none, or
//! anything fails, the mount is one of its own.

use std::fmt::Write as _;
use std::fs::read_to_string;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, StatxFlags};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::mountinfo;
use super::options::MountOptions;
use super::source::Layers;
use crate::error::{Context, Failure, FailureKind};
use crate::fuse::session::Serving;

/// What the sockets' names begin with; the number changes with what is said there.
const PREFIX: &str = "strata/joint/1/";

/// How long one waits for the other's word.
const PATIENCE: Duration = Duration::from_millis(500);

/// The longest thing that is said, in bytes.
const LONGEST: u64 = 16 << 10;

/// A mount that others may join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// What is below its changes.
    below: String,
    /// The process that had it mounted.
    mounter: u32,
}

#[derive(Serialize, Deserialize)]
struct Question {
    /// Who is to get the mount.
    process: u32,
    /// Whether a way in is to be made.
    join: bool,
}

#[derive(Serialize, Deserialize)]
struct Answer {
    /// How long ago that process looked at this mount, or had it made, in milliseconds.
    age: Option<u64>,
    /// Where the tree below is, for a moment.
    place: Option<PathBuf>,
}

impl Offer {
    /// What of a mount of these layers others may join, if they may and there is something.
    #[must_use]
    pub fn of(layers: &Layers, options: &MountOptions) -> Option<Self> {
        let below = layers
            .lowers
            .get(usize::from(layers.upper.is_none())..)
            .unwrap_or_default();
        let simple = layers.data_lowers.is_empty() && layers.image.is_none();
        if options.joint != Some(true) || !simple || below.is_empty() {
            return None;
        }
        let below = stack_name(below, options).unwrap_or_else(|e| {
            log::debug!("nobody can join this mount: {e}");
            None
        })?;
        let mounter = parent();
        Some(Self { below, mounter })
    }

    /// Answers those who may join, on a thread of its own, until the process ends.
    ///
    /// # Errors
    /// `System`
    pub fn listen(
        &self,
        mountpoint: &Path,
        server: impl Fn() -> Option<Arc<dyn Serving>> + Send + 'static,
    ) -> Result<(), Failure> {
        let about = || "the socket for joint mounts";
        let name = format!("{PREFIX}{}/{}", self.below, std::process::id());
        let address = SocketAddr::from_abstract_name(name).context(about)?;
        let listener = UnixListener::bind_addr(&address).context(about)?;
        let (mounter, since) = (self.mounter, Instant::now());
        let mountpoint = mountpoint.to_path_buf();
        let answer = move |question: &Question| {
            let server = server()?;
            let mounted = (mounter == question.process).then(|| since.elapsed());
            let age = server.asked_by(question.process).or(mounted);
            let place = match question.join {
                false => None,
                true => {
                    let name = server.offer_view();
                    let name = name
                        .inspect_err(|e| log::info!("a joint mount: {e}"))
                        .ok()?;
                    Some(mountpoint.join(name.as_os_str()))
                }
            };
            let age = age.and_then(|age| u64::try_from(age.as_millis()).ok());
            Some(Answer { age, place })
        };
        let serve = move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else {
                    // Out of descriptors, for a while.
                    std::thread::sleep(PATIENCE);
                    continue;
                };
                let served = hear(&stream).and_then(|question| match answer(&question) {
                    Some(answer) => say(&stream, &answer),
                    None => Ok(()),
                });
                if let Err(e) = served {
                    log::debug!("the socket for joint mounts: {e}");
                }
            }
        };
        std::thread::Builder::new()
            .name("joint".into())
            .spawn(serve)
            .map(drop)
            .context(|| "start a thread for joint mounts")
    }
}

/// Makes a read-only mount of these layers a part of a mount above them that the calling program has
/// just been using; `false` where there is none.
#[must_use]
pub fn join(layers: &Layers, mountpoint: &Path, options: &MountOptions) -> bool {
    let simple = layers.upper.is_none() && layers.data_lowers.is_empty() && layers.image.is_none();
    if options.joint != Some(true) || !simple || layers.lowers.is_empty() {
        return false;
    }
    match try_join(&layers.lowers, mountpoint, options) {
        Ok(joined) => joined,
        Err(e) => {
            log::debug!("no joint mount: {e}");
            false
        }
    }
}

fn try_join(
    lowers: &[PathBuf],
    mountpoint: &Path,
    options: &MountOptions,
) -> Result<bool, Failure> {
    let sockets = sockets()?;
    if sockets.is_empty() {
        return Ok(false);
    }
    let Some(below) = stack_name(lowers, options)? else {
        return Ok(false);
    };
    let ours = format!("{PREFIX}{below}/");
    let process = parent();
    let mut nearest: Option<(u64, &String)> = None;
    for name in sockets.iter().filter(|name| name.starts_with(&ours)) {
        let question = Question {
            process,
            join: false,
        };
        match ask(name, &question) {
            Ok(answer) => {
                let found = answer.age.map(|age| (age, name));
                nearest = [nearest, found].into_iter().flatten().min();
            }
            Err(e) => log::debug!("{name}: {e}"),
        }
    }
    let Some((_, name)) = nearest else {
        return Ok(false);
    };
    let question = Question {
        process,
        join: true,
    };
    let Some(place) = ask(name, &question)?.place else {
        return Ok(false);
    };
    let tree = crate::sys::mount::read_only_clone(&place).context(|| "the tree below a mount")?;
    crate::sys::mount::attach(&tree, mountpoint).context(|| "attach it")?;
    if let Some(how) = options.propagation {
        rustix::mount::mount_change(mountpoint, how).context(|| "set its propagation")?;
    }
    Ok(true)
}

/// A process's mount namespace.
fn namespace(process: &str) -> Result<PathBuf, Failure> {
    let link = format!("/proc/{process}/ns/mnt");
    std::fs::read_link(&link).context(|| link.clone())
}

/// The process that runs this program.
fn parent() -> u32 {
    let parent = rustix::process::getppid();
    parent.map_or(0, |pid| pid.as_raw_pid().cast_unsigned())
}

/// A name for these directories as one tree, as these options show it, in this mount namespace. None
/// where a mount between changes the owners.
fn stack_name(lowers: &[PathBuf], options: &MountOptions) -> Result<Option<String>, Failure> {
    let mounts = mountinfo::read()?;
    let namespace = namespace("self")?;
    let mut shown = MountOptions {
        // Said of the mount that is joined, or of changes only.
        propagation: None,
        nodes: None,
        volatile: false,
        index: None,
        read_only: false,
        debug: false,
        upper: None,
        work: None,
        ..options.clone()
    };
    shown.lowers.clear();
    shown.ignored.clear();
    let mut whole = Sha256::new();
    whole.update(format!(
        "{} {namespace:?} {shown:?}",
        env!("CARGO_PKG_VERSION")
    ));
    for path in lowers {
        let wanted = StatxFlags::INO | StatxFlags::MNT_ID;
        let stat = rustix::fs::statx(CWD, path, AtFlags::empty(), wanted)
            .context(|| path.display().to_string())?;
        if mounts.iter().any(|m| m.id == stat.stx_mnt_id && m.idmapped) {
            return Ok(None);
        }
        let (major, minor) = (stat.stx_dev_major, stat.stx_dev_minor);
        whole.update(format!(" {major}:{minor}:{}", stat.stx_ino));
    }
    let mut name = String::new();
    for byte in whole.finalize().iter().take(16) {
        write!(name, "{byte:02x}").map_err(|e| Failure::system(e.to_string()))?;
    }
    Ok(Some(name))
}

/// The names of the sockets that are there (proc_net(5)).
fn sockets() -> Result<Vec<String>, Failure> {
    let text = read_to_string("/proc/net/unix").context(|| "read /proc/net/unix")?;
    let named = text.lines().filter_map(|line| line.split(" @").nth(1));
    let mut names: Vec<_> = named
        .filter(|name| name.starts_with(PREFIX))
        .map(str::to_owned)
        .collect();
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

fn ask(name: &str, question: &Question) -> Result<Answer, Failure> {
    let address = SocketAddr::from_abstract_name(name)?;
    let stream = UnixStream::connect_addr(&address)?;
    say(&stream, question)?;
    hear(&stream)
}

/// What another process says: of the same user, and with the same mounts. A container with the host's
/// network sees these sockets too, and can make some.
fn hear<T: for<'de> Deserialize<'de>>(stream: &UnixStream) -> Result<T, Failure> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let peer = rustix::net::sockopt::socket_peercred(stream).context(|| "who it is")?;
    let same_mounts = namespace(&peer.pid.as_raw_pid().to_string())? == namespace("self")?;
    if peer.uid != rustix::process::geteuid() || !same_mounts {
        let strange = "a process of another user or mount namespace";
        return Err(Failure::new(FailureKind::Denied, strange));
    }
    let mut line = String::new();
    BufReader::new(stream.take(LONGEST)).read_line(&mut line)?;
    serde_json::from_str(&line).map_err(|e| Failure::system(e.to_string()))
}

fn say<T: Serialize>(stream: &UnixStream, what: &T) -> Result<(), Failure> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let text = serde_json::to_string(what).map_err(|e| Failure::system(e.to_string()))?;
    let mut out = stream;
    out.write_all(format!("{text}\n").as_bytes())?;
    Ok(())
}
