//! Where images come from: the names of transports as skopeo writes them
//! (containers-transports(5)), files, directories and standard input.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::expansion::{Counting, Guarded, Limits};
use super::members::Members;
use super::part::Bundle;
use super::pipe::BUFFER;
use super::progress::Progress;
use crate::content::stream::{decoder, sniff};
use crate::error::{Context, Failure};
use crate::image::Compression;

/// An image, or several, outside the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Standard input: any kind of archive.
    Stdin,
    /// A file or directory of any kind that can be loaded.
    Path(PathBuf),
    /// An OCI image layout: `oci:DIR[:TAG]`.
    OciDir {
        /// The directory.
        dir: PathBuf,
        /// Which of its images; all without.
        reference: Option<String>,
    },
    /// A tar of an OCI image layout: `oci-archive:FILE[:TAG]`.
    OciArchive {
        /// The file.
        file: PathBuf,
        /// Which of its images; all without.
        reference: Option<String>,
    },
    /// What `docker save` writes: `docker-archive:FILE[:REF]`.
    DockerArchive {
        /// The file.
        file: PathBuf,
        /// Which of its images; all without.
        reference: Option<String>,
    },
}

impl Source {
    /// Parses a transport's name; `None` when `text` does not begin with one (it is then an
    /// image's name).
    ///
    /// # Errors
    /// [`Failure`] of kind `Usage` when the path is missing, or the transport is one that strata
    /// doesn't have.
    pub fn parse(text: &str) -> Result<Option<Self>, Failure> {
        let Some((transport, rest)) = text.split_once(':') else {
            return Ok(None);
        };
        let split = || {
            let (path, reference) = match rest.split_once(':') {
                Some((path, reference)) => (path, Some(reference)),
                None => (rest, None),
            };
            if path.is_empty() {
                return Err(Failure::usage(format!(
                    "{}: want {transport}:PATH or {transport}:PATH:NAME",
                    text.escape_debug()
                )));
            }
            let reference = reference.filter(|r| !r.is_empty()).map(str::to_owned);
            Ok((PathBuf::from(path), reference))
        };
        Ok(Some(match transport {
            "oci" => {
                let (dir, reference) = split()?;
                Source::OciDir { dir, reference }
            }
            "oci-archive" => {
                let (file, reference) = split()?;
                Source::OciArchive { file, reference }
            }
            "docker-archive" => {
                let (file, reference) = split()?;
                Source::DockerArchive { file, reference }
            }
            "docker" if rest.starts_with("//") => return Err(unsupported(transport)),
            "containers-storage" | "docker-daemon" | "dir" | "ostree" | "tarball" | "sif" => {
                return Err(unsupported(transport));
            }
            _ => return Ok(None),
        }))
    }

    /// Which image is asked for, where the name says it.
    #[must_use]
    pub fn reference(&self) -> Option<&str> {
        match self {
            Source::Stdin | Source::Path(_) => None,
            Source::OciDir { reference, .. }
            | Source::OciArchive { reference, .. }
            | Source::DockerArchive { reference, .. } => reference.as_deref(),
        }
    }

    /// The file or directory; `None` for standard input.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Source::Stdin => None,
            Source::Path(path) => Some(path),
            Source::OciDir { dir, .. } => Some(dir),
            Source::OciArchive { file, .. } | Source::DockerArchive { file, .. } => Some(file),
        }
    }

    /// Its name in messages.
    #[must_use]
    pub fn shown(&self) -> String {
        match self.path() {
            Some(path) => path.display().to_string(),
            None => "standard input".to_owned(),
        }
    }

    /// Opens it: a directory or an uncompressed regular file as it stands; a compressed one, or
    /// one that can't be read at random, by way of an unnamed file in `tmp`.
    ///
    /// # Errors
    /// [`Failure`] of kind `NotFound`, `Invalid` or `System` that says what is wrong; the caller
    /// puts the source's name before it.
    pub fn open(
        &self,
        tmp: &Path,
        limits: Limits,
        progress: &dyn Progress,
    ) -> Result<Bundle, Failure> {
        let Some(path) = self.path() else {
            return spool(Box::new(io::stdin()), tmp, limits, progress);
        };
        let meta = match path.metadata() {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Failure::not_found("no such file or directory"));
            }
            Err(error) => return Err(error.into()),
        };
        match (self, meta.is_dir()) {
            (Source::Path(_) | Source::OciDir { .. }, true) => {
                return Ok(Bundle::Dir(path.to_owned()));
            }
            (_, true) => return Err(Failure::invalid("a directory, not an archive")),
            (Source::OciDir { .. }, false) => {
                return Err(Failure::invalid(
                    "not a directory; an archive is oci-archive:FILE",
                ));
            }
            _ => {}
        }
        let mut file = File::open(path)?;
        if !meta.is_file() {
            return spool(Box::new(file), tmp, limits, progress);
        }
        let mut start = Vec::new();
        Read::by_ref(&mut file).take(512).read_to_end(&mut start)?;
        if start.is_empty() {
            return Err(Failure::invalid("the file is empty"));
        }
        if sniff(&start) == Compression::None {
            refuse_foreign(&start)?;
            return Ok(Bundle::Tar(Members::scan(Arc::new(file))?));
        }
        file.seek(SeekFrom::Start(0))?;
        spool(Box::new(file), tmp, limits, progress)
    }
}

fn unsupported(transport: &str) -> Failure {
    Failure::usage(format!(
        "transport {transport}: is not supported: use oci:DIR, oci-archive:FILE or \
         docker-archive:FILE (skopeo copy makes any of them)"
    ))
}

/// Refuses a compression that strata can't read, by its name.
pub(super) fn refuse_foreign(start: &[u8]) -> Result<(), Failure> {
    let known: [(&[u8], &str); 4] = [
        (b"\xfd7zXZ\0", "xz"),
        (b"BZh", "bzip2"),
        (b"\x04\x22\x4d\x18", "lz4"),
        (b"PK\x03\x04", "zip"),
    ];
    match known.iter().find(|(magic, _)| start.starts_with(magic)) {
        Some((_, name)) => Err(Failure::invalid(format!(
            "compressed with {name}, which can't be read here: decompress it first"
        ))),
        None => Ok(()),
    }
}

/// Copies a stream, decompressed, into an unnamed file in `tmp`.
fn spool(
    reader: Box<dyn Read + Send>,
    tmp: &Path,
    limits: Limits,
    progress: &dyn Progress,
) -> Result<Bundle, Failure> {
    let input = Arc::new(AtomicU64::new(0));
    let counted = Counting::new(reader, Arc::clone(&input));
    let (compression, decoded) = decoder(Box::new(counted))?;
    let mut reader: Box<dyn Read> = match compression {
        Compression::None => decoded,
        _ => Box::new(Guarded::new(decoded, input, limits)),
    };
    progress.begin("Reading the archive", None);
    let copied = copy_to_unnamed(&mut *reader, tmp, progress);
    progress.end();
    let file = copied?;
    Ok(Bundle::Tar(Members::scan(Arc::new(file))?))
}

fn copy_to_unnamed(
    reader: &mut dyn Read,
    tmp: &Path,
    progress: &dyn Progress,
) -> Result<File, Failure> {
    let mut file =
        tempfile::tempfile_in(tmp).context(|| format!("make a file in {}", tmp.display()))?;
    let mut buffer = vec![0; BUFFER];
    let mut first = true;
    loop {
        let n = match reader.read(&mut buffer) {
            Ok(0) => return Ok(file),
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        let bytes = buffer.get(..n).unwrap_or_default();
        if std::mem::take(&mut first) {
            refuse_foreign(bytes)?;
        }
        file.write_all(bytes)
            .context(|| format!("write to {}", tmp.display()))?;
        progress.advance(n as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transports_are_told_from_names() {
        let parse = |text| Source::parse(text).unwrap();
        assert_eq!(parse("nginx"), None);
        assert_eq!(parse("nginx:latest"), None);
        assert_eq!(parse("host:5000/x"), None);
        assert_eq!(
            parse("oci:/a/b:v1"),
            Some(Source::OciDir {
                dir: "/a/b".into(),
                reference: Some("v1".into())
            })
        );
        assert_eq!(
            parse("docker-archive:f.tar:localhost/x:1"),
            Some(Source::DockerArchive {
                file: "f.tar".into(),
                reference: Some("localhost/x:1".into())
            })
        );
        assert_eq!(
            parse("oci-archive:f.tar"),
            Some(Source::OciArchive {
                file: "f.tar".into(),
                reference: None
            })
        );
        for bad in ["oci:", "oci::v1", "docker://busybox", "dir:/x"] {
            assert!(Source::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn foreign_compressions_are_named() {
        let error = refuse_foreign(b"\xfd7zXZ\0rest").unwrap_err().to_string();
        assert!(error.contains("xz"), "{error}");
        assert!(refuse_foreign(b"plain").is_ok());
    }
}
