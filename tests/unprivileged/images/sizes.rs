//! Sizes of images and of the store.

use super::*;

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
