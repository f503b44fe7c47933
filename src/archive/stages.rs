//! The threads of [`super::ingest`], what each of them finds, and which finding counts.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{Scope, ScopedJoinHandle};

use sha2::{Digest as _, Sha256};

use super::expansion::{Counting, Guarded, Limits};
use super::ingest::LayerSpec;
use super::pipe::{Buffer, Fan, Intake, Pool};
use super::progress::Progress;
use super::staged::Staged;
use crate::content::stream::decoder;
use crate::error::{Context, Failure};
use crate::image::{Compression, Digest};
use crate::index::build::LayerBuilder;
use crate::tar::reader::TarReader;
use crate::tar::{Member, MemberKind};

/// What is to be made of a layer.
pub struct Plan<'a> {
    /// How the blob is compressed.
    pub compression: Compression,
    /// Where the blob goes, where it is kept.
    pub blob: Option<&'a Staged>,
    /// Where the uncompressed tar goes, where it is kept.
    pub tar: Option<&'a Staged>,
    /// Whether an index is made.
    pub tree: bool,
    /// How far it may expand.
    pub limits: Limits,
}

/// Set by a stage when going on is no use (a disk is full).
#[derive(Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A thread that ends with a value or a reason.
type Stage<'scope, T> = ScopedJoinHandle<'scope, Result<T, Failure>>;
/// A digest, and of how many bytes.
type Hashed = (Digest, u64);

/// An index in the making.
#[derive(Default)]
pub struct Tree {
    /// What makes it.
    pub builder: LayerBuilder,
    /// Bytes in regular files so far.
    pub content_size: u64,
}

/// The running threads.
pub struct Stages<'scope> {
    blob_hash: Stage<'scope, Hashed>,
    blob_write: Option<Stage<'scope, ()>>,
    decode: Option<Stage<'scope, ()>>,
    tar_hash: Option<Stage<'scope, Hashed>>,
    tar_write: Option<Stage<'scope, ()>>,
    tree: Option<Stage<'scope, Tree>>,
}

impl<'scope> Stages<'scope> {
    /// Starts the threads of `plan`, which take what comes through `fan`.
    pub fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
        fan: &mut Fan,
        plan: &'env Plan<'env>,
        stop: &Stop,
    ) -> Self {
        let write = |fan: &mut Fan, staged: Option<&'env Staged>| {
            let staged = staged?;
            let (intake, stop) = (fan.stage(), stop.clone());
            Some(scope.spawn(move || write(intake, staged, &stop)))
        };
        let tree = |fan: &mut Fan| {
            let intake = plan.tree.then(|| fan.stage())?;
            Some(scope.spawn(move || build(intake)))
        };
        let blob = fan.stage();
        let mut stages = Self {
            blob_hash: scope.spawn(move || Ok(hash(blob))),
            blob_write: write(fan, plan.blob),
            decode: None,
            tar_hash: None,
            tar_write: None,
            tree: None,
        };
        if plan.compression == Compression::None {
            stages.tree = tree(fan);
            return stages;
        }
        let mut inner = Fan::default();
        let tar = inner.stage();
        stages.tar_hash = Some(scope.spawn(move || Ok(hash(tar))));
        stages.tar_write = write(&mut inner, plan.tar);
        stages.tree = tree(&mut inner);
        let (intake, limits, stop) = (fan.stage(), plan.limits, stop.clone());
        stages.decode = Some(scope.spawn(move || decode(intake, inner, limits, &stop)));
        stages
    }

    /// Waits for all of them.
    pub fn join(self, fed: Result<(), Failure>) -> Results {
        Results {
            fed,
            blob_hash: join(self.blob_hash),
            blob_write: self.blob_write.map(join).transpose().map(drop),
            decode: self.decode.map(join).transpose().map(drop),
            tar_hash: self.tar_hash.map(join).transpose(),
            tar_write: self.tar_write.map(join).transpose().map(drop),
            tree: self.tree.map(join).transpose(),
        }
    }
}

fn join<T>(stage: Stage<'_, T>) -> Result<T, Failure> {
    stage.join().unwrap_or_else(|_| {
        Err(Failure::system(
            "a thread of the load panicked: this is a bug",
        ))
    })
}

/// What the threads found.
pub struct Results {
    fed: Result<(), Failure>,
    blob_hash: Result<Hashed, Failure>,
    blob_write: Result<(), Failure>,
    decode: Result<(), Failure>,
    tar_hash: Result<Option<Hashed>, Failure>,
    tar_write: Result<(), Failure>,
    tree: Result<Option<Tree>, Failure>,
}

/// A layer that is what it should be.
pub struct Verified {
    /// The blob's digest and length.
    pub blob: Hashed,
    /// The uncompressed tar's digest and length.
    pub tar: Hashed,
    /// The index in the making, where one was wanted.
    pub tree: Option<Tree>,
}

impl Results {
    /// The first fault in the order of the bytes' way: what comes after it is its consequence (a
    /// blob with a flipped bit is not reported as a strange tar).
    ///
    /// # Errors
    /// [`Failure`], as [`super::ingest::stage_layer`].
    pub fn verdict(self, spec: &LayerSpec) -> Result<Verified, Failure> {
        self.fed?;
        self.blob_write?;
        let blob = self.blob_hash?;
        if let Some(size) = spec.size.filter(|size| *size != blob.1) {
            return Err(Failure::invalid(format!(
                "{} bytes long, its descriptor says {size}",
                blob.1
            )));
        }
        if let Some(digest) = spec.digest.filter(|digest| *digest != blob.0) {
            return Err(Failure::invalid(format!(
                "its contents have the digest {}, not {digest}",
                blob.0
            )));
        }
        self.decode?;
        self.tar_write?;
        let tar = self.tar_hash?.unwrap_or(blob);
        if let Some(diff_id) = spec.diff_id.filter(|diff_id| diff_id.0 != tar.0) {
            return Err(Failure::invalid(format!(
                "its uncompressed contents have the digest {}, the configuration says {diff_id}",
                tar.0
            )));
        }
        Ok(Verified {
            blob,
            tar,
            tree: self.tree?,
        })
    }
}

/// Reads to the end and hands on what was read.
///
/// # Errors
/// What the reader reports, and when there is more than `size` bytes.
pub fn feed(
    reader: &mut dyn Read,
    pool: &Pool,
    first: Option<Arc<Buffer>>,
    mut fan: Fan,
    size: Option<u64>,
    stop: &Stop,
    progress: &dyn Progress,
) -> Result<(), Failure> {
    let mut total: u64 = 0;
    let mut next = first;
    while let Some(buffer) = next {
        let len = buffer.bytes().len() as u64;
        total = total.saturating_add(len);
        if let Some(size) = size.filter(|size| total > *size) {
            return Err(Failure::invalid(format!(
                "longer than the {size} bytes that its descriptor says"
            )));
        }
        if !fan.send(&buffer) || stop.is_set() {
            break;
        }
        progress.advance(len);
        drop(buffer);
        next = pool.fill(reader)?;
    }
    Ok(())
}

fn hash(mut intake: Intake) -> Hashed {
    let mut hash = Sha256::new();
    let mut len = 0;
    while let Some(buffer) = intake.recv() {
        hash.update(buffer.bytes());
        len += buffer.bytes().len() as u64;
    }
    (Digest::from_bytes(hash.finalize().into()), len)
}

fn write(mut intake: Intake, staged: &Staged, stop: &Stop) -> Result<(), Failure> {
    let mut writer = staged.writer();
    while let Some(buffer) = intake.recv() {
        if let Err(error) = writer.write_all(buffer.bytes()) {
            stop.set();
            return Err(error).context(|| format!("write {}", staged.path().display()));
        }
    }
    if stop.is_set() {
        return Ok(());
    }
    writer.finish()
}

fn decode(intake: Intake, mut fan: Fan, limits: Limits, stop: &Stop) -> Result<(), Failure> {
    let input = Arc::new(AtomicU64::new(0));
    let counted = Counting::new(intake, Arc::clone(&input));
    let (_, decoded) = decoder(Box::new(counted))?;
    let mut guarded = Guarded::new(decoded, input, limits);
    let pool = Pool::default();
    while let Some(buffer) = pool.fill(&mut guarded)? {
        if !fan.send(&buffer) || stop.is_set() {
            break;
        }
    }
    Ok(())
}

/// Reads the members of the tar into an index. Once it fails, the other stages go on without it:
/// what they find may be the better reason.
fn build(intake: Intake) -> Result<Tree, Failure> {
    let mut reader = TarReader::new(intake);
    let mut tree = Tree::default();
    let mut buffer = vec![0; 64 << 10];
    while let Some(member) = reader.next_member()? {
        let key = match is_keyed(&member) {
            true => Some(
                content_key(&mut reader, &member, &mut buffer)
                    .context(|| format!("member \"{}\"", member.path.escape_ascii()))?,
            ),
            false => None,
        };
        if member.kind == MemberKind::Regular {
            tree.content_size = tree.content_size.saturating_add(member.size);
        }
        tree.builder.add(&member, key)?;
    }
    Ok(tree)
}

/// How many times the length of its data the holes of a file may have for it to get a key: what is
/// hashed follows what is stored.
const HOLLOWEST: u64 = 16;

fn is_keyed(member: &Member) -> bool {
    let hollow = member.size / HOLLOWEST > member.stored_size;
    member.kind == MemberKind::Regular && !(member.sparse.is_some() && hollow)
}

/// The blake3 of a file's bytes, holes read as zeros: the name of its contents.
fn content_key(
    reader: &mut TarReader<Intake>,
    member: &Member,
    buffer: &mut [u8],
) -> Result<[u8; 32], Failure> {
    let mut hash = blake3::Hasher::new();
    let mut at = 0;
    for run in member.sparse.iter().flatten() {
        let zeros = run.offset.saturating_sub(at);
        hash_all(&mut hash, &mut std::io::repeat(0).take(zeros), buffer)?;
        hash_all(&mut hash, &mut reader.data().take(run.len), buffer)?;
        at = run.offset.saturating_add(run.len);
    }
    match member.sparse {
        Some(_) => {
            let zeros = member.size.saturating_sub(at);
            hash_all(&mut hash, &mut std::io::repeat(0).take(zeros), buffer)?;
        }
        None => hash_all(&mut hash, reader.data(), buffer)?,
    }
    Ok(*hash.finalize().as_bytes())
}

fn hash_all(
    hash: &mut blake3::Hasher,
    data: &mut dyn Read,
    buffer: &mut [u8],
) -> Result<(), Failure> {
    loop {
        match data.read(buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => {
                hash.update(buffer.get(..n).unwrap_or_default());
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}
