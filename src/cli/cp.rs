//! `strata cp`

use std::io::IsTerminal;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::process::ExitCode;

use super::format::size;
use super::{Context, progress};
use crate::copy::CopyOptions;
use crate::error::Failure;
use crate::mount::cp;

/// Copy files between a container and the host, or as a tar from or to a stream.
///
/// What is copied into a container belongs to root there, what is copied out to whoever copies it;
/// with --archive owners stay. A directory with /. at its end stands for its contents. The container
/// may be mounted or not; links in it never lead out of it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  strata cp web:/etc/nginx ./nginx\n  \
    strata cp page.html web:/usr/share/nginx/html/\n  strata cp site/. web:/usr/share/nginx/html\n  \
    strata cp web:/var/log - | tar tv\n  tar c site | strata cp - web:/srv")]
pub struct Args {
    /// Keep owners.
    #[arg(short, long)]
    archive: bool,

    /// Follow a symbolic link that the source is.
    #[arg(short = 'L', long)]
    follow_link: bool,

    /// Show no progress.
    #[arg(short, long)]
    quiet: bool,

    /// CONTAINER:PATH, a file or directory, or - for a tar from standard input.
    #[arg(value_name = "CONTAINER:PATH|PATH|-")]
    source: PathBuf,

    /// CONTAINER:PATH, a file or directory, or - for a tar to standard output.
    #[arg(value_name = "CONTAINER:PATH|PATH|-")]
    destination: PathBuf,
}

/// One side of a copy.
enum Side {
    Container(String, Vec<u8>),
    Host(PathBuf),
    Stream,
}

impl Side {
    /// A path with a colon is a container's, unless it begins as only one of the host can.
    fn parse(path: PathBuf) -> Result<Self, Failure> {
        let bytes = path.as_os_str().as_bytes();
        if bytes == b"-" {
            return Ok(Side::Stream);
        }
        let colon = bytes.iter().position(|b| *b == b':');
        let Some(colon) = colon.filter(|_| !bytes.starts_with(b"/") && !bytes.starts_with(b"."))
        else {
            return Ok(Side::Host(path));
        };
        let name = bytes.get(..colon).unwrap_or_default().to_vec();
        let inside = bytes.get(colon + 1..).unwrap_or_default().to_vec();
        if inside.is_empty() {
            return Err(Failure::usage(format!(
                "{}: which path in the container?",
                path.display()
            )));
        }
        let name = std::ffi::OsString::from_vec(name);
        Ok(Side::Container(name.to_string_lossy().into_owned(), inside))
    }
}

impl Args {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let store = &context.store;
        let options = CopyOptions {
            archive: self.archive,
            follow: self.follow_link,
        };
        let to = self.destination.display().to_string();
        let bars = progress::bars(self.quiet);
        let sides = (Side::parse(self.source)?, Side::parse(self.destination)?);
        bars.begin("Copying", None);
        let copied = match sides {
            (Side::Container(name, from), Side::Host(to)) => {
                let container = store.container(&name)?;
                cp::copy_from_container(store, (&container, &from), &to, options, bars.as_ref())
                    .map(Some)
            }
            (Side::Host(from), Side::Container(name, to)) => {
                let container = store.container(&name)?;
                cp::copy_to_container(store, &from, (&container, &to), options, bars.as_ref())
                    .map(Some)
            }
            (Side::Container(name, from), Side::Stream) => {
                let mut out = std::io::stdout().lock();
                if out.is_terminal() {
                    return Err(Failure::usage(
                        "refusing to write a tar to a terminal: redirect it, or name a file",
                    ));
                }
                let container = store.container(&name)?;
                let from = (&container, from.as_slice());
                cp::stream_from_container(store, from, options, &mut out, bars.as_ref())
                    .map(|()| None)
            }
            (Side::Stream, Side::Container(name, to)) => {
                let container = store.container(&name)?;
                let input = Box::new(std::io::stdin());
                cp::stream_to_container(store, input, (&container, &to), bars.as_ref()).map(Some)
            }
            (Side::Container(..), Side::Container(..)) => Err(Failure::usage(
                "copying between containers is not supported: strata cp A:PATH - | strata cp - B:PATH",
            )),
            _ => Err(Failure::usage("must specify at least one container source")),
        };
        bars.end();
        drop(bars);
        if let Some(copied) = copied?
            && !self.quiet
            && std::io::stderr().is_terminal()
        {
            eprintln!("Successfully copied {} to {to}", size(copied.bytes));
        }
        Ok(ExitCode::SUCCESS)
    }
}
