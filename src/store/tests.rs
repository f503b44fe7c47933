//! The store as a whole: names, collection, several users at once, crashes.

use super::atomic::tests::failing_after;
use super::containers::NewContainer;
use super::names::{Removed, StoredImage};
use super::*;
use crate::image::{Descriptor, Reference, media_type};

struct Fixture {
    _dir: tempfile::TempDir,
    store: Store,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    Fixture { _dir: dir, store }
}

fn name(text: &str) -> Reference {
    Reference::parse(text).unwrap()
}

/// An image of one layer blob, which is no real tar.
fn add(store: &Store, what: &str, names: &[&str]) -> Descriptor {
    let layer = store
        .add_blob(format!("layer of {what}").as_bytes())
        .unwrap();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","author":"{what}","rootfs":{{"type":"layers","diff_ids":["{layer}"]}}}}"#
    );
    let config_digest = store.add_blob(config.as_bytes()).unwrap();
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": {"mediaType": media_type::OCI_CONFIG, "digest": config_digest, "size": config.len()},
        "layers": [{"mediaType": media_type::OCI_LAYER_TAR, "digest": layer, "size": 9 + what.len()}],
    })
    .to_string();
    let digest = store.add_blob(manifest.as_bytes()).unwrap();
    let descriptor = Descriptor::new(media_type::OCI_MANIFEST, digest, manifest.len() as u64);
    let names: Vec<_> = names.iter().map(|n| name(n)).collect();
    store.add_image(&descriptor, &names).unwrap();
    descriptor
}

fn shown(image: &StoredImage) -> Vec<String> {
    image.names.iter().map(Reference::familiar).collect()
}

fn blobs(store: &Store) -> usize {
    std::fs::read_dir(store.root().join("blobs/sha256"))
        .unwrap()
        .count()
}

#[test]
fn images_are_found_by_name_id_and_digest() {
    let f = fixture();
    let a = add(&f.store, "a", &["nginx", "localhost:5000/x:1"]);
    add(&f.store, "b", &[]);
    let image = f.store.find("nginx").unwrap();
    assert_eq!(image.manifest, a.digest);
    assert_eq!(shown(&image), ["nginx:latest", "localhost:5000/x:1"]);
    for text in [
        "docker.io/library/nginx:latest".to_owned(),
        image.id.to_string(),
        image.id.hex(),
        image.id.hex()[..8].to_owned(),
        format!("nginx@{}", a.digest),
    ] {
        assert_eq!(f.store.find(&text).unwrap().id, image.id, "{text}");
    }
    for text in [
        "nosuch:1",
        "nginx:1",
        "Bad/Name",
        "",
        "ffffffffffffffffff",
        "other@sha256:00",
    ] {
        let error = f.store.find(text).unwrap_err();
        assert_eq!(error.to_string(), format!("No such image: {text}"));
    }
    assert_eq!(f.store.images().unwrap().len(), 2);
}

#[test]
fn a_name_moves_and_the_old_image_stays_untagged() {
    let f = fixture();
    let old = add(&f.store, "a", &["x"]);
    let new = add(&f.store, "b", &["x"]);
    assert_eq!(f.store.find("x").unwrap().manifest, new.digest);
    let images = f.store.images().unwrap();
    let old = images.iter().find(|i| i.manifest == old.digest).unwrap();
    assert!(old.names.is_empty());
    f.store.tag(&old.id.hex(), &name("x")).unwrap();
    assert_eq!(f.store.find("x").unwrap().id, old.id);
    // Names that OCI's grammar forbids are kept all the same.
    f.store.tag("x", &name("a__b/c---d:1")).unwrap();
    assert_eq!(f.store.find("a__b/c---d:1").unwrap().id, old.id);
}

#[test]
fn removal_untags_first_and_then_frees() {
    let f = fixture();
    add(&f.store, "a", &["x", "y"]);
    add(&f.store, "b", &["z"]);
    let id = f.store.find("x").unwrap().id;
    let before = blobs(&f.store);
    let refused = f
        .store
        .remove_image(&id.hex(), false)
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("referenced in multiple repositories"),
        "{refused}"
    );
    assert_eq!(
        f.store.remove_image("x", false).unwrap(),
        [Removed::Untagged("x:latest".into())]
    );
    assert_eq!(blobs(&f.store), before);
    let removed = f.store.remove_image("y", false).unwrap();
    assert_eq!(
        removed[..2],
        [Removed::Untagged("y:latest".into()), Removed::Deleted(id)]
    );
    assert_eq!(blobs(&f.store), before - 3);
    assert!(f.store.find("z").is_ok());
}

#[test]
fn what_containers_and_mounts_use_stays() {
    let f = fixture();
    add(&f.store, "a", &["x"]);
    let image = f.store.find("x").unwrap();
    let container = f.store.create_container(
        &image,
        "x",
        NewContainer {
            name: Some("c1".into()),
            ..NewContainer::default()
        },
    );
    let container = container.unwrap();
    let refused = f.store.remove_image("x", false).unwrap_err().to_string();
    assert!(
        refused.contains("(must force) - stopped container"),
        "{refused}"
    );
    let claim = container.claim(&f.store).unwrap();
    assert!(
        f.store
            .remove_image("x", true)
            .unwrap_err()
            .to_string()
            .contains("cannot be forced")
    );
    assert!(container.claim(&f.store).is_err());
    assert!(f.store.remove_container(&container).is_err());
    drop(claim);
    assert_eq!(
        f.store.remove_image("x", true).unwrap(),
        [Removed::Untagged("x:latest".into())]
    );
    assert_eq!(f.store.image_of_container(&container).unwrap().id, image.id);
    f.store.remove_container(&container).unwrap();
    let pin = f.store.pin(&image.manifest).unwrap();
    assert!(f.store.remove_image(&image.id.hex(), true).is_err());
    drop(pin);
    f.store.remove_image(&image.id.hex(), false).unwrap();
    assert!(f.store.images().unwrap().is_empty());
    assert_eq!(blobs(&f.store), 0);
}

#[test]
fn container_names_are_dockers() {
    let f = fixture();
    add(&f.store, "a", &["x"]);
    let image = f.store.find("x").unwrap();
    let create = |name: Option<&str>| {
        f.store.create_container(
            &image,
            "x",
            NewContainer {
                name: name.map(str::to_owned),
                ..NewContainer::default()
            },
        )
    };
    let first = create(Some("web.1")).unwrap();
    let taken = create(Some("web.1")).unwrap_err().to_string();
    assert!(
        taken.starts_with("Conflict. The container name \"/web.1\" is already in use by container")
    );
    for bad in ["", "a", "-x", "a b", "a/b", "\u{1b}[1m", ".."] {
        assert!(create(Some(bad)).is_err(), "{bad}");
    }
    let other = create(None).unwrap();
    assert_eq!(f.store.container("web.1").unwrap(), first);
    assert_eq!(f.store.container(&other.id[..12]).unwrap(), other);
    assert_eq!(
        f.store.container("").unwrap_err().to_string(),
        "No such container: "
    );
    f.store.rename_container(&first, "db_2").unwrap();
    assert_eq!(f.store.container("db_2").unwrap().id, first.id);
    assert!(f.store.container("web.1").is_err());
}

#[test]
fn several_writers_lose_nothing() {
    let f = fixture();
    let threads: Vec<_> = (0..8)
        .map(|t| {
            let store = f.store.clone();
            std::thread::spawn(move || {
                for i in 0..10 {
                    add(&store, &format!("{t}-{i}"), &[&format!("image{t}:{i}")]);
                    if i % 3 == 0 {
                        store.remove_image(&format!("image{t}:{i}"), false).unwrap();
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
    assert_eq!(f.store.images().unwrap().len(), 8 * 6);
}

#[test]
fn a_crash_leaves_the_old_or_the_new() {
    for steps in 0..12 {
        let f = fixture();
        add(&f.store, "a", &["x"]);
        let old = f.store.find("x").unwrap().id;
        let other = add(&f.store, "b", &[]);
        let moved = failing_after(steps, || f.store.add_image(&other, &[name("x")]));
        let store = Store::open(f.store.root()).unwrap();
        let found = store.find("x").unwrap();
        match moved {
            Ok(()) => assert_eq!(found.manifest, other.digest),
            Err(_) => assert!(found.id == old || found.manifest == other.digest),
        }
        assert_eq!(store.images().unwrap().len(), 2);
    }
}

#[test]
fn collection_waits_for_leases_and_spares_the_young() {
    let f = fixture();
    add(&f.store, "a", &["x"]);
    let young = f.store.add_blob(b"on its way").unwrap();
    let litter = f.store.tmp_dir().join("load-xyz");
    std::fs::write(&litter, b"half").unwrap();
    let lease = f.store.lease().unwrap();
    assert_eq!(f.store.collect().unwrap(), None);
    drop(lease);
    assert!(f.store.collect().unwrap().is_some());
    assert!(f.store.has(&young) && !litter.exists());
    assert!(f.store.find("x").is_ok());
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(3 * 24 * 3600);
    f.store
        .open_blob(&young)
        .unwrap()
        .set_modified(old)
        .unwrap();
    f.store.collect().unwrap();
    assert!(!f.store.has(&young));
}

#[test]
fn a_directory_with_something_else_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("precious"), b"").unwrap();
    let error = Store::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("--root"), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn the_best_of_a_descriptors_names_counts() {
    let digest = Digest::of(b"x");
    let called = |short: &str, whole: Option<&str>| {
        let mut descriptor = Descriptor::new(media_type::OCI_MANIFEST, digest, 1);
        let annotations = &mut descriptor.annotations;
        annotations.insert(names::REF_NAME.into(), short.into());
        if let Some(whole) = whole {
            annotations.insert(names::CONTAINERD_NAME.into(), whole.into());
        }
        names::name_of(&descriptor).map(|name| name.familiar())
    };
    let app = Some("docker.io/library/app:1");
    // A tag alone, as ctr and Docker write it; a digest, as we do where the grammar is against us.
    assert_eq!(called("1", app).as_deref(), Some("app:1"));
    assert_eq!(called(&digest.to_string(), app).as_deref(), Some("app:1"));
    // A whole name is newer than what stands beside it.
    assert_eq!(
        called("localhost/new:2", app).as_deref(),
        Some("localhost/new:2")
    );
    assert_eq!(
        called("localhost/new:2", None).as_deref(),
        Some("localhost/new:2")
    );
}

#[test]
fn the_size_of_the_cache_is_read() {
    for (text, size) in [
        ("0", Some(0)),
        ("4096", Some(4096)),
        ("500M", Some(500 << 20)),
        ("2g", Some(2 << 30)),
        ("G", None),
        ("-1G", None),
        ("", None),
        ("16777216T", None),
        ("1\u{e9}", None),
    ] {
        assert_eq!(super::parse_size(text), size, "{text}");
    }
}

#[test]
fn objects_of_no_layer_are_collected() {
    use crate::content::objects::Key;
    let f = fixture();
    let path = f.store.root().join("contents");
    std::fs::write(&path, vec![7; 50_000]).unwrap();
    let file = File::open(&path).unwrap();
    let key = Key::of(&file).unwrap();
    let objects = f.store.objects().unwrap();
    drop(objects.make(&key, &file).unwrap());
    assert_eq!(objects.list().unwrap().len(), 1);
    assert!(
        f.store
            .collect()
            .unwrap()
            .is_some_and(|freed| freed >= 50_000)
    );
    assert!(objects.list().unwrap().is_empty());
}
