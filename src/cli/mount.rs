//! `strata mount` and `strata umount`

use std::path::PathBuf;
use std::process::ExitCode;

use super::{Context, print_line, progress};
use crate::error::Failure;
use crate::mount::{self, MountOptions, MountRequest, Umount};

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
    /// ro, nosuid, dev, noexec, noatime …, volatile, fsname=NAME, lowerdir=A:B, upperdir=, workdir=.
    #[arg(short = 'o', value_name = "OPTIONS")]
    options: Vec<String>,

    /// Serve the mount in the foreground, until it is unmounted.
    #[arg(short, long)]
    foreground: bool,

    /// The new container's name.
    #[arg(long)]
    name: Option<String>,

    /// Remove the new container when it is unmounted.
    #[arg(long)]
    rm: bool,

    /// IMAGE or CONTAINER (none with -o lowerdir=), and where.
    #[arg(required = true, num_args = 1..=2, value_names = ["IMAGE|CONTAINER", "MOUNTPOINT"])]
    what: Vec<PathBuf>,
}

impl Args {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let mut options = MountOptions::default();
        for list in &self.options {
            options.parse(list)?;
        }
        let (source, mountpoint) = match (self.what.as_slice(), options.lowers.is_empty()) {
            ([source, mountpoint], true) => (source.to_string_lossy().into_owned(), mountpoint),
            ([mountpoint], false) => (String::new(), mountpoint),
            ([_], true) => return Err(Failure::usage("which image or container, and where?")),
            _ => return Err(Failure::usage("lowerdir= takes the place of an image")),
        };
        let request = MountRequest {
            source,
            mountpoint: mountpoint.clone(),
            options,
            foreground: self.foreground,
            name: self.name,
            remove: self.rm,
        };
        // Bars have threads, and a daemon is forked from one.
        let quiet = progress::bars(true);
        let mounted = mount::mount(&context.store, &request, quiet.as_ref())?;
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
