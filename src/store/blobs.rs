//! Blobs: files named by the sha256 of what is in them.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;

use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use super::Store;
use crate::error::{Context, Failure};
use crate::image::Digest;

/// The longest JSON document (manifest, configuration) that is read, in bytes.
const MAX_DOCUMENT: u64 = 32 << 20;

/// Writes a blob. Nothing is visible before [`BlobWriter::finish`]; dropping it discards it.
pub struct BlobWriter {
    store: Store,
    file: NamedTempFile,
    hash: Sha256,
    len: u64,
    expected: Option<Digest>,
}

impl Store {
    /// Whether a blob is there.
    #[must_use]
    pub fn has(&self, digest: &Digest) -> bool {
        self.blob_path(digest).is_file()
    }

    /// Opens a blob.
    ///
    /// # Errors
    /// `NotFound` when it isn't there.
    pub fn open_blob(&self, digest: &Digest) -> Result<File, Failure> {
        match File::open(self.blob_path(digest)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(Failure::not_found(format!(
                "blob {digest} is not in the store"
            ))),
            other => other.context(|| format!("open blob {digest}")),
        }
    }

    /// A blob's length in bytes.
    ///
    /// # Errors
    /// As [`Store::open_blob`].
    pub fn blob_size(&self, digest: &Digest) -> Result<u64, Failure> {
        Ok(self.open_blob(digest)?.metadata()?.len())
    }

    /// The whole of a small blob, verified.
    ///
    /// # Errors
    /// As [`Store::open_blob`]; `Invalid` when it is over 32 MiB or isn't what its name says.
    pub fn read_blob(&self, digest: &Digest) -> Result<Vec<u8>, Failure> {
        use std::io::Read as _;
        let file = self.open_blob(digest)?;
        let mut bytes = Vec::new();
        file.take(MAX_DOCUMENT + 1)
            .read_to_end(&mut bytes)
            .context(|| format!("blob {digest}"))?;
        if bytes.len() as u64 > MAX_DOCUMENT {
            return Err(Failure::invalid(format!(
                "blob {digest} is too large for a document"
            )));
        }
        if Digest::of(&bytes) != *digest {
            return Err(Failure::invalid(format!("blob {digest} is damaged")));
        }
        Ok(bytes)
    }

    /// A small blob as JSON.
    ///
    /// # Errors
    /// As [`Store::read_blob`]; `Invalid` when it isn't what is expected.
    pub fn read_json<T: serde::de::DeserializeOwned>(&self, digest: &Digest) -> Result<T, Failure> {
        serde_json::from_slice(&self.read_blob(digest)?)
            .map_err(|e| Failure::invalid(format!("blob {digest}: {e}")))
    }

    /// Begins to write a blob. With an expected digest, another one is an error.
    ///
    /// # Errors
    /// `System`
    pub fn blob_writer(&self, expected: Option<Digest>) -> Result<BlobWriter, Failure> {
        let file = tempfile::Builder::new()
            .prefix("blob-")
            .permissions(Permissions::from_mode(0o644))
            .tempfile_in(self.tmp_dir())
            .context(|| format!("make a file in {}", self.tmp_dir().display()))?;
        Ok(BlobWriter {
            store: self.clone(),
            file,
            hash: Sha256::new(),
            len: 0,
            expected,
        })
    }

    /// Adds a small blob; its digest.
    ///
    /// # Errors
    /// `System`
    pub fn add_blob(&self, bytes: &[u8]) -> Result<Digest, Failure> {
        let mut writer = self.blob_writer(None)?;
        writer.write_all(bytes)?;
        Ok(writer.finish()?.0)
    }
}

impl BlobWriter {
    /// Syncs the blob and gives it its name; its digest and length. After a crash the name is there for
    /// certain once an image has been recorded ([`Store::sync_dirs`]).
    ///
    /// # Errors
    /// `Invalid` when the digest is not the expected one; `System`.
    pub fn finish(self) -> Result<(Digest, u64), Failure> {
        let digest = Digest::from_bytes(self.hash.finalize().into());
        if let Some(expected) = self.expected.filter(|e| *e != digest) {
            let text = format!("blob {expected}: its contents have the digest {digest}");
            return Err(Failure::invalid(text));
        }
        let path = self.store.blob_path(&digest);
        if !path.exists() {
            self.file
                .as_file()
                .sync_data()
                .context(|| format!("sync blob {digest}"))?;
            self.file.persist(&path).map_err(|e| {
                Failure::from(e.error).context(format!("rename to {}", path.display()))
            })?;
        }
        Ok((digest, self.len))
    }
}

impl Write for BlobWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.file.write(buf)?;
        self.hash.update(buf.get(..n).unwrap_or_default());
        self.len += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
