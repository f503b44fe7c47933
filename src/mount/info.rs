//! What is here: the store, the kernel and what it offers to file systems in user space.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::mountinfo;
use crate::error::Failure;
use crate::fuse::{Offer, Transport};
use crate::image::Platform;
use crate::store::Store;

/// The first kernel that can pass files through.
const PASSTHROUGH_KERNEL: (u32, u32) = (6, 9);
/// `CAP_SYS_ADMIN`, as a bit of `CapEff`.
const CAP_SYS_ADMIN: u64 = 1 << 21;

/// The store and the machine, in Docker's words where it has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Info {
    /// How many containers there are.
    pub containers: u64,
    /// How many of them are mounted.
    pub containers_running: u64,
    /// How many are not.
    pub containers_stopped: u64,
    /// How many images there are.
    pub images: u64,
    /// `strata`
    pub driver: String,
    /// Facts about it, each a name and a value.
    pub driver_status: Vec<[String; 2]>,
    /// The store's directory.
    pub docker_root_dir: PathBuf,
    /// The file system that the store is on.
    pub backing_filesystem: String,
    /// What the kernel offers.
    pub fuse: Fuse,
    /// strata's version.
    pub server_version: String,
    /// The kernel's version.
    pub kernel_version: String,
    /// The distribution.
    pub operating_system: String,
    /// `linux`
    #[serde(rename = "OSType")]
    pub os_type: String,
    /// CPU architecture, as the kernel calls it.
    pub architecture: String,
    /// How many processors may be used.
    #[serde(rename = "NCPU")]
    pub ncpu: usize,
    /// Bytes of memory.
    pub mem_total: u64,
    /// The machine's name.
    pub name: String,
}

/// What the kernel offers to file systems in user space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Fuse {
    /// Whether there is a /dev/fuse.
    pub device: bool,
    /// Whether files can be passed through.
    pub passthrough: bool,
    /// Why not, or why.
    pub passthrough_reason: String,
    /// How requests of a mount would come that is made now: `uring` or `dev`.
    pub transport: String,
    /// Why.
    pub transport_reason: String,
}

/// strata's version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Version {
    /// The version.
    pub version: String,
    /// Operating system, as Go's `GOOS`.
    pub os: String,
    /// CPU architecture, as Go's `GOARCH`.
    pub arch: String,
    /// The kernel's version.
    pub kernel_version: String,
}

impl Version {
    /// Of this program on this machine.
    ///
    /// ```
    /// let version = stratafs::mount::info::Version::here();
    /// assert_eq!(version.os, "linux");
    /// ```
    #[must_use]
    pub fn here() -> Version {
        let platform = Platform::host();
        Version {
            version: env!("CARGO_PKG_VERSION").into(),
            os: platform.os,
            arch: platform.architecture,
            kernel_version: line("/proc/sys/kernel/osrelease"),
        }
    }
}

impl Fuse {
    /// What this kernel offers to this process.
    #[must_use]
    pub fn here() -> Fuse {
        let kernel = line("/proc/sys/kernel/osrelease");
        let (passthrough, passthrough_reason) = passthrough(&kernel, effective_capabilities());
        let offer = Offer::here();
        Fuse {
            device: Path::new("/dev/fuse").exists(),
            passthrough,
            passthrough_reason,
            transport: offer.transport().to_string(),
            transport_reason: offer.to_string(),
        }
    }
}

/// What is in the store, and what the machine offers.
///
/// ```
/// use stratafs::store::Store;
///
/// let dir = tempfile::tempdir()?;
/// let info = stratafs::mount::info::info(&Store::open(dir.path())?)?;
/// assert_eq!((info.images, info.driver.as_str()), (0, "strata"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// `Invalid` when the store is damaged; `System`.
pub fn info(store: &Store) -> Result<Info, Failure> {
    let containers = store.containers()?;
    let mut running = 0;
    for container in &containers {
        running += u64::from(container.mounted_at(store)?.is_some());
    }
    let all = containers.len() as u64;
    let fuse = Fuse::here();
    let backing_filesystem = filesystem_of(store.root());
    let row = |name: &str, value: &str| [name.to_owned(), value.to_owned()];
    let driver_status = vec![
        row("Backing Filesystem", &backing_filesystem),
        row(
            "FUSE device",
            if fuse.device {
                "/dev/fuse"
            } else {
                "none: mounts will fail"
            },
        ),
        row("Passthrough", &fuse.passthrough_reason),
        row("Transport", &transport_text(Offer::here())),
    ];
    Ok(Info {
        containers: all,
        containers_running: running,
        containers_stopped: all - running,
        images: store.images()?.len() as u64,
        driver: "strata".into(),
        driver_status,
        docker_root_dir: store.root().to_owned(),
        backing_filesystem,
        fuse,
        server_version: env!("CARGO_PKG_VERSION").into(),
        kernel_version: line("/proc/sys/kernel/osrelease"),
        operating_system: distribution(),
        os_type: "linux".into(),
        architecture: std::env::consts::ARCH.into(),
        ncpu: std::thread::available_parallelism().map_or(1, Into::into),
        mem_total: memory(),
        name: line("/proc/sys/kernel/hostname"),
    })
}

/// The first line of a file of the kernel's; nothing where there is none.
fn line(path: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}

fn passthrough(kernel: &str, capabilities: u64) -> (bool, String) {
    let mut numbers = kernel
        .split(|c: char| !c.is_ascii_digit())
        .map(|n| n.parse().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < PASSTHROUGH_KERNEL {
        (false, "no: needs kernel 6.9".into())
    } else if capabilities & CAP_SYS_ADMIN == 0 {
        (false, "no: needs CAP_SYS_ADMIN".into())
    } else {
        (true, "yes".into())
    }
}

fn effective_capabilities() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let digits = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    digits.map_or(0, |d| u64::from_str_radix(d.trim(), 16).unwrap_or(0))
}

fn transport_text(offer: Offer) -> String {
    match offer.transport() {
        Transport::Uring => "io_uring".into(),
        Transport::Dev => format!("/dev/fuse: {offer}"),
    }
}

/// The type of the file system that a directory is on.
fn filesystem_of(path: &Path) -> String {
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mounts = mountinfo::read().unwrap_or_default();
    let above = mounts.iter().filter(|m| path.starts_with(&m.mountpoint));
    // The last one of those at the same place is the one that shows.
    let nearest = above.max_by_key(|m| m.mountpoint.as_os_str().len());
    nearest.map_or_else(|| "unknown".into(), |m| m.kind.clone())
}

fn distribution() -> String {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".into(), |name| name.trim_matches('"').to_owned())
}

fn memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|t| t.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passthrough_needs_a_kernel_and_a_capability() {
        assert!(passthrough("6.18.0-x", CAP_SYS_ADMIN).0);
        assert_eq!(passthrough("7.0", u64::MAX).1, "yes");
        assert_eq!(
            passthrough("6.18.0", !CAP_SYS_ADMIN).1,
            "no: needs CAP_SYS_ADMIN"
        );
        for old in ["6.8.12", "5.15", "", "x"] {
            assert_eq!(passthrough(old, u64::MAX).1, "no: needs kernel 6.9");
        }
    }

    #[test]
    fn the_transport_is_explained() {
        assert_eq!(transport_text(Offer::Uring), "io_uring");
        let off = transport_text(Offer::Off);
        assert!(
            off.starts_with("/dev/fuse: ") && off.contains("enable_uring"),
            "{off}"
        );
        assert!(transport_text(Offer::Unknown).contains("6.14"));
    }

    #[test]
    fn the_machine_is_known() {
        assert!(memory() > 1 << 20);
        assert!(!filesystem_of(Path::new("/")).is_empty());
        assert!(!distribution().is_empty());
    }
}
