//! inspect, info and version: templates and members.

use super::*;

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
