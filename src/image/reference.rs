//! Names of images, as Docker parses and shows them (distribution/reference: reference.go's
//! grammar and normalize.go's rules).

use std::fmt;
use std::str::FromStr;

use super::Digest;
use crate::error::Failure;

/// The registry that names without one belong to.
const DEFAULT_REGISTRY: &str = "docker.io";
/// Where that registry keeps names of one component.
const OFFICIAL: &str = "library/";
/// The tag of names that say neither tag nor digest.
const DEFAULT_TAG: &str = "latest";
/// The longest name (registry and repository), in bytes.
const NAME_MAX: usize = 255;
/// The longest tag, in bytes.
const TAG_MAX: usize = 128;

/// A parsed and normalised name: `[registry/]repository[:tag][@digest]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Parses and normalises a name: `nginx` is `docker.io/library/nginx:latest`.
    ///
    /// # Errors
    /// [`crate::error::FailureKind::Invalid`] in Docker's words: `invalid reference format`, with
    /// the reason where it has one.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let invalid = |why: &str| Failure::invalid(format!("invalid reference format{why}"));
        if Digest::from_hex(text).is_some() {
            return Err(Failure::invalid(format!(
                "invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
            )));
        }
        let (registry, rest) = split_registry(text);
        let name_end = rest.find(['@', ':']).unwrap_or(rest.len());
        let (path, suffix) = rest.split_at_checked(name_end).unwrap_or((rest, ""));
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(invalid(": repository name must be lowercase"));
        }
        let (tag, digest) = split_suffix(suffix).ok_or_else(|| invalid(""))?;
        let repository = if registry == DEFAULT_REGISTRY && !path.contains('/') {
            format!("{OFFICIAL}{path}")
        } else {
            path.to_owned()
        };
        let valid = is_registry(registry)
            && repository.split('/').all(is_component)
            && tag.is_none_or(is_tag)
            && !path.is_empty();
        if !valid {
            return Err(invalid(""));
        }
        if registry.len() + 1 + repository.len() > NAME_MAX {
            return Err(Failure::invalid(format!(
                "repository name must not be more than {NAME_MAX} characters"
            )));
        }
        let digest = digest
            .map(str::parse)
            .transpose()
            .map_err(|_| invalid(""))?;
        let tag = match (tag, digest) {
            (None, None) => Some(DEFAULT_TAG.to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Self {
            registry: registry.to_owned(),
            repository,
            tag,
            digest,
        })
    }

    /// The registry: `docker.io`, `localhost`, `host:5000`.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository without its registry: `library/nginx`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Registry and repository, without tag and digest.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// [`Reference::name`] as Docker shows it: `nginx`, `user/app`, `localhost/x`.
    #[must_use]
    pub fn familiar_name(&self) -> String {
        if self.registry != DEFAULT_REGISTRY {
            return self.name();
        }
        self.repository
            .strip_prefix(OFFICIAL)
            .unwrap_or(&self.repository)
            .to_owned()
    }

    /// The whole name as Docker shows it: `nginx:latest`.
    #[must_use]
    pub fn familiar(&self) -> String {
        self.with_suffix(self.familiar_name())
    }

    /// The same name under a tag only.
    #[must_use]
    pub fn with_tag(&self, tag: &str) -> Self {
        Self {
            tag: Some(tag.to_owned()),
            digest: None,
            ..self.clone()
        }
    }

    /// The same name under a digest only.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    fn with_suffix(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name.push(':');
            name.push_str(tag);
        }
        if let Some(digest) = self.digest {
            name.push('@');
            name.push_str(&digest.to_string());
        }
        name
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_suffix(self.name()))
    }
}

impl FromStr for Reference {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        Self::parse(text)
    }
}

/// Whether a text could be an image's id, or its beginning.
#[must_use]
pub fn is_id_prefix(text: &str) -> bool {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    (1..=64).contains(&hex.len()) && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The first component is a registry if it looks like a host: it has a dot or a port, or it is
/// `localhost`.
fn split_registry(text: &str) -> (&str, &str) {
    match text.split_once('/') {
        Some(("index.docker.io", rest)) => (DEFAULT_REGISTRY, rest),
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest),
        _ => (DEFAULT_REGISTRY, text),
    }
}

/// `:tag`, `@digest` or both.
fn split_suffix(suffix: &str) -> Option<(Option<&str>, Option<&str>)> {
    let (tag, digest) = match suffix.split_once('@') {
        Some((tag, digest)) => (tag, Some(digest)),
        None => (suffix, None),
    };
    match tag.strip_prefix(':') {
        Some(tag) => Some((Some(tag), digest)),
        None if tag.is_empty() => Some((None, digest)),
        None => None,
    }
}

/// Lower-case letters and digits, in runs separated by one dot, one or two underscores, or any
/// number of dashes.
fn is_component(text: &str) -> bool {
    let mut separator = "";
    let mut rest = text;
    while !rest.is_empty() {
        let letters =
            rest.trim_start_matches(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        if letters.len() == rest.len() {
            return false;
        }
        let after = letters.trim_start_matches(['.', '_', '-']);
        separator = letters.get(..letters.len() - after.len()).unwrap_or("");
        let fine =
            matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-');
        if !fine {
            return false;
        }
        rest = after;
    }
    !text.is_empty() && separator.is_empty()
}

/// A host name or address, with an optional port.
fn is_registry(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let label = |l: &str| {
        !l.is_empty()
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    let address = |h: &str| {
        h.strip_prefix('[')
            .and_then(|h| h.strip_suffix(']'))
            .is_some_and(|h| !h.is_empty() && h.bytes().all(|b| b.is_ascii_hexdigit() || b == b':'))
    };
    (address(host) || host.split('.').all(label))
        && port.is_none_or(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=TAG_MAX).contains(&text.len())
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn good_names_are_normalised_and_shown_short() {
        let digest = format!("nginx@sha256:{HEX}");
        let both = format!("localhost:5000/a/b:v1@sha256:{HEX}");
        for (text, canonical, familiar) in [
            ("nginx", "docker.io/library/nginx:latest", "nginx:latest"),
            ("nginx:1.25", "docker.io/library/nginx:1.25", "nginx:1.25"),
            ("user/app", "docker.io/user/app:latest", "user/app:latest"),
            (
                "docker.io/nginx",
                "docker.io/library/nginx:latest",
                "nginx:latest",
            ),
            (
                "index.docker.io/nginx",
                "docker.io/library/nginx:latest",
                "nginx:latest",
            ),
            (
                "docker.io/library/nginx",
                "docker.io/library/nginx:latest",
                "nginx:latest",
            ),
            ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
            ("host:5000/x", "host:5000/x:latest", "host:5000/x:latest"),
            (
                "h.example/x/y/z:t",
                "h.example/x/y/z:t",
                "h.example/x/y/z:t",
            ),
            ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
            (
                "a__b/c---d.e_f",
                "docker.io/a__b/c---d.e_f:latest",
                "a__b/c---d.e_f:latest",
            ),
            ("x:_T.a-g", "docker.io/library/x:_T.a-g", "x:_T.a-g"),
            (&digest, &format!("docker.io/library/{digest}"), &digest),
            (&both, &both, &both),
        ] {
            let reference = Reference::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(reference.to_string(), canonical);
            assert_eq!(reference.familiar(), familiar);
            assert_eq!(Reference::parse(canonical).unwrap(), reference);
        }
    }

    #[test]
    fn bad_names_are_refused_in_dockers_words() {
        let long_tag = format!("x:{}", "t".repeat(129));
        let long_name = format!("{}/x", "a".repeat(255));
        for text in [
            "",
            ":",
            "@",
            "x:",
            "x@",
            "/x",
            "x/",
            "a//b",
            "ok:bad:tag",
            "x:-t",
            "x:.t",
            "a..b",
            "a___b",
            "-a",
            "a-",
            ".a",
            "_a",
            "a._b",
            "x y",
            "x\u{e9}",
            "x@sha256:12",
            "x@md5:00",
            "ho_st:5000/x",
            "host:port/x",
            "http://x",
            &long_tag,
        ] {
            let error = Reference::parse(text).expect_err(text).to_string();
            assert_eq!(error, "invalid reference format", "{text}");
        }
        for text in ["Bad/Name", "nginX", "localhost/X:1"] {
            let error = Reference::parse(text).expect_err(text).to_string();
            assert_eq!(
                error,
                "invalid reference format: repository name must be lowercase"
            );
        }
        let error = Reference::parse(&long_name).unwrap_err().to_string();
        assert_eq!(
            error,
            "repository name must not be more than 255 characters"
        );
        assert!(
            Reference::parse(HEX)
                .unwrap_err()
                .to_string()
                .contains("64-byte hexadecimal")
        );
    }

    #[test]
    fn ids_and_their_beginnings() {
        for good in ["a", "8d2fc7a856f1", HEX, "sha256:8d2f"] {
            assert!(is_id_prefix(good), "{good}");
        }
        for bad in ["", "g", "ABC", "sha256:", &format!("{HEX}0")] {
            assert!(!is_id_prefix(bad), "{bad}");
        }
    }
}
