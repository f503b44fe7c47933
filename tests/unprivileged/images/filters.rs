//! images: filters, and what is listed.

use super::*;

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
