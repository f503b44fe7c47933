//! `save`: images of the store into an archive or a layout directory.
//!
//! The default is one archive that is both: an OCI layout, and a `manifest.json` and
//! `repositories` that point into its `blobs/sha256/`, as Docker writes since version 25. Older
//! Dockers, podman, skopeo and containerd load it. Blobs go out as they came in, so that digests
//! stay; only zstd layers are rewritten as gzip for it, since Docker before 23 can't read them.
//! The same images give the same bytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use super::outline::{Outline, outline};
use super::part::Part;
use super::pipe::{Fan, Pool};
use super::progress::Progress;
use crate::content::compress::Setting;
use crate::error::{Context, Failure};
use crate::image::{Compression, Digest, Platform};
use crate::stat::Timespec;
use crate::store::Store;
use crate::tar::writer::TarWriter;
use crate::tar::{Member, MemberKind};

/// What `save` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SaveFormat {
    /// A tar that Docker, podman, skopeo and containerd load; an OCI layout as well.
    #[default]
    DockerArchive,
    /// A tar of an OCI image layout.
    OciArchive,
    /// An OCI image layout as a directory.
    OciDir,
}

/// How to save.
///
/// ```
/// use stratafs::archive::{SaveFormat, SaveOptions};
/// use stratafs::image::Compression;
///
/// let options = SaveOptions {
///     format: SaveFormat::OciArchive,
///     compression: Some(Compression::Zstd.into()),
///     ..SaveOptions::default()
/// };
/// assert!(options.check().is_ok());
/// let docker = SaveOptions { format: SaveFormat::DockerArchive, ..options };
/// assert!(docker.check().is_err());
/// ```
#[derive(Debug, Clone, Default)]
pub struct SaveOptions {
    /// What to write.
    pub format: SaveFormat,
    /// How layers are compressed; as they are in the store without.
    pub compression: Option<Setting>,
    /// Which of the images that are there for several platforms; this machine's by default.
    pub platform: Option<Platform>,
    /// An image whose layers are left out: whoever loads the archive has them.
    pub since: Option<String>,
}

impl SaveOptions {
    /// Whether all of them go together.
    ///
    /// # Errors
    /// `Usage`
    pub fn check(&self) -> Result<(), Failure> {
        if self.format != SaveFormat::DockerArchive {
            return Ok(());
        }
        let zstd = |s: Setting| s.compression() == Compression::Zstd;
        if self.compression.is_some_and(zstd) {
            return Err(Failure::usage(
                "a docker-archive has no zstd: use another compression, or --format oci-archive",
            ));
        }
        match self.since {
            Some(_) => Err(Failure::usage(
                "docker load wants every layer: use --since with --format oci-archive or oci-dir",
            )),
            None => Ok(()),
        }
    }
}

impl From<SaveFormat> for SaveOptions {
    fn from(format: SaveFormat) -> Self {
        Self {
            format,
            ..Self::default()
        }
    }
}

/// What there is to say of a save that went well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Saved {
    /// Layers that were rewritten as gzip: the digest in the store, the digest in the archive.
    pub rewritten: Vec<(Digest, Digest)>,
    /// Layers that were left out.
    pub left_out: Vec<Digest>,
}

/// A blob on its way out.
#[derive(Debug, Clone)]
pub enum Blob {
    /// Bytes made here.
    Bytes(Arc<[u8]>),
    /// A file's bytes.
    Part(Part),
}

impl Blob {
    /// Its length in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self {
            Blob::Bytes(bytes) => bytes.len() as u64,
            Blob::Part(part) => part.size(),
        }
    }
}

/// Writes an archive of `images` (names, ids, unique prefixes of ids) to `out`.
///
/// # Errors
/// [`Failure`] of kind `NotFound` when there is no such image, `Invalid` when a blob in the store
/// is not what its digest says, `System` when reading or writing fails.
pub fn save(
    store: &Store,
    images: &[String],
    options: &SaveOptions,
    out: &mut dyn Write,
    progress: &dyn Progress,
) -> Result<Saved, Failure> {
    let outline = outline(store, images, options)?;
    progress.begin("Saving", Some(outline.size()));
    let written = write_tar(&outline, out, progress);
    progress.end();
    written?;
    Ok(outline.saved)
}

/// Writes an archive to the file at `path`, which is complete or not there.
///
/// # Errors
/// As [`save`].
pub fn save_file(
    store: &Store,
    images: &[String],
    options: &SaveOptions,
    path: &Path,
    progress: &dyn Progress,
) -> Result<Saved, Failure> {
    write_file(path, |out| save(store, images, options, out, progress))
}

/// Writes a file, which is complete or not there; a device or a pipe is written to, not replaced.
///
/// # Errors
/// What `write` reports; `Usage` for a directory; `System`.
pub fn write_file<T>(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let shown = || format!("write {}", path.display());
    if path
        .metadata()
        .is_ok_and(|meta| !meta.is_file() && !meta.is_dir())
    {
        let mut file = File::options().write(true).open(path).context(shown)?;
        return write(&mut file);
    }
    if path.is_dir() {
        return Err(Failure::usage(format!("{} is a directory", path.display())));
    }
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let file = tempfile::Builder::new()
        .prefix(".save-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .tempfile_in(dir)
        .context(shown)?;
    let mut out = std::io::BufWriter::with_capacity(256 * 1024, file);
    let done = write(&mut out)?;
    let file = out.into_inner().map_err(|e| Failure::from(e.into_error()));
    file.context(shown)?
        .persist(path)
        .map_err(|error| Failure::from(error.error))
        .context(shown)?;
    Ok(done)
}

/// Writes an OCI layout of `images` into the directory `dir`, which is made, or is empty.
///
/// # Errors
/// As [`save`]; of kind `Conflict` when there is something in `dir`.
pub fn save_dir(
    store: &Store,
    images: &[String],
    options: &SaveOptions,
    dir: &Path,
    progress: &dyn Progress,
) -> Result<Saved, Failure> {
    let options = SaveOptions {
        format: SaveFormat::OciDir,
        ..options.clone()
    };
    let outline = outline(store, images, &options)?;
    let shown = || format!("write {}", dir.display());
    let made = !dir.exists();
    std::fs::create_dir_all(dir).context(shown)?;
    if std::fs::read_dir(dir).context(shown)?.next().is_some() {
        return Err(Failure::conflict(format!("{} is not empty", dir.display())));
    }
    progress.begin("Saving", Some(outline.size()));
    let written = write_dir(&outline, dir, progress);
    progress.end();
    if let Err(failure) = written {
        // Nothing half-written stays. That this fails as well would be no better reason.
        let kept = if made {
            std::fs::remove_dir_all(dir)
        } else {
            clear(dir)
        };
        if let Err(error) = kept {
            log::warn!("remove what was written to {}: {error}", dir.display());
        }
        return Err(failure.context(shown()));
    }
    Ok(outline.saved)
}

fn clear(dir: &Path) -> std::io::Result<()> {
    for name in ["index.json", "oci-layout"] {
        match std::fs::remove_file(dir.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    match std::fs::remove_dir_all(dir.join("blobs")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn write_dir(outline: &Outline, dir: &Path, progress: &dyn Progress) -> Result<(), Failure> {
    std::fs::create_dir_all(dir.join("blobs/sha256"))?;
    for (digest, blob) in &outline.blobs {
        let path = dir.join(super::oci::path_of(digest));
        let mut file = File::create_new(&path)?;
        send(digest, blob, progress, |data| {
            std::io::copy(data, &mut file)?;
            Ok(())
        })?;
    }
    for (name, bytes) in &outline.documents {
        std::fs::write(dir.join(name), bytes)?;
    }
    Ok(())
}

fn write_tar(
    outline: &Outline,
    out: &mut dyn Write,
    progress: &dyn Progress,
) -> Result<(), Failure> {
    let mut tar = TarWriter::new(out);
    for dir in ["blobs", "blobs/sha256"] {
        tar.append(
            &member(dir, MemberKind::Directory, 0),
            &mut std::io::empty(),
        )?;
    }
    for (digest, blob) in &outline.blobs {
        let member = member(
            &super::oci::path_of(digest),
            MemberKind::Regular,
            blob.size(),
        );
        send(digest, blob, progress, |data| {
            tar.append(&member, data).map(drop)
        })?;
    }
    for (name, bytes) in &outline.documents {
        let member = member(name, MemberKind::Regular, bytes.len() as u64);
        tar.append(&member, &mut bytes.as_slice())?;
    }
    tar.finish()?;
    Ok(())
}

/// A member of the archive: everything that could differ from run to run is constant.
fn member(path: &str, kind: MemberKind, size: u64) -> Member {
    Member {
        path: path.as_bytes().to_vec(),
        perm: if kind == MemberKind::Directory {
            0o755
        } else {
            0o644
        },
        kind,
        uid: 0,
        gid: 0,
        mtime: Timespec::default(),
        atime: None,
        ctime: None,
        size,
        data_offset: 0,
        stored_size: size,
        sparse: None,
        xattrs: Vec::new(),
    }
}

/// Gives a blob's bytes to `sink` while another thread reads and verifies them.
fn send(
    digest: &Digest,
    blob: &Blob,
    progress: &dyn Progress,
    sink: impl FnOnce(&mut dyn Read) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let part = match blob {
        Blob::Bytes(bytes) => return sink(&mut &bytes[..]),
        Blob::Part(part) => part,
    };
    let mut fan = Fan::default();
    let mut intake = fan.stage();
    let read = move || -> Result<Digest, Failure> {
        use sha2::Digest as _;
        let pool = Pool::default();
        let mut reader = part.reader();
        let mut hash = sha2::Sha256::new();
        while let Some(buffer) = pool.fill(&mut reader)? {
            if !fan.send(&buffer) {
                break;
            }
            hash.update(buffer.bytes());
            progress.advance(buffer.bytes().len() as u64);
        }
        Ok(Digest::from_bytes(hash.finalize().into()))
    };
    let (found, sunk) = std::thread::scope(|scope| {
        let reading = scope.spawn(read);
        let sunk = sink(&mut intake);
        drop(intake);
        let found = reading
            .join()
            .unwrap_or_else(|_| Err(Failure::system("a thread of the save panicked")));
        (found, sunk)
    });
    let found = found.context(|| format!("blob {digest}"))?;
    sunk?;
    if found != *digest {
        return Err(Failure::invalid(format!(
            "blob {digest}: its contents in the store have the digest {found}: it is damaged"
        )));
    }
    Ok(())
}

/// The named JSON documents of an archive, and its blobs, by name.
pub(super) type Documents = BTreeMap<&'static str, Vec<u8>>;
