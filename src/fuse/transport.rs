//! Which way requests can come to us: over `/dev/fuse`, or over io_uring where the kernel has that
//! switched on.

use std::fmt;
use std::io;
use std::path::Path;

use crate::error::Failure;
use crate::sys::uring;

/// How requests come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// `/dev/fuse`
    Dev,
    /// FUSE over io_uring
    Uring,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Transport::Dev => "dev",
            Transport::Uring => "uring",
        })
    }
}

/// How they are wanted to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wanted {
    /// The fastest way that this kernel permits.
    #[default]
    Auto,
    /// Over `/dev/fuse`.
    Dev,
    /// Over io_uring, or not at all.
    Uring,
}

/// The kernel's switch. It counts for mounts that come up while it is on.
pub const PARAMETER: &str = "/sys/module/fuse/parameters/enable_uring";

/// What a kernel and this process's rights permit. [`fmt::Display`] says it in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// The kernel has FUSE over io_uring and it is on.
    Uring,
    /// The kernel has it, and it is off.
    Off,
    /// The kernel has no such thing (it came with 6.14), or its FUSE isn't loaded.
    Unknown,
    /// Rings are refused to this process, with this errno: by `kernel.io_uring_disabled`, by a
    /// seccomp filter, or for want of memory.
    Refused(i32),
}

impl Offer {
    /// What is offered here and now.
    #[must_use]
    pub fn here() -> Self {
        let parameter = std::fs::read_to_string(Path::new(PARAMETER));
        Self::from(parameter, uring::probe)
    }

    fn from(parameter: io::Result<String>, probe: impl FnOnce() -> io::Result<()>) -> Self {
        match parameter.as_deref().map(str::trim) {
            Ok("Y" | "1") => match probe() {
                Ok(()) => Offer::Uring,
                Err(e) => Offer::Refused(e.raw_os_error().unwrap_or(libc::EIO)),
            },
            Ok(_) => Offer::Off,
            Err(_) => Offer::Unknown,
        }
    }

    /// The transport of a mount that comes up now.
    #[must_use]
    pub fn transport(self) -> Transport {
        match self {
            Offer::Uring => Transport::Uring,
            Offer::Off | Offer::Unknown | Offer::Refused(_) => Transport::Dev,
        }
    }

    /// The transport for a mount for which one is wanted.
    ///
    /// # Errors
    /// `Usage`, with what to do about it, when io_uring is wanted and can't be had.
    pub fn choose(self, wanted: Wanted) -> Result<Transport, Failure> {
        match wanted {
            Wanted::Dev => Ok(Transport::Dev),
            Wanted::Auto => Ok(self.transport()),
            Wanted::Uring if self == Offer::Uring => Ok(Transport::Uring),
            Wanted::Uring => Err(Failure::usage(format!(
                "mount option transport: uring can't be had: {self}"
            ))),
        }
    }
}

impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Offer::Uring => f.write_str("the kernel offers FUSE over io_uring"),
            Offer::Off => write!(
                f,
                "FUSE over io_uring is switched off (as root: echo Y >{PARAMETER})"
            ),
            Offer::Unknown => f.write_str(
                "this kernel has no FUSE over io_uring (6.14 and later have), or its fuse module isn't loaded",
            ),
            Offer::Refused(errno) => write!(
                f,
                "io_uring is refused to this process ({}; sysctl kernel.io_uring_disabled or a seccomp filter)",
                io::Error::from_raw_os_error(*errno)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::FailureKind;

    fn offer(parameter: Result<&str, i32>, probe: Result<(), i32>) -> Offer {
        let error = io::Error::from_raw_os_error;
        Offer::from(parameter.map(str::to_owned).map_err(error), || {
            probe.map_err(error)
        })
    }

    #[test]
    fn what_is_offered_is_taken_and_what_is_not_is_explained() {
        let on = offer(Ok("Y\n"), Ok(()));
        assert_eq!(on, Offer::Uring);
        assert_eq!(on.choose(Wanted::Auto).unwrap(), Transport::Uring);
        assert_eq!(on.choose(Wanted::Dev).unwrap(), Transport::Dev);
        let cases = [
            (offer(Ok("N\n"), Ok(())), "switched off (as root: echo Y >"),
            (offer(Err(libc::ENOENT), Ok(())), "no FUSE over io_uring"),
            (offer(Ok("Y\n"), Err(libc::EPERM)), "not permitted"),
        ];
        for (offer, why) in cases {
            assert_eq!(offer.choose(Wanted::Auto).unwrap(), Transport::Dev);
            let failure = offer.choose(Wanted::Uring).unwrap_err();
            assert_eq!(failure.kind(), FailureKind::Usage);
            assert!(failure.to_string().contains(why), "{failure}");
        }
        assert_eq!(Offer::here().choose(Wanted::Dev).unwrap(), Transport::Dev);
    }
}
