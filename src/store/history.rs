//! How an image came about, with sizes and the images that it was made from.

use serde::{Deserialize, Serialize};

use super::Store;
use super::images::parents;
use super::names::StoredImage;
use crate::error::Failure;
use crate::image::history::rows;
use crate::image::{DiffId, Digest};

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// The image as it was after this step, if it is in the store.
    pub image: Option<Digest>,
    /// When (RFC 3339).
    pub created: Option<String>,
    /// The command.
    pub created_by: String,
    /// A comment.
    pub comment: String,
    /// The layer that the step made; `None` for a step without one.
    pub layer: Option<DiffId>,
    /// Bytes in that layer's files, as Docker counts them.
    pub size: u64,
}

impl Store {
    /// The steps of an image, newest first.
    ///
    /// ```
    /// use stratafs::image::{Descriptor, media_type};
    /// use stratafs::store::Store;
    ///
    /// let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// // An image of nothing, as another tool might write it.
    /// let config = r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},
    ///     "history":[{"created_by":"CMD [\"sh\"]","empty_layer":true}]}"#;
    /// let id = store.add_blob(config.as_bytes())?;
    /// let manifest = format!(
    ///     r#"{{"schemaVersion":2,"config":{{"mediaType":"{}","digest":"{id}","size":{}}},"layers":[]}}"#,
    ///     media_type::OCI_CONFIG,
    ///     config.len(),
    /// );
    /// let digest = store.add_blob(manifest.as_bytes())?;
    /// let descriptor = Descriptor::new(media_type::OCI_MANIFEST, digest, manifest.len() as u64);
    /// store.add_image(&descriptor, &["empty".parse()?])?;
    ///
    /// let image = store.find("empty")?;
    /// let steps = store.history(&image)?;
    /// assert_eq!((steps[0].created_by.as_str(), steps[0].image), ("CMD [\"sh\"]", Some(id)));
    /// assert_eq!(store.describe_image(&image)?.repo_tags, ["empty:latest"]);
    /// assert_eq!(store.image_size(&image)?, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` when the store is damaged; `System`.
    pub fn history(&self, image: &StoredImage) -> Result<Vec<HistoryEntry>, Failure> {
        let mut entries = Vec::new();
        for row in rows(&image.config) {
            entries.push(HistoryEntry {
                image: None,
                created: row.created.map(str::to_owned),
                created_by: row.created_by.to_owned(),
                comment: row.comment.to_owned(),
                layer: row.layer,
                size: match &row.layer {
                    Some(layer) => self.layer_size(layer, 0)?,
                    None => 0,
                },
            });
        }
        let images = self.images()?;
        let made_from = parents(&images);
        if let Some(entry) = entries.first_mut() {
            entry.image = Some(image.id);
        }
        let mut at = made_from.get(&image.manifest);
        while let Some(parent) = at.and_then(|at| images.iter().find(|i| i.manifest == *at)) {
            // Rows run backwards: the parent's are the last ones.
            let place = entries.len().checked_sub(parent.config.history.len());
            if let Some(entry) = place.and_then(|place| entries.get_mut(place)) {
                entry.image = Some(parent.id);
            }
            at = made_from.get(&parent.manifest);
        }
        Ok(entries)
    }
}
