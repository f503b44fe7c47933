//! Docker 20.10's outputs (`tests/data/golden`), and the images that they are about.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// A file of `tests/data`.
pub fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

/// What Docker printed; its exit status is 0.
pub fn docker_said(name: &str) -> String {
    let read = |end: &str| fs::read_to_string(data(&format!("golden/{name}.{end}")));
    assert_eq!(read("rc").unwrap().trim(), "0", "{name}");
    read("out").unwrap_or_default()
}

/// The archive that Docker saved of a committed container, as it wrote it.
pub fn committed() -> Vec<u8> {
    let packed = fs::File::open(data("committed.docker-20.10.tar.zst")).unwrap();
    let mut bytes = Vec::new();
    zstd::Decoder::new(packed)
        .unwrap()
        .read_to_end(&mut bytes)
        .unwrap();
    bytes
}

/// The image that was committed onto, `busybox:latest`, as an archive of Docker's kind.
pub fn busybox() -> Vec<u8> {
    let archive = committed();
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(Cursor::new(&archive)).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        files.insert(path, bytes);
    }
    let json = |path: &str| -> Value { serde_json::from_slice(&files[path]).unwrap() };
    let manifest = json("manifest.json");
    let image = json(manifest[0]["Config"].as_str().unwrap());
    let layer = &files[manifest[0]["Layers"][0].as_str().unwrap()];
    let steps = image["history"].as_array().unwrap();
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "created": "2023-11-14T22:13:20Z",
        "config": {
            "Cmd": ["sh"],
            "Env": image["container_config"]["Env"],
            "Labels": image["container_config"]["Labels"],
        },
        "history": steps[..steps.len() - 1],
        "rootfs": {"type": "layers", "diff_ids": [image["rootfs"]["diff_ids"][0]]},
    });
    let items = json!([{
        "Config": "config.json", "RepoTags": ["busybox:latest"], "Layers": ["layer.tar"],
    }]);
    let mut out = tar::Builder::new(Vec::new());
    let mut put = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        out.append_data(&mut header, name, bytes).unwrap();
    };
    put("config.json", config.to_string().as_bytes());
    put("layer.tar", layer);
    put("manifest.json", items.to_string().as_bytes());
    out.into_inner().unwrap()
}

/// Runs of hexadecimal digits, as long as ids are, as `ID`, and ages as `AGE`; columns are one space
/// apart, so that what stands in them, not how long it is, counts.
pub fn normalised(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let cells: Vec<String> = line
            .split("  ")
            .map(str::trim)
            .filter(|cell| !cell.is_empty())
            .map(cell)
            .collect();
        out.push_str(&cells.join(" | "));
        out.push('\n');
    }
    out
}

fn cell(text: &str) -> String {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    let is_id = [12, 64].contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let age = |rest: &str| {
        let units = ["second", "minute", "hour", "day", "week", "month", "year"];
        units.iter().any(|unit| rest.contains(unit))
    };
    match () {
        () if is_id && text.starts_with("sha256:") => "sha256:ID".to_owned(),
        () if is_id => "ID".to_owned(),
        () if text.starts_with("Up ") && age(text) => "Up AGE".to_owned(),
        () if text.starts_with("Exited (") && age(text) => {
            let end = text.find(')').unwrap() + 1;
            format!("{} AGE", &text[..end])
        }
        () if text.ends_with(" ago") && age(text) => "AGE".to_owned(),
        () => text.to_owned(),
    }
}
