//! What is told of the selected layer and of the selected entry.

use crate::error::Result;
use crate::image::ImageConfig;
use crate::inspect::dockerfile::{Base, reconstruct};
use crate::inspect::levels::{Levels, Shown, Tally};
use crate::inspect::{Image, Object};
use crate::stat::FileType;

/// A row of the layers' panel.
pub struct LayerRow {
    /// Its number, or that it is the container's.
    pub title: String,
    /// The instruction that made it, in one line.
    pub instruction: String,
    /// Bytes of its files; `None` of a container's changes.
    pub bytes: Option<u64>,
    /// More about it, a line each.
    pub about: Vec<String>,
    /// What it does, once that is known.
    pub tally: Option<Tally>,
}

/// The instruction that made each layer, as far as the configuration tells, bottom first.
pub fn instructions(config: &ImageConfig) -> Vec<String> {
    let nothing = Base {
        name: String::new(),
        layers: 0,
        steps: 0,
        why: String::new(),
    };
    let all = reconstruct(config, Some(nothing));
    let mut steps = all.steps.iter().filter(|(_, layer)| layer.is_some());
    let mut history = config.history.iter().filter(|step| !step.empty_layer);
    let layers = config.rootfs.diff_ids.iter();
    layers
        .map(|_| {
            let step = history.next().and_then(|step| step.created_by.as_deref());
            let known = steps.next().map(|(step, _)| step.instruction.as_str());
            let said = known.filter(|text| !text.is_empty()).or(step);
            let words: Vec<&str> = said.unwrap_or_default().split_whitespace().collect();
            words.join(" ")
        })
        .collect()
}

/// What stands for an instruction.
pub fn shown_instruction(known: Option<String>) -> String {
    let known = known.filter(|text| !text.is_empty());
    known.unwrap_or_else(|| "(no instruction is known)".to_owned())
}

/// The rows of an image's layers, and of its container.
pub fn rows(image: &Image, count: usize) -> Vec<LayerRow> {
    let mut known = instructions(&image.config).into_iter();
    let mut rows: Vec<LayerRow> = image
        .layers
        .iter()
        .map(|layer| {
            let info = &layer.info;
            let size = crate::cli::format::size;
            LayerRow {
                title: layer.number.to_string(),
                instruction: shown_instruction(known.next()),
                bytes: Some(info.content_size),
                about: vec![
                    format!(
                        "{} in files, {} as a tar, {} in the image",
                        size(info.content_size),
                        size(info.uncompressed_size),
                        size(info.size)
                    ),
                    format!("digest {}", info.digest),
                    format!("diffID {}", info.diff_id),
                ],
                tally: None,
            }
        })
        .collect();
    if let Some(container) = image.container.as_ref().filter(|_| rows.len() < count) {
        rows.push(LayerRow {
            title: "+".to_owned(),
            instruction: format!("changes of container {}", container.name),
            bytes: None,
            about: vec![format!("container {}", container.id)],
            tally: None,
        });
    }
    rows
}

/// What is known of an entry.
pub struct Details {
    /// The level at which it was looked at.
    pub level: usize,
    /// Its path.
    pub path: Vec<u8>,
    /// What it is.
    pub object: Object,
    /// A symbolic link's target.
    pub target: Option<Vec<u8>>,
    /// The names of its extended attributes.
    pub xattrs: Vec<Vec<u8>>,
    /// The levels that have something to say of it, from the top.
    pub which: Vec<(usize, Shown)>,
}

impl Details {
    /// The details of an entry.
    ///
    /// # Errors
    /// `EIO` when an index is damaged.
    pub fn of(levels: &Levels, level: usize, shown: &Shown, path: Vec<u8>) -> Result<Self> {
        let object = shown.part.object;
        let mut details = Self {
            level,
            object,
            target: None,
            xattrs: Vec::new(),
            which: levels.which(&path)?,
            path,
        };
        if let Some(tree) = levels.tree(shown.part.place) {
            if object.stat.kind == FileType::Symlink {
                details.target = Some(tree.read_link(&object)?);
            }
            let xattrs = tree.xattrs(&object)?;
            details.xattrs = xattrs.into_iter().map(|(name, _)| name).collect();
        }
        Ok(details)
    }
}

/// What a level did to an entry, in words.
pub fn did_words(shown: &Shown) -> String {
    shown.did.map_or_else(String::new, |did| did.to_string())
}
