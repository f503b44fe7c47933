//! Damaged stores: a mount of one is refused with one line or shows what is right, and after a
//! repair it shows everything.

use std::fs;
use std::path::Path;

use stratafs::store::Store;

use crate::common::cli::{Strata, can_mount};
use crate::common::tree;

use crate::common::build::{GZIP, Layout, TAR, Tar, gzip, layer};

/// Spoils a file; what was mapped before keeps the old one.
fn harm(path: &Path, how: &str) {
    let mut bytes = fs::read(path).unwrap();
    fs::remove_file(path).unwrap();
    match how {
        "truncate" => bytes.truncate(bytes.len() / 2),
        "flip" => {
            let at = bytes.len() / 4;
            bytes[at] ^= 4;
        }
        _ => return,
    }
    fs::write(path, bytes).unwrap();
}

#[test]
fn damaged_stores_are_mounted_right_or_not_at_all() {
    const TEST: &str = "privileged::verify::damaged_stores_are_mounted_right_or_not_at_all";
    if !can_mount(TEST) {
        return;
    }
    let (packed, plain) = (
        layer("packed"),
        Tar::new().file("plain", &[b'p'; 3000]).end(),
    );
    let zipped = gzip(&packed);
    let mut layout = Layout::new();
    let image = layout.image(&[(GZIP, &zipped, &packed), (TAR, &plain, &plain)]);
    let archive = layout.list(image, "app:1").pack();
    for part in [
        "blob", "manifest", "config", "record", "index", "tar", "chain",
    ] {
        for how in ["truncate", "delete", "flip"] {
            let case = format!("{part} {how}");
            let strata = Strata::new();
            let file = strata.path("archive.tar");
            fs::write(&file, &archive).unwrap();
            strata.load(&file);
            let right = {
                let mounted = strata.mount(&["-o", "ro"], "app:1");
                let tree = mounted.tree();
                mounted.unmount();
                tree
            };
            let store = Store::open(&strata.root).unwrap();
            let stored = store.find("app:1").unwrap();
            let diff_id = stored.config.rootfs.diff_ids[0];
            let index = store.layer_index_path(&diff_id);
            harm(
                &match part {
                    "blob" => store.blob_path(&stored.manifest_data.layers[0].digest),
                    "manifest" => store.blob_path(&stored.manifest),
                    "config" => store.blob_path(&stored.id),
                    "record" => index.with_extension("json"),
                    "index" => index,
                    "tar" => store.layer_tar_path(&diff_id),
                    _ => store.chain_path(&stored.chain().unwrap()),
                },
                how,
            );
            mount_damaged(&strata, &case);
            let derived = ["record", "index", "tar", "chain"].contains(&part);
            let repaired = strata.run(&["verify", "--repair"]);
            assert_eq!(
                repaired.ok, derived,
                "{case}: {}{}",
                repaired.out, repaired.err
            );
            if derived {
                let mounted = strata.mount(&["-o", "ro"], "app:1");
                tree::assert_same(("before", &right), (&case, &mounted.tree()));
                mounted.unmount();
            }
        }
    }
}

/// A mount is refused with one line, or what can be read of it is read.
fn mount_damaged(strata: &Strata, case: &str) {
    let point = strata.path("damaged");
    fs::create_dir(&point).unwrap();
    let said = strata.run(&["mount", "-o", "ro", "app:1", point.to_str().unwrap()]);
    if !said.ok {
        // A list of images that leaves one out says so before.
        let lines = said
            .err
            .lines()
            .filter(|l| !l.starts_with("strata: warn: "));
        let lines: Vec<_> = lines.collect();
        assert_eq!(lines.len(), 1, "{case}: {}", said.err);
        assert!(lines[0].starts_with("strata: "), "{case}: {}", said.err);
        return;
    }
    for name in ["etc/motd", "plain", "etc/link"] {
        if let Err(e) = fs::read(point.join(name)) {
            assert_eq!(e.raw_os_error(), Some(libc::EIO), "{case}: {name}");
        }
    }
    strata.ok(&["umount", point.to_str().unwrap()]);
}
