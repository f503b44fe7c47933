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
        let mut at = Some(image);
        let steps = image.config.history.len();
        while let Some(image) = at {
            // Rows run backwards, and those of layers without a step come first.
            let place = steps - image.config.history.len().min(steps);
            if let Some(entry) = entries.get_mut(place) {
                entry.image = Some(image.id);
            }
            let parent = made_from.get(&image.manifest);
            at = images.iter().find(|i| Some(&i.manifest) == parent);
        }
        Ok(entries)
    }
}
