//! Waste: bytes that an image carries and that nobody would miss.
//!
//! A *unit* is the data of one regular file in one layer's tar: hard links share it, and holes are
//! no part of it. An image's bytes are those of its layers' units (a layer that is in the stack
//! twice is stored once). A unit is wasted, whole and once, for the first of these reasons:
//!
//! 1. it shows nowhere in the image: a layer above it replaced it, replaced it by the same contents
//!    (only its attributes changed), or removed it;
//! 2. it shows, and a unit before it (in the order of layers and of their tars) shows the same
//!    contents: one of the two could be a link.
//!
//! What a layer's tar holds under a name that the same tar names again shows in no index. Those
//! bytes are known from the layer's record alone and count as *shadowed*.

pub mod ci;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};

use super::fate::{Fate, at as find, fate};
use super::image::Image;
use super::target::Span;
use super::tree::Tree;
use crate::error::{Failure, Result};
use crate::image::DiffId;
use crate::index::Index;
use crate::index::format::{Inode, Payload};
use crate::index::reader::InodeNo;
use crate::stat::FileType;

/// Why bytes are wasted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// A layer above has other contents at the same place.
    Overwritten,
    /// A layer above has the same contents at the same place: only attributes changed.
    Metadata,
    /// A layer above removed it.
    Removed,
    /// The same contents are stored, and show, elsewhere.
    Duplicate,
    /// The same layer's tar names it again.
    Shadowed,
}

impl Cause {
    /// All of them, in the order in which they are reported.
    pub const ALL: [Cause; 5] = [
        Cause::Overwritten,
        Cause::Metadata,
        Cause::Removed,
        Cause::Duplicate,
        Cause::Shadowed,
    ];

    /// One word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Cause::Overwritten => "overwritten",
            Cause::Metadata => "metadata",
            Cause::Removed => "removed",
            Cause::Duplicate => "duplicate",
            Cause::Shadowed => "shadowed",
        }
    }
}

/// What one layer stores and wastes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerWaste {
    /// The layer.
    pub diff_id: DiffId,
    /// Bytes of its files; 0 for one that is in the stack a second time.
    pub stored_bytes: u64,
    /// Those of them that are wasted.
    pub wasted_bytes: u64,
}

/// What is wasted at one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WastedPath {
    /// The path, from the root, without a slash before it.
    pub path: Vec<u8>,
    /// Wasted bytes.
    pub wasted_bytes: u64,
    /// Wasted bytes by cause.
    pub causes: BTreeMap<Cause, u64>,
    /// How many units are wasted there.
    pub units: u64,
    /// The layers that store them, from 0, the bottom one.
    pub layers: Vec<usize>,
}

/// What an image stores and wastes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Waste {
    /// Bytes of files in all layers.
    pub stored_bytes: u64,
    /// Those of them that are wasted.
    pub wasted_bytes: u64,
    /// Wasted bytes by cause.
    pub causes: BTreeMap<Cause, u64>,
    /// The layers, bottom first.
    pub layers: Vec<LayerWaste>,
    /// Where, the worst first, then by path.
    pub paths: Vec<WastedPath>,
}

impl Waste {
    /// The share of the bytes that are not wasted, from 0 to 1; 1 for an image without any.
    #[must_use]
    pub fn efficiency(&self) -> f64 {
        match self.stored_bytes {
            0 => 1.0,
            all => 1.0 - self.wasted_bytes as f64 / all as f64,
        }
    }

    /// Bytes in the layers above the bottom one.
    #[must_use]
    pub fn user_bytes(&self) -> u64 {
        self.layers.iter().skip(1).map(|l| l.stored_bytes).sum()
    }

    /// The wasted bytes as a share of those above the bottom layer (dive's `userWastedPercent`); 0
    /// for an image of one layer.
    #[must_use]
    pub fn user_wasted_ratio(&self) -> f64 {
        match self.user_bytes() {
            0 => 0.0,
            user => self.wasted_bytes as f64 / user as f64,
        }
    }
}

/// A unit: where it is and what is in it.
struct Unit {
    layer: usize,
    number: InodeNo,
    ordinal: u32,
    bytes: u64,
    key: Option<[u8; 32]>,
    visible: bool,
}

/// What a stack of layers wastes. `layers` are their indexes, bottom first, `chain` is the index of
/// the stack; `content` gives the bytes of all regular files in a layer's tar, where that is known.
///
/// # Errors
/// `Invalid` when the stack is another one's; `System` when an index is damaged.
pub fn waste(
    layers: &[&Index],
    chain: &Index,
    content: impl Fn(&DiffId) -> Option<u64>,
) -> Result<Waste, Failure> {
    let mut ids = Vec::new();
    for layer in layers {
        ids.push(layer.layer(0)?.id());
    }
    if chain
        .layers()?
        .iter()
        .map(|row| row.id())
        .ne(ids.iter().copied())
    {
        return Err(Failure::invalid(
            "the index of the stack is another stack's",
        ));
    }
    let shown = shown(chain)?;
    let mut result = Waste::default();
    let mut units = Vec::new();
    for (at, (layer, id)) in layers.iter().zip(&ids).enumerate() {
        let first = ids.iter().position(|other| other == id) == Some(at);
        let mut found = LayerWaste {
            diff_id: *id,
            stored_bytes: 0,
            wasted_bytes: 0,
        };
        if first {
            let places: Vec<usize> = places(&ids, id);
            let logical = collect(layer, at, &places, &shown, &mut units)?;
            let stored: u64 = units
                .iter()
                .filter(|u| u.layer == at)
                .map(|u| u.bytes)
                .sum();
            let shadowed = content(id).map_or(0, |all| all.saturating_sub(logical));
            found.stored_bytes = stored + shadowed;
            result.add(Cause::Shadowed, shadowed);
            found.wasted_bytes = shadowed;
        }
        result.stored_bytes += found.stored_bytes;
        result.layers.push(found);
    }
    let mut paths = Paths::default();
    judge(layers, &ids, &units, &mut result, &mut paths)?;
    result.paths = paths.sorted();
    Ok(result)
}

/// What an image wastes (of a container: its image).
///
/// # Errors
/// As [`waste`].
pub fn of_image(image: &Image) -> Result<Waste, Failure> {
    let mut trees = Vec::new();
    for layer in &image.layers {
        trees.push(image.tree_of(Span::Layer(layer.number))?);
    }
    let chain = image.tree_of(Span::UpTo(image.layers.len()))?;
    let layers: Vec<&Index> = trees.iter().filter_map(Tree::index).collect();
    let chain = chain
        .index()
        .ok_or_else(|| Failure::system("a stack without an index"))?;
    let content = |id: &DiffId| {
        let layer = image.layers.iter().find(|l| l.info.diff_id == *id)?;
        Some(layer.info.content_size)
    };
    waste(&layers, chain, content)
}

/// The places at which a layer is in the stack.
fn places(ids: &[DiffId], id: &DiffId) -> Vec<usize> {
    let same = ids.iter().enumerate().filter(|(_, other)| *other == id);
    same.map(|(at, _)| at).collect()
}

/// Layer and ordinal of every object that the stack shows.
fn shown(chain: &Index) -> Result<HashSet<(usize, u32)>, Failure> {
    let mut shown = HashSet::new();
    for number in (0..chain.inode_count()).map(InodeNo) {
        let inode = chain.inode(number)?;
        if inode.kind == Some(FileType::Regular) {
            shown.insert((inode.layer as usize, inode.ordinal));
        }
    }
    Ok(shown)
}

/// Adds a layer's units; the length of its files, holes included.
fn collect(
    layer: &Index,
    at: usize,
    places: &[usize],
    shown: &HashSet<(usize, u32)>,
    units: &mut Vec<Unit>,
) -> Result<u64, Failure> {
    let mut logical: u64 = 0;
    for number in (0..layer.inode_count()).map(InodeNo) {
        let inode = layer.inode(number)?;
        if inode.kind != Some(FileType::Regular) {
            continue;
        }
        logical = logical.saturating_add(inode.size);
        let bytes = stored_bytes(layer, &inode)?;
        if bytes > 0 {
            units.push(Unit {
                layer: at,
                number,
                ordinal: inode.ordinal,
                bytes,
                key: inode.key,
                visible: places.iter().any(|p| shown.contains(&(*p, inode.ordinal))),
            });
        }
    }
    Ok(logical)
}

/// Bytes of a regular file that are in the tar: what is not a hole.
pub(super) fn stored_bytes(index: &Index, inode: &Inode) -> Result<u64> {
    Ok(match inode.payload {
        Payload::Stored { len, .. } => len,
        Payload::Sparse { .. } => index.sparse_map(inode)?.map_or(0, |map| map.stored),
        _ => 0,
    })
}

/// Finds the wasted ones.
fn judge(
    layers: &[&Index],
    ids: &[DiffId],
    units: &[Unit],
    result: &mut Waste,
    paths: &mut Paths,
) -> Result<(), Failure> {
    let mut kept: HashMap<[u8; 32], (usize, u32)> = HashMap::new();
    for unit in units {
        let Some(layer) = layers.get(unit.layer) else {
            continue;
        };
        let cause = if unit.visible {
            let own = (unit.layer, unit.ordinal);
            match unit.key.map(|key| *kept.entry(key).or_insert(own)) {
                Some(first) if first != own => Cause::Duplicate,
                _ => continue,
            }
        } else {
            let id = ids.get(unit.layer);
            let top = id.and_then(|id| ids.iter().rposition(|other| other == id));
            cause_of(layers, top.unwrap_or(unit.layer), layer, unit)?
        };
        result.add(cause, unit.bytes);
        if let Some(row) = result.layers.get_mut(unit.layer) {
            row.wasted_bytes += unit.bytes;
        }
        paths.add(path_of(layer, unit.number)?, unit, cause);
    }
    Ok(())
}

/// Why a unit that doesn't show doesn't, by its first name. `at` is the layer's highest place.
fn cause_of(layers: &[&Index], at: usize, layer: &Index, unit: &Unit) -> Result<Cause, Failure> {
    let path = layer.path_of(unit.number)?;
    let path: Vec<&[u8]> = path.iter().map(|name| name.as_bytes()).collect();
    let Fate::Replaced { by } = fate(layers, at, &path)? else {
        return Ok(Cause::Removed);
    };
    let above = layers.get(by).map(|above| find(above, &path)).transpose()?;
    Ok(match above.flatten() {
        Some((_, inode)) if unit.key.is_some() && inode.key == unit.key => Cause::Metadata,
        _ => Cause::Overwritten,
    })
}

fn path_of(layer: &Index, number: InodeNo) -> Result<Vec<u8>> {
    let path = layer.path_of(number)?;
    let names: Vec<&[u8]> = path.iter().map(|name| name.as_bytes()).collect();
    Ok(names.join(&b'/'))
}

impl Waste {
    fn add(&mut self, cause: Cause, bytes: u64) {
        if bytes > 0 {
            self.wasted_bytes += bytes;
            *self.causes.entry(cause).or_default() += bytes;
        }
    }
}

/// Wasted paths in the making.
#[derive(Default)]
struct Paths(BTreeMap<Vec<u8>, WastedPath>);

impl Paths {
    fn add(&mut self, path: Vec<u8>, unit: &Unit, cause: Cause) {
        let row = self.0.entry(path.clone()).or_insert_with(|| WastedPath {
            path,
            wasted_bytes: 0,
            causes: BTreeMap::new(),
            units: 0,
            layers: Vec::new(),
        });
        row.wasted_bytes += unit.bytes;
        *row.causes.entry(cause).or_default() += unit.bytes;
        row.units += 1;
        if row.layers.last() != Some(&unit.layer) {
            row.layers.push(unit.layer);
        }
    }

    fn sorted(self) -> Vec<WastedPath> {
        let mut rows: Vec<_> = self.0.into_values().collect();
        // Stable: equal ones stay in the order of their paths.
        rows.sort_by_key(|row| std::cmp::Reverse(row.wasted_bytes));
        rows
    }
}
