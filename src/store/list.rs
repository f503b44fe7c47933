//! Listing containers: states, and Docker's filters.

use jiff::Timestamp;
use regex::Regex;

use super::Store;
use super::containers::{Container, MountRecord};
use crate::error::Failure;
use crate::image::time;

/// What a container is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It was never mounted.
    Created,
    /// It is mounted.
    Mounted(MountRecord),
    /// It was mounted, and is not now.
    Ended {
        /// Since when; for a killed daemon, when its mount began.
        at: Timestamp,
        /// Whether its daemon was killed.
        killed: bool,
    },
}

impl State {
    /// Docker's word for it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            State::Created => "created",
            State::Mounted(_) => "running",
            State::Ended { .. } => "exited",
        }
    }

    /// Where it is mounted, if it is.
    #[must_use]
    pub fn mount(&self) -> Option<&MountRecord> {
        match self {
            State::Mounted(record) => Some(record),
            _ => None,
        }
    }
}

/// Docker's words for states. Those that a container here is never in match nothing.
const STATES: [&str; 7] = [
    "created",
    "running",
    "exited",
    "paused",
    "restarting",
    "removing",
    "dead",
];

/// A container with its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The container.
    pub container: Container,
    /// What it is doing.
    pub state: State,
}

/// Which containers: what several filters of one kind say is taken as *or* (labels: *and*), kinds
/// are taken as *and*.
///
/// ```
/// use stratafs::store::list::ContainerFilters;
///
/// let filters = ContainerFilters::parse(&["name=^web", "status=created", "label=team=a"])?;
/// assert!(!filters.is_empty());
/// assert!(ContainerFilters::parse(&["colour=red"]).is_err());
/// # Ok::<(), stratafs::error::Failure>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct ContainerFilters {
    names: Vec<Regex>,
    ids: Vec<Regex>,
    labels: Vec<(String, Option<String>)>,
    states: Vec<String>,
    ancestors: Vec<String>,
    before: Vec<String>,
    since: Vec<String>,
    until: Option<Timestamp>,
}

impl ContainerFilters {
    /// Parses filters as `docker ps` and `docker container prune` have them: `name=`, `id=`
    /// (regular expressions), `label=KEY[=VALUE]`, `status=`, `ancestor=IMAGE`, `before=CONTAINER`,
    /// `since=CONTAINER`, `until=TIME`.
    ///
    /// # Errors
    /// `Usage`
    pub fn parse(words: &[impl AsRef<str>]) -> Result<Self, Failure> {
        let mut filters = Self::default();
        for word in words {
            let word = word.as_ref();
            let bad = || Failure::usage(format!("invalid filter '{}'", word.escape_debug()));
            let (key, value) = word
                .split_once('=')
                .ok_or_else(|| bad().context("bad format of filter (expected name=value)"))?;
            let pattern = || {
                Regex::new(value).map_err(|e| bad().context(format!("no regular expression ({e})")))
            };
            match key.trim().to_ascii_lowercase().as_str() {
                "name" => filters.names.push(pattern()?),
                "id" => filters.ids.push(pattern()?),
                "label" => filters.labels.push(match value.split_once('=') {
                    Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                    None => (value.to_owned(), None),
                }),
                "status" if STATES.contains(&value) => filters.states.push(value.to_owned()),
                "ancestor" => filters.ancestors.push(value.to_owned()),
                "before" => filters.before.push(value.to_owned()),
                "since" => filters.since.push(value.to_owned()),
                "until" => filters.until = Some(time::parse_moment(value)?),
                _ => {
                    return Err(Failure::usage(format!(
                        "{}: there are name=, id=, label=, status=, ancestor=, before=, since= and \
                         until=",
                        bad()
                    )));
                }
            }
        }
        Ok(filters)
    }

    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
            && self.ids.is_empty()
            && self.labels.is_empty()
            && self.states.is_empty()
            && self.ancestors.is_empty()
            && self.before.is_empty()
            && self.since.is_empty()
            && self.until.is_none()
    }

    /// Whether they ask for states, and so for containers that are not mounted, too.
    #[must_use]
    pub fn ask_for_states(&self) -> bool {
        !self.states.is_empty()
    }

    /// What the filters refer to, found.
    fn settle(&self, store: &Store) -> Result<Settled<'_>, Failure> {
        let made = |names: &[String]| {
            let of = |name: &String| store.container(name).map(|c| (c.created, c.id));
            names.iter().map(of).collect::<Result<Vec<_>, _>>()
        };
        let mut ancestors = Vec::new();
        for name in &self.ancestors {
            // As for Docker, an image that isn't there is nobody's ancestor.
            match store.find(name) {
                Ok(image) => ancestors.push(image.config.rootfs.diff_ids),
                Err(e) => log::warn!("filter ancestor: {e}"),
            }
        }
        Ok(Settled {
            filters: self,
            before: made(&self.before)?,
            since: made(&self.since)?,
            ancestors,
        })
    }
}

/// Filters with what they refer to.
struct Settled<'f> {
    filters: &'f ContainerFilters,
    before: Vec<(String, String)>,
    since: Vec<(String, String)>,
    ancestors: Vec<Vec<crate::image::DiffId>>,
}

impl Settled<'_> {
    fn take(&self, store: &Store, listed: &Listed) -> bool {
        let (filters, container) = (self.filters, &listed.container);
        let any = |patterns: &[Regex], text: &str| {
            patterns.is_empty() || patterns.iter().any(|p| p.is_match(text))
        };
        let slashed = format!("/{}", container.name);
        let made = (container.created.clone(), container.id.clone());
        (any(&filters.names, &container.name) || any(&filters.names, &slashed))
            && any(&filters.ids, &container.id)
            && self.has_labels(store, container)
            && (filters.states.is_empty()
                || filters.states.iter().any(|s| s == listed.state.word()))
            && self.before.iter().all(|other| made < *other)
            && self.since.iter().all(|other| made > *other)
            && filters.until.is_none_or(|until| {
                time::parse(&container.created).is_some_and(|created| created < until)
            })
            && (filters.ancestors.is_empty() || self.descends(store, container))
    }

    /// Its image's labels are a container's too.
    fn has_labels(&self, store: &Store, container: &Container) -> bool {
        if self.filters.labels.is_empty() {
            return true;
        }
        let image = store.image_of_container(container);
        let config = image.map(|i| i.config.config).unwrap_or_default();
        let labels = container.own.over(&config).labels;
        self.filters.labels.iter().all(|(key, value)| {
            let found = labels.get(key);
            found.is_some_and(|found| value.as_ref().is_none_or(|v| v == found))
        })
    }

    fn descends(&self, store: &Store, container: &Container) -> bool {
        // A container whose image is gone has no ancestors.
        let Ok(image) = store.image_of_container(container) else {
            return false;
        };
        let layers = image.config.rootfs.diff_ids;
        self.ancestors.iter().any(|a| layers.starts_with(a))
    }
}

/// Which containers to list.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Those that are not mounted too.
    pub all: bool,
    /// Only so many, the newest, mounted or not.
    pub last: Option<usize>,
    /// Only these.
    pub filters: ContainerFilters,
}

impl Store {
    /// Lists containers, newest first.
    ///
    /// ```
    /// use stratafs::store::{Store, list::Selection};
    ///
    /// let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// let all = Selection { all: true, ..Selection::default() };
    /// assert!(store.list_containers(&all)?.is_empty());
    /// # Ok::<(), stratafs::error::Failure>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound` when a filter names a container that isn't there; `System`.
    pub fn list_containers(&self, which: &Selection) -> Result<Vec<Listed>, Failure> {
        let settled = which.filters.settle(self)?;
        let all = which.all || which.last.is_some() || which.filters.ask_for_states();
        let mut listed = Vec::new();
        for container in self.containers()? {
            let state = match container.state(self) {
                Ok(state) => state,
                // Removed since it was listed.
                Err(_) if !container.dir(self).exists() => continue,
                Err(e) => return Err(e),
            };
            let item = Listed { container, state };
            if (all || item.state.mount().is_some()) && settled.take(self, &item) {
                listed.push(item);
            }
            if which.last.is_some_and(|last| listed.len() >= last) {
                break;
            }
        }
        listed.truncate(which.last.unwrap_or(usize::MAX));
        Ok(listed)
    }

    /// Removes all containers that are not mounted, but those that filters leave out; what was
    /// removed, and how many bytes that freed.
    ///
    /// # Errors
    /// As [`Store::list_containers`] and [`Store::remove_container`].
    pub fn prune_containers(
        &self,
        filters: &ContainerFilters,
    ) -> Result<(Vec<Container>, u64), Failure> {
        let which = Selection {
            all: true,
            filters: filters.clone(),
            ..Selection::default()
        };
        let (mut removed, mut freed) = (Vec::new(), 0);
        for item in self.list_containers(&which)? {
            if item.state.mount().is_some() {
                continue;
            }
            let bytes = self.writable_size(&item.container)?;
            match self.remove_container(&item.container) {
                Ok(()) => {
                    freed += bytes;
                    removed.push(item.container);
                }
                // Mounted, or removed, since it was listed.
                Err(e) if e.kind() == crate::error::FailureKind::Conflict => {}
                Err(_) if !item.container.dir(self).exists() => {}
                Err(e) => return Err(e),
            }
        }
        Ok((removed, freed))
    }
}
