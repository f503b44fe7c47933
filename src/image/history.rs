//! An image's history as rows: each step with the layer it made.

use super::{DiffId, ImageConfig};

/// One step, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryRow<'c> {
    /// When (RFC 3339).
    pub created: Option<&'c str>,
    /// The command.
    pub created_by: &'c str,
    /// A comment.
    pub comment: &'c str,
    /// The layer that the step made; `None` for a step without one.
    pub layer: Option<DiffId>,
}

/// The rows of an image's history, newest first. Layers that the history doesn't mention (an image
/// without one, or with a wrong one) get rows of their own at the end.
#[must_use]
pub fn rows(config: &ImageConfig) -> Vec<HistoryRow<'_>> {
    let mut layers = config.rootfs.diff_ids.iter().copied();
    let mut rows: Vec<_> = config
        .history
        .iter()
        .map(|step| HistoryRow {
            created: step.created.as_deref(),
            created_by: step.created_by.as_deref().unwrap_or_default(),
            comment: step.comment.as_deref().unwrap_or_default(),
            layer: if step.empty_layer {
                None
            } else {
                layers.next()
            },
        })
        .collect();
    let unmentioned = layers.map(|layer| HistoryRow {
        created: config.created.as_deref(),
        created_by: "",
        comment: "",
        layer: Some(layer),
    });
    rows.extend(unmentioned);
    rows.reverse();
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Digest, History};

    #[test]
    fn each_row_has_the_layer_it_made() {
        let layer = |n: &str| DiffId(Digest::of(n.as_bytes()));
        let mut config = ImageConfig::default();
        let step = |by: &str, empty_layer| History {
            created_by: Some(by.into()),
            empty_layer,
            ..History::default()
        };
        config.history = vec![step("add", false), step("cmd", true), step("run", false)];
        config.rootfs.diff_ids = vec![layer("1"), layer("2"), layer("3")];
        let rows = rows(&config);
        let shown: Vec<_> = rows.iter().map(|r| (r.created_by, r.layer)).collect();
        let expected = [
            ("", Some(layer("3"))),
            ("run", Some(layer("2"))),
            ("cmd", None),
            ("add", Some(layer("1"))),
        ];
        assert_eq!(shown, expected);
    }
}
