//! A Dockerfile from what an image's history and configuration say.
//!
//! It is a reconstruction: histories have lost the names of copied files, the mounts and networks of
//! RUN, the stages that files came from, and some borders between words. What is lost is said in
//! comments, and every line that is no comment is one that builders parse.

mod step;
mod text;

#[cfg(test)]
mod tests;

pub use step::Step;
pub use step::one_line;

use crate::image::{DiffId, ImageConfig, RuntimeConfig, StringSet, changes};
use step::Steps;
use text::{json_list, quote};

/// The image that another one was built on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// What FROM is to name.
    pub name: String,
    /// How many of the image's layers are its.
    pub layers: usize,
    /// How many of the image's steps are its.
    pub steps: usize,
    /// Where that is known from.
    pub why: String,
}

/// A reconstruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// The base; `None` for an image from scratch.
    pub base: Option<Base>,
    /// The instructions after FROM, oldest first, each with the layer it made.
    pub steps: Vec<(Step, Option<DiffId>)>,
    /// Instructions that only the configuration knows of.
    pub rest: Vec<String>,
}

/// The image among `others` (name and configuration) on which this one was built: its layers, and
/// its history as far as it goes, are the beginning of this one's. The one with the most layers
/// wins, then the one with the most steps, then the first.
#[must_use]
pub fn find_base<'o>(
    image: &ImageConfig,
    others: impl IntoIterator<Item = (String, &'o ImageConfig)>,
) -> Option<Base> {
    let mut found: Option<Base> = None;
    for (name, other) in others {
        let layers = &other.rootfs.diff_ids;
        if layers.is_empty() || !image.rootfs.diff_ids.starts_with(layers) {
            continue;
        }
        let same_steps = image.history.starts_with(&other.history);
        let steps = match same_steps {
            true => other.history.len(),
            false => steps_of(image, layers.len()),
        };
        let whole = layers.len() == image.rootfs.diff_ids.len();
        if whole && !(same_steps && steps < image.history.len()) {
            continue;
        }
        let better = found
            .as_ref()
            .is_none_or(|f| (layers.len(), steps) > (f.layers, f.steps));
        if better {
            found = Some(Base {
                name,
                layers: layers.len(),
                steps,
                why: "a stored image has the same first layers".into(),
            });
        }
    }
    found
}

/// How many steps made the first `layers` layers, with the steps without a layer that follow.
fn steps_of(image: &ImageConfig, layers: usize) -> usize {
    let mut made = 0;
    image
        .history
        .iter()
        .take_while(|step| {
            made += usize::from(!step.empty_layer);
            made <= layers
        })
        .count()
}

/// buildah notes the base's name in the comment of the first step after it.
fn noted_base(image: &ImageConfig) -> Option<Base> {
    let names = |name: &str| name.len() != 12 || !name.bytes().all(|b| b.is_ascii_hexdigit());
    let (steps, name) = image
        .history
        .iter()
        .enumerate()
        .rev()
        .find_map(|(at, step)| {
            let name = step.comment.as_deref()?.strip_prefix("FROM ")?.trim();
            let sound =
                !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control());
            (sound && names(name) && name != "scratch").then_some((at, name.to_owned()))
        })?;
    let layers = image
        .history
        .iter()
        .take(steps)
        .filter(|s| !s.empty_layer)
        .count();
    Some(Base {
        name,
        layers,
        steps,
        why: "the history names it".into(),
    })
}

/// Reconstructs the instructions that made an image. `base` is what [`find_base`] has found;
/// without it, the one that the history names.
#[must_use]
pub fn reconstruct(image: &ImageConfig, base: Option<Base>) -> Dockerfile {
    let base = base.or_else(|| noted_base(image));
    let mut reader = Steps::new(&image.config);
    let mut layers = image.rootfs.diff_ids.iter().copied();
    let mut all = Vec::new();
    for step in &image.history {
        let layer = match step.empty_layer {
            true => None,
            false => layers.next(),
        };
        all.push((reader.read(step), layer));
    }
    for layer in layers {
        let note = "a layer that the history does not mention".to_owned();
        let step = Step {
            instruction: String::new(),
            notes: vec![note],
        };
        all.push((step, Some(layer)));
    }
    // Layers of the base that its history does not mention come after all steps.
    let skip = base.as_ref().map_or(0, |base| {
        let layers = all
            .iter()
            .enumerate()
            .filter(|(_, (_, layer))| layer.is_some());
        let last = base
            .layers
            .checked_sub(1)
            .and_then(|n| layers.map(|(at, _)| at).nth(n));
        base.steps.max(last.map_or(0, |at| at + 1))
    });
    let rest = unsaid(
        &image.config,
        all.iter().map(|(step, _)| step.instruction.as_str()),
    );
    Dockerfile {
        base,
        steps: all.split_off(skip.min(all.len())),
        rest,
    }
}

/// What the configuration has and no instruction gave it.
fn unsaid<'s>(config: &RuntimeConfig, steps: impl Iterator<Item = &'s str>) -> Vec<String> {
    let mut said = RuntimeConfig::default();
    let mut has_cmd = false;
    for step in steps {
        let word = step.split(' ').next().unwrap_or_default();
        // What a base's CMD says ends with a new ENTRYPOINT.
        if word == "ENTRYPOINT" && !has_cmd {
            said.cmd = None;
        }
        has_cmd |= word == "CMD";
        // RUN, COPY and the like change no configuration.
        drop(changes::apply(&mut said, step));
    }
    let mut rest = Vec::new();
    for entry in config.env.iter().filter(|e| !said.env.contains(e)) {
        if let Some((name, value)) = entry.split_once('=') {
            rest.push(format!("ENV {}={}", quote(name), quote(value)));
        }
    }
    for (name, value) in &config.labels {
        if said.labels.get(name) != Some(value) {
            rest.push(format!("LABEL {}={}", quote(name), quote(value)));
        }
    }
    let missing = |all: &StringSet, said: &StringSet| {
        let mut all: Vec<String> = all.keys().cloned().collect();
        all.retain(|k| !said.contains_key(k));
        all
    };
    let ports = missing(&config.exposed_ports, &said.exposed_ports);
    if !ports.is_empty() {
        rest.push(format!("EXPOSE {}", ports.join(" ")));
    }
    let volumes = missing(&config.volumes, &said.volumes);
    if !volumes.is_empty() {
        rest.push(format!("VOLUME {}", json_list(&volumes)));
    }
    let mut word = |name: &str, value: &str, said: &str| {
        if value != said && !value.is_empty() {
            rest.push(format!("{name} {}", text::unexpanded(value)));
        }
    };
    word("WORKDIR", &config.working_dir, &said.working_dir);
    word("USER", &config.user, &said.user);
    word("STOPSIGNAL", &config.stop_signal, &said.stop_signal);
    for (name, value, said) in [
        ("ENTRYPOINT", &config.entrypoint, &said.entrypoint),
        ("CMD", &config.cmd, &said.cmd),
    ] {
        if let Some(list) = value
            .as_ref()
            .filter(|l| !l.is_empty() && Some(*l) != said.as_ref())
        {
            rest.push(format!("{name} {}", json_list(list)));
        }
    }
    rest.retain(|line| !line.contains(['\n', '\r']));
    rest
}

impl Dockerfile {
    /// The file's text. `about` says what is worth saying of a layer, such as its size.
    #[must_use]
    pub fn text(&self, about: impl Fn(&DiffId) -> Option<String>) -> String {
        let mut out = String::new();
        if self
            .steps
            .iter()
            .any(|(s, _)| s.instruction.contains(" <<"))
        {
            out.push_str("# syntax=docker/dockerfile:1\n");
        }
        out.push_str(
            "# A reconstruction from the image's history and configuration, not the original file.\n",
        );
        match &self.base {
            Some(base) => {
                out.push_str(&format!("# {}\n", one_line(&base.why)));
                out.push_str(&format!("FROM {}\n", one_line(&base.name)));
            }
            None => out.push_str("FROM scratch\n"),
        }
        let mut number = self.base.as_ref().map_or(0, |b| b.layers);
        for (step, layer) in &self.steps {
            out.push('\n');
            if let Some(layer) = layer {
                number += 1;
                let what =
                    about(layer).map_or_else(String::new, |text| format!(": {}", one_line(&text)));
                out.push_str(&format!("# layer {number}{what}\n"));
            }
            for note in &step.notes {
                out.push_str(&format!("# {}\n", one_line(note)));
            }
            if !step.instruction.is_empty() {
                out.push_str(&step.instruction);
                out.push('\n');
            }
        }
        if !self.rest.is_empty() {
            out.push_str("\n# from the configuration; no step of the history says so\n");
        }
        for line in &self.rest {
            out.push_str(line);
            out.push('\n');
        }
        out
    }
}
