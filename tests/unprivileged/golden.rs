//! What Docker 20.10 printed (tests/data/golden), beside what strata prints for the same images:
//! names, histories, configurations, sizes and ages are the same, so the outputs are, byte for
//! byte, but for ids and digests.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use stratafs::image::Digest;

use crate::common::build::Tar;

const MINUTE: i64 = 60;
const YEAR: i64 = 365 * 24 * 3600;

/// A golden file.
fn golden(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden");
    fs::read_to_string(root.join(name)).unwrap_or_default()
}

fn golden_json(name: &str) -> Value {
    serde_json::from_str::<Value>(&golden(name)).unwrap()[0].clone()
}

/// A time so many seconds before now.
fn ago(seconds: i64) -> String {
    (Timestamp::now() - SignedDuration::from_secs(seconds)).to_string()
}

/// The seconds of `27 minutes ago`, and some more, so that the test may take its time.
fn seconds(age: &str) -> i64 {
    let count = || age.split(' ').next().unwrap().parse::<i64>().unwrap();
    match age {
        // In the future, where it stays for a while.
        "Less than a second ago" => -3600,
        _ if age.ends_with("minutes ago") => count() * MINUTE + 2,
        _ if age.ends_with("years ago") => count() * YEAR + 40 * 24 * 3600,
        other => panic!("{other}"),
    }
}

/// A layer with one file of this size, which is a hole.
pub fn layer(name: &str, size: u64) -> Vec<u8> {
    let tar = Tar::new().with(name.as_bytes(), b'S', b"", |header| {
        header[257..265].copy_from_slice(b"ustar  \0");
        header[386..398].copy_from_slice(format!("{size:011o}\0").as_bytes());
        header[398..410].copy_from_slice(b"00000000000\0");
        header[483..495].copy_from_slice(format!("{size:011o}\0").as_bytes());
    });
    tar.end()
}

/// An image for [`archive`].
pub struct Image {
    pub names: Vec<&'static str>,
    /// The configuration, without its rootfs.
    pub config: Value,
    pub layers: Vec<Vec<u8>>,
}

/// A docker-archive of images.
pub fn archive(images: &[Image]) -> Vec<u8> {
    let (mut tar, mut manifest) = (Tar::new(), Vec::new());
    let mut there = std::collections::HashSet::new();
    for image in images {
        let mut config = image.config.clone();
        let diff_ids: Vec<_> = image.layers.iter().map(|l| Digest::of(l)).collect();
        config["rootfs"] = json!({"type": "layers", "diff_ids": diff_ids});
        let config = config.to_string();
        let name = format!("{}.json", Digest::of(config.as_bytes()).hex());
        tar = tar.file(&name, config.as_bytes());
        let mut paths = Vec::new();
        for (layer, id) in image.layers.iter().zip(&diff_ids) {
            let path = format!("{}.tar", id.hex());
            if there.insert(*id) {
                tar = tar.file(&path, layer);
            }
            paths.push(path);
        }
        manifest.push(json!({"Config": name, "RepoTags": image.names, "Layers": paths}));
    }
    let manifest = Value::Array(manifest).to_string();
    tar.file("manifest.json", manifest.as_bytes()).end()
}

/// A store for the `strata` binary.
pub struct Strata(pub tempfile::TempDir);

/// What it printed.
pub struct Said {
    pub out: String,
    pub err: String,
    pub code: i32,
}

impl Strata {
    pub fn new() -> Self {
        Strata(tempfile::tempdir().unwrap())
    }

    pub fn root(&self) -> PathBuf {
        self.0.path().join("store")
    }

    pub fn run(&self, arguments: &[&str]) -> Said {
        let output = Command::new(env!("CARGO_BIN_EXE_strata"))
            .arg("--root")
            .arg(self.root())
            .args(arguments)
            .stdin(std::process::Stdio::null())
            .env_remove("STRATA_ROOT")
            .output()
            .unwrap();
        Said {
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
            code: output.status.code().unwrap(),
        }
    }

    pub fn ok(&self, arguments: &[&str]) -> String {
        let said = self.run(arguments);
        assert_eq!(said.code, 0, "{arguments:?}: {}", said.err);
        said.out
    }

    /// Loads an archive of images; gives what was printed.
    pub fn load(&self, images: &[Image]) -> String {
        let path = self.0.path().join("archive.tar");
        fs::write(&path, archive(images)).unwrap();
        self.ok(&["load", "-q", "-i", path.to_str().unwrap()])
    }

    pub fn id(&self, name: &str) -> String {
        let said = self.ok(&["image", "inspect", "--format", "{{.Id}}", name]);
        said.trim_end().to_owned()
    }
}

/// The cells of a golden table's column.
fn column(table: &str, heading: &str, next: &str) -> Vec<String> {
    let first = table.lines().next().unwrap();
    let (from, to) = (first.find(heading).unwrap(), first.find(next).unwrap());
    let cell = |line: &str| line.chars().skip(from).take(to - from).collect::<String>();
    table
        .lines()
        .skip(1)
        .map(|l| cell(l).trim_end().to_owned())
        .collect()
}

/// The application: its configuration from `inspect`, its history from `history`.
fn node_app() -> Image {
    let shown = golden_json("inspect-image.out");
    let steps = golden("history-json.out");
    let commands = column(&golden("history-notrunc.out"), "CREATED BY", "SIZE");
    let mut layers = Vec::new();
    let mut history = Vec::new();
    let total = shown["Size"].as_u64().unwrap();
    let others = 9_390 + 950 + 127_000_000 + 320_000_000;
    for (line, command) in steps.lines().zip(commands) {
        let step: Value = serde_json::from_str(line).unwrap();
        let size = match step["Size"].as_str().unwrap() {
            "0B" => 0,
            "9.39kB" => 9_390,
            "950B" => 950,
            "127MB" => 127_000_000,
            "320MB" => 320_000_000,
            "117MB" => total - others,
            other => panic!("{other}"),
        };
        if size > 0 {
            layers.push(layer("f", size));
        }
        history.push(json!({
            "created": ago(seconds(step["CreatedSince"].as_str().unwrap())),
            "created_by": command,
            "comment": step["Comment"],
            "empty_layer": size == 0,
        }));
    }
    layers.reverse();
    history.reverse();
    Image {
        names: vec!["localhost/node-app:latest"],
        config: json!({
            "created": ago(27 * MINUTE + 2),
            "architecture": shown["Architecture"],
            "os": shown["Os"],
            "config": shown["Config"],
            "history": history,
        }),
        layers,
    }
}

/// The configuration of the image that Docker committed, as it saved it.
fn committed_config() -> Value {
    let packed =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/committed.docker-20.10.tar.zst");
    let mut bytes = Vec::new();
    let file = fs::File::open(packed).unwrap();
    zstd::Decoder::new(file)
        .unwrap()
        .read_to_end(&mut bytes)
        .unwrap();
    let mut archive = tar::Archive::new(bytes.as_slice());
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        if name.ends_with(".json") && name.len() == 64 + 5 {
            return serde_json::from_reader(&mut entry).unwrap();
        }
    }
    panic!("no configuration in the archive");
}

/// busybox, and what was committed from it.
fn busybox_and_committed() -> [Image; 2] {
    let mut committed = committed_config();
    let since = column(&golden("history-commit.out"), "CREATED ", "CREATED BY");
    let mut times: Vec<_> = since.iter().map(|age| ago(seconds(age))).collect();
    times.reverse();
    let history = committed["history"].as_array_mut().unwrap();
    for (step, time) in history.iter_mut().zip(&times) {
        step["created"] = json!(time);
    }
    let below: Vec<_> = history[..history.len() - 1].to_vec();
    let size = golden_json("inspect-commit.out")["Size"].as_u64().unwrap();
    let first = layer("bin", 1_982_256);
    let busybox = Image {
        names: vec!["busybox:latest"],
        config: json!({
            "created": times[0],
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["sh"]},
            "history": below,
        }),
        layers: vec![first.clone()],
    };
    committed["created"] = json!(ago(15 * MINUTE));
    let committed = Image {
        names: vec!["localhost/committed:1"],
        config: committed,
        layers: vec![first, layer("hard", size - 1_982_256)],
    };
    [busybox, committed]
}

/// Replaces strata's ids by Docker's.
fn with_ids(text: &str, ids: &[(String, &str)]) -> String {
    let mut text = text.to_owned();
    for (ours, dockers) in ids {
        let short = |id: &str| id["sha256:".len()..][..12].to_owned();
        text = text.replace(ours, dockers);
        text = text.replace(&short(ours), &short(dockers));
    }
    text
}

const NODE: &str = "sha256:8d2fc7a856f1b639c52f97eda105c0f5adf0dc1a28ab45bd2cdeaf33456ff179";
const BUSYBOX: &str = "sha256:35637b518a995d26f67ae147a67338941a4491f23e538a214e3c891d8e806de4";
const COMMITTED: &str = "sha256:98984f4fec2046ace1a6c7fa5551130789e7bd685bbdbba171880eeabd9c64d5";
const DANGLING: &str = "sha256:4337f044ef48caeb8895ac86259fbe728e9b363354897fb98bb038122466e3f7";

/// The messages after the program's name.
fn message(text: &str) -> &str {
    ["strata: ", "Error response from daemon: ", "Error: "]
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix))
        .unwrap_or(text)
}

/// Runs the command of a golden output and compares all that it says.
fn assert_golden(strata: &Strata, name: &str, arguments: &[&str], ids: &[(String, &str)]) {
    let command = golden(&format!("{name}.cmd"));
    let words = command.trim().strip_prefix("$ docker ").unwrap();
    assert_eq!(arguments.join(" "), words, "{name}: another command");
    let said = strata.run(arguments);
    let out = with_ids(&said.out, ids);
    assert_eq!(out, golden(&format!("{name}.out")), "{name}: {}", said.err);
    assert_eq!(
        message(&said.err),
        message(&golden(&format!("{name}.err"))),
        "{name}"
    );
    assert_eq!(
        said.code.to_string(),
        golden(&format!("{name}.rc")).trim(),
        "{name}"
    );
}

fn first_two(strata: &Strata) -> Vec<(String, &'static str)> {
    let [busybox, _] = busybox_and_committed();
    assert_eq!(strata.load(&[node_app()]), golden("load-node.out"));
    assert_eq!(strata.load(&[busybox]), golden("load-quiet.out"));
    vec![
        (strata.id("localhost/node-app"), NODE),
        (strata.id("busybox"), BUSYBOX),
    ]
}

#[test]
fn lists_and_histories_are_dockers() {
    let strata = Strata::new();
    let ids = first_two(&strata);
    let app = "localhost/node-app:latest";
    assert_golden(&strata, "images", &["images"], &ids);
    assert_golden(&strata, "history", &["history", app], &ids);
    assert_golden(
        &strata,
        "history-notrunc",
        &["history", "--no-trunc", app],
        &ids,
    );
    assert_golden(&strata, "history-quiet", &["history", "-q", app], &ids);
    // Images that Docker loads have no digest; strata's always have one.
    let shown = with_ids(&strata.ok(&["images", "--no-trunc", "--digests"]), &ids);
    let wanted = golden("images-notrunc.out");
    for (ours, dockers) in shown.lines().zip(wanted.lines()) {
        let cells = |line: &str| {
            let words = line.split_whitespace().map(str::to_owned);
            words.filter(|w| w != "<none>").collect::<Vec<_>>()
        };
        let mut ours = cells(ours);
        if ours[2] != "DIGEST" {
            assert!(ours.remove(2).starts_with("sha256:"));
        }
        assert_eq!(ours, cells(dockers));
    }
}

/// Every member that Docker's lines have, with Docker's value but for those that `differ`.
fn assert_lines(ours: &str, dockers: &str, differ: &[&str]) {
    assert_eq!(ours.lines().count(), dockers.lines().count());
    for (ours, dockers) in ours.lines().zip(dockers.lines()) {
        let (ours, dockers): (Value, Value) = (
            serde_json::from_str(ours).unwrap(),
            serde_json::from_str(dockers).unwrap(),
        );
        let keys: Vec<_> = ours.as_object().unwrap().keys().collect();
        assert!(keys.is_sorted(), "{keys:?}");
        for (key, value) in dockers.as_object().unwrap() {
            if differ.contains(&key.as_str()) {
                assert!(ours[key].is_string(), "{key}: {ours}");
            } else {
                assert_eq!(&ours[key], value, "{key}");
            }
        }
    }
}

#[test]
fn json_lines_have_dockers_members() {
    let strata = Strata::new();
    let ids = first_two(&strata);
    let shown = with_ids(&strata.ok(&["images", "--format", "{{json .}}"]), &ids);
    // What Docker doesn't find out, and says so.
    let differ = [
        "CreatedAt",
        "Digest",
        "Containers",
        "SharedSize",
        "UniqueSize",
    ];
    assert_lines(&shown, &golden("images-json.out"), &differ);
    assert_eq!(
        shown,
        with_ids(&strata.ok(&["images", "--format", "json"]), &ids)
    );
    let app = "localhost/node-app:latest";
    let shown = strata.ok(&["history", "--format", "{{json .}}", app]);
    let wanted = golden("history-json.out");
    assert_lines(&with_ids(&shown, &ids), &wanted, &["CreatedAt"]);
    assert!(shown.contains(r"\u003cmissing\u003e") && shown.contains(r"\u0026\u0026"));
}

#[test]
fn errors_and_names_are_dockers() {
    let strata = Strata::new();
    let ids = first_two(&strata);
    let app = "localhost/node-app:latest";
    assert_golden(
        &strata,
        "tag",
        &["tag", app, "example.test/team/app:v1"],
        &ids,
    );
    assert_golden(&strata, "tag-bad", &["tag", app, "Bad/Name"], &ids);
    assert_golden(&strata, "tag-badtag", &["tag", app, "ok:bad:tag"], &ids);
    assert_golden(&strata, "tag-nosrc", &["tag", "nosuch:1", "a:b"], &ids);
    assert_golden(&strata, "inspect-nosuch", &["inspect", "nosuch:1"], &ids);
    assert_golden(&strata, "rmi-nosuch", &["rmi", "nosuch"], &ids);
    assert_golden(
        &strata,
        "rmi-untag",
        &["rmi", "example.test/team/app:v1"],
        &ids,
    );
}

/// Docker's members, in Docker's order and with Docker's values, but for those that `differ`.
fn assert_members(ours: &Value, dockers: &Value, differ: &[&str]) {
    let (ours, dockers) = (ours.as_object().unwrap(), dockers.as_object().unwrap());
    let order: Vec<_> = ours
        .keys()
        .filter(|key| dockers.contains_key(*key))
        .collect();
    assert_eq!(order, dockers.keys().collect::<Vec<_>>());
    for (key, value) in dockers {
        if !differ.contains(&key.as_str()) {
            assert_eq!(&ours[key], value, "{key}");
        }
    }
}

#[test]
fn inspect_has_dockers_members() {
    let strata = Strata::new();
    let mut ids = first_two(&strata);
    let strata_two = Strata::new();
    strata_two.load(&busybox_and_committed());
    let inspected = |strata: &Strata, name: &str, ids: &[(String, &str)]| {
        let text = with_ids(&strata.ok(&["inspect", name]), ids);
        assert!(
            text.starts_with("[\n    {\n        \"Id\": \"sha256:"),
            "{text}"
        );
        serde_json::from_str::<Value>(&text).unwrap()[0].clone()
    };
    // Other layers, other places, another moment.
    let mut differ = vec![
        "RepoDigests",
        "Created",
        "GraphDriver",
        "RootFS",
        "Metadata",
    ];
    let app = inspected(&strata, "localhost/node-app:latest", &ids);
    let wanted = golden_json("inspect-image.out");
    assert_members(&app, &wanted, &differ);
    assert_eq!(app["RootFS"]["Layers"].as_array().unwrap().len(), 5);
    assert_members(&app["Config"], &wanted["Config"], &[]);
    ids = vec![
        (strata_two.id("localhost/committed:1"), COMMITTED),
        (strata_two.id("busybox"), BUSYBOX),
    ];
    let wanted = golden_json("inspect-commit.out");
    differ.retain(|key| *key != "Parent");
    let committed = inspected(&strata_two, "localhost/committed:1", &ids);
    assert_members(&committed, &wanted, &differ);
    assert_members(&committed["Config"], &wanted["Config"], &[]);
    assert_members(
        &committed["ContainerConfig"],
        &wanted["ContainerConfig"],
        &[],
    );
}

#[test]
fn parents_dangling_images_and_disk_usage_are_dockers() {
    let strata = Strata::new();
    let [busybox, mut committed] = busybox_and_committed();
    let app = node_app();
    // Seconds that the golden list shows.
    let mut config = app.config.clone();
    config["created"] = json!(ago(-3600));
    let steps = config["history"].as_array_mut().unwrap();
    steps.push(json!({"created": ago(-3600), "created_by": "sh -c 'echo x'"}));
    let mut layers = app.layers.clone();
    layers.push(layer("x", 1_347_000));
    let dangling = Image {
        names: vec![],
        config,
        layers,
    };
    committed.config["created"] = json!(ago(16 * MINUTE + 2));
    strata.load(&[app, busybox, committed, dangling]);
    let unnamed = strata.ok(&["images", "-q", "--no-trunc", "-f", "dangling=true"]);
    let ids = [
        (strata.id("localhost/node-app"), NODE),
        (strata.id("busybox"), BUSYBOX),
        (strata.id("localhost/committed:1"), COMMITTED),
        (unnamed.trim_end().to_owned(), DANGLING),
    ];
    let name = "localhost/committed:1";
    assert_golden(
        &strata,
        "history-commit",
        &["history", "--no-trunc", name],
        &ids,
    );
    // Ages in seconds pass too quickly to be compared.
    let aged = |text: &str| text.replace("Less than a second ago", "2 seconds ago         ");
    let words = |text: &str| {
        let lines = text
            .lines()
            .map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "));
        lines.collect::<Vec<_>>()
    };
    let shown = with_ids(&strata.ok(&["images", "-f", "dangling=true"]), &ids);
    assert_eq!(
        words(&aged(&shown)),
        words(&golden("images-filter-dangling.out"))
    );
    let shown = with_ids(&strata.ok(&["system", "df", "-v"]), &ids);
    let images = |text: &str| {
        let text = text.split("Containers space usage:").next().unwrap();
        let text = text.replace("16 minutes ago", "16 seconds ago");
        words(&aged(&text))
    };
    let wanted = golden("system-df.out");
    assert_eq!(images(&shown), images(&wanted));
    // No containers: the headings, to the byte.
    let containers = |text: &str| {
        let from = text.find("Containers space usage:").unwrap();
        text[from..].lines().take(3).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(containers(&shown), containers(&wanted));
}
