//! Removing what nothing needs any more.

use std::collections::HashSet;

use super::Store;
use super::containers::Container;
use super::images::{ImageFilters, Intermediate, parents};
use super::names::{Removed, StoredImage};
use crate::error::{Failure, FailureKind};
use crate::image::{Digest, time};

/// Which images a prune takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prune {
    /// Those that have no name, and that no other image was made from.
    Dangling,
    /// Those that no container and no mount uses.
    Unused,
}

/// What a prune did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The ids of containers that are gone.
    pub containers: Vec<String>,
    /// Names and images that are gone.
    pub images: Vec<Removed>,
    /// By how many bytes the store is smaller on the disk.
    pub freed: u64,
}

impl Store {
    /// Removes images that nothing needs, of those that fit the filters (`until`, labels), and then
    /// what no image refers to.
    ///
    /// ```
    /// use stratafs::store::Store;
    /// use stratafs::store::images::ImageFilters;
    /// use stratafs::store::prune::Prune;
    ///
    /// let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// let pruned = store.prune_images(Prune::Dangling, &ImageFilters::default())?;
    /// assert!(pruned.images.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Store::list_images`]; `System`.
    pub fn prune_images(&self, which: Prune, filters: &ImageFilters) -> Result<Pruned, Failure> {
        let before = self.disk_usage()?.total;
        let images = self.remove_unneeded(which, filters)?;
        self.collect()?;
        Ok(Pruned {
            containers: Vec::new(),
            images,
            freed: before.saturating_sub(self.disk_usage()?.total),
        })
    }

    /// As [`Store::prune_images`], after all containers that are not mounted.
    ///
    /// # Errors
    /// As [`Store::prune_images`].
    pub fn prune(&self, which: Prune, filters: &ImageFilters) -> Result<Pruned, Failure> {
        let before = self.disk_usage()?.total;
        let mut containers = Vec::new();
        for container in self.containers()? {
            if container.mounted_at(self)?.is_some() || !self.container_fits(&container, filters) {
                continue;
            }
            match self.remove_container(&container) {
                Ok(()) => containers.push(container.id),
                // It has just been mounted, or somebody was faster.
                Err(e) if matches!(e.kind(), FailureKind::Conflict | FailureKind::NotFound) => {}
                Err(e) => return Err(e),
            }
        }
        let images = self.remove_unneeded(which, filters)?;
        self.collect()?;
        Ok(Pruned {
            containers,
            images,
            freed: before.saturating_sub(self.disk_usage()?.total),
        })
    }

    /// Whether a container is as old as the filters want, and its image has the labels.
    fn container_fits(&self, container: &Container, filters: &ImageFilters) -> bool {
        let made = time::parse(&container.created);
        let old = filters
            .until
            .is_none_or(|until| made.is_some_and(|made| made < until));
        let labels = filters.labels.is_empty() && filters.no_labels.is_empty()
            || self
                .image_of_container(container)
                .is_ok_and(|image| filters.labels_fit(&image));
        old && labels
    }

    fn remove_unneeded(
        &self,
        which: Prune,
        filters: &ImageFilters,
    ) -> Result<Vec<Removed>, Failure> {
        let mut filters = filters.clone();
        if which == Prune::Dangling {
            filters.dangling = Some(true);
        }
        let mut seen = HashSet::new();
        let mut removed = Vec::new();
        for row in self.list_images(&filters, Intermediate::Shown)? {
            let image = row.image;
            if !seen.insert(image.manifest) || self.is_used(&image)? {
                continue;
            }
            // Name by name and without force: who begins to use the image meanwhile keeps it.
            let names = image.names.iter().map(ToString::to_string);
            let manifest = image.names.is_empty().then(|| image.manifest.to_string());
            for name in names.chain(manifest) {
                match self.remove_image_and_parents(&name, false) {
                    Ok(gone) => removed.extend(gone),
                    Err(e) if matches!(e.kind(), FailureKind::Conflict | FailureKind::NotFound) => {
                    }
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(removed)
    }

    /// Removes a name or an image as [`Store::remove_image`] does, and then the images without a
    /// name that it was made from and that nothing else needs.
    ///
    /// # Errors
    /// As [`Store::remove_image`].
    pub fn remove_image_and_parents(
        &self,
        text: &str,
        force: bool,
    ) -> Result<Vec<Removed>, Failure> {
        let made_from = parents(&self.images()?);
        let image = self.find(text)?;
        let mut removed = self.remove_image(text, force)?;
        let mut below = made_from.get(&image.manifest).copied();
        let mut last = image.id;
        while let Some(manifest) = below
            && removed.contains(&Removed::Deleted(last))
            && let Some(parent) = self.unneeded_parent(&manifest)?
        {
            removed.extend(self.remove_image(&manifest.to_string(), false)?);
            below = made_from.get(&manifest).copied();
            last = parent.id;
        }
        Ok(removed)
    }

    /// The image of a manifest, if it has no name, no image was made from it, and nothing uses it.
    fn unneeded_parent(&self, manifest: &Digest) -> Result<Option<StoredImage>, Failure> {
        let images = self.images()?;
        let needed = parents(&images).values().any(|parent| parent == manifest);
        let image = images.into_iter().find(|image| image.manifest == *manifest);
        match image {
            Some(image) if image.names.is_empty() && !needed && !self.is_used(&image)? => {
                Ok(Some(image))
            }
            _ => Ok(None),
        }
    }
}
