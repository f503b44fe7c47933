//! `strata mount` and `strata umount`

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use super::{Context, print_line, progress};
use crate::error::Failure;
use crate::mount::{self, MountOptions, MountRequest, Source, Umount};

/// Mount an image or a container.
///
/// An image is mounted as a new container, whose changes are kept until it is removed; with -o ro
/// the image itself is mounted. The command ends when the mount is live, and prints the container.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  strata mount --name web nginx /mnt\n  strata mount web /mnt\n  \
    strata mount -o ro nginx /mnt\n  strata mount -o lowerdir=/a:/b,upperdir=/u,workdir=/w /mnt"
)]
pub struct Args {
    /// Options of mount(8), overlayfs and fuse-overlayfs, and image=, container=, name=, root=.
    #[arg(short = 'o', value_name = "OPTIONS")]
    options: Vec<OsString>,

    /// Serve the mount in the foreground, until it is unmounted.
    #[arg(short, long)]
    foreground: bool,

    /// The new container's name.
    #[arg(long)]
    name: Option<String>,

    /// Remove the new container when it is unmounted.
    #[arg(long)]
    rm: bool,

    /// IMAGE or CONTAINER (with -o image=, container= or lowerdir= a label, or nothing), and where.
    #[arg(required = true, num_args = 1..=2, value_names = ["IMAGE|CONTAINER", "MOUNTPOINT"])]
    what: Vec<PathBuf>,
}

impl Args {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let mut options = MountOptions::default();
        for list in &self.options {
            options.parse(list)?;
        }
        options.name = self.name.or(options.name);
        options.remove |= self.rm;
        let (named, mountpoint) = match self.what.as_slice() {
            [source, mountpoint] => (Some(source.to_string_lossy().into_owned()), mountpoint),
            [mountpoint] => (None, mountpoint),
            _ => return Err(Failure::usage("which image or container, and where?")),
        };
        let source = if options.remount {
            Source::default()
        } else {
            Source::choose(named.as_deref(), &options)?
        };
        let request = MountRequest {
            label: named.filter(|_| !matches!(source, Source::Any(_))),
            source,
            mountpoint: mountpoint.clone(),
            foreground: self.foreground || options.debug,
            options,
        };
        if let Some(notice) = request.options.notice() {
            log::warn!("{notice}");
        }
        // Bars have threads, and a daemon is forked from one.
        let quiet = progress::bars(true);
        let mounted = mount::mount(context.store.root(), &request, quiet.as_ref())?;
        if let Some(container) = mounted.container.filter(|_| !request.foreground) {
            print_line(&container.name)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Unmount a container, or what is mounted at a place.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  strata umount /mnt\n  strata umount web")]
pub struct UmountArgs {
    /// Take it out of the tree now, even if it is in use.
    #[arg(short, long)]
    lazy: bool,

    /// Mount points or containers.
    #[arg(required = true, value_name = "MOUNTPOINT|CONTAINER")]
    what: Vec<String>,
}

impl UmountArgs {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let how = if self.lazy {
            Umount::Lazy
        } else {
            Umount::Idle
        };
        Ok(super::each(&self.what, |what| {
            mount::umount(&context.store, what, how)
        }))
    }
}
