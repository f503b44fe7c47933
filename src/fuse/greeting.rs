//! INIT: what is agreed with the kernel on a connection that no library speaks for us.

use zerocopy::IntoBytes as _;

use super::device::Device;
use super::server::ServeOptions;
use super::wire::{self, InHeader, InitIn, InitOut, init, op};
use crate::error::{Context as _, Failure};

/// Longest WRITE, in bytes.
pub(super) const MAX_WRITE: u32 = 1 << 20;

/// Requests that the kernel may have under way in the background (readahead, releases).
pub(super) const MAX_BACKGROUND: u16 = 128;

/// What the server is made for. What an older kernel doesn't have costs speed only.
const WANTED: u64 = init::ASYNC_READ
    | init::ATOMIC_O_TRUNC
    | init::EXPORT_SUPPORT
    | init::BIG_WRITES
    | init::DONT_MASK
    // Always: who lists a directory mostly looks at what is in it, and one request for many entries is
    // less work than one for each.
    | init::DO_READDIRPLUS
    | init::ASYNC_DIO
    | init::NO_OPEN_SUPPORT
    | init::NO_OPENDIR_SUPPORT
    | init::PARALLEL_DIROPS
    | init::POSIX_ACL
    | init::MAX_PAGES
    | init::CACHE_SYMLINKS
    | init::HANDLE_KILLPRIV_V2
    | init::SETXATTR_EXT
    | init::INIT_EXT
    | init::PASSTHROUGH
    | init::OVER_IO_URING;

/// What a connection has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Agreed {
    pub flags: u64,
}

impl Agreed {
    pub fn has(self, flag: u64) -> bool {
        self.flags & flag != 0
    }
}

/// The answer to INIT, and what it agrees to.
fn answer(asked: &InitIn, options: &ServeOptions) -> (InitOut, Agreed) {
    let mut offered = u64::from(asked.flags);
    if offered & init::INIT_EXT != 0 {
        offered |= u64::from(asked.flags2) << 32;
    }
    let mut flags = WANTED & offered;
    if options.noacl || options.noxattrs {
        flags &= !init::POSIX_ACL;
    }
    let half = |flags: u64| u32::try_from(flags & u64::from(u32::MAX)).unwrap_or(0);
    let pages = MAX_WRITE as usize / rustix::param::page_size();
    let out = InitOut {
        major: MAJOR,
        minor: MINOR,
        max_readahead: asked.max_readahead,
        flags: half(flags),
        max_background: MAX_BACKGROUND,
        congestion_threshold: MAX_BACKGROUND / 4 * 3,
        max_write: MAX_WRITE,
        time_gran: 1,
        max_pages: u16::try_from(pages).unwrap_or(u16::MAX),
        flags2: half(flags >> 32),
        max_stack_depth: u32::from(flags & init::PASSTHROUGH != 0),
        ..InitOut::default()
    };
    (out, Agreed { flags })
}

/// The protocol that is spoken here; the kernel's own may be newer.
const MAJOR: u32 = 7;
const MINOR: u32 = 42;

/// Waits for the kernel's greeting and answers it.
///
/// # Errors
/// `System` when the kernel is too old, or has hung up.
pub(super) fn exchange(device: &Device, options: &ServeOptions) -> Result<Agreed, Failure> {
    let about = || "agree with the kernel on a FUSE session";
    let mut buffer = vec![0; 1 << 16];
    let len = device.read_one(&mut buffer).context(about)?;
    let request = buffer.get(..len).unwrap_or_default();
    let header: InHeader = wire::read(request).map_err(Failure::from).context(about)?;
    let body = request.get(size_of::<InHeader>()..).unwrap_or_default();
    let asked: InitIn = wire::read(body).map_err(Failure::from).context(about)?;
    if header.opcode != op::INIT || asked.major != MAJOR || asked.minor < MINOR {
        let (major, minor) = (asked.major, asked.minor);
        device.answer(header.unique, Err(libc::EPROTO), &[]);
        let why = format!("the kernel speaks FUSE {major}.{minor}, {MAJOR}.{MINOR} is needed");
        return Err(Failure::system(why).context(about()));
    }
    let (out, agreed) = answer(&asked, options);
    let bytes = out.as_bytes();
    device.answer(header.unique, Ok(bytes.len()), bytes);
    Ok(agreed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_offered_is_agreed() {
        let asked = InitIn {
            major: 7,
            minor: 45,
            max_readahead: 1 << 17,
            flags: !(1 << 30),
            flags2: u32::MAX,
            ..InitIn::default()
        };
        let options = ServeOptions::default();
        let (out, agreed) = answer(&asked, &options);
        assert!(!agreed.has(init::OVER_IO_URING), "without the extension");
        assert_eq!(out.flags2, 0);
        let extended = InitIn {
            flags: u32::MAX,
            ..asked
        };
        let (out, agreed) = answer(&extended, &options);
        assert!(agreed.has(init::OVER_IO_URING) && agreed.has(init::PASSTHROUGH));
        assert_eq!(out.flags2, 1 << 9 | 1 << 5);
        assert_eq!(out.max_pages, 256);
        assert!(agreed.has(init::POSIX_ACL));
        let options = ServeOptions {
            noacl: true,
            ..options
        };
        assert!(!answer(&extended, &options).1.has(init::POSIX_ACL));
        let silent = InitIn {
            flags2: 0,
            ..extended
        };
        assert!(!answer(&silent, &options).1.has(init::OVER_IO_URING));
    }
}
