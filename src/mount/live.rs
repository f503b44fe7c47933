//! Commit and diff of a container that may be mounted: its changes are held meanwhile.

use std::fs::File;

use super::control::Connection;
use super::stack::view;
use crate::archive::progress::Progress;
use crate::commit::diff::{DiffLine, diff};
use crate::commit::{CommitOptions, View, commit};
use crate::error::{Context, Failure};
use crate::image::Digest;
use crate::store::containers::Container;
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
    let Some(mounted) = container.mounted_at(store)? else {
        return container.claim(store).map(Still::Claimed);
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

fn with_view<T>(
    store: &Store,
    container: &Container,
    pause: Pause,
    progress: &dyn Progress,
    f: impl FnOnce(&StoredImage, &View) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let still = keep_still(store, container, pause)?;
    let (image, view) = view(store, container, progress)?;
    let result = f(&image, &view);
    drop(still);
    result
}

/// Makes an image of a container; its id.
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
    with_view(store, container, pause, progress, |image, view| {
        commit(store, image, view, options)
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
