//! `mount -o remount`: other flags for a mount that is there.

use std::path::Path;

use rustix::mount::mount_remount;

use super::mountinfo;
use super::options::MountOptions;
use crate::error::{Context, Failure};

/// Gives the mount at a place the flags of `options` (`ro`, `nosuid`, …). Layers and the other
/// options of the mount stay as they are.
///
/// # Errors
/// `NotFound` when no mount of strata's is there; `System`.
pub fn remount(mountpoint: &Path, options: &MountOptions) -> Result<(), Failure> {
    let shown = mountpoint.display();
    let path = std::fs::canonicalize(mountpoint).context(|| format!("mount point {shown}"))?;
    if mountinfo::at(&path)?.is_none_or(|m| m.kind != "fuse.strata") {
        return Err(Failure::not_found(format!(
            "{shown}: no strata mount is there"
        )));
    }
    mount_remount(&path, options.mount_flags(), c"").context(|| format!("remount {shown}"))
}
