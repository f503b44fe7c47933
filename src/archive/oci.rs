//! OCI image layouts (image-spec, image-layout.md), as directories and as tars of them.

use std::collections::BTreeMap;

use super::candidate::{Candidate, CandidateLayer, parse_config};
use super::part::Bundle;
use crate::error::{Context, Failure};
use crate::image::{Descriptor, Digest, Index, Manifest, Platform, Reference, media_type};
use crate::store::names::{CONTAINERD_NAME, REF_NAME};

/// Marks a manifest that only says something about another one (BuildKit's attestations).
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
/// How deep indexes may lie in indexes.
const DEPTH_MAX: usize = 4;

/// The images of a layout: all, or the one that `select` names.
///
/// # Errors
/// [`Failure`] of kind `Invalid` that names the blob and what is wrong with it; `NotFound` when no
/// image has the name.
pub fn images(bundle: &Bundle, select: Option<&str>) -> Result<Vec<Candidate>, Failure> {
    images_for(bundle, select, &Platform::host())
}

/// As [`images`]; of images that are there for several platforms, those of this one.
///
/// # Errors
/// As [`images`].
pub fn images_for(
    bundle: &Bundle,
    select: Option<&str>,
    platform: &Platform,
) -> Result<Vec<Candidate>, Failure> {
    check_layout(bundle)?;
    let bytes = bundle
        .document("index.json")?
        .ok_or_else(|| Failure::invalid("not an OCI layout: it has no index.json"))?;
    let index: Index = serde_json::from_slice(&bytes)
        .map_err(|error| Failure::invalid(format!("member \"index.json\": {error}")))?;
    let mut found: Vec<Candidate> = Vec::new();
    for group in groups(&index.manifests, select)? {
        let chosen = choose(bundle, &group.members, platform, 0)?;
        let image = candidate(bundle, &chosen, group.names)?;
        // One image under several names is one image.
        let same = found
            .iter_mut()
            .find(|other| other.manifest == image.manifest);
        match same {
            Some(other) => {
                let new = image.names.into_iter();
                let new: Vec<_> = new.filter(|name| !other.names.contains(name)).collect();
                other.names.extend(new);
            }
            None => found.push(image),
        }
    }
    match select {
        Some(select) if found.is_empty() => Err(Failure::not_found(format!(
            "there is no image {} in it",
            select.escape_debug()
        ))),
        _ => Ok(found),
    }
}

fn check_layout(bundle: &Bundle) -> Result<(), Failure> {
    let bytes = bundle
        .document("oci-layout")?
        .ok_or_else(|| Failure::invalid("not an OCI layout: it has no file oci-layout"))?;
    let layout: serde_json::Value = serde_json::from_slice(&bytes)
        .map_err(|error| Failure::invalid(format!("member \"oci-layout\": {error}")))?;
    match layout.get("imageLayoutVersion").and_then(|v| v.as_str()) {
        Some(version) if version.starts_with("1.") => Ok(()),
        Some(version) => Err(Failure::invalid(format!(
            "member \"oci-layout\": version {}, only 1 is known",
            version.escape_debug()
        ))),
        None => Err(Failure::invalid(
            "member \"oci-layout\": no imageLayoutVersion",
        )),
    }
}

/// The descriptors under one name: several where the image is there for several platforms.
struct Group {
    names: Vec<Reference>,
    members: Vec<Descriptor>,
}

/// The full name that a descriptor's annotations give, if they give one.
#[must_use]
pub fn name_of(descriptor: &Descriptor) -> Option<Reference> {
    let text = descriptor
        .annotations
        .get(CONTAINERD_NAME)
        .or_else(|| descriptor.annotations.get(REF_NAME))?;
    // A digest stands there where an image has no name.
    if text.parse::<Digest>().is_ok() || Digest::from_hex(text).is_some() {
        return None;
    }
    Reference::parse(text)
        .ok()
        .filter(|name| name.tag().is_some())
}

/// Whether `select` is what this descriptor is called.
fn is_called(descriptor: &Descriptor, select: &str, parsed: Option<&Reference>) -> bool {
    let spelled = [REF_NAME, CONTAINERD_NAME].iter().any(|key| {
        descriptor
            .annotations
            .get(*key)
            .is_some_and(|v| v == select)
    });
    spelled
        || descriptor.digest.to_string() == select
        || (parsed.is_some() && name_of(descriptor).as_ref() == parsed)
}

fn groups(manifests: &[Descriptor], select: Option<&str>) -> Result<Vec<Group>, Failure> {
    let parsed = select.and_then(|text| Reference::parse(text).ok());
    let mut groups: Vec<Group> = Vec::new();
    // By name; descriptors without a name but with platforms belong together, others stand alone.
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for descriptor in manifests {
        let wanted = select.is_none_or(|text| is_called(descriptor, text, parsed.as_ref()));
        if !wanted || descriptor.annotations.contains_key(REFERENCE_TYPE) {
            continue;
        }
        let name = name_of(descriptor);
        let key = match (&name, descriptor.annotations.get(REF_NAME)) {
            (Some(name), _) => format!("name {name}"),
            (None, Some(text)) => format!("ref {text}"),
            (None, None) if descriptor.platform.is_some() => "platforms".to_owned(),
            (None, None) => format!("digest {}", descriptor.digest),
        };
        let place = *places.entry(key).or_insert(groups.len());
        match groups.get_mut(place) {
            Some(group) => group.members.push(descriptor.clone()),
            None => groups.push(Group {
                names: name.into_iter().collect(),
                members: vec![descriptor.clone()],
            }),
        }
    }
    Ok(groups)
}

/// A blob of the layout that is read into memory: a manifest, an index, a configuration.
fn document(bundle: &Bundle, descriptor: &Descriptor) -> Result<Vec<u8>, Failure> {
    let digest = descriptor.digest;
    let bytes = bundle
        .document(&path_of(&digest))?
        .ok_or_else(|| Failure::invalid(format!("blob {digest}: it is missing")))?;
    if bytes.len() as u64 != descriptor.size {
        return Err(Failure::invalid(format!(
            "blob {digest}: {} bytes long, its descriptor says {}",
            bytes.len(),
            descriptor.size
        )));
    }
    if Digest::of(&bytes) != digest {
        return Err(Failure::invalid(format!(
            "blob {digest}: its contents have the digest {}",
            Digest::of(&bytes)
        )));
    }
    Ok(bytes)
}

/// Where a blob stands in a layout.
#[must_use]
pub fn path_of(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// The manifest for a platform among `members`, indexes followed.
fn choose(
    bundle: &Bundle,
    members: &[Descriptor],
    platform: &Platform,
    depth: usize,
) -> Result<Descriptor, Failure> {
    let images: Vec<Descriptor> = members
        .iter()
        .filter(|descriptor| !descriptor.annotations.contains_key(REFERENCE_TYPE))
        .cloned()
        .collect();
    let chosen = match images.as_slice() {
        [] => return Err(Failure::invalid("an index in it lists no image")),
        [only] => only,
        several => platform.choose(several).ok_or_else(|| {
            let mut there: Vec<_> = several
                .iter()
                .filter_map(|descriptor| descriptor.platform.as_ref())
                .map(ToString::to_string)
                .collect();
            there.dedup();
            Failure::not_found(format!(
                "there is no image for {platform} in it, only for {}",
                there.join(", ")
            ))
        })?,
    };
    let kind = chosen.media_type.as_str();
    if kind != media_type::OCI_INDEX && kind != media_type::DOCKER_MANIFEST_LIST {
        return Ok(chosen.clone());
    }
    if depth >= DEPTH_MAX {
        return Err(Failure::invalid(format!(
            "blob {}: indexes lie more than {DEPTH_MAX} deep",
            chosen.digest
        )));
    }
    let bytes = document(bundle, chosen)?;
    let index: Index = serde_json::from_slice(&bytes)
        .map_err(|error| Failure::invalid(format!("blob {}: {error}", chosen.digest)))?;
    choose(bundle, &index.manifests, platform, depth + 1)
}

fn candidate(
    bundle: &Bundle,
    descriptor: &Descriptor,
    names: Vec<Reference>,
) -> Result<Candidate, Failure> {
    let kind = descriptor.media_type.as_str();
    if kind != media_type::OCI_MANIFEST && kind != media_type::DOCKER_MANIFEST {
        return Err(Failure::invalid(format!(
            "blob {}: its type is {}, not an image manifest",
            descriptor.digest,
            kind.escape_debug()
        )));
    }
    let bytes = document(bundle, descriptor)?;
    let manifest: Manifest = serde_json::from_slice(&bytes)
        .map_err(|error| Failure::invalid(format!("manifest {}: {error}", descriptor.digest)))?;
    let config_type = manifest.config.media_type.as_str();
    if config_type != media_type::OCI_CONFIG && config_type != media_type::DOCKER_CONFIG {
        return Err(Failure::invalid(format!(
            "manifest {}: not a container image (its configuration is of type {})",
            descriptor.digest,
            config_type.escape_debug()
        )));
    }
    let config = document(bundle, &manifest.config)?;
    let parsed = parse_config(&config, manifest.layers.len())
        .context(|| format!("configuration {}", manifest.config.digest))?;
    let mut layers = Vec::with_capacity(manifest.layers.len());
    for (blob, diff_id) in manifest.layers.iter().zip(&parsed.rootfs.diff_ids) {
        layers.push(layer(bundle, blob, *diff_id)?);
    }
    Ok(Candidate {
        names,
        config_type: Some(config_type.to_owned()),
        manifest: Some((bytes, kind.to_owned())),
        config,
        layers,
    })
}

fn layer(
    bundle: &Bundle,
    blob: &Descriptor,
    diff_id: crate::image::DiffId,
) -> Result<CandidateLayer, Failure> {
    let what = format!("layer {}", blob.digest);
    if blob.media_type.ends_with("+encrypted") {
        return Err(Failure::invalid(format!("{what}: it is encrypted")));
    }
    let part = bundle.get(&path_of(&blob.digest))?;
    if let Some(part) = &part
        && part.size() != blob.size
    {
        return Err(Failure::invalid(format!(
            "{what}: {} bytes long, its descriptor says {}",
            part.size(),
            blob.size
        )));
    }
    Ok(CandidateLayer {
        what,
        part,
        blob: Some(blob.clone()),
        diff_id,
    })
}
