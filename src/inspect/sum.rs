//! sha256 of files.

use std::collections::{HashMap, HashSet};
use std::io::Read;

use sha2::{Digest as _, Sha256};

use super::data::ContentReader;
use super::tree::{Object, Tree};
use super::walk::{Descend, Visit};
use crate::archive::Progress;
use crate::error::{Context, Failure};
use crate::image::Digest;

/// A file and the sha256 of its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summed {
    /// Its path.
    pub path: Vec<u8>,
    /// Its length in bytes.
    pub size: u64,
    /// The sha256.
    pub digest: Digest,
}

/// The sha256 of every regular file at and below an object, in the order of a walk. Files are read
/// in the order in which the layers have them, each once however many names it has.
///
/// # Errors
/// [`Failure`] of kind `System`, naming the file, when a layer can't be read.
pub fn sums(
    tree: &Tree,
    path: &[u8],
    start: Object,
    progress: &dyn Progress,
) -> Result<Vec<Summed>, Failure> {
    let mut files: Vec<(Vec<u8>, Object)> = Vec::new();
    let mut collect = |visit: &Visit<'_>| {
        let object = visit.entry.object().filter(Object::is_file);
        files.extend(object.map(|object| (visit.path.to_vec(), object)));
        Ok(Descend::Into)
    };
    tree.walk(path, start, &mut collect)?;
    let mut order = Vec::with_capacity(files.len());
    for (place, (_, object)) in files.iter().enumerate() {
        order.push((tree.origin(object)?, place));
    }
    order.sort_unstable();
    let mut once = HashSet::new();
    let several: Vec<&(Vec<u8>, Object)> = order
        .into_iter()
        .filter_map(|(_, place)| files.get(place))
        .filter(|(_, object)| once.insert(object.id()))
        .collect();
    let total = several.iter().map(|(_, object)| object.stat.size);
    progress.begin("Hashing", Some(total.fold(0, u64::saturating_add)));
    let known = sum_all(tree, &several, progress);
    progress.end();
    let known = known?;
    let summed = files.into_iter().filter_map(|(path, object)| {
        known.get(&object.id()).map(|digest| Summed {
            path,
            size: object.stat.size,
            digest: *digest,
        })
    });
    Ok(summed.collect())
}

/// The sha256 of each of these files.
fn sum_all(
    tree: &Tree,
    files: &[&(Vec<u8>, Object)],
    progress: &dyn Progress,
) -> Result<HashMap<u64, Digest>, Failure> {
    let mut known = HashMap::new();
    let mut buffer = vec![0; 256 << 10];
    for (path, object) in files {
        let digest = sum(tree, object, &mut buffer, progress);
        let digest = digest.context(|| path.escape_ascii().to_string())?;
        known.insert(object.id(), digest);
    }
    Ok(known)
}

fn sum(
    tree: &Tree,
    object: &Object,
    buffer: &mut [u8],
    progress: &dyn Progress,
) -> Result<Digest, Failure> {
    let mut hash = Sha256::new();
    // Nothing is opened for nothing.
    if object.stat.size > 0 {
        let mut reader = ContentReader::new(tree.open(object)?);
        loop {
            let n = reader.read(buffer)?;
            if n == 0 {
                break;
            }
            hash.update(buffer.get(..n).unwrap_or_default());
            progress.advance(n as u64);
        }
    }
    Ok(Digest::from_bytes(hash.finalize().into()))
}
