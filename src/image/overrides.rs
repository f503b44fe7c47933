//! [`Overrides`]: what a container has of its own where its image says something else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::RuntimeConfig;

/// What a container is to run and to be labelled with. A commit of it makes this the image's.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Overrides {
    /// The command's arguments, or the command; the image's where there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// The command's fixed part; the image's without. An empty one means none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Environment, as `NAME=VALUE`, besides the image's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// User, or uid, and group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Where the command starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Labels besides the image's.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl Overrides {
    /// An image's configuration with these in it. An entrypoint takes the image's command away, as
    /// for `docker run`.
    #[must_use]
    pub fn over(&self, image: &RuntimeConfig) -> RuntimeConfig {
        let mut config = image.clone();
        if let Some(entrypoint) = &self.entrypoint {
            config.entrypoint = Some(entrypoint.clone()).filter(|e| !e.is_empty());
            config.cmd = None;
        }
        if !self.cmd.is_empty() {
            config.cmd = Some(self.cmd.clone());
        }
        for entry in &self.env {
            let name = entry.split('=').next();
            config.env.retain(|e| e.split('=').next() != name);
            config.env.push(entry.clone());
        }
        if let Some(user) = &self.user {
            config.user.clone_from(user);
        }
        if let Some(dir) = &self.working_dir {
            config.working_dir.clone_from(dir);
        }
        config
            .labels
            .extend(self.labels.iter().map(|(k, v)| (k.clone(), v.clone())));
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_has_its_images_configuration_but_for_its_own() {
        let image = RuntimeConfig {
            entrypoint: Some(vec!["/run".into()]),
            cmd: Some(vec!["serve".into()]),
            env: vec!["A=1".into(), "B=2".into()],
            ..RuntimeConfig::default()
        };
        assert_eq!(Overrides::default().over(&image), image);
        let own = Overrides {
            entrypoint: Some(vec!["sh".into()]),
            env: vec!["A=3".into()],
            user: Some("www".into()),
            labels: [("k".to_owned(), "v".to_owned())].into(),
            ..Overrides::default()
        };
        let config = own.over(&image);
        assert_eq!(config.entrypoint.as_deref(), Some(&["sh".to_owned()][..]));
        assert_eq!((config.cmd, config.user.as_str()), (None, "www"));
        assert_eq!(config.env, ["B=2", "A=3"]);
        assert_eq!(config.labels["k"], "v");
        let cmd = Overrides {
            cmd: vec!["other".into()],
            ..Overrides::default()
        };
        let config = cmd.over(&image);
        assert_eq!(config.cmd.unwrap(), ["other"]);
        assert_eq!(config.entrypoint.unwrap(), ["/run"]);
    }
}
