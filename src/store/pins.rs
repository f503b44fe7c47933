//! Pins: images that are mounted by themselves stay while they are.

use std::io::Write;

use super::{FileLock, Store};
use crate::error::{Context, Failure};
use crate::image::Digest;

/// Keeps an image from being removed while its holder lives.
#[derive(Debug)]
pub struct Pin {
    lock: FileLock,
    path: std::path::PathBuf,
}

impl Drop for Pin {
    fn drop(&mut self) {
        // A pin that stays behind isn't locked, and so doesn't count.
        if let Err(e) = std::fs::remove_file(&self.path) {
            log::debug!("remove {}: {e}", self.path.display());
        }
        let _ = &self.lock;
    }
}

impl Store {
    /// Pins an image's manifest for as long as the pin, or a process that inherits it, lives.
    ///
    /// # Errors
    /// `System`
    pub fn pin(&self, manifest: &Digest) -> Result<Pin, Failure> {
        let _lease = self.lease()?;
        let path = self
            .path("strata/mounts")
            .join(super::containers::random_id()?);
        let lock = FileLock::try_exclusive(&path)?;
        let lock = lock.ok_or_else(|| Failure::system(format!("{} is locked", path.display())))?;
        lock.file()
            .write_all(manifest.to_string().as_bytes())
            .context(|| format!("write {}", path.display()))?;
        Ok(Pin { lock, path })
    }

    /// The manifests that are pinned now. Pins of the dead are removed.
    pub(super) fn pinned(&self) -> Result<Vec<Digest>, Failure> {
        let dir = self.path("strata/mounts");
        let mut pinned = Vec::new();
        for entry in std::fs::read_dir(&dir).context(|| dir.display().to_string())? {
            let path = entry.context(|| dir.display().to_string())?.path();
            if FileLock::try_exclusive(&path)?.is_some() {
                std::fs::remove_file(&path).ok();
            } else if let Ok(text) = std::fs::read_to_string(&path)
                && let Ok(digest) = text.parse()
            {
                pinned.push(digest);
            }
        }
        Ok(pinned)
    }
}
