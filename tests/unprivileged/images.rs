//! The image commands as a user runs them: filters, names, removal, pruning, sizes, templates, exit
//! statuses.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde_json::{Value, json};
use stratafs::image::Reference;
use stratafs::store::Store;

use crate::common::build::Tar;
use crate::golden::{Image, Strata, layer};

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

#[test]
fn filters_choose_as_dockers_do() {
    let strata = some_images();
    let (app, v24, v25, latest, none) = (
        "host:5000/team/app:v1",
        "nginx:1.24",
        "nginx:1.25",
        "nginx:latest",
        "<none>:<none>",
    );
    for (arguments, wanted) in [
        (&[][..], vec![none, app, v25, latest, v24]),
        (&["-f", "dangling=true"], vec![none]),
        (&["-f", "dangling=1"], vec![none]),
        // docker/cli#4159: untagged images are not listed.
        (&["-f", "dangling=false"], vec![app, v25, latest, v24]),
        (&["nginx"], vec![v25, latest, v24]),
        (&["nginx:1.24"], vec![v24]),
        (&["nginx:*"], vec![v25, latest, v24]),
        (&["ngin?:1.2[4-9]"], vec![v25, v24]),
        (&["docker.io/library/nginx"], vec![v25, latest, v24]),
        (&["nosuch"], vec![]),
        (&["host:5000/*"], vec![]),
        (&["host:5000/*/*"], vec![app]),
        (
            &["-f", "reference=nginx:latest", "-f", "reference=*/*/app"],
            vec![app, latest],
        ),
        (&["-f", "label=team"], vec![app, v25, latest, v24]),
        (&["-f", "label=team=web"], vec![v25, latest, v24]),
        (&["-f", "label=team=web", "-f", "label=v=1"], vec![v24]),
        (&["-f", "label!=team"], vec![none]),
        (&["-f", "label!=v=1", "nginx"], vec![v25, latest]),
        (&["-f", "before=nginx:1.25"], vec![v24]),
        (&["-f", "since=nginx:1.25"], vec![none, app]),
        (
            &[
                "-f",
                "since=nginx:1.24",
                "-f",
                "before=host:5000/team/app:v1",
            ],
            vec![v25, latest],
        ),
        (
            &["-f", "until=2024-02-15T00:00:00Z"],
            vec![v25, latest, v24],
        ),
        (&["-f", "dangling=true", "nginx"], vec![]),
    ] {
        assert_eq!(names(&strata, arguments), wanted, "{arguments:?}");
    }
    for (filter, code, why) in [
        ("colour=red", 2, "invalid filter 'colour=red'"),
        ("dangling", 2, "bad format of filter"),
        ("dangling=maybe", 2, "invalid filter 'dangling=maybe'"),
        ("reference=[a", 2, "syntax error in pattern"),
        ("until=yesterday", 2, "is no time"),
        ("before=nosuch", 1, "No such image: nosuch"),
    ] {
        let said = strata.run(&["images", "-f", filter]);
        assert_eq!(said.code, code, "{filter}: {}", said.err);
        assert!(
            said.err.contains(why) && said.err.lines().count() == 1,
            "{}",
            said.err
        );
    }
    let ids = strata.ok(&["images", "-q"]);
    assert_eq!(
        ids.lines().count(),
        4,
        "an image with two names is listed once"
    );
    assert!(ids.lines().all(|id| id.len() == 12));
}

#[test]
fn images_without_a_name_that_others_were_made_from_are_hidden() {
    let strata = Strata::new();
    let (below, above) = (layer("a", 1000), layer("b", 500));
    let mut child = image(
        &["child:1"],
        "2024-02-01T00:00:00Z",
        json!(null),
        &[below.clone(), above],
    );
    let parent = image(&["parent:1"], "2024-01-01T00:00:00Z", json!(null), &[below]);
    child.config["history"][0] = parent.config["history"][0].clone();
    strata.load(&[parent, child]);
    let id = strata.id("parent:1");
    assert_eq!(
        strata
            .ok(&["inspect", "--format", "{{.Parent}}", "child:1"])
            .trim(),
        id
    );
    let ids = strata.ok(&["history", "-q", "--no-trunc", "child:1"]);
    assert_eq!(ids.lines().nth(1), Some(id.as_str()));
    // Another image takes its name.
    strata.load(&[image(
        &["parent:1"],
        "2024-03-01T00:00:00Z",
        json!(null),
        &[layer("c", 1)],
    )]);
    assert_eq!(names(&strata, &[]), ["parent:1", "child:1"]);
    assert_eq!(
        names(&strata, &["-a"]),
        ["parent:1", "child:1", "<none>:<none>"]
    );
    assert!(names(&strata, &["-a", "-f", "dangling=true"]).is_empty());
    assert!(
        strata
            .ok(&["image", "prune", "-f"])
            .starts_with("Total reclaimed space: ")
    );
    // It goes with the last image made from it, or stays when that is asked for.
    let removed = strata.ok(&["rmi", "--no-prune", "child:1"]);
    assert!(removed.starts_with("Untagged: child:1\nDeleted: sha256:") && !removed.contains(&id));
    assert_eq!(names(&strata, &["-f", "dangling=true"]), ["<none>:<none>"]);
    assert!(
        strata
            .ok(&["image", "prune", "-f"])
            .contains(&format!("deleted: {id}\n"))
    );
    assert_eq!(names(&strata, &["-a"]), ["parent:1"]);
}

#[test]
fn a_removed_image_takes_unnamed_parents_along() {
    let strata = Strata::new();
    let (below, above) = (layer("a", 1000), layer("b", 500));
    let mut child = image(
        &["child:1"],
        "2024-02-01T00:00:00Z",
        json!(null),
        &[below.clone(), above],
    );
    let parent = image(&[], "2024-01-01T00:00:00Z", json!(null), &[below]);
    child.config["history"][0] = parent.config["history"][0].clone();
    strata.load(&[parent, child]);
    let removed = strata.ok(&["image", "rm", "child:1"]);
    // The child, its upper layer's chain, the parent, the lower one.
    assert_eq!(removed.matches("Deleted: sha256:").count(), 4, "{removed}");
    assert!(strata.ok(&["images", "-aq"]).is_empty());
}

#[test]
fn removal_says_what_docker_says() {
    let strata = some_images();
    let (id, app) = (strata.id("nginx"), "host:5000/team/app:v1");
    let short = id["sha256:".len()..][..12].to_owned();
    let said = strata.run(&["rmi", &short]);
    let refusal = format!(
        "strata: conflict: unable to delete {short} (must be forced) - image is referenced in \
         multiple repositories\n"
    );
    assert_eq!((said.err, said.code), (refusal, 1));
    assert_eq!(strata.ok(&["rmi", "nginx"]), "Untagged: nginx:latest\n");
    let container = strata.ok(&["create", "--name", "web", app]);
    let container = &container.trim()[..12];
    let app_id = strata.id(app)["sha256:".len()..][..12].to_owned();
    let said = strata.run(&["rmi", app, "nginx:1.24", "nosuch"]);
    assert_eq!(
        said.err,
        format!(
            "strata: conflict: unable to remove repository reference \"{app}\" (must force) - \
             stopped container {container} is using its referenced image {app_id}\n\
             strata: No such image: nosuch\n"
        )
    );
    assert!(
        said.out
            .starts_with("Untagged: nginx:1.24\nDeleted: sha256:"),
        "{}",
        said.out
    );
    assert_eq!(
        said.code, 1,
        "the others are removed, and the status tells of the failure"
    );
    assert_eq!(strata.ok(&["rmi", "-f", app]), format!("Untagged: {app}\n"));
    assert_eq!(
        strata.ok(&["inspect", "--format", "{{.Name}}", "web"]),
        "/web\n"
    );
}

#[test]
fn pruning_takes_what_nothing_needs() {
    let strata = some_images();
    strata.ok(&["create", "--name", "web", "nginx:1.24"]);
    let asked = strata.run(&["image", "prune"]);
    assert!(
        asked.out.contains("all dangling images.\nAre you sure"),
        "{}",
        asked.out
    );
    assert_eq!(
        names(&strata, &["-f", "dangling=true"]).len(),
        1,
        "no answer is a no"
    );
    let old = strata.ok(&[
        "image",
        "prune",
        "-a",
        "-f",
        "--filter",
        "until=2024-01-15T00:00:00Z",
    ]);
    assert!(!old.contains("deleted"), "the one so old is in use: {old}");
    let said = strata.run(&["image", "prune", "-f", "--filter", "reference=x"]);
    assert_eq!(said.code, 2);
    let dangling = strata.ok(&["image", "prune", "-f"]);
    assert!(
        dangling.starts_with("Deleted Images:\ndeleted: sha256:"),
        "{dangling}"
    );
    assert!(
        dangling.contains("\n\nTotal reclaimed space: "),
        "{dangling}"
    );
    let unused = strata.ok(&["image", "prune", "-a", "-f"]);
    assert!(
        unused.contains("untagged: nginx:1.25\nuntagged: nginx:latest\ndeleted: sha256:"),
        "{unused}"
    );
    assert_eq!(names(&strata, &["-a"]), ["nginx:1.24"]);
    strata.ok(&["create", "--label", "keep=1", "nginx:1.24"]);
    let labelled = strata.ok(&["system", "prune", "-f", "--filter", "label=keep"]);
    assert!(labelled.starts_with("Deleted Containers:\n"), "{labelled}");
    assert_eq!(strata.ok(&["ps", "-a", "--format", "{{.Names}}"]), "web\n");
    let all = strata.ok(&["system", "prune", "-af"]);
    assert!(
        all.starts_with("Deleted Containers:\n") && all.contains("untagged: nginx:1.24\n"),
        "{all}"
    );
    assert!(strata.ok(&["images", "-aq"]).is_empty());
    let usage = Store::open(&strata.root()).unwrap().disk_usage().unwrap();
    assert_eq!(usage.total, usage.other);
}

/// What `du -s -B1` says.
fn du(path: &Path) -> u64 {
    let meta = std::fs::symlink_metadata(path).unwrap();
    let below = if meta.is_dir() {
        let entries = std::fs::read_dir(path).unwrap();
        entries.map(|entry| du(&entry.unwrap().path())).sum()
    } else {
        0
    };
    meta.blocks() * 512 + below
}

#[test]
fn sizes_add_up_to_what_is_on_the_disk() {
    let strata = some_images();
    strata.ok(&["create", "--name", "web", "nginx"]);
    let store = Store::open(&strata.root()).unwrap();
    let container = store.container("web").unwrap();
    std::fs::write(container.upper(&store).join("f"), vec![1; 10_000]).unwrap();
    std::fs::hard_link(
        container.upper(&store).join("f"),
        container.upper(&store).join("g"),
    )
    .unwrap();
    // What another tool has left.
    std::fs::write(strata.root().join("blobs/sha256").join(HEX), vec![1; 5000]).unwrap();
    let usage = store.disk_usage().unwrap();
    let parts = usage.images_unique
        + usage.images_shared
        + usage.unused
        + usage.containers_disk
        + usage.cache
        + usage.other;
    assert_eq!(parts, usage.total);
    let names = std::fs::symlink_metadata(container.upper(&store).join("g")).unwrap();
    assert_eq!(
        usage.total,
        du(&strata.root()) - names.blocks() * 512,
        "a file of two names counts once"
    );
    assert!(usage.unused >= 5000);
    assert_eq!(
        usage.layers_size,
        1_000_000 + 10_000 + 20_000 + 30_000 + 40_000
    );
    assert_eq!(usage.containers[0].size, 10_000);
    let nginx = usage.images.iter().find(|i| i.containers == 1).unwrap();
    assert_eq!(
        (nginx.size, nginx.shared, nginx.unique),
        (1_020_000, 1_000_000, 20_000)
    );
    let unnamed = &usage.images[0];
    assert_eq!((unnamed.shared, unnamed.unique), (0, 40_000));
    let unique: u64 = usage.images.iter().map(|i| i.disk_unique).sum();
    assert_eq!(unique, usage.images_unique);
    for image in &usage.images {
        assert_eq!(image.disk, image.disk_shared + image.disk_unique);
        assert!(image.disk > 0 && image.download > 0);
    }
    // What goes with an image is what was said.
    let before = usage.total;
    strata.ok(&["rmi", "nginx:1.24"]);
    let gone = usage.images.iter().find(|i| i.size == 1_010_000).unwrap();
    assert_eq!(before - store.disk_usage().unwrap().total, gone.disk_unique);

    let shown = strata.ok(&[
        "system",
        "df",
        "--format",
        "{{.Type}} {{.TotalCount}} {{.Active}}",
    ]);
    assert_eq!(
        shown,
        "Images 3 1\nContainers 1 0\nUnused  \nCache  \nOther  \nTotal  \n"
    );
    let shown = strata.ok(&["system", "df"]);
    assert!(
        shown.starts_with("TYPE         TOTAL     ACTIVE    SIZE      RECLAIMABLE"),
        "{shown}"
    );
    let total = strata.ok(&["system", "df", "-v", "--format", "{{.Total}}"]);
    assert_eq!(total.trim(), store.disk_usage().unwrap().total.to_string());
    let columns = "table {{.Repository}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}\t{{.DownloadSize}}";
    let shown = strata.ok(&["images", "--format", columns, "nginx:latest"]);
    let words: Vec<_> = shown
        .lines()
        .map(|l| l.split_whitespace().collect::<Vec<_>>())
        .collect();
    assert_eq!(
        words[0],
        [
            "REPOSITORY",
            "SHARED",
            "SIZE",
            "UNIQUE",
            "SIZE",
            "CONTAINERS",
            "DOWNLOAD"
        ]
    );
    assert_eq!(words[1][..4], ["nginx", "1MB", "20kB", "1"]);
}

#[test]
fn hard_links_count_once() {
    let strata = Strata::new();
    let linked = Tar::new()
        .file("a", &[7; 1000])
        .link(b'1', "b", "a")
        .link(b'1', "c", "a")
        .end();
    let created = "2024-01-01T00:00:00Z";
    strata.load(&[image(&["links:1"], created, json!(null), &[linked])]);
    let sizes = strata.ok(&["images", "--format", "{{.Size}} {{.UniqueSize}}"]);
    assert_eq!(sizes, "1kB 1kB\n");
}

#[test]
fn inspect_takes_kinds_sizes_and_templates() {
    let strata = some_images();
    strata.ok(&["create", "--name", "web", "nginx"]);
    for (arguments, out, code) in [
        (
            &["--format", "{{.RepoTags}}", "nginx"][..],
            "[nginx:1.25 nginx:latest]\n",
            0,
        ),
        (
            &[
                "-f",
                "{{.Config.Labels.team}} {{index .Config.Cmd 0}}",
                "nginx",
            ],
            "web sh\n",
            0,
        ),
        (
            &["-f", "{{json .Config.Labels}}", "nginx", "nginx:1.24"],
            "{\"team\":\"web\"}\n{\"team\":\"web\",\"v\":\"1\"}\n",
            0,
        ),
        (
            &["-f", "{{.Name}} {{.SizeRw}} {{.SizeRootFs}}", "-s", "web"],
            "/web 0 1020000\n",
            0,
        ),
        (
            &["-f", "{{.State.Status}} {{.State.Running}}", "web"],
            "created false\n",
            0,
        ),
        (
            &["--type", "container", "-f", "{{.Name}}", "web", "nginx"],
            "/web\n",
            1,
        ),
        (
            &["--type", "image", "-f", "{{.Os}}", "nginx", "web"],
            "linux\n",
            1,
        ),
        (&["-f", "{{.Os", "nginx"], "", 64),
        (&["-f", "{{nosuch}}", "nginx"], "", 64),
        (&["-f", "{{.Nosuch}}", "nginx"], "", 1),
        (&["--type", "volume", "nginx"], "", 2),
    ] {
        let said = strata.run(&[&["inspect"], arguments].concat());
        assert_eq!(
            (said.out.as_str(), said.code),
            (out, code),
            "{arguments:?}: {}",
            said.err
        );
        assert_eq!(said.err.is_empty(), code == 0, "{}", said.err);
    }
    let said = strata.run(&["inspect", "--type", "container", "nginx"]);
    assert_eq!(
        (said.out.as_str(), said.err.as_str()),
        ("[]\n", "strata: No such container: nginx\n")
    );
    let line = strata.ok(&["inspect", "--format", "json", "nginx"]);
    assert_eq!(line.lines().count(), 1);
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["Os"], "linux");
    let said = strata.run(&["images", "--format", "{{.Nosuch}}"]);
    assert_eq!(said.code, 1);
    assert!(
        said.err
            .starts_with("strata: template parsing error: template: :1:2: executing"),
        "{}",
        said.err
    );
}

#[test]
fn control_characters_of_names_are_shown_escaped() {
    let strata = Strata::new();
    let mut bad = image(
        &["bad:1"],
        "2024-01-01T00:00:00Z",
        json!({"k": "\u{1b}[31m"}),
        &[layer("a", 10)],
    );
    bad.config["history"][0]["created_by"] = json!("echo \u{1b}]0;title\u{7} \u{9b}1m");
    bad.config["history"][0]["comment"] = json!("\r\u{8}");
    strata.load(&[bad]);
    for arguments in [
        &["history", "bad:1"][..],
        &[
            "history",
            "--no-trunc",
            "--format",
            "table {{.CreatedBy}} {{.Comment}}",
            "bad:1",
        ],
        &["history", "--format", "json", "bad:1"],
        &["inspect", "bad:1"],
    ] {
        let shown = strata.ok(arguments);
        let acts = |c: char| c.is_ascii_control() && c != '\n';
        assert!(!shown.contains(acts), "{arguments:?}: {shown:?}");
    }
}

#[test]
fn info_and_version_have_members() {
    let strata = some_images();
    strata.ok(&["create", "nginx"]);
    let format = "{{.Images}} {{.Containers}} {{.ContainersRunning}} {{.Driver}}";
    assert_eq!(strata.ok(&["info", "--format", format]), "4 1 0 strata\n");
    let root = strata.root().display().to_string();
    assert_eq!(
        strata
            .ok(&["system", "info", "-f", "{{.DockerRootDir}}"])
            .trim(),
        root
    );
    let text = strata.ok(&["info"]);
    for line in [
        "Storage Driver: strata",
        " Passthrough: ",
        " Transport: ",
        "Kernel Version: ",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let version = env!("CARGO_PKG_VERSION");
    let format = "{{.Version}} {{.Client.Version}} {{.Server.Version}}";
    assert_eq!(
        strata.ok(&["version", "--format", format]),
        format!("{version} {version} {version}\n")
    );
    assert!(
        strata
            .ok(&["version"])
            .starts_with(&format!("strata {version}\n"))
    );
}

#[test]
fn references_are_read_by_dockers_grammar() {
    let digest = format!("a/b@sha256:{HEX}");
    let tagged = format!("host.example:5000/a:t@sha256:{HEX}");
    let longest = "a".repeat(255 - "docker.io/library/".len());
    let longest_tag = format!("a:{}", "t".repeat(128));
    let too_long_tag = format!("a:{}", "t".repeat(129));
    let short_digest = "a@sha256:fffff".to_owned();
    let no_algorithm = format!("a@{HEX}");
    let upper_digest = format!("a@sha256:{}", HEX.to_uppercase());
    // reference := name [":" tag] ["@" digest]: distribution/reference, regexp.go
    let good: [(&str, String); 22] = [
        ("test_com", "docker.io/library/test_com:latest".into()),
        ("test.com:tag", "docker.io/library/test.com:tag".into()),
        ("test.com:5000", "docker.io/library/test.com:5000".into()),
        ("test.com/name:tag", "test.com/name:tag".into()),
        ("test:5000/repo", "test:5000/repo:latest".into()),
        ("test:5000/repo:tag", "test:5000/repo:tag".into()),
        (
            "lowercase:Uppercase",
            "docker.io/library/lowercase:Uppercase".into(),
        ),
        (
            "a/a/a/a/a/a/a/a/a",
            "docker.io/a/a/a/a/a/a/a/a/a:latest".into(),
        ),
        (
            "sub-dom1.foo.com/bar/baz/quux",
            "sub-dom1.foo.com/bar/baz/quux:latest".into(),
        ),
        (
            "sub-dom1.foo.com/bar/baz/quux:some-long-tag",
            "sub-dom1.foo.com/bar/baz/quux:some-long-tag".into(),
        ),
        (
            "b.gcr.io/test.example.com/my-app:test.example.com",
            "b.gcr.io/test.example.com/my-app:test.example.com".into(),
        ),
        (
            "xn--n3h.com/myimage:xn--n3h.com",
            "xn--n3h.com/myimage:xn--n3h.com".into(),
        ),
        (
            "foo_bar.com:8080",
            "docker.io/library/foo_bar.com:8080".into(),
        ),
        (
            "foo/foo_bar.com:8080",
            "docker.io/foo/foo_bar.com:8080".into(),
        ),
        ("foo--bar/b__z", "docker.io/foo--bar/b__z:latest".into()),
        ("192.168.1.1:75050/x", "192.168.1.1:75050/x:latest".into()),
        ("[2001:db8::1]/x", "[2001:db8::1]/x:latest".into()),
        ("LocalHost.Example/x", "LocalHost.Example/x:latest".into()),
        (&digest, format!("docker.io/{digest}")),
        (&tagged, tagged.clone()),
        (&longest, format!("docker.io/library/{longest}:latest")),
        (&longest_tag, format!("docker.io/library/{longest_tag}")),
    ];
    for (text, canonical) in good {
        assert_eq!(
            Reference::parse(text)
                .unwrap_or_else(|e| panic!("{text}: {e}"))
                .to_string(),
            canonical
        );
    }
    let strata = some_images();
    let bad: [&str; 22] = [
        ":justtag",
        "@sha256:ffff",
        &short_digest,
        &no_algorithm,
        &upper_digest,
        &too_long_tag,
        "a:b:c",
        "aa/asdf$$^/aa",
        "-foo/bar",
        "foo-/bar",
        "foo/bar-",
        "foo..bar",
        "foo___bar",
        "foo._bar",
        "a//b",
        "/a",
        "a/",
        "a b",
        "a:",
        "[2001:db8::1]",
        "[fe80::1%eth0]/x",
        "https://host/x",
    ];
    for text in bad {
        let said = strata.run(&["tag", "--", "nginx", text]);
        let wanted = format!(
            "strata: Error parsing reference: \"{text}\" is not a valid repository/tag: invalid reference format\n"
        );
        assert_eq!((said.err, said.code), (wanted, 1), "{text}");
    }
    for text in ["Uppercase:tag", "test.com/Up/x", "a/B"] {
        let said = strata.run(&["tag", "nginx", text]);
        assert!(
            said.err
                .ends_with("invalid reference format: repository name must be lowercase\n"),
            "{}",
            said.err
        );
    }
}

#[test]
fn every_command_has_examples_and_says_what_it_ends_with() {
    let strata = Strata::new();
    assert!(
        strata
            .ok(&["--help"])
            .contains("Exit status: 0 done, 1 failed")
    );
    for command in [
        &["images"][..],
        &["history"],
        &["inspect"],
        &["tag"],
        &["rmi"],
        &["image"],
        &["image", "prune"],
        &["image", "inspect"],
        &["system", "df"],
        &["system", "prune"],
        &["info"],
        &["version"],
    ] {
        let help = strata.ok(&[command, &["--help"]].concat());
        assert!(help.contains("Example"), "{command:?}: {help}");
    }
    assert_eq!(strata.run(&["images", "--nosuch"]).code, 2);
}
