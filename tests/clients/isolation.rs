//! Containers of one image, mounted together.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::common::cli::{Strata, can_mount};
use crate::common::tree::assert_same;
use crate::samples;

#[test]
fn two_containers_of_one_image_do_not_see_each_other() {
    const TEST: &str = "clients::isolation::two_containers_of_one_image_do_not_see_each_other";
    if !can_mount(TEST) {
        return;
    }
    let Some(sample) = samples::small(TEST) else {
        return;
    };
    let strata = Strata::new();
    strata.load(&sample.archive);
    let blobs = strata.blobs();
    let one = strata.mount(&["--name", "one"], sample.name);
    let two = strata.mount(&["--name", "two"], sample.name);
    let image = strata.mount(&["-o", "ro"], sample.name);
    let original = image.tree();
    assert_same(("the image", &original), ("a new container", &one.tree()));

    // Open in both before either writes, so that a copy-up in one meets a lower file in use in the other.
    let held = fs::read(two.path("home/numbers")).unwrap();
    fs::write(one.path("home/numbers"), "changed in one").unwrap();
    fs::remove_dir_all(one.path("usr/share/words")).unwrap();
    fs::rename(one.path("etc"), one.path("etc.moved")).unwrap();
    fs::set_permissions(one.path("root"), fs::Permissions::from_mode(0o711)).unwrap();
    fs::write(one.path("new"), "only in one").unwrap();
    assert_eq!(fs::read(two.path("home/numbers")).unwrap(), held);
    assert_same(
        ("the image", &original),
        ("the other container", &two.tree()),
    );

    fs::write(two.path("new"), "only in two").unwrap();
    fs::write(two.path("etc/motd"), "changed in two").unwrap();
    assert_eq!(fs::read_to_string(one.path("new")).unwrap(), "only in one");
    assert_eq!(
        fs::read_to_string(one.path("etc.moved/motd")).unwrap(),
        "second\n"
    );
    assert_same(
        ("the image", &original),
        ("the image after both changed", &image.tree()),
    );

    let (first, second) = (one.tree(), two.tree());
    for mounted in [one, two, image] {
        mounted.unmount();
    }
    let listed = strata.ok(&["ps", "-a"]);
    assert!(listed.contains("one") && listed.contains("two"), "{listed}");
    assert_same(
        ("one", &first),
        ("one mounted again", &strata.mount(&[], "one").tree()),
    );
    assert_same(
        ("two", &second),
        ("two mounted again", &strata.mount(&[], "two").tree()),
    );
    strata.ok(&["rm", "one", "two"]);
    strata.assert_blobs_intact(&blobs);
}
