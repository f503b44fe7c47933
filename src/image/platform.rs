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
        manifests
            .iter()
            .find(fits)
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
