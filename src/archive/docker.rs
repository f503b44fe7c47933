//! docker-archive: the `manifest.json` of `docker save` and of podman, skopeo, buildah, bazel and
//! kaniko after it. Layers are tars (or links to tars), named by path.

use serde::Deserialize;

use super::candidate::{Candidate, CandidateLayer, parse_config};
use super::part::Bundle;
use crate::error::{Context, Failure};
use crate::image::{Digest, Reference};

/// One image of a `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

/// The images of a docker-archive: all, or the one that `select` names.
///
/// # Errors
/// [`Failure`] of kind `Invalid` that names the member and what is wrong with it; `NotFound` when
/// no image has the name.
pub fn images(bundle: &Bundle, select: Option<&str>) -> Result<Vec<Candidate>, Failure> {
    let wanted = select.map(selection).transpose()?;
    let mut found = Vec::new();
    for (at, item) in items(bundle)?.iter().enumerate() {
        let names = names(item)?;
        let names = match &wanted {
            None => names,
            Some(Wanted::Place(place)) if *place == at => names,
            Some(Wanted::Name(name)) if names.contains(name) => vec![name.clone()],
            Some(_) => continue,
        };
        found.push(candidate(bundle, item, names)?);
    }
    match select {
        Some(select) if found.is_empty() => Err(Failure::not_found(format!(
            "there is no image {} in it",
            select.escape_debug()
        ))),
        _ => Ok(found),
    }
}

/// Adds the names that a `manifest.json` beside an OCI layout gives to images that have none.
///
/// # Errors
/// As [`images`].
pub fn add_names(bundle: &Bundle, images: &mut [Candidate]) -> Result<(), Failure> {
    for item in items(bundle)? {
        let Some(id) = digest_in(&item.config) else {
            continue;
        };
        let names = names(&item)?;
        for image in images.iter_mut().filter(|image| image.id() == id) {
            for name in &names {
                if !image.names.contains(name) {
                    image.names.push(name.clone());
                }
            }
        }
    }
    Ok(())
}

/// What comes after the second colon of `docker-archive:FILE:`.
enum Wanted {
    /// A name.
    Name(Reference),
    /// `@N`: the image at that place, from 0.
    Place(usize),
}

fn selection(text: &str) -> Result<Wanted, Failure> {
    match text.strip_prefix('@').map(str::parse) {
        Some(Ok(place)) => Ok(Wanted::Place(place)),
        _ => Reference::parse(text).map(Wanted::Name),
    }
}

fn items(bundle: &Bundle) -> Result<Vec<Item>, Failure> {
    let bytes = bundle
        .document("manifest.json")?
        .ok_or_else(|| Failure::invalid("not a docker-archive: it has no manifest.json"))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Failure::invalid(format!("member \"manifest.json\": {error}")))
}

fn names(item: &Item) -> Result<Vec<Reference>, Failure> {
    let mut names = Vec::new();
    for tag in item.repo_tags.iter().flatten() {
        let name = Reference::parse(tag)
            .context(|| format!("member \"manifest.json\": the name {}", tag.escape_debug()))?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// The digest that a configuration's file name states: `HEX.json`, `sha256:HEX` or
/// `blobs/sha256/HEX`.
fn digest_in(path: &str) -> Option<Digest> {
    let name = path.rsplit('/').next()?;
    let name = name.strip_suffix(".json").unwrap_or(name);
    Digest::from_hex(name.strip_prefix("sha256:").unwrap_or(name))
}

fn candidate(bundle: &Bundle, item: &Item, names: Vec<Reference>) -> Result<Candidate, Failure> {
    let missing = |path: &str| {
        Failure::invalid(format!(
            "member \"{}\": manifest.json names it, but it is missing",
            path.escape_debug()
        ))
    };
    let config = bundle
        .document(&item.config)?
        .ok_or_else(|| missing(&item.config))?;
    if let Some(stated) = digest_in(&item.config)
        && stated != Digest::of(&config)
    {
        return Err(Failure::invalid(format!(
            "member \"{}\": its contents have the digest {}",
            item.config.escape_debug(),
            Digest::of(&config)
        )));
    }
    let paths = item.layers.as_deref().unwrap_or_default();
    let parsed = parse_config(&config, paths.len())
        .context(|| format!("member \"{}\"", item.config.escape_debug()))?;
    let mut layers = Vec::with_capacity(paths.len());
    for (path, diff_id) in paths.iter().zip(&parsed.rootfs.diff_ids) {
        layers.push(CandidateLayer {
            what: format!("member \"{}\"", path.escape_debug()),
            part: Some(bundle.get(path)?.ok_or_else(|| missing(path))?),
            blob: None,
            diff_id: *diff_id,
        });
    }
    Ok(Candidate {
        names,
        manifest: None,
        config,
        config_type: None,
        layers,
    })
}
