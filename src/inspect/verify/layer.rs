//! A layer: its blob, and what is derived from it.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use super::{Part, Run, same_bytes};
use crate::archive::Limits;
use crate::archive::ingest::{Keep, LayerSpec, StagedLayer, stage_layer};
use crate::archive::part::Part as FilePart;
use crate::error::Failure;
use crate::image::{Descriptor, DiffId};
use crate::index::reader::Index;
use crate::store::layers::LayerInfo;

/// What a layer's derived files are like.
#[derive(Default)]
struct Derived {
    /// What is wrong, file by file.
    wrong: Vec<(Part, String)>,
}

impl Run<'_> {
    /// Verifies a layer once; whether its index can be used.
    pub(super) fn layer(&mut self, diff_id: &DiffId, blob: &Descriptor) -> bool {
        if let Some(sound) = self.layers.get(diff_id) {
            let sound = *sound;
            // The same tar in another compression.
            return self.blob(Part::Layer, &blob.digest, Some(blob.size)) && sound;
        }
        let sound = self.look_at_layer(diff_id, blob);
        self.layers.insert(*diff_id, sound);
        sound
    }

    fn look_at_layer(&mut self, diff_id: &DiffId, blob: &Descriptor) -> bool {
        let path = self.store.blob_path(&blob.digest);
        let spec = LayerSpec {
            digest: Some(blob.digest),
            size: Some(blob.size),
            diff_id: Some(*diff_id),
            media_type: Some(blob.media_type.clone()),
        };
        let indexed = self.indexed(diff_id);
        let copied = self.store.layer_tar_path(diff_id).exists();
        // Without a copy of the tar, the blob itself is what the index is compared with.
        let whole = Keep {
            blob: false,
            tree: indexed && !copied,
        };
        let staged = match self.stage(&path, &spec, whole) {
            Ok(staged) => Some(staged),
            Err(e) => {
                let why = match path.exists() {
                    true => e.to_string(),
                    false => "missing".into(),
                };
                self.damaged(Part::Layer, &path, why);
                None
            }
        };
        self.blobs.insert(blob.digest, staged.is_some());
        if !indexed {
            return staged.is_some();
        }
        let mut derived = Derived::default();
        let tar = match copied {
            true => self.copy(diff_id, &mut derived),
            false => None,
        };
        let fresh = tar.as_ref().or(staged.as_ref());
        self.index(diff_id, fresh, &mut derived);
        self.record(diff_id, &spec, staged.as_ref(), copied, &mut derived);
        let lost = !copied && staged.as_ref().is_none_or(|s| s.info.digest != diff_id.0);
        if lost && staged.is_some() && self.needs_copy(&path) {
            derived.wrong.push((Part::LayerTar, "missing".into()));
        }
        self.settle(diff_id, &path, &spec, staged.is_some(), tar, derived)
    }

    /// Whether there is anything derived of a layer that its record vouches for.
    fn indexed(&self, diff_id: &DiffId) -> bool {
        let record = self.store.layer_index_path(diff_id).with_extension("json");
        record.exists()
    }

    /// Whether a layer's files are read from an uncompressed copy: its blob is compressed.
    fn needs_copy(&self, blob: &Path) -> bool {
        use std::io::Read as _;
        let mut start = [0; 4];
        let read = File::open(blob).and_then(|mut f| f.read_exact(&mut start));
        read.is_ok() && crate::content::stream::sniff(&start) != crate::image::Compression::None
    }

    fn stage(&mut self, path: &Path, spec: &LayerSpec, keep: Keep) -> Result<StagedLayer, Failure> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        self.report.files += 1;
        self.report.bytes += size;
        let mut reader = FilePart::new(Arc::new(file), 0, size).reader();
        self.progress.begin("Verifying a layer", Some(size));
        let tmp = self.store.tmp_dir();
        let limits = Limits::default();
        let staged = stage_layer(&tmp, &mut reader, spec, keep, limits, self.progress);
        self.progress.end();
        staged
    }

    /// The uncompressed copy, with an index made from it.
    fn copy(&mut self, diff_id: &DiffId, derived: &mut Derived) -> Option<StagedLayer> {
        let path = self.store.layer_tar_path(diff_id);
        let spec = LayerSpec {
            digest: Some(diff_id.0),
            diff_id: Some(*diff_id),
            ..LayerSpec::default()
        };
        let keep = Keep {
            blob: false,
            tree: true,
        };
        match self.stage(&path, &spec, keep) {
            Ok(staged) => Some(staged),
            Err(e) => {
                derived.wrong.push((Part::LayerTar, e.to_string()));
                None
            }
        }
    }

    fn index(&mut self, diff_id: &DiffId, fresh: Option<&StagedLayer>, derived: &mut Derived) {
        let path = self.store.layer_index_path(diff_id);
        let check = || -> Result<Option<&str>, Failure> {
            if !path.exists() {
                return Ok(Some("missing"));
            }
            let index = Index::open(&path)?;
            index.verify()?;
            if index.layer(0)?.id() != *diff_id {
                return Ok(Some("another layer's"));
            }
            match fresh.and_then(StagedLayer::index) {
                Some(fresh) if !same_bytes(&path, fresh)? => Ok(Some("not what its tar gives")),
                _ => Ok(None),
            }
        };
        self.report.files += 1;
        self.report.bytes += path.metadata().map_or(0, |m| m.len());
        match check() {
            Ok(None) => {}
            Ok(Some(why)) => derived.wrong.push((Part::LayerIndex, why.into())),
            Err(e) => derived.wrong.push((Part::LayerIndex, e.to_string())),
        }
    }

    fn record(
        &mut self,
        diff_id: &DiffId,
        spec: &LayerSpec,
        staged: Option<&StagedLayer>,
        copied: bool,
        derived: &mut Derived,
    ) {
        let path = self.store.layer_index_path(diff_id).with_extension("json");
        let parsed = std::fs::read(&path)
            .map_err(|e| e.to_string())
            .and_then(|b| serde_json::from_slice::<LayerInfo>(&b).map_err(|e| e.to_string()));
        self.report.files += 1;
        let wrong = match parsed {
            Err(e) => Some(e),
            Ok(info) if info.diff_id != *diff_id => Some("another layer's".into()),
            Ok(info) => {
                let length =
                    staged.is_some_and(|s| s.info.uncompressed_size != info.uncompressed_size);
                // Entries are counted where an index was made from the blob.
                let fresh = staged.filter(|s| !copied && s.index().is_some());
                let counts = fresh.is_some_and(|s| {
                    (s.info.entries, s.info.content_size) != (info.entries, info.content_size)
                });
                let own = spec.digest == Some(info.digest) && spec.size != Some(info.size);
                (length || counts || own).then(|| "not what its layer is".into())
            }
        };
        derived
            .wrong
            .extend(wrong.map(|why| (Part::LayerRecord, why)));
    }

    /// Reports what is wrong with the derived files, and makes them again; whether the index can be
    /// used then.
    fn settle(
        &mut self,
        diff_id: &DiffId,
        blob: &Path,
        spec: &LayerSpec,
        has_blob: bool,
        tar: Option<StagedLayer>,
        derived: Derived,
    ) -> bool {
        let bad_index = derived
            .wrong
            .iter()
            .any(|(part, _)| *part == Part::LayerIndex);
        if derived.wrong.is_empty() {
            return true;
        }
        let from = self.report.damage.len();
        for (part, why) in derived.wrong {
            let path = match part {
                Part::LayerTar => self.store.layer_tar_path(diff_id),
                Part::LayerRecord => self.store.layer_index_path(diff_id).with_extension("json"),
                _ => self.store.layer_index_path(diff_id),
            };
            self.damaged(part, &path, why);
        }
        let made = self.repair(|run| match (has_blob, tar) {
            (true, _) => {
                let keep = Keep {
                    blob: false,
                    tree: true,
                };
                run.stage(blob, spec, keep)?.publish(run.store)?;
                run.store.sync_dirs()
            }
            // The blob is lost, its uncompressed copy is not.
            (false, Some(mut tar)) => {
                tar.info.digest = spec.digest.unwrap_or(tar.info.digest);
                tar.info.size = spec.size.unwrap_or(tar.info.size);
                tar.info.media_type = spec.media_type.clone().unwrap_or_default();
                tar.publish(run.store)?;
                run.store.sync_dirs()
            }
            (false, None) => Err(Failure::system(
                "its blob is damaged too: load the image again",
            )),
        });
        if made {
            for damage in self.report.damage.iter_mut().skip(from) {
                damage.repaired = true;
            }
        }
        made || !bad_index
    }
}
