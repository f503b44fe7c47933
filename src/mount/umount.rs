//! Taking mounts away.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

use super::mountinfo;
use crate::error::{Context, Failure, FailureKind};
use crate::store::Store;
use crate::store::containers::Container;

/// How long to wait for a daemon after its mount has gone.
const PATIENCE: Duration = Duration::from_secs(60);

/// How to take a mount away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Umount {
    /// Only if nobody uses it.
    Idle,
    /// Now from the tree, for good when nobody uses it any more (`MNT_DETACH`).
    Lazy,
}

/// Unmounts a container, or what is mounted at a place, and waits until its daemon has gone.
///
/// # Errors
/// `NotFound` when nothing of strata's is there, `Conflict` when it is in use; `System`.
pub fn umount(store: &Store, what: &str, how: Umount) -> Result<(), Failure> {
    let mounted = mounted_containers(store)?;
    let by_name = store.container(what).ok();
    let place = Path::new(what);
    let named = by_name.filter(|c| mounted.iter().any(|(m, _)| m.id == c.id));
    let (container, place) = match named {
        Some(container) => {
            let place = mounted
                .iter()
                .find(|(m, _)| m.id == container.id)
                .map(|(_, p)| p.clone());
            (Some(container), place.unwrap_or_default())
        }
        None => {
            let place = absolute(place);
            let container = mounted
                .into_iter()
                .find(|(_, p)| *p == place)
                .map(|(c, _)| c);
            (container, place)
        }
    };
    let ours = mountinfo::at(&place)?.filter(|m| m.kind == "fuse.strata");
    if ours.is_none() {
        return Err(Failure::not_found(format!(
            "{}: no container of that name is mounted, and no strata mount is there",
            what.escape_debug()
        )));
    }
    detach(&place, how)?;
    match container {
        Some(container) if how == Umount::Idle => wait_until_free(store, &container),
        _ => Ok(()),
    }
}

/// Unmounts a container, which may be in use for as long as `patience`; after that its mount is
/// taken out of the tree and ends with its last user. One that is not mounted is left as it is.
///
/// # Errors
/// `System`
pub fn stop(store: &Store, container: &Container, patience: Duration) -> Result<(), Failure> {
    let until = Instant::now() + patience;
    loop {
        if container.mounted_at(store)?.is_none() {
            return Ok(());
        }
        let how = match Instant::now() < until {
            true => Umount::Idle,
            false => Umount::Lazy,
        };
        match umount(store, &container.id, how) {
            Err(e) if e.kind() == FailureKind::Conflict => {
                std::thread::sleep(Duration::from_millis(20));
            }
            // Somebody else has just unmounted it.
            Err(e) if e.kind() == FailureKind::NotFound => {
                return wait_until_free(store, container);
            }
            other => return other,
        }
    }
}

fn absolute(path: &Path) -> PathBuf {
    // A dead mount can't be looked at, but its parent can.
    let parent = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let resolved = std::fs::canonicalize(path).or_else(|_| {
        let name = path.file_name().unwrap_or_default();
        std::fs::canonicalize(parent).map(|p| p.join(name))
    });
    resolved.unwrap_or_else(|_| path.to_path_buf())
}

fn mounted_containers(store: &Store) -> Result<Vec<(Container, PathBuf)>, Failure> {
    let mut mounted = Vec::new();
    for container in store.containers()? {
        match container.mounted_at(store) {
            Ok(Some(record)) => mounted.push((container, record.mountpoint)),
            Ok(None) => {}
            // Removed since it was listed.
            Err(_) if !container.dir(store).exists() => {}
            Err(e) => return Err(e),
        }
    }
    Ok(mounted)
}

fn detach(place: &Path, how: Umount) -> Result<(), Failure> {
    let flags = match how {
        Umount::Idle => UnmountFlags::NOFOLLOW,
        Umount::Lazy => UnmountFlags::NOFOLLOW | UnmountFlags::DETACH,
    };
    match unmount(place, flags) {
        Ok(()) => Ok(()),
        Err(Errno::BUSY) => Err(Failure::conflict(format!(
            "{} is in use: end what works in it, or use --lazy",
            place.display()
        ))),
        Err(e) => Err(e).context(|| format!("unmount {}", place.display())),
    }
}

/// The daemon gives up its claim when it has ended. A container that goes with its mount is gone
/// with its directory; its lock is left to the daemon, which needs it to remove the container.
fn wait_until_free(store: &Store, container: &Container) -> Result<(), Failure> {
    let until = Instant::now() + PATIENCE;
    let dir = container.dir(store);
    let gone = || {
        if container.remove {
            Ok(!dir.exists())
        } else {
            container.mounted_at(store).map(|m| m.is_none())
        }
    };
    while !gone()? {
        if Instant::now() > until {
            return Err(Failure::system(format!(
                "container {} is unmounted, but its daemon has not ended",
                container.name
            )));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Takes away the mount of a dead daemon, if one is at a place.
///
/// # Errors
/// `System`
pub fn detach_dead(place: &Path) -> Result<(), Failure> {
    // stat(2) may be answered from what the kernel knew while the daemon lived.
    while let Err(Errno::NOTCONN | Errno::CONNABORTED) = rustix::fs::statfs(place) {
        detach(&absolute(place), Umount::Lazy)?;
    }
    Ok(())
}
