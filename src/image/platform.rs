//! Platforms: which of an index's images is for which machine.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Descriptor;

/// The platform that an image runs on (OCI image spec, image-index.md, "platform").
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Platform {
    /// CPU architecture, as Go's `GOARCH`.
    pub architecture: String,
    /// Operating system, as Go's `GOOS`.
    pub os: String,
    /// Variant of the CPU, such as `v7` or `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// What else is said.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Platform {
    /// This machine's.
    #[must_use]
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            "loongarch64" => "loong64",
            other => other,
        };
        Self {
            architecture: architecture.into(),
            os: "linux".into(),
            ..Self::default()
        }
    }

    /// A platform as people write it: `OS/ARCHITECTURE[/VARIANT]`, or an architecture alone.
    ///
    /// # Errors
    /// [`crate::error::FailureKind::Usage`]
    pub fn parse(text: &str) -> Result<Self, crate::error::Failure> {
        let words: Vec<&str> = text.split('/').collect();
        let (os, architecture, variant) = match words.as_slice() {
            [architecture] => ("linux", *architecture, None),
            [os, architecture] => (*os, *architecture, None),
            [os, architecture, variant] => (*os, *architecture, Some(*variant)),
            _ => ("", "", None),
        };
        let is_word = |w: &str| {
            let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
            !w.is_empty() && w.bytes().all(good)
        };
        if !(is_word(os) && is_word(architecture) && variant.is_none_or(is_word)) {
            return Err(crate::error::Failure::usage(format!(
                "\"{}\" is no platform: want OS/ARCHITECTURE[/VARIANT], such as linux/arm64",
                text.escape_debug()
            )));
        }
        let architecture = match architecture {
            "x86_64" | "x86-64" => "amd64",
            "aarch64" => "arm64",
            "i386" | "i686" => "386",
            other => other,
        };
        Ok(Self {
            architecture: architecture.into(),
            os: os.into(),
            variant: variant.map(str::to_owned),
            ..Self::default()
        })
    }

    /// Whether an image for `self` runs on `machine`.
    #[must_use]
    pub fn runs_on(&self, machine: &Platform) -> bool {
        self.os == machine.os && self.architecture == machine.architecture
    }

    /// The manifest in an index that is best for a machine: the first of its platform, else the
    /// first that doesn't say, else none.
    #[must_use]
    pub fn choose<'d>(&self, manifests: &'d [Descriptor]) -> Option<&'d Descriptor> {
        let fits = |d: &&Descriptor| d.platform.as_ref().is_some_and(|p| p.runs_on(self));
        let exactly = |d: &&Descriptor| {
            let variant = d.platform.as_ref().and_then(|p| p.variant.as_ref());
            self.variant.is_some() && variant == self.variant.as_ref()
        };
        manifests
            .iter()
            .find(|d| fits(d) && exactly(d))
            .or_else(|| manifests.iter().find(fits))
            .or_else(|| manifests.iter().find(|d| d.platform.is_none()))
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_parsed_as_people_write_them() {
        for (text, shown) in [
            ("linux/amd64", "linux/amd64"),
            ("x86_64", "linux/amd64"),
            ("linux/arm/v7", "linux/arm/v7"),
            ("linux/aarch64", "linux/arm64"),
        ] {
            assert_eq!(Platform::parse(text).unwrap().to_string(), shown);
        }
        for bad in ["", "linux/", "/amd64", "a/b/c/d", "linux/am d64"] {
            assert!(Platform::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_variant_that_is_asked_for_is_preferred() {
        let descriptor = |text: &str, n: &str| Descriptor {
            platform: Some(Platform::parse(text).unwrap()),
            ..Descriptor::new("m", super::super::Digest::of(n.as_bytes()), 1)
        };
        let all = [
            descriptor("linux/arm/v6", "6"),
            descriptor("linux/arm/v7", "7"),
        ];
        let choose = |text: &str| Platform::parse(text).unwrap().choose(&all).unwrap().digest;
        assert_eq!(choose("linux/arm/v7"), all[1].digest);
        assert_eq!(choose("linux/arm"), all[0].digest);
        assert!(
            Platform::parse("linux/s390x")
                .unwrap()
                .choose(&all)
                .is_none()
        );
    }
}
