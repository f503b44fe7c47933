//! [`Image`]: an image that is looked at, wherever it is.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::cache::Cache;
use super::data::Counted;
use super::source::{Found, Origin, Outside, stored};
use super::target::{Place, Span, Target};
use super::tree::Tree;
use crate::archive::Progress;
use crate::archive::chain::{chain_of, stage_chain};
use crate::content::LayerData;
use crate::error::{Context, Failure};
use crate::image::{DiffId, Digest, History, ImageConfig, Manifest, Reference};
use crate::index::Index;
use crate::layer::format::MarkSpace;
use crate::layer::image::ImageLayer;
use crate::store::containers::Container;
use crate::store::layers::LayerInfo;
use crate::store::{Lease, Store};
use crate::union::{Union, UnionOptions, Upper};

/// A layer of an image.
#[derive(Debug, Clone)]
pub struct LayerFacts {
    /// Its number: 1 is the bottom one.
    pub number: usize,
    /// Digest, diffID, sizes.
    pub info: LayerInfo,
    /// The step of the image's history that made it, where the history says so.
    pub history: Option<History>,
    index: PathBuf,
}

impl LayerFacts {
    /// The command of the history that made it; empty where that is not known.
    #[must_use]
    pub fn created_by(&self) -> &str {
        let step = self.history.as_ref();
        step.and_then(|h| h.created_by.as_deref())
            .unwrap_or_default()
    }
}

/// An image that is looked at.
pub struct Image {
    /// As it was named.
    pub name: String,
    /// Which of its layers were named.
    pub span: Span,
    /// Its names, in full.
    pub names: Vec<Reference>,
    /// Its manifest and the manifest's digest; `None` where the archive has none.
    pub manifest: Option<(Digest, Manifest)>,
    /// Its id: the digest of its configuration; `None` of a layer by itself.
    pub id: Option<Digest>,
    /// Its configuration; an empty one of a layer by itself.
    pub config: ImageConfig,
    /// Its layers, bottom first.
    pub layers: Vec<LayerFacts>,
    /// The container, if it is one that is looked at.
    pub container: Option<Container>,
    store: Store,
    cache: Cache,
    chain: Option<PathBuf>,
    data: Arc<dyn LayerData>,
    opens: Arc<AtomicU64>,
    /// Indexes that have been opened.
    trees: Mutex<Vec<(Span, Arc<ImageLayer>)>>,
    /// What was found in the store stays there meanwhile.
    _lease: Lease,
}

impl Image {
    /// Opens what an argument names. An archive that was never looked at is read once for this, and
    /// verified; from then on its indexes are in the cache.
    ///
    /// # Errors
    /// [`Failure`], one line that names the image or archive, the member, and the reason: as
    /// [`crate::archive::load()`] says it. `NotFound` for a layer that the image doesn't have.
    pub fn open(store: &Store, target: &Target, progress: &dyn Progress) -> Result<Self, Failure> {
        Self::open_watched(store, target, progress, &|_| {})
    }

    /// As [`Image::open`]; `watch` is told what is found in an archive that is read.
    ///
    /// # Errors
    /// As [`Image::open`].
    pub fn open_watched(
        store: &Store,
        target: &Target,
        progress: &dyn Progress,
        watch: &dyn Fn(Found),
    ) -> Result<Self, Failure> {
        let lease = store.lease()?;
        let cache = Cache::of(store);
        let outside = Outside {
            store,
            cache: &cache,
            progress,
            watch,
        };
        let origin = match &target.place {
            Place::Stored(name) => stored(store, name, progress)?,
            Place::Archive(source) => outside.archive(source)?,
            Place::Tar(path) => outside.tar(path)?,
        };
        let alone = matches!(target.place, Place::Tar(_));
        let Origin {
            names,
            manifest,
            config,
            layers,
            data,
            container,
            chain,
        } = origin;
        let (id, config) = config.map_or((None, ImageConfig::default()), |(id, config)| {
            (Some(id), config)
        });
        let opens = Arc::new(AtomicU64::new(0));
        let image = Self {
            name: target.name.clone(),
            // A layer by itself may refer to what is below it: it is no whole tree.
            span: match target.span {
                Span::All if alone => Span::Layer(1),
                span => span,
            },
            names,
            manifest,
            id,
            layers: facts(&config, layers),
            config,
            container,
            store: store.clone(),
            cache,
            chain,
            data: Arc::new(Counted::new(data, Arc::clone(&opens))),
            opens,
            trees: Mutex::new(Vec::new()),
            _lease: lease,
        };
        if let Span::Layer(number) | Span::UpTo(number) = image.span {
            image.layer(number)?;
        }
        Ok(image)
    }

    /// How often a layer's data has been opened through this image so far.
    #[must_use]
    pub fn blob_opens(&self) -> u64 {
        self.opens.load(Ordering::Relaxed)
    }

    /// A layer by its number, 1 for the bottom one.
    ///
    /// # Errors
    /// `NotFound`
    pub fn layer(&self, number: usize) -> Result<&LayerFacts, Failure> {
        let found = self.layers.iter().find(|layer| layer.number == number);
        found.ok_or_else(|| {
            Failure::not_found(format!(
                "{}: there is no layer {number}: it has {}, numbered from the bottom",
                self.name.escape_debug(),
                self.layers.len()
            ))
        })
    }

    /// The layers' diffIDs, bottom first.
    #[must_use]
    pub fn diff_ids(&self) -> Vec<DiffId> {
        self.layers.iter().map(|layer| layer.info.diff_id).collect()
    }

    /// What the argument named: the whole (of a container with its changes), the stack up to a
    /// layer, or one layer.
    ///
    /// # Errors
    /// As [`Image::tree_of`].
    pub fn tree(&self) -> Result<Tree, Failure> {
        self.tree_of(self.span)
    }

    /// A tree of these layers.
    ///
    /// # Errors
    /// `NotFound` for a layer that isn't there; `Invalid` when the layers don't fit each other;
    /// `System`, also for a damaged index.
    pub fn tree_of(&self, span: Span) -> Result<Tree, Failure> {
        match (&self.container, span) {
            (Some(container), Span::All) => self.container_tree(container),
            _ => Ok(Tree::of_index(self.indexed(span)?)),
        }
    }

    /// A container's tree: its image's, and its own changes above.
    fn container_tree(&self, container: &Container) -> Result<Tree, Failure> {
        let upper = Upper::open_read_only(&container.upper(&self.store), MarkSpace::native())
            .map_err(|e| Failure::from(e).context(format!("container {}", container.name)))?;
        let layer = self.indexed(Span::All)?;
        let options = UnionOptions {
            metacopy: true,
            ..UnionOptions::default()
        };
        let union = Union::new(vec![layer as _], Some(upper), options)?;
        Ok(Tree::of_union(union))
    }

    /// The index of a layer or stack, opened once.
    fn indexed(&self, span: Span) -> Result<Arc<ImageLayer>, Failure> {
        let span = match span {
            Span::UpTo(number) if number == self.layers.len() => Span::All,
            span => span,
        };
        let mut trees = self.trees.lock();
        if let Some((_, tree)) = trees.iter().find(|(known, _)| *known == span) {
            return Ok(Arc::clone(tree));
        }
        let index = match span {
            Span::Layer(number) => Index::open(&self.layer(number)?.index)?,
            Span::UpTo(number) => {
                self.layer(number)?;
                self.stack(number)?
            }
            Span::All => match &self.chain {
                Some(path) => Index::open(path)?,
                None => self.stack(self.layers.len())?,
            },
        };
        let tree = Arc::new(ImageLayer::new(index, Arc::clone(&self.data)));
        trees.push((span, Arc::clone(&tree)));
        Ok(tree)
    }

    /// The index of the lowest layers together: from the cache, or made now.
    fn stack(&self, count: usize) -> Result<Index, Failure> {
        let layers = self.layers.get(..count).unwrap_or(&self.layers);
        let ids: Vec<DiffId> = layers.iter().map(|l| l.info.diff_id).collect();
        let id = chain_of(&ids);
        let path = self.cache.chain_path(&id);
        if self.cache.has(&path)
            && let Ok(index) = Index::open(&path)
        {
            return Ok(index);
        }
        let indexes: Vec<PathBuf> = layers.iter().map(|l| l.index.clone()).collect();
        stage_chain(&self.store.tmp_dir(), id, &indexes)
            .and_then(|staged| staged.publish_at(&path))
            .context(|| self.name.escape_debug().to_string())?;
        let index = Index::open(&path)?;
        self.cache.trim()?;
        Ok(index)
    }
}

/// Puts each layer together with the step of the history that made it.
fn facts(config: &ImageConfig, layers: Vec<(LayerInfo, PathBuf)>) -> Vec<LayerFacts> {
    let mut steps = config.history.iter().filter(|step| !step.empty_layer);
    (1..)
        .zip(layers)
        .map(|(number, (info, index))| LayerFacts {
            number,
            info,
            history: steps.next().cloned(),
            index,
        })
        .collect()
}
