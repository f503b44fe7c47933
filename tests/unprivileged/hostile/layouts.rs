//! Bad OCI layouts.

use serde_json::json;
use stratafs::image::Digest;

use super::{Case, case};
use crate::common::build::*;

fn layout(change: impl FnOnce(&mut Layout, &mut serde_json::Value)) -> Vec<u8> {
    let mut layout = Layout::new();
    let plain = layer("bad");
    let mut image = layout.image(&[(GZIP, &gzip(&plain), &plain)]);
    change(&mut layout, &mut image);
    layout.list(image, "bad:1").pack()
}

/// The path of the layer's blob in [`layout`].
fn blob_path() -> String {
    format!("blobs/sha256/{}", Digest::of(&gzip(&layer("bad"))).hex())
}

pub fn bad_layouts() -> Vec<Case> {
    let blob = Digest::of(&gzip(&layer("bad"))).to_string();
    let one = |kind: &str, blob: &[u8], plain: &[u8]| {
        let mut layout = Layout::new();
        let image = layout.image(&[(kind, blob, plain)]);
        layout.list(image, "bad:1").pack()
    };
    let bomb = Tar::new().file("zeros", &vec![0; 8 << 20]).end();
    let plain = layer("bad");
    let mut cut = gzip(&plain);
    cut.truncate(cut.len() - 12);
    let mut flipped = gzip(&plain);
    flipped[20] ^= 0x55;
    vec![
        case(
            "blob-changed",
            layout(|l, _| l.files.get_mut(&blob_path()).unwrap()[30] ^= 1),
            &[&blob, "digest"],
        ),
        case(
            "blob-longer",
            layout(|l, _| l.files.get_mut(&blob_path()).unwrap().push(0)),
            &[&blob, "bytes long"],
        ),
        case(
            "blob-missing",
            layout(|l, _| drop(l.files.remove(&blob_path()))),
            &[&blob, "missing"],
        ),
        case(
            "manifest-changed",
            layout(|_, image| image["digest"] = json!(Digest::of(b"other"))),
            &["missing"],
        ),
        case(
            "manifest-size",
            layout(|_, image| image["size"] = json!(7)),
            &["its descriptor says 7"],
        ),
        case(
            "digest-with-path",
            layout(|_, image| image["digest"] = json!("sha256:../../../etc/passwd")),
            &["index.json", "digest"],
        ),
        case(
            "digest-sha512",
            layout(|_, image| image["digest"] = json!("sha512:00")),
            &["index.json", "digest"],
        ),
        case(
            "unknown-type",
            layout(|_, image| image["mediaType"] = json!("text/plain")),
            &["text/plain"],
        ),
        case(
            "layout-version",
            layout(|l, _| {
                drop(l.files.insert(
                    "oci-layout".into(),
                    br#"{"imageLayoutVersion":"9.0"}"#.to_vec(),
                ))
            }),
            &["oci-layout", "9.0"],
        ),
        case(
            "other-platform",
            layout(|l, image| {
                image["platform"] = json!({"architecture": "s390x", "os": "linux"});
                let mut other = image.clone();
                other["platform"] = json!({"architecture": "mips", "os": "linux"});
                let index = json!({"schemaVersion": 2, "manifests": [image.clone(), other]});
                *image = l.blob(INDEX, index.to_string().as_bytes());
            }),
            &["linux/s390x", "linux/mips"],
        ),
        case(
            "indexes-too-deep",
            layout(|l, image| {
                for _ in 0..10 {
                    let index = json!({"schemaVersion": 2, "manifests": [image.clone()]});
                    *image = l.blob(INDEX, index.to_string().as_bytes());
                }
            }),
            &["deep"],
        ),
        case(
            "index-of-nothing",
            layout(|l, image| {
                *image = l.blob(INDEX, br#"{"schemaVersion":2,"manifests":[]}"#);
            }),
            &["lists no image"],
        ),
        case(
            "no-image-but-a-chart",
            layout(|l, image| {
                let config = l.blob("application/vnd.cncf.helm.config.v1+json", b"{}");
                *image = l.manifest(&json!({"schemaVersion": 2, "config": config, "layers": []}));
            }),
            &["helm"],
        ),
        case(
            "encrypted",
            one(
                "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
                b"secret",
                &plain,
            ),
            &["encrypted"],
        ),
        case(
            "diff-id",
            one(GZIP, &gzip(&layer("other")), &plain),
            &["the configuration says"],
        ),
        case(
            "gzip-cut-inside",
            one(GZIP, &cut, &plain),
            &["layer sha256:"],
        ),
        case(
            "gzip-flipped-inside",
            one(GZIP, &flipped, &plain),
            &["layer sha256:"],
        ),
        case("gzip-bomb", one(GZIP, &gzip(&bomb), &bomb), &["bomb"]),
        case(
            "zstd-bomb",
            one(ZSTD, &zstd::encode_all(&bomb[..], 3).unwrap(), &bomb),
            &["bomb"],
        ),
        case(
            "parent-in-gzip",
            {
                let bad = Tar::new().file("../up", b"x").end();
                one(GZIP, &gzip(&bad), &bad)
            },
            &["../up"],
        ),
    ]
}
