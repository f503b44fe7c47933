//! The image commands as a user runs them: filters, names, removal, pruning, sizes, templates, exit
//! statuses.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde_json::{Value, json};
use stratafs::image::Reference;
use stratafs::store::Store;

use crate::common::build::Tar;
use crate::golden::{Image, Strata, layer};

mod filters;
mod inspect;
mod removal;
mod sizes;
mod words;

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn image(names: &[&'static str], created: &str, labels: Value, layers: &[Vec<u8>]) -> Image {
    let step = |n: usize| json!({"created": created, "created_by": format!("step {n}")});
    Image {
        names: names.to_vec(),
        config: json!({
            "created": created,
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["sh"], "Labels": labels},
            "history": (0..layers.len()).map(step).collect::<Vec<_>>(),
        }),
        layers: layers.to_vec(),
    }
}

/// nginx in two versions, an application of a team, one that nobody named.
fn some_images() -> Strata {
    let strata = Strata::new();
    let base = layer("base", 1_000_000);
    let on_base = |name: &str, size| vec![base.clone(), layer(name, size)];
    strata.load(&[
        image(
            &["nginx:1.24"],
            "2024-01-01T00:00:00Z",
            json!({"team": "web", "v": "1"}),
            &on_base("a", 10_000),
        ),
        image(
            &["nginx:1.25", "nginx:latest"],
            "2024-02-01T00:00:00Z",
            json!({"team": "web"}),
            &on_base("b", 20_000),
        ),
        image(
            &["host:5000/team/app:v1"],
            "2024-03-01T00:00:00Z",
            json!({"team": "app"}),
            &on_base("c", 30_000),
        ),
        image(
            &[],
            "2024-04-01T00:00:00Z",
            json!(null),
            &[layer("d", 40_000)],
        ),
    ]);
    strata
}

const NAME_AND_TAG: &str = "{{.Repository}}:{{.Tag}}";

fn names(strata: &Strata, arguments: &[&str]) -> Vec<String> {
    let all = [&["images", "--format", NAME_AND_TAG], arguments].concat();
    strata.ok(&all).lines().map(str::to_owned).collect()
}
