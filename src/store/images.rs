//! Listing images: Docker's filters, sizes, and which image another one was made from.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use super::Store;
use super::names::StoredImage;
use crate::error::Failure;
use crate::image::{DiffId, Digest, Glob, Reference, time};

/// Which images: several references are taken as *or*, everything else as *and*.
///
/// ```
/// use stratafs::store::images::ImageFilters;
///
/// let filters = ImageFilters::parse(&["reference=nginx:*", "label=team=web", "dangling=false"])?;
/// assert!(filters.before.is_none());
/// assert!(ImageFilters::parse(&["colour=red"]).is_err());
/// # Ok::<(), stratafs::error::Failure>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct ImageFilters {
    /// Only images without a name, or only those with one.
    pub dangling: Option<bool>,
    /// Patterns of names.
    pub references: Vec<(String, Glob)>,
    /// Only images older than this one.
    pub before: Option<String>,
    /// Only images newer than this one.
    pub since: Option<String>,
    /// Only images older than this moment.
    pub until: Option<Timestamp>,
    /// Labels that an image must have, some with a value.
    pub labels: Vec<(String, Option<String>)>,
    /// Labels that it must not have.
    pub no_labels: Vec<(String, Option<String>)>,
}

/// A row of a list: an image under one of its names, or one that has none.
#[derive(Debug, Clone)]
pub struct ListedImage {
    /// The image.
    pub image: StoredImage,
    /// The name; `None` for an image without one.
    pub name: Option<Reference>,
}

/// Whether images are listed that are there only for others made from them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intermediate {
    /// They are.
    Shown,
    /// An image without a name, from which another one was made, is not.
    Hidden,
}

impl ImageFilters {
    /// Parses filters as `docker images` and `docker image prune` have them: `dangling=`,
    /// `reference=PATTERN`, `before=IMAGE`, `since=IMAGE`, `until=TIME`, `label=KEY[=VALUE]`,
    /// `label!=KEY[=VALUE]`.
    ///
    /// # Errors
    /// `Usage`
    pub fn parse(words: &[impl AsRef<str>]) -> Result<Self, Failure> {
        let mut filters = Self::default();
        for word in words {
            filters.add(word.as_ref())?;
        }
        Ok(filters)
    }

    fn add(&mut self, word: &str) -> Result<(), Failure> {
        let bad = || Failure::usage(format!("invalid filter '{}'", word.escape_debug()));
        let (key, value) = word
            .split_once('=')
            .ok_or_else(|| bad().context("bad format of filter (expected name=value)"))?;
        let label = || match value.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (value.to_owned(), None),
        };
        match key.trim().to_ascii_lowercase().as_str() {
            "dangling" => {
                self.dangling = Some(match value.to_ascii_lowercase().as_str() {
                    "true" | "1" | "t" => true,
                    "false" | "0" | "f" => false,
                    _ => return Err(bad()),
                });
            }
            "reference" => self.add_reference(value)?,
            "before" => self.before = Some(value.to_owned()),
            "since" => self.since = Some(value.to_owned()),
            "until" => self.until = Some(time::parse_moment(value)?),
            "label" => self.labels.push(label()),
            "label!" => self.no_labels.push(label()),
            _ => {
                return Err(Failure::usage(format!(
                    "{}: there are dangling=, reference=, before=, since=, until=, label= and \
                     label!=",
                    bad()
                )));
            }
        }
        Ok(())
    }

    /// Only names that fit a pattern such as `nginx`, `nginx:1.*` or `host:5000/*`.
    ///
    /// # Errors
    /// `Usage` for what is no pattern.
    pub fn add_reference(&mut self, pattern: &str) -> Result<(), Failure> {
        self.references
            .push((pattern.to_owned(), Glob::parse(pattern)?));
        Ok(())
    }

    /// Whether a name fits one of the patterns, as Docker shows it or as it is in full.
    fn names(&self, image: &StoredImage, name: &Reference) -> bool {
        let forms = [
            name.familiar(),
            name.familiar_name(),
            name.to_string(),
            name.name(),
            format!("{}@{}", name.familiar_name(), image.manifest),
        ];
        let fits = |glob: &Glob| forms.iter().any(|form| glob.matches(form));
        self.references.is_empty() || self.references.iter().any(|(_, glob)| fits(glob))
    }

    pub(super) fn labels_fit(&self, image: &StoredImage) -> bool {
        let has = |(key, value): &(String, Option<String>)| {
            let found = image.config.config.labels.get(key);
            found.is_some_and(|f| value.as_ref().is_none_or(|v| f == v))
        };
        self.labels.iter().all(has) && !self.no_labels.iter().any(has)
    }
}

/// When an image was made; long ago if it doesn't say.
#[must_use]
pub fn created(image: &StoredImage) -> Timestamp {
    let text = image.config.created.as_deref();
    text.and_then(time::parse).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// For each image, by its manifest's digest, the one that it was made from, as far as it is there:
/// its layers and its history begin with all of the other's.
#[must_use]
pub fn parents(images: &[StoredImage]) -> HashMap<Digest, Digest> {
    let mut by_layers: HashMap<&[DiffId], Vec<&StoredImage>> = HashMap::new();
    for image in images {
        let layers = image.config.rootfs.diff_ids.as_slice();
        by_layers.entry(layers).or_default().push(image);
    }
    let mut parents = HashMap::new();
    for image in images {
        let (layers, history) = (&image.config.rootfs.diff_ids, &image.config.history);
        let parent = (1..=layers.len())
            .rev()
            .filter_map(|count| by_layers.get(layers.get(..count)?))
            .flatten()
            .filter(|other| {
                let before = other.config.history.as_slice();
                before.len() < history.len() && history.starts_with(before)
            })
            .max_by_key(|other| (other.config.history.len(), other.id));
        if let Some(parent) = parent {
            parents.insert(image.manifest, parent.manifest);
        }
    }
    parents
}

impl Store {
    /// Bytes in an image's files, counted layer by layer, as Docker counts them. A layer that has
    /// not been read yet counts with what its blob takes.
    ///
    /// # Errors
    /// As [`Store::layer`].
    pub fn image_size(&self, image: &StoredImage) -> Result<u64, Failure> {
        let blobs = image.manifest_data.layers.iter().map(|l| l.size);
        let mut total = 0_u64;
        for (layer, blob) in image
            .config
            .rootfs
            .diff_ids
            .iter()
            .zip(blobs.chain(std::iter::repeat(0)))
        {
            total = total.saturating_add(self.layer_size(layer, blob)?);
        }
        Ok(total)
    }

    pub(super) fn layer_size(&self, layer: &DiffId, blob: u64) -> Result<u64, Failure> {
        Ok(self.layer(layer)?.map_or(blob, |info| info.content_size))
    }

    /// The images that fit, newest first, a row for each of their names.
    ///
    /// ```
    /// use stratafs::store::Store;
    /// use stratafs::store::images::{ImageFilters, Intermediate};
    ///
    /// let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// let filters = ImageFilters::parse(&["dangling=true"])?;
    /// assert!(store.list_images(&filters, Intermediate::Shown)?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound` for an image that a filter names; `Invalid`, `System`.
    pub fn list_images(
        &self,
        filters: &ImageFilters,
        intermediate: Intermediate,
    ) -> Result<Vec<ListedImage>, Failure> {
        let mut images = self.images()?;
        images.sort_by_key(|image| std::cmp::Reverse(created(image)));
        let parents: HashSet<Digest> = parents(&images).into_values().collect();
        let moment = |name: &Option<String>| match name {
            Some(name) => self.find(name).map(|image| Some(created(&image))),
            None => Ok(None),
        };
        let (before, since) = (moment(&filters.before)?, moment(&filters.since)?);
        let mut listed = Vec::new();
        for image in images {
            let time = created(&image);
            let unnamed = image.names.is_empty();
            let is_parent = unnamed && parents.contains(&image.manifest);
            let fits = before.is_none_or(|moment| time < moment)
                && since.is_none_or(|moment| time > moment)
                && filters.until.is_none_or(|moment| time < moment)
                && filters.labels_fit(&image)
                && !(is_parent && intermediate == Intermediate::Hidden);
            let dangling = unnamed && !is_parent;
            if !fits || filters.dangling.is_some_and(|wanted| wanted != dangling) {
                continue;
            }
            let names = image
                .names
                .iter()
                .filter(|name| filters.names(&image, name));
            let rows: Vec<_> = names
                .map(|name| ListedImage {
                    image: image.clone(),
                    name: Some(name.clone()),
                })
                .collect();
            listed.extend(rows);
            if unnamed && filters.references.is_empty() {
                listed.push(ListedImage { image, name: None });
            }
        }
        Ok(listed)
    }
}
