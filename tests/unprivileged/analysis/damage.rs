//! verify: what it finds of damage, and repairs.

use super::*;

/// What is done to a file.
#[derive(Debug, Clone, Copy)]
enum Harm {
    Truncate,
    Delete,
    Flip,
}

fn harm(path: &Path, harm: Harm) {
    let mut bytes = fs::read(path).unwrap();
    match harm {
        Harm::Truncate => bytes.truncate(bytes.len() / 2),
        Harm::Delete => return fs::remove_file(path).unwrap(),
        Harm::Flip => {
            let at = bytes.len() / 4;
            bytes[at] ^= 0x04;
        }
    }
    // A new file: the old one may be a link to the template's.
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_tree(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}

/// Every kind of file, truncated, deleted and with a bit flipped: what verify says, what a repair
/// makes of it, and what is shown then.
#[test]
fn damage_matrix() {
    let template = Bench::new();
    let (packed, plain) = (
        layer("packed"),
        Tar::new().file("plain", &[b'p'; 3000]).end(),
    );
    let zipped = gzip(&packed);
    let mut layout = Layout::new();
    let image = layout.image(&[(GZIP, &zipped, &packed), (TAR, &plain, &plain)]);
    template.load(&layout.list(image, "app:1").pack());
    let shown = template.ok(&["ls", "-lR", "app:1"]);
    let stored = template.store.find("app:1").unwrap();
    let (zipped, plain) = (
        &stored.manifest_data.layers[0],
        &stored.manifest_data.layers[1],
    );
    let packed = stored.config.rootfs.diff_ids[0];
    let store = &template.store;
    fs::create_dir_all(store.root().join("strata/objects")).unwrap();
    let object = store
        .root()
        .join("strata/objects")
        .join(blake3::hash(b"object").to_hex().as_str());
    fs::write(&object, b"object").unwrap();
    let index = store.layer_index_path(&packed);
    // The file, its part, and whether it can be made again.
    let files = [
        (store.blob_path(&zipped.digest), Part::Layer, false),
        (store.blob_path(&plain.digest), Part::Layer, false),
        (store.blob_path(&stored.manifest), Part::Manifest, false),
        (store.blob_path(&stored.id), Part::Config, false),
        (index.with_extension("json"), Part::LayerRecord, true),
        (index, Part::LayerIndex, true),
        (store.layer_tar_path(&packed), Part::LayerTar, true),
        (
            store.chain_path(&stored.chain().unwrap()),
            Part::ChainIndex,
            true,
        ),
        (object, Part::Object, true),
    ];
    let mut made = 0;
    for (path, part, derived) in &files {
        assert!(path.exists(), "{part:?}: {}", path.display());
        for how in [Harm::Truncate, Harm::Delete, Harm::Flip] {
            let case = format!("{part:?} {how:?}");
            let bench = Bench::new();
            copy_tree(store.root(), bench.store.root());
            let below = path.strip_prefix(store.root()).unwrap();
            harm(&bench.store.root().join(below), how);
            // What is derived and not there is no damage, unless something vouches for it.
            let harmless = matches!(how, Harm::Delete)
                && matches!(part, Part::LayerRecord | Part::ChainIndex | Part::Object);
            let report = verify(&bench.store, &Scope::All, Mode::Check, &Silent).unwrap();
            let found: Vec<_> = report.damage.iter().map(|d| d.part).collect();
            match harmless {
                true => assert_eq!(found, [], "{case}: {:?}", report.damage),
                false => assert_eq!(found, [*part], "{case}: {:?}", report.damage),
            }
            assert_eq!(report.is_sound(), harmless, "{case}");
            let ran = bench.run(&["verify", "--repair"]);
            let sound = harmless || *derived;
            assert_eq!(
                ran.code,
                i32::from(!sound),
                "{case}: {}{}",
                ran.out,
                ran.err
            );
            let again = bench.run(&["verify", "--all"]);
            assert_eq!(
                again.code,
                i32::from(!sound),
                "{case}: {}{}",
                again.out,
                again.err
            );
            if sound {
                assert_eq!(bench.ok(&["ls", "-lR", "app:1"]), shown, "{case}");
                assert_eq!(bench.ok(&["verify", "app:1"]).lines().count(), 1, "{case}");
                made += usize::from(!harmless);
            }
        }
    }
    assert_eq!(made, 12);
}

#[test]
fn indexes_that_are_sound_but_not_their_layers_are_found() {
    let bench = Bench::new();
    let (one, two) = (layer("one"), layer("two"));
    let mut docker = Docker::new("app:1", &[&one]);
    docker.add(&["app:2"], &[&two]);
    bench.load(&docker.pack());
    let layer = |name: &str| bench.store.find(name).unwrap().config.rootfs.diff_ids[0];
    let path = |name: &str| bench.store.layer_index_path(&layer(name));
    fs::copy(path("app:2"), path("app:1")).unwrap();
    let report = verify(
        &bench.store,
        &Scope::Images(vec!["app:1".into()]),
        Mode::Check,
        &Silent,
    );
    let report = report.unwrap();
    assert!(
        report
            .damage
            .iter()
            .any(|d| d.part == Part::LayerIndex && d.why == "another layer's")
    );
    assert_eq!(report.damage[0].images, ["app:1"]);
    assert_eq!(bench.run(&["verify", "app:2"]).code, 0);
    assert_eq!(bench.run(&["verify", "--repair", "app:1"]).code, 0);
    assert_eq!(bench.run(&["verify"]).code, 0);
    assert_eq!(bench.run(&["verify", "app:3"]).code, 1);
}

#[test]
fn both_copies_of_a_layer_lost() {
    let bench = Bench::new();
    let packed = layer("packed");
    let zipped = gzip(&packed);
    let mut layout = Layout::new();
    let image = layout.image(&[(GZIP, &zipped, &packed)]);
    bench.load(&layout.list(image, "app:1").pack());
    let stored = bench.store.find("app:1").unwrap();
    let diff_id = stored.config.rootfs.diff_ids[0];
    harm(
        &bench
            .store
            .blob_path(&stored.manifest_data.layers[0].digest),
        Harm::Flip,
    );
    harm(&bench.store.layer_index_path(&diff_id), Harm::Flip);
    // The uncompressed copy still gives the index.
    let ran = bench.run(&["verify", "--repair"]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.out.contains("repaired: layer's index") && ran.out.contains("damaged: layer blobs"),
        "{}",
        ran.out
    );
    harm(&bench.store.layer_tar_path(&diff_id), Harm::Flip);
    harm(&bench.store.layer_index_path(&diff_id), Harm::Truncate);
    let ran = bench.run(&["verify", "--repair"]);
    assert_eq!(ran.code, 1);
    assert!(ran.out.contains("load the image again"), "{}", ran.out);
}
