//! The architecture's rule: dependencies point downward. The picture is in `src/lib.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What every module may use.
const BASE: [&str; 4] = ["error", "name", "stat", "sync"];

/// Each module and the modules below it that it may use.
const BELOW: &[(&str, &[&str])] = &[
    ("sys", &[]),
    ("image", &[]),
    ("tar", &[]),
    ("content", &["image", "sys"]),
    ("index", &["content", "image", "sys", "tar"]),
    ("layer", &["content", "image", "index", "sys", "tar"]),
    ("union", &["content", "image", "layer", "sys"]),
    ("fuse", &["content", "layer", "sys", "union"]),
    ("store", &["content", "image", "index", "sys"]),
    (
        "archive",
        &["content", "image", "index", "store", "sys", "tar"],
    ),
    (
        "commit",
        &[
            "archive", "content", "image", "index", "layer", "store", "sys", "tar", "union",
        ],
    ),
    (
        "copy",
        &["archive", "content", "layer", "sys", "tar", "union"],
    ),
    (
        "inspect",
        &[
            "archive", "content", "image", "index", "layer", "store", "tar", "union",
        ],
    ),
    (
        "mount",
        &[
            "archive", "commit", "content", "copy", "fuse", "image", "index", "layer", "store",
            "sys", "union",
        ],
    ),
];

/// Modules that may use anything but `cli`, and `cli` itself.
const TOP: [&str; 2] = ["cli", "runtime"];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn all_sources() -> Vec<(String, PathBuf)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&src, &mut paths);
    let top = |path: &Path| {
        let first = path
            .strip_prefix(&src)
            .unwrap()
            .components()
            .next()
            .unwrap();
        first
            .as_os_str()
            .to_str()
            .unwrap()
            .trim_end_matches(".rs")
            .to_owned()
    };
    paths.into_iter().map(|p| (top(&p), p)).collect()
}

/// The lines of a file before its tests.
fn code(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    let lines = text
        .lines()
        .take_while(|l| !l.starts_with("#[cfg(test)]\nmod tests"));
    lines.map(str::to_owned).collect()
}

/// The top-level modules that a line names through `crate::`.
fn named(line: &str) -> impl Iterator<Item = &str> {
    line.split("crate::").skip(1).flat_map(|rest| {
        let end = rest
            .find(|c: char| !(c.is_alphanumeric() || c == '_'))
            .unwrap_or(rest.len());
        rest.get(..end)
    })
}

fn is_test(path: &Path) -> bool {
    ["tests.rs", "mem.rs", "conformance.rs"]
        .iter()
        .any(|n| path.ends_with(n))
        || path.components().any(|c| c.as_os_str() == "tests")
}

#[test]
fn dependencies_point_downward() {
    let mut wrong = BTreeSet::new();
    for (module, path) in all_sources() {
        let Some((_, below)) = BELOW.iter().find(|(m, _)| *m == module) else {
            continue;
        };
        if is_test(&path) {
            continue;
        }
        let mut in_tests = false;
        for line in code(&path) {
            in_tests |= line.trim_start().starts_with("mod tests");
            if in_tests || line.trim_start().starts_with("//") {
                continue;
            }
            for used in named(&line) {
                let known = BELOW.iter().any(|(m, _)| *m == used) || TOP.contains(&used);
                if known && used != module && !below.contains(&used) {
                    wrong.insert(format!("{}: {module} uses {used}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(BASE.iter().all(|b| BELOW.iter().all(|(m, _)| m != b)));
}

#[test]
fn only_one_place_names_fuser_and_only_some_print() {
    let mut wrong = Vec::new();
    for (module, path) in all_sources() {
        if is_test(&path) {
            continue;
        }
        let adapter = path.parent().is_some_and(|dir| dir.ends_with("fuse/fuser"));
        let mut in_tests = false;
        for line in code(&path) {
            in_tests |= line.trim_start().starts_with("mod tests");
            let text = line.trim_start();
            if in_tests || text.starts_with("//") {
                continue;
            }
            if !adapter
                && text.contains("fuser::")
                && !text.contains("fuse::fuser::")
                && !text.contains("super::fuser::")
            {
                wrong.push(format!("{}: names the fuser crate: {text}", path.display()));
            }
            let prints = ["println!", "print!(", "eprintln!", "eprint!("]
                .iter()
                .any(|p| text.contains(p));
            if prints && !TOP.contains(&module.as_str()) && module != "main" {
                wrong.push(format!("{}: prints: {text}", path.display()));
            }
            let escapes = text.contains("unsafe {")
                || text.contains("unsafe fn")
                || text.contains("unsafe impl");
            if escapes && module != "sys" && module != "name" {
                wrong.push(format!("{}: unsafe outside sys: {text}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_test_that_the_semantics_name_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("src/union/SEMANTICS.md")).unwrap();
    let mut named = 0;
    for word in page.split('`').skip(1).step_by(2) {
        let Some((module, test)) = word.rsplit_once("::") else {
            continue;
        };
        if test.contains(' ') || module == "union" {
            continue;
        }
        let module = module.replace("::tests", "/tests");
        let places = [
            root.join(format!("tests/privileged/{module}.rs")),
            root.join(format!("tests/privileged/{module}/mod.rs")),
            root.join(format!("src/{module}.rs")),
        ];
        let function = format!("fn {test}(");
        let found = places
            .iter()
            .any(|p| fs::read_to_string(p).is_ok_and(|text| text.contains(&function)));
        assert!(
            found || word == "sys::mount",
            "{word} is named but isn't there"
        );
        named += 1;
    }
    assert!(named > 30, "{named}");
}
