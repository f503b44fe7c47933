//! podman and buildah with strata as their mount program: what they make is what they make on the
//! kernel's overlayfs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::cli::{Stopwatch, Strata, can_mount, have, run, said};
use crate::common::tree::{self, Tree, assert_same};
use crate::peers::Podman;
use crate::samples::{Sample, big, small};
use crate::story::change;

/// What a session leaves behind, in a form that doesn't depend on when it ran.
struct Results {
    diff: Vec<String>,
    said: Vec<(&'static str, String)>,
    trees: Vec<(&'static str, Tree)>,
}

fn strata_binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_strata"))
}

/// A tree without what depends on the clock, and on whether links outlive copy-up (they do on
/// strata, but not on overlayfs as podman mounts it).
fn timeless(root: &Path, since: i64) -> Tree {
    let mut tree = tree::list(root);
    for object in tree.values_mut() {
        if object.mtime >= since {
            object.mtime = 0;
        }
        object.links = None;
    }
    // Random bytes.
    if let Some(random) = tree.get_mut(Path::new("opt/new/random")) {
        random.sha256 = None;
    }
    tree
}

fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

const CONTAINERFILE: &str = "FROM mine\n\
    RUN rm -rf /opt/new/deep && echo built > /built\n\
    RUN chmod 700 /etc && touch -d '2020-01-01 00:00:00' /built\n\
    COPY file /copied\n";

/// The whole life of a container, of the image made from it, and of one built on that.
fn session(podman: &Podman, sample: &Sample, dir: &Path, watch: &mut Stopwatch) -> Results {
    let since = now() - 1;
    podman.ok(&["load", "-q", "-i", sample.archive.to_str().unwrap()]);
    watch.lap("load");
    let mut results = Results {
        diff: Vec::new(),
        said: Vec::new(),
        trees: Vec::new(),
    };
    let mut application = vec!["run", "--rm", "--network", "host", sample.name];
    application.extend(sample.application);
    results.said.push(("application", podman.ok(&application)));
    podman.ok(&["run", "-d", "--name", "c", sample.name, "sleep", "1000"]);
    results.said.push((
        "exec",
        podman.ok(&["exec", "c", "sh", "-c", "echo here > /here; ls /; id"]),
    ));
    watch.lap("run and exec");
    let root = PathBuf::from(podman.ok(&["mount", "c"]).trim());
    change(&root, sample);
    // Of a directory where the image has a file, podman's diff on overlayfs says "not a directory".
    let replaced = root.join(sample.change("FILE_TO_DIR"));
    fs::remove_dir_all(&replaced).unwrap();
    fs::write(&replaced, "a file again").unwrap();
    watch.lap("changes");
    let copied = dir.join("copied");
    fs::write(dir.join("file"), "from outside").unwrap();
    podman.ok(&["cp", dir.join("file").to_str().unwrap(), "c:/put"]);
    podman.ok(&["cp", "c:/opt/new/hello", copied.to_str().unwrap()]);
    results
        .said
        .push(("cp", fs::read_to_string(copied).unwrap()));
    results.diff = sorted(&podman.ok(&["diff", "c"]));
    watch.lap("diff");
    results
        .trees
        .push(("the container", timeless(&root, since)));
    podman.ok(&["umount", "c"]);
    podman.ok(&["commit", "-q", "c", "mine"]);
    watch.lap("commit");
    let exported = dir.join("export.tar");
    podman.ok(&["export", "-o", exported.to_str().unwrap(), "c"]);
    let words = ["-tf", exported.to_str().unwrap()];
    let names = sorted(&run("tar", &words).success()).join("\n");
    results.said.push(("export", names));
    watch.lap("export");
    let context = dir.join("context");
    fs::create_dir(&context).unwrap();
    fs::write(context.join("Containerfile"), CONTAINERFILE).unwrap();
    fs::write(context.join("file"), "from outside").unwrap();
    podman.ok(&["build", "-q", "-t", "built", context.to_str().unwrap()]);
    watch.lap("build");
    for (what, image) in [
        ("the committed image", "mine"),
        ("the built image", "built"),
    ] {
        let root = PathBuf::from(podman.ok(&["image", "mount", image]).trim());
        results.trees.push((what, timeless(&root, since)));
        podman.ok(&["image", "umount", image]);
    }
    results.said.push((
        "history",
        podman.ok(&["history", "--format", "{{.CreatedBy}}", "built"]),
    ));
    podman.ok(&[
        "save",
        "-q",
        "-o",
        dir.join("saved.tar").to_str().unwrap(),
        "built",
    ]);
    assert!(podman.ok(&["ps", "-s"]).contains("virtual"));
    watch.lap("image mount and save");
    results
}

/// `podman run` with options that change how the root is mounted.
fn special_runs(podman: &Podman, image: &str, dir: &Path) -> Vec<(&'static str, String)> {
    let volume = dir.join("volume");
    fs::create_dir_all(&volume).unwrap();
    fs::write(volume.join("f"), "outside\n").unwrap();
    let over = format!("{}:/vol:O", volume.display());
    let mut results = Vec::new();
    let mut go = |what, options: &[&str], script: &str| {
        let said =
            podman.run(&[&["run", "--rm"][..], options, &[image, "sh", "-c", script]].concat());
        results.push((what, format!("{} {}", said.ok, said.out)));
    };
    go(
        "--read-only",
        &["--read-only"],
        "cat /etc/issue; echo x > /etc/issue || echo refused",
    );
    go(
        "-v :O",
        &["-v", &over],
        "cat /vol/f; echo inside > /vol/f; cat /vol/f; rm /vol/f; ls /vol",
    );
    go(
        "--uidmap",
        &["--uidmap", "0:100000:65536"],
        "id -u; touch /new; chown 5:6 /new; stat -c %u:%g /new /bin /etc; rm -rf /etc/issue; ls /etc",
    );
    assert_eq!(fs::read_to_string(volume.join("f")).unwrap(), "outside\n");
    results
}

/// Everything that podman mounted is gone, and no daemon is left.
fn assert_nothing_left(podman: &Podman) {
    podman.ok(&["rm", "-a", "-f", "-t", "0"]);
    let root = podman.root();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let left: Vec<_> = mounts
        .lines()
        .filter(|line| line.contains("fuse.strata") && line.contains(root.to_str().unwrap()))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let until = Instant::now() + Duration::from_secs(30);
    while daemons_of(&root) > 0 {
        assert!(Instant::now() < until, "a daemon stays");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// How many processes are mounts below a directory.
fn daemons_of(root: &Path) -> usize {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines
        .map(|line| String::from_utf8_lossy(&line).into_owned())
        .filter(|line| line.contains("lowerdir=") && line.contains(root.to_str().unwrap()))
        .count()
}

/// On overlayfs as podman mounts it, changing a file with several names separates that name.
fn without_links(mut sample: Sample) -> Sample {
    let changes = sample.changes.iter().map(|change| match change {
        ("TOUCH", "bin/busybox") => ("TOUCH", "srv/www/index.html"),
        other => *other,
    });
    sample.changes = changes.collect::<Vec<_>>().leak();
    sample
}

fn compare(test: &'static str, sample: Sample) {
    let sample = &without_links(sample);
    let scratch = Strata::new();
    let mut results = Vec::new();
    for (name, program) in [("kernel", None), ("strata", Some(strata_binary()))] {
        let dir = scratch.path(name);
        let podman = match program {
            None => Podman::new(&dir),
            Some(program) => Podman::with_mount_program(&dir, program),
        };
        let mut watch = Stopwatch::start(test);
        let session = session(&podman, sample, &dir, &mut watch);
        let special = special_runs(&podman, sample.name, &dir);
        watch.lap(name);
        assert_nothing_left(&podman);
        results.push((session, special));
    }
    let [(kernel, kernel_runs), (ours, our_runs)] = results.try_into().ok().unwrap();
    assert_eq!(our_runs, kernel_runs);
    assert_eq!(ours.said, kernel.said);
    for (ours, kernel) in ours.trees.iter().zip(&kernel.trees) {
        assert_same((ours.0, &ours.1), ("on overlayfs", &kernel.1));
    }
    let diff = |results: &Results| comparable(results, sample);
    assert_eq!(diff(&ours), diff(&kernel));
}

/// The lines of a diff that podman's two ways to make it have in common. With a mount program it
/// compares two trees: a directory is changed when something in it is; one that was replaced shows
/// what it had, and not only its own deletion; a new name of a file is no change of the file.
fn comparable(results: &Results, sample: &Sample) -> Vec<String> {
    let (_, tree) = &results.trees[0];
    let [replaced, linked] = ["REPLACE_DIR", "LINK"].map(|purpose| sample.change(purpose));
    let wanted = |line: &&String| {
        let (kind, path) = line.split_once(" /").unwrap();
        let is_dir = tree.get(Path::new(path)).is_some_and(|o| o.kind == "dir");
        !path.starts_with(replaced) && (kind != "C" || !is_dir && path != linked)
    };
    results.diff.iter().filter(wanted).cloned().collect()
}

#[test]
fn a_session_equals_one_on_the_kernel() {
    const TEST: &str = "clients::podman_storage::a_session_equals_one_on_the_kernel";
    if !(can_mount(TEST) && have(TEST, &["podman", "runc"])) {
        return;
    }
    if let Some(sample) = small(TEST) {
        compare(TEST, sample);
    }
}

#[test]
fn a_session_with_fifty_thousand_files() {
    const TEST: &str = "clients::podman_storage::a_session_with_fifty_thousand_files";
    if !(can_mount(TEST) && have(TEST, &["podman", "runc"])) {
        return;
    }
    if let Some(sample) = big(TEST) {
        compare(TEST, sample);
    }
}

#[test]
fn what_fails_is_told_to_podmans_user() {
    const TEST: &str = "clients::podman_storage::what_fails_is_told_to_podmans_user";
    if !(can_mount(TEST) && have(TEST, &["podman", "runc"])) {
        return;
    }
    let Some(sample) = small(TEST) else { return };
    let scratch = Strata::new();
    let program = scratch.path("program");
    let script = format!(
        "#!/bin/sh\nexec {} \"$1\" \"$2,frobnicate\" \"$3\"\n",
        strata_binary().display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let podman = Podman::with_mount_program(&scratch.path("podman"), &program);
    podman.ok(&["load", "-q", "-i", sample.archive.to_str().unwrap()]);
    let said = podman.run(&["run", "--rm", sample.name, "true"]).failure();
    assert!(
        said.contains("unknown mount option \"frobnicate\""),
        "{said}"
    );
    assert_nothing_left(&podman);
}

/// A docker-archive with the sample's layers and a file a layer above them.
fn with_layers(sample: &Sample, dir: &Path, layers: usize) -> PathBuf {
    let at = |name: &str| dir.join(name);
    let archive = at("many.tar");
    fs::create_dir_all(dir).unwrap();
    let tar = |words: &[&str]| said(Command::new("tar").args(words).current_dir(dir)).success();
    tar(&["-xf", sample.archive.to_str().unwrap()]);
    let json = |path: &Path| -> serde_json::Value {
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    };
    let mut manifest = json(&at("manifest.json"));
    let config_name = manifest[0]["Config"].as_str().unwrap().to_owned();
    let mut config = json(&at(&config_name));
    config.as_object_mut().unwrap().remove("history");
    for i in 0..layers {
        let (file, layer) = (format!("layer-{i}"), format!("{i}.tar"));
        fs::write(at(&file), i.to_string()).unwrap();
        tar(&["-cf", &layer, &file]);
        let diff_id = format!("sha256:{}", tree::sha256(&at(&layer)).unwrap());
        let diff_ids = &mut config["rootfs"]["diff_ids"];
        diff_ids.as_array_mut().unwrap().push(diff_id.into());
        manifest[0]["Layers"]
            .as_array_mut()
            .unwrap()
            .push(layer.into());
    }
    manifest[0]["Config"] = "many.json".into();
    manifest[0]["RepoTags"] = vec!["localhost/many:latest"].into();
    fs::write(at("many.json"), config.to_string()).unwrap();
    fs::write(at("manifest.json"), manifest.to_string()).unwrap();
    fs::remove_file(at(&config_name)).unwrap();
    tar(&["--exclude=many.tar", "-cf", "many.tar", "."]);
    archive
}

/// 120 layers on each other (one option string of kilobytes), and a build with buildah on top.
#[test]
fn many_layers_and_buildah() {
    const TEST: &str = "clients::podman_storage::many_layers_and_buildah";
    if !(can_mount(TEST) && have(TEST, &["podman", "buildah", "runc"])) {
        return;
    }
    let Some(sample) = small(TEST) else { return };
    let scratch = Strata::new();
    let podman = Podman::with_mount_program(&scratch.path("podman"), strata_binary());
    let archive = with_layers(&sample, &scratch.path("image"), 117);
    podman.ok(&["load", "-q", "-i", archive.to_str().unwrap()]);
    let dir = scratch.path("build");
    fs::create_dir(&dir).unwrap();
    let file = "FROM many\nRUN rm /layer-7; ls / | grep -c layer- > /count\n";
    fs::write(dir.join("Containerfile"), file).unwrap();
    let context = dir.to_str().unwrap();
    let words = ["bud", "--isolation", "chroot", "-q", "-t", "built", context];
    said(&mut podman.command("buildah", &words)).success();
    let script = "cat /count /layer-116; test ! -e /layer-7 && echo gone";
    let printed = podman.ok(&["run", "--rm", "built", "sh", "-c", script]);
    assert_eq!(printed, "116\n116gone\n");
    assert_nothing_left(&podman);
}
