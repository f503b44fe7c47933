//! strata mounts container images: the union of an image's read-only layers and one writable
//! container layer, presented through FUSE; [`commit`] turns the writable layer into a new image
//! layer.
//!
//! What the commands do, a program can do:
//!
//! ```
//! use stratafs::archive::{self, ImportOptions, LoadOptions, SaveOptions, Silent, Source};
//! use stratafs::commit::CommitOptions;
//! use stratafs::copy::CopyOptions;
//! use stratafs::mount::{cp, live};
//! use stratafs::store::{Store, containers::NewContainer, containers::commit_name};
//!
//! let dir = tempfile::tempdir()?;
//! let store = Store::open(&dir.path().join("store"))?;
//!
//! // An image: of a tar here, else of any archive (archive::load).
//! let tar = stratafs::tar::TarWriter::new(Vec::new()).finish()?;
//! let options = ImportOptions { name: Some(commit_name("base")?), ..Default::default() };
//! archive::import(&store, &mut tar.as_slice(), &options, &Silent)?;
//!
//! // A container of it, a change in it, and what that is; stratafs::mount::mount mounts it.
//! let container = store.create_container(&store.find("base")?, "base", NewContainer::default())?;
//! let page = dir.path().join("index.html");
//! std::fs::write(&page, "hello")?;
//! let to = (&container, &b"/index.html"[..]);
//! cp::copy_to_container(&store, &page, to, CopyOptions::default(), &Silent)?;
//! let diff = live::diff_container(&store, &container, &Silent)?;
//! assert_eq!((diff[0].letter, diff[0].path.as_slice()), ('A', &b"/index.html"[..]));
//!
//! // Committed, and saved and loaded elsewhere, it is the same image.
//! let options = CommitOptions { name: Some(commit_name("mine:1")?), ..Default::default() };
//! let id = live::commit_container(&store, &container, &options, live::Pause::Yes, &Silent)?;
//! let file = dir.path().join("mine.tar");
//! archive::save_file(&store, &["mine:1".into()], &SaveOptions::default(), &file, &Silent)?;
//! let other = Store::open(&dir.path().join("other"))?;
//! let loaded = archive::load(&other, &Source::Path(file), &LoadOptions::default(), &Silent)?;
//! assert_eq!(loaded[0].id, id);
//! # Ok::<(), stratafs::error::Failure>(())
//! ```
//!
//! Dependencies point downward only (a test greps the `use` lines):
//!
//! ```text
//!    cli   runtime                 the only printing
//!       \  /
//!       mount                      options -> source -> stack -> union -> session
//!       /   \
//!    fuse   store                  protocol <-> union          OCI layout, containers, locks
//!     |       |
//!    union    |                    the merged tree: a file per verb
//!     |       |
//!    layer    |                    read-only trees: a host directory, or an indexed blob
//!       \    /
//!    index   content               mapped index; bytes of a blob at random
//!
//!    mount, inspect -> archive -> {store, index, tar}      commit -> {union, store, index, tar}
//!    mount -> copy -> {union, archive, tar}                export and cp: trees as tar streams
//!    image, tar: pure data and formats      sys: below all, the only unsafe
//! ```

pub mod archive;
pub mod cli;
pub mod commit;
pub mod content;
pub mod copy;
pub mod error;
pub mod fuse;
pub mod image;
pub mod index;
pub mod inspect;
pub mod layer;
pub mod mount;
pub mod name;
pub mod runtime;
pub mod stat;
pub mod store;
pub mod sync;
pub mod sys;
pub mod tar;
pub mod union;
