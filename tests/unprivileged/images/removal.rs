//! rmi and prune.

use super::*;

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
