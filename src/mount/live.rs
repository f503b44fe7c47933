//! Commit and diff of a container that may be mounted: its changes are held meanwhile.

use std::fs::File;

use super::control::Connection;
use super::stack::{adopt_root, view_above};
use crate::archive::progress::Progress;
use crate::commit::diff::{DiffLine, diff};
use crate::commit::{CommitOptions, View, commit};
use crate::error::{Context, Failure};
use crate::image::Digest;
use crate::store::containers::Container;
use crate::store::list::State;
use crate::store::names::StoredImage;
use crate::store::{FileLock, Store};

/// Whether the writers of a mounted container wait while it is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// They do.
    Yes,
    /// They don't: what they write meanwhile may be in the image or not.
    No,
}

/// Keeps a container as it is: its claim, or the hold on its mount.
enum Still {
    Claimed(#[expect(dead_code, reason = "held, not read")] FileLock),
    Held(#[expect(dead_code, reason = "held, not read")] Connection),
    Moving,
}

fn keep_still(store: &Store, container: &Container, pause: Pause) -> Result<Still, Failure> {
    let state = container.state(store)?;
    let Some(mounted) = state.mount() else {
        let claim = container.claim(store)?;
        if state == State::Created {
            adopt_root(store, container)?;
        }
        return Ok(Still::Claimed(claim));
    };
    // Pages that were written through mappings go down to the upper first.
    let place = &mounted.mountpoint;
    File::open(place)
        .map_err(Failure::from)
        .and_then(|dir| rustix::fs::syncfs(&dir).context(|| "syncfs"))
        .context(|| format!("the mount at {}", place.display()))?;
    if pause == Pause::No {
        return Ok(Still::Moving);
    }
    let mut connection = Connection::open(&container.dir(store))?;
    connection.hold()?;
    Ok(Still::Held(connection))
}

pub(super) fn with_view<T>(
    store: &Store,
    container: &Container,
    pause: Pause,
    progress: &dyn Progress,
    f: impl FnOnce(&StoredImage, &View) -> Result<T, Failure>,
) -> Result<T, Failure> {
    with_view_above(store, container, (pause, 0), progress, f)
}

/// As [`with_view`], the image without some of its layers.
fn with_view_above<T>(
    store: &Store,
    container: &Container,
    (pause, fold): (Pause, usize),
    progress: &dyn Progress,
    f: impl FnOnce(&StoredImage, &View) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let still = keep_still(store, container, pause)?;
    let (image, view) = view_above(store, container, fold, progress)?;
    let result = f(&image, &view);
    drop(still);
    result
}

/// Makes an image of a container; its id. What the container has of its own (command, environment,
/// labels) becomes the image's.
///
/// ```
/// # use stratafs::archive::{Silent, import::{ImportOptions, import}};
/// # use stratafs::commit::CommitOptions;
/// # use stratafs::mount::live::{Pause, commit_container};
/// # use stratafs::store::{Store, containers::{NewContainer, commit_name}};
/// # let dir = tempfile::tempdir()?;
/// # let store = Store::open(dir.path())?;
/// # let tar = stratafs::tar::TarWriter::new(Vec::new()).finish()?;
/// # let image = import(&store, &mut tar.as_slice(), &ImportOptions::default(), &Silent)?;
/// # let image = store.find(&image.to_string())?;
/// let container = store.create_container(&image, "base", NewContainer::default())?;
/// let options = CommitOptions {
///     message: Some("mine".into()),
///     changes: vec!["USER www".into()],
///     name: Some(commit_name("mine:1")?),
///     ..CommitOptions::default()
/// };
/// let id = commit_container(&store, &container, &options, Pause::Yes, &Silent)?;
/// assert_eq!(store.find("mine:1")?.id, id);
/// # Ok::<(), stratafs::error::Failure>(())
/// ```
///
/// # Errors
/// As [`crate::commit::commit`]; `Conflict` when somebody else holds the mount.
pub fn commit_container(
    store: &Store,
    container: &Container,
    options: &CommitOptions,
    pause: Pause,
    progress: &dyn Progress,
) -> Result<Digest, Failure> {
    let mut options = options.clone();
    options.own = container.own.clone();
    let fold = options.squash.unwrap_or(0);
    with_view_above(store, container, (pause, fold), progress, |image, view| {
        commit(store, image, view, &options)
    })
}

/// What a container changed.
///
/// # Errors
/// As [`crate::commit::diff::diff`].
pub fn diff_container(
    store: &Store,
    container: &Container,
    progress: &dyn Progress,
) -> Result<Vec<DiffLine>, Failure> {
    with_view(store, container, Pause::Yes, progress, |_, view| diff(view))
}
