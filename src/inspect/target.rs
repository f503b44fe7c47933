//! [`Target`]: what an argument of a command names.
//!
//! ```text
//! IMAGE[@N | @..N][:/PATH]
//!
//! IMAGE  a name, id or container of the store:    nginx:1.27   4e38e38c8ce0   web
//!        or a transport:                          oci:DIR[:TAG]   oci-archive:FILE[:TAG]
//!                                                 docker-archive:FILE[:REF | :@PLACE]   tar:FILE
//! @N     layer N alone, 1 is the bottom one       @..N   the stack of layers 1 to N
//! /PATH  begins with a slash
//! ```
//!
//! The path begins at the first `:/` after the transport's own colon: neither a reference nor a tag
//! can contain that (a file whose name does can't be named). `@N` is digits at the end of IMAGE
//! that don't follow a colon, so that `@0` in `docker-archive:FILE:@0` stays a place in the archive,
//! and `@sha256:…` a digest. A file whose own name ends like that is named with a colon behind it:
//! `docker-archive:app@2:`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::archive::Source;
use crate::error::Failure;

/// Which layers are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// All together.
    All,
    /// One alone; 1 is the bottom one.
    Layer(usize),
    /// The bottom ones, so many, together.
    UpTo(usize),
}

/// Where an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the store: a name, an id, or a container.
    Stored(String),
    /// In an archive or a layout.
    Archive(Source),
    /// A layer's tar by itself.
    Tar(PathBuf),
}

/// What an argument names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The image's name as it was given, for messages.
    pub name: String,
    /// Where the image is.
    pub place: Place,
    /// Which of its layers.
    pub span: Span,
    /// A path in it, with its slash; `None` when none was given.
    pub path: Option<Vec<u8>>,
}

const TRANSPORTS: [&str; 4] = ["oci:", "oci-archive:", "docker-archive:", "tar:"];

impl Target {
    /// Parses an argument.
    ///
    /// # Errors
    /// [`Failure`] of kind `Usage` that says what is wrong with it.
    pub fn parse(argument: &OsStr) -> Result<Self, Failure> {
        let bytes = argument.as_bytes();
        let skip = TRANSPORTS
            .iter()
            .find(|t| bytes.starts_with(t.as_bytes()))
            .map_or(0, |t| t.len());
        let rest = bytes.get(skip..).unwrap_or_default();
        let colon = rest.windows(2).position(|pair| pair == b":/");
        let end = colon.map_or(bytes.len(), |at| skip + at);
        let (image, path) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
        let path = path.strip_prefix(b":").map(<[u8]>::to_vec);
        let Ok(image) = std::str::from_utf8(image) else {
            return Err(Failure::usage(format!(
                "{}: an image's name is UTF-8",
                image.escape_ascii()
            )));
        };
        // As skopeo writes registries; a path in an image has one slash.
        if skip == 0 && path.as_ref().is_some_and(|path| path.starts_with(b"//")) {
            return Err(Failure::usage(format!(
                "{}: {}:// can't be looked into; copy it into an archive or a layout first",
                argument.display(),
                image.escape_debug()
            )));
        }
        let (named, span) = split_span(image)?;
        if named.len() <= skip {
            return Err(Failure::usage(format!(
                "\"{}\" names no image",
                image.escape_debug()
            )));
        }
        let place = match named.strip_prefix("tar:") {
            Some(file) => Place::Tar(file.strip_suffix(':').unwrap_or(file).into()),
            None => match Source::parse(named)? {
                Some(source) => Place::Archive(source),
                None => Place::Stored(named.to_owned()),
            },
        };
        Ok(Self {
            name: image.to_owned(),
            place,
            span,
            path,
        })
    }

    /// The path; the root where none was given.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        self.path.as_deref().unwrap_or(b"/")
    }
}

/// Splits `@N` or `@..N` off the end.
fn split_span(image: &str) -> Result<(&str, Span), Failure> {
    let none = Ok((image, Span::All));
    let Some((name, tail)) = image.rsplit_once('@') else {
        return none;
    };
    let digits = tail.strip_prefix("..").unwrap_or(tail);
    if digits.is_empty() || name.ends_with(':') || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return none;
    }
    let number = digits.parse().ok().filter(|n| *n > 0).ok_or_else(|| {
        Failure::usage(format!(
            "{}: layers are numbered from 1, the bottom one",
            image.escape_debug()
        ))
    })?;
    let span = match digits.len() == tail.len() {
        true => Span::Layer(number),
        false => Span::UpTo(number),
    };
    Ok((name, span))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Target {
        Target::parse(OsStr::new(text)).unwrap()
    }

    fn stored(text: &str, name: &str, span: Span, path: Option<&str>) {
        let target = parse(text);
        assert_eq!(target.place, Place::Stored(name.into()), "{text}");
        assert_eq!(target.span, span, "{text}");
        assert_eq!(target.path.as_deref(), path.map(str::as_bytes), "{text}");
    }

    #[test]
    fn names_layers_and_paths_are_told_apart() {
        stored("nginx", "nginx", Span::All, None);
        stored("nginx:1.27:/etc", "nginx:1.27", Span::All, Some("/etc"));
        stored("nginx:/a:/b@3", "nginx", Span::All, Some("/a:/b@3"));
        stored("host:5000/a/b", "host:5000/a/b", Span::All, None);
        stored("host:5000/a@2:/", "host:5000/a", Span::Layer(2), Some("/"));
        stored("a:b@..12", "a:b", Span::UpTo(12), None);
        let digest = format!("a@sha256:{}", "1".repeat(64));
        stored(&digest, &digest, Span::All, None);
        stored(&format!("{digest}@7"), &digest, Span::Layer(7), None);
        for wrong in [
            "",
            ":/etc",
            "a@0",
            "oci:",
            "tar:",
            "docker://a",
            "tar::/etc",
        ] {
            assert!(Target::parse(OsStr::new(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn transports_have_paths_of_their_own() {
        let archive = |text: &str, of: &str, span: Span, path: &str| {
            let target = parse(text);
            let source = Source::parse(of).unwrap().unwrap();
            assert_eq!(target.place, Place::Archive(source), "{text}");
            assert_eq!((target.span, target.path()), (span, path.as_bytes()));
        };
        archive("oci:/a/b:v1:/etc", "oci:/a/b:v1", Span::All, "/etc");
        archive("oci:/a/b:/etc", "oci:/a/b", Span::All, "/etc");
        archive("oci:b@2", "oci:b", Span::Layer(2), "/");
        let docker = "docker-archive:f.tar:localhost/x:1";
        archive(&format!("{docker}:/x"), docker, Span::All, "/x");
        let place = "docker-archive:f.tar:@0";
        archive(place, place, Span::All, "/");
        archive(&format!("{place}@..3"), place, Span::UpTo(3), "/");
        archive("docker-archive:x@2:", "docker-archive:x@2", Span::All, "/");
        let tar = parse("tar:/x/layer.tar:/a");
        assert_eq!(tar.place, Place::Tar("/x/layer.tar".into()));
        assert_eq!(tar.path(), b"/a");
        assert_eq!(parse("tar:x@2:").place, Place::Tar("x@2".into()));
    }

    #[test]
    fn paths_are_bytes() {
        let target = Target::parse(OsStr::from_bytes(b"a:/\xff:/\n")).unwrap();
        assert_eq!(target.path(), b"/\xff:/\n");
        assert!(Target::parse(OsStr::from_bytes(b"\xff:/a")).is_err());
    }
}
