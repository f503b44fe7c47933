//! A layer: its blob, and what is derived from it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Part, Run, same_bytes};
use crate::archive::Limits;
use crate::archive::ingest::{Keep, LayerSpec, StagedLayer, stage_layer};
use crate::archive::part::Part as FilePart;
use crate::error::Failure;
use crate::image::{Compression, Descriptor, DiffId};
use crate::index::reader::Index;
use crate::store::layers::LayerInfo;

/// What is wrong with a layer's derived files.
type Wrong = Vec<(Part, String)>;

/// An index if it is wanted, and nothing else.
fn tree(tree: bool) -> Keep {
    Keep {
        blob: false,
        tree,
        copy: false,
    }
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
        // The index that the blob gives now is what the store's is compared with.
        let staged = match self.stage(&path, &spec, tree(indexed)) {
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
        let mut wrong = Vec::new();
        let copy = self.copy(diff_id, &path, &mut wrong);
        let has_blob = staged.is_some();
        let fresh = match (staged, copy) {
            (None, true) => self.staged_copy(diff_id, &spec),
            (staged, _) => staged,
        };
        self.index(diff_id, fresh.as_ref(), &mut wrong);
        self.record(diff_id, &spec, fresh.as_ref(), &mut wrong);
        self.settle(diff_id, (&path, has_blob), &spec, fresh, wrong)
    }

    /// Whether there is anything derived of a layer that its record vouches for.
    fn indexed(&self, diff_id: &DiffId) -> bool {
        self.record_path(diff_id).exists()
    }

    /// Whether a layer's files are read from an uncompressed copy: its blob is compressed.
    fn needs_copy(&self, blob: &Path) -> bool {
        use std::io::Read as _;
        let mut start = [0; 4];
        let read = File::open(blob).and_then(|mut f| f.read_exact(&mut start));
        read.is_ok() && crate::content::stream::sniff(&start) != Compression::None
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

    /// Looks at the uncompressed copy; whether there is one that is what it should be.
    fn copy(&mut self, diff_id: &DiffId, blob: &Path, wrong: &mut Wrong) -> bool {
        let path = self.store.layer_tar_path(diff_id);
        if !path.exists() {
            if self.needs_copy(blob) {
                wrong.push((Part::LayerTar, "missing".into()));
            }
            return false;
        }
        let why = match self.hash(&path, "Verifying a layer's copy") {
            Ok((digest, _)) if digest == diff_id.0 => return true,
            Ok((digest, _)) => format!("its contents have the digest {digest}"),
            Err(e) => e.to_string(),
        };
        wrong.push((Part::LayerTar, why));
        false
    }

    /// What the uncompressed copy gives when the blob is lost, as if it came from the blob.
    fn staged_copy(&mut self, diff_id: &DiffId, spec: &LayerSpec) -> Option<StagedLayer> {
        let own = LayerSpec {
            diff_id: Some(*diff_id),
            ..LayerSpec::default()
        };
        let path = self.store.layer_tar_path(diff_id);
        // It has just been found whole: what fails now is reported with the file that can't be made.
        let mut staged = self.stage(&path, &own, tree(true)).ok()?;
        staged.info.digest = spec.digest?;
        staged.info.size = spec.size?;
        staged.info.media_type = spec.media_type.clone()?;
        Some(staged)
    }

    fn index(&mut self, diff_id: &DiffId, fresh: Option<&StagedLayer>, wrong: &mut Wrong) {
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
            Ok(Some(why)) => wrong.push((Part::LayerIndex, why.into())),
            Err(e) => wrong.push((Part::LayerIndex, e.to_string())),
        }
    }

    fn record(
        &mut self,
        diff_id: &DiffId,
        spec: &LayerSpec,
        fresh: Option<&StagedLayer>,
        wrong: &mut Wrong,
    ) {
        let path = self.record_path(diff_id);
        let parsed = std::fs::read(&path)
            .map_err(|e| e.to_string())
            .and_then(|b| serde_json::from_slice::<LayerInfo>(&b).map_err(|e| e.to_string()));
        self.report.files += 1;
        let why = match parsed {
            Err(e) => e,
            Ok(info) if info.diff_id != *diff_id => "another layer's".into(),
            Ok(info) => {
                let facts = |i: &LayerInfo| (i.uncompressed_size, i.entries, i.content_size);
                let derived = fresh.is_some_and(|f| facts(&f.info) != facts(&info));
                let kind = |t: &str| Compression::from_media_type(t);
                let blob = match spec.digest == Some(info.digest) {
                    true => {
                        spec.size != Some(info.size)
                            || spec.media_type.as_deref().and_then(kind) != kind(&info.media_type)
                    }
                    // Of the same tar in another compression.
                    false => !self.store.has(&info.digest),
                };
                match derived || blob {
                    true => "not what its layer is".into(),
                    false => return,
                }
            }
        };
        wrong.push((Part::LayerRecord, why));
    }

    fn record_path(&self, diff_id: &DiffId) -> PathBuf {
        self.store.layer_index_path(diff_id).with_extension("json")
    }

    /// Reports what is wrong with the derived files, and makes them again; whether the index can be
    /// used then.
    fn settle(
        &mut self,
        diff_id: &DiffId,
        (blob, has_blob): (&Path, bool),
        spec: &LayerSpec,
        fresh: Option<StagedLayer>,
        wrong: Wrong,
    ) -> bool {
        if wrong.is_empty() {
            return true;
        }
        let is = |part: Part| wrong.iter().any(|(p, _)| *p == part);
        let (bad_index, bad_copy) = (is(Part::LayerIndex), is(Part::LayerTar));
        let from = self.report.damage.len();
        for (part, why) in wrong {
            let path = match part {
                Part::LayerTar => self.store.layer_tar_path(diff_id),
                Part::LayerRecord => self.record_path(diff_id),
                _ => self.store.layer_index_path(diff_id),
            };
            self.damaged(part, &path, why);
        }
        let made = self.repair(|run| {
            let lost = || Failure::system("its blob is damaged too: load the image again");
            let staged = match bad_copy {
                true if !has_blob => return Err(lost()),
                true => {
                    let keep = Keep {
                        copy: true,
                        ..tree(true)
                    };
                    run.stage(blob, spec, keep)?
                }
                false => fresh.ok_or_else(lost)?,
            };
            staged.publish(run.store)?;
            run.store.sync_dirs()
        });
        if made {
            for damage in self.report.damage.iter_mut().skip(from) {
                damage.repaired = true;
            }
        }
        made || !bad_index
    }
}
