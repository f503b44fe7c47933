//! Two kinds of trouble: [`Error`] carries an errno to the kernel, [`Failure`] a sentence to a
//! person.

use std::fmt;
use std::io;

/// An error number, as the kernel's own file systems give it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

macro_rules! errnos {
    ($($name:ident),* $(,)?) => {
        impl Errno {
            $(#[doc = concat!("`", stringify!($name), "`")]
            pub const $name: Errno = Errno(libc::$name);)*

            /// The symbolic name, for log lines that read like strace's.
            #[must_use]
            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $(libc::$name => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

errnos!(
    EPERM,
    ENOENT,
    EINTR,
    EIO,
    ENXIO,
    E2BIG,
    EBADF,
    EAGAIN,
    ENOMEM,
    EACCES,
    EBUSY,
    EEXIST,
    EXDEV,
    ENODEV,
    ENOTDIR,
    EISDIR,
    EINVAL,
    ENFILE,
    EMFILE,
    ETXTBSY,
    EFBIG,
    ENOSPC,
    EROFS,
    EMLINK,
    ERANGE,
    ENAMETOOLONG,
    ENOSYS,
    ENOTEMPTY,
    ELOOP,
    ENODATA,
    EOVERFLOW,
    EOPNOTSUPP,
    ESTALE,
    EDQUOT,
    ENOTCONN,
    ETIMEDOUT,
);

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a file-system operation reports: an errno, and what was being done when it came up.
///
/// Absence is never an `Error` where it is an ordinary answer: those functions return
/// `Result<Option<T>>`.
#[derive(Debug)]
pub struct Error {
    errno: Errno,
    context: Option<Box<str>>,
}

/// The result of a file-system operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error with this number and no further context.
    #[must_use]
    pub fn new(errno: Errno) -> Self {
        Self {
            errno,
            context: None,
        }
    }

    /// An error with this number and the operation that met it.
    #[must_use]
    pub fn with(errno: Errno, context: impl Into<String>) -> Self {
        Self {
            errno,
            context: Some(context.into().into_boxed_str()),
        }
    }

    /// The number that the kernel is to be given.
    #[must_use]
    pub fn errno(&self) -> Errno {
        self.errno
    }

    /// The same error, with what was being done put before what is known already.
    #[must_use]
    pub fn context(mut self, what: impl fmt::Display) -> Self {
        self.context = Some(match self.context.take() {
            Some(inner) => format!("{what}: {inner}").into_boxed_str(),
            None => what.to_string().into_boxed_str(),
        });
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(context) = &self.context {
            write!(f, "{context}: ")?;
        }
        let text = io::Error::from_raw_os_error(self.errno.0).to_string();
        let text = text.split(" (os error").next().unwrap_or_default();
        write!(f, "{text} ({})", self.errno)
    }
}

impl std::error::Error for Error {}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        Self::new(errno)
    }
}

impl From<rustix::io::Errno> for Error {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::new(Errno(errno.raw_os_error()))
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno) => Self::new(Errno(errno)),
            None => Self::with(Errno::EIO, error.to_string()),
        }
    }
}

/// The class of a [`Failure`], for callers that act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The named image, container or file does not exist.
    NotFound,
    /// The name is taken, or the object is in use.
    Conflict,
    /// Input is malformed, hostile, or does not match its digest.
    Invalid,
    /// The caller may not do this.
    Denied,
    /// The command line, or an option, is wrong.
    Usage,
    /// Something below failed (I/O, the kernel).
    System,
}

/// What a command reports to a person: one line that says what failed, on which object, why, and,
/// where there is something to do about it, what.
#[derive(Debug)]
pub struct Failure {
    kind: FailureKind,
    message: Box<str>,
}

impl Failure {
    /// A failure of this kind. `message` is one line without a full stop.
    #[must_use]
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into().into_boxed_str(),
        }
    }

    /// [`FailureKind::NotFound`]
    #[must_use]
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(FailureKind::NotFound, message)
    }

    /// [`FailureKind::Conflict`]
    #[must_use]
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Conflict, message)
    }

    /// [`FailureKind::Invalid`]
    #[must_use]
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Invalid, message)
    }

    /// [`FailureKind::Usage`]
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Usage, message)
    }

    /// [`FailureKind::System`]
    #[must_use]
    pub fn system(message: impl Into<String>) -> Self {
        Self::new(FailureKind::System, message)
    }

    /// Its class.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        self.kind
    }

    /// The same failure, with what was being done, and on which object, put before it.
    #[must_use]
    pub fn context(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message).into_boxed_str();
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::system(error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        // A Failure that travelled through a `Read` comes out as it went in.
        match error.downcast::<Failure>() {
            Ok(failure) => failure,
            Err(error) => Self::system(match error.raw_os_error() {
                Some(errno) => Error::new(Errno(errno)).to_string(),
                None => error.to_string(),
            }),
        }
    }
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        io::Error::other(failure)
    }
}

/// Puts what was being done before an error's text.
pub trait Context<T> {
    /// The error type that carries the context.
    type Error;

    /// Adds `what()` in front of the error, if there is one.
    ///
    /// # Errors
    /// The same error, with its context.
    fn context<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T, Self::Error>;
}

impl<T> Context<T> for Result<T, Error> {
    type Error = Error;
    fn context<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T, Error> {
        self.map_err(|e| e.context(what()))
    }
}

impl<T> Context<T> for Result<T, Failure> {
    type Error = Failure;
    fn context<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T, Failure> {
        self.map_err(|e| e.context(what()))
    }
}

impl<T> Context<T> for io::Result<T> {
    type Error = Failure;
    fn context<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T, Failure> {
        self.map_err(|e| Failure::from(e).context(what()))
    }
}

impl<T> Context<T> for std::result::Result<T, rustix::io::Errno> {
    type Error = Failure;
    fn context<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T, Failure> {
        self.map_err(|e| Failure::from(Error::from(e)).context(what()))
    }
}
