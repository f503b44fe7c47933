//! The way to a live mount: a socket in the container's directory, one JSON object a line.
//!
//! `{"request":"hold"}` is answered when no change is under way any more; changes wait until
//! `{"request":"release"}`, or until the connection is gone. `{"request":"status"}` says that the
//! daemon lives, and how the mount is served.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::error::{Context, Failure};

/// The socket's name in the container's directory.
const SOCKET: &str = "control.sock";

/// What a live mount can be asked to do.
pub trait Held: Send + Sync {
    /// Lets running changes finish and keeps new ones waiting.
    ///
    /// # Errors
    /// `EBUSY` when somebody else holds it, `ETIMEDOUT` when changes don't come to an end.
    fn hold(&self) -> crate::error::Result<()>;

    /// Lets changes go on.
    fn release(&self);

    /// How it is served; `None` when it is just ending.
    fn status(&self) -> Option<MountStatus>;
}

/// How a live mount is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountStatus {
    /// How requests reach the daemon: `dev` or `uring`.
    pub transport: String,
    /// Whether the kernel reads and writes files by itself.
    pub passthrough: bool,
}

#[derive(Serialize, Deserialize)]
struct Request {
    request: String,
}

#[derive(Serialize, Deserialize, Default)]
struct Answer {
    ok: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<MountStatus>,
}

/// A path to the socket that is short enough for an address, whatever the store's.
fn address(dir: &Path) -> std::io::Result<(OwnedFd, PathBuf)> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(dir, flags, Mode::empty())?;
    let path = PathBuf::from(crate::sys::fd::magic_path(&fd)).join(SOCKET);
    Ok((fd, path))
}

/// Makes the socket of a container's directory; an earlier mount's is replaced.
///
/// # Errors
/// `System`
pub fn bind(dir: &Path) -> Result<UnixListener, Failure> {
    let about = || format!("control socket in {}", dir.display());
    let (_fd, path) = address(dir).context(about)?;
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e).context(about),
        _ => {}
    }
    UnixListener::bind(&path).context(about)
}

/// Takes commands to a mount; on a thread of its own, until the process ends.
///
/// # Errors
/// `System`
pub fn listen(listener: UnixListener, mount: Arc<dyn Held>) -> Result<(), Failure> {
    let serve = move || {
        for stream in listener.incoming() {
            let mount = Arc::clone(&mount);
            let answer = move || match stream {
                Ok(stream) => serve(&stream, mount.as_ref()),
                Err(e) => log::warn!("control socket: {e}"),
            };
            if let Err(e) = std::thread::Builder::new()
                .name("control".into())
                .spawn(answer)
            {
                log::warn!("control socket: {e}");
            }
        }
    };
    std::thread::Builder::new()
        .name("control".into())
        .spawn(serve)
        .map(drop)
        .context(|| "start a thread for the control socket")
}

/// Removes the socket of a mount that is over.
pub fn close(dir: &Path) {
    if let Err(e) = std::fs::remove_file(dir.join(SOCKET)) {
        log::debug!("remove the control socket: {e}");
    }
}

fn serve(stream: &UnixStream, mount: &dyn Held) {
    let mut held = false;
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { break };
        let answer = match serde_json::from_str::<Request>(&line)
            .as_ref()
            .map(|r| r.request.as_str())
        {
            Ok("hold") if !held => match mount.hold() {
                Ok(()) => {
                    held = true;
                    Answer {
                        ok: true,
                        ..Answer::default()
                    }
                }
                Err(e) => Answer {
                    error: Some(e.to_string()),
                    ..Answer::default()
                },
            },
            Ok("release") if held => {
                mount.release();
                held = false;
                Answer {
                    ok: true,
                    ..Answer::default()
                }
            }
            Ok("status") => Answer {
                ok: true,
                status: mount.status(),
                ..Answer::default()
            },
            _ => Answer {
                error: Some("not a request".into()),
                ..Answer::default()
            },
        };
        let Ok(mut text) = serde_json::to_string(&answer) else {
            break;
        };
        text.push('\n');
        let mut out = stream;
        if out.write_all(text.as_bytes()).is_err() {
            break;
        }
    }
    if held {
        mount.release();
    }
}

/// A connection to a live mount. Dropping it releases what it holds.
pub struct Connection {
    stream: BufReader<UnixStream>,
}

impl Connection {
    /// Connects to the mount of the container whose directory this is.
    ///
    /// # Errors
    /// `System` when its daemon doesn't answer.
    pub fn open(dir: &Path) -> Result<Self, Failure> {
        let about = || format!("reach the mount of {}", dir.display());
        let (_fd, path) = address(dir).context(about)?;
        let stream = UnixStream::connect(&path).context(about)?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Holds all changes until the connection is dropped.
    ///
    /// # Errors
    /// `Conflict` when somebody else holds them.
    pub fn hold(&mut self) -> Result<(), Failure> {
        let answer = self.ask("hold")?;
        if answer.ok {
            return Ok(());
        }
        let why = answer.error.unwrap_or_default();
        Err(Failure::conflict(format!("the mount can't be held: {why}")))
    }

    /// How the mount is served.
    ///
    /// # Errors
    /// `System` when the daemon is just ending, or of a version that doesn't tell.
    pub fn status(&mut self) -> Result<MountStatus, Failure> {
        let answer = self.ask("status")?;
        let untold = || Failure::system("the mount's daemon doesn't say how it serves");
        answer.status.ok_or_else(untold)
    }

    fn ask(&mut self, what: &str) -> Result<Answer, Failure> {
        let request = Request {
            request: what.to_owned(),
        };
        let mut text = serde_json::to_string(&request).map_err(strange)?;
        text.push('\n');
        self.stream.get_mut().write_all(text.as_bytes())?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        serde_json::from_str(&line).map_err(strange)
    }
}

fn strange(e: serde_json::Error) -> Failure {
    Failure::system(format!("the mount's daemon answers strangely: {e}"))
}
