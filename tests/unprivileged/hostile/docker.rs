//! Bad docker-archives.

use serde_json::json;
use stratafs::image::Digest;

use super::{Case, case};
use crate::common::build::*;

/// A good image, changed.
fn docker(change: impl FnOnce(&mut Docker)) -> Vec<u8> {
    let mut docker = Docker::new("bad:1", &[&layer("bad")]);
    change(&mut docker);
    docker.pack()
}

fn only_layer(docker: &Docker) -> String {
    docker.manifest[0]["Layers"][0].as_str().unwrap().to_owned()
}

pub fn bad_docker() -> Vec<Case> {
    let good = Docker::new("bad:1", &[&layer("bad")]);
    let path = only_layer(&good);
    let config = good.manifest[0]["Config"].as_str().unwrap().to_owned();
    let without_layer = |kind: u8, target: &str| {
        let mut docker = good.clone();
        docker.files.remove(&path);
        docker.open().link(kind, &path, target).end()
    };
    let many: Vec<String> = vec![path.clone(); 600];
    let many_ids = vec![Digest::of(&layer("bad")); 600];
    let many_config = json!({"architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": many_ids}});
    vec![
        case(
            "no-archive",
            b"plain text, and more of it ".repeat(50),
            &["not a tar archive"],
        ),
        case("empty", Vec::new(), &["empty"]),
        case("cut-outer", good.pack()[..1000].to_vec(), &["truncated"]),
        case(
            "no-manifest",
            Tar::new().file("hello", b"x").end(),
            &["manifest.json"],
        ),
        case(
            "old-docker",
            Tar::new().file("repositories", b"{}").end(),
            &["1.10"],
        ),
        case(
            "manifest-no-json",
            Tar::new().file("manifest.json", b"{[").end(),
            &["manifest.json"],
        ),
        case(
            "no-images",
            Tar::new().file("manifest.json", b"[]").end(),
            &["no image"],
        ),
        case(
            "no-config",
            docker(|d| drop(d.files.remove(&config))),
            &[&config, "missing"],
        ),
        case(
            "config-no-json",
            docker(|d| {
                d.files.insert("c.json".into(), b"]".to_vec());
                d.manifest[0]["Config"] = json!("c.json");
            }),
            &["member \"c.json\""],
        ),
        case(
            "config-digest",
            docker(|d| d.files.get_mut(&config).unwrap().push(b' ')),
            &[&config, "digest"],
        ),
        case(
            "config-out",
            docker(|d| d.manifest[0]["Config"] = json!("../../etc/passwd")),
            &["../../etc/passwd", "leaves"],
        ),
        case(
            "no-layer",
            docker(|d| drop(d.files.remove(&path))),
            &[&path, "missing"],
        ),
        case(
            "layer-count",
            docker(|d| d.manifest[0]["Layers"] = json!([path, path])),
            &[&config, "1 layers", "2"],
        ),
        case(
            "layer-out",
            docker(|d| d.manifest[0]["Layers"] = json!(["../../../etc/passwd"])),
            &["../../../etc/passwd", "leaves"],
        ),
        case(
            "layer-changed",
            docker(|d| drop(d.files.insert(path.clone(), layer("other")))),
            &[&path, "digest"],
        ),
        case(
            "layer-links-out",
            without_layer(b'2', "/etc/passwd"),
            &[&path, "leaves"],
        ),
        case(
            "layer-links-in-a-circle",
            without_layer(b'2', "layer.tar"),
            &[&path, "circle"],
        ),
        case(
            "layer-links-nowhere",
            without_layer(b'1', "gone"),
            &[&path, "gone"],
        ),
        case(
            "layer-is-a-directory",
            without_layer(b'5', ""),
            &[&path, "directory"],
        ),
        case(
            "layer-is-a-fifo",
            without_layer(b'6', ""),
            &[&path, "special file"],
        ),
        case(
            "layer-twice",
            good.open().file(&path, b"x").end(),
            &[&path, "twice"],
        ),
        case(
            "manifest-twice",
            good.open().file("manifest.json", b"[]").end(),
            &["manifest.json", "twice"],
        ),
        case(
            "bad-name",
            docker(|d| d.manifest[0]["RepoTags"] = json!(["Bad Name:1"])),
            &["manifest.json", "Bad Name:1"],
        ),
        case(
            "many-layers",
            docker(|d| {
                d.files
                    .insert("c.json".into(), many_config.to_string().into_bytes());
                d.manifest[0]["Config"] = json!("c.json");
                d.manifest[0]["Layers"] = json!(many);
            }),
            &["600 layers"],
        ),
        case("xz", b"\xfd7zXZ\0 and so on".to_vec(), &["xz"]),
        case(
            "gzip-of-nonsense",
            gzip(b"nonsense"),
            &["not a tar archive"],
        ),
        case(
            "gzip-cut",
            {
                let mut g = gzip(&good.pack());
                g.truncate(g.len() / 2);
                g
            },
            &[],
        ),
        case("gzip-bomb-outside", gzip(&vec![0; 8 << 20]), &["bomb"]),
        case(
            "zstd-bomb-outside",
            zstd::encode_all(&vec![0; 8 << 20][..], 3).unwrap(),
            &["bomb"],
        ),
    ]
}
