//! What each mount option does, on real mounts of directory layers.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;

use crate::common::cli::{self, is_mounted, run};
use crate::dirs::{Dirs, LAYERS};

#[test]
fn flags_reach_the_kernel() {
    let Some(dirs) = Dirs::new("options::flags_reach_the_kernel", "") else {
        return;
    };
    for (word, shown) in [
        ("ro", "ro"),
        ("nosuid", "nosuid"),
        ("nodev", "nodev"),
        ("noexec", "noexec"),
        ("noatime", "noatime"),
        ("nodiratime", "nodiratime"),
        ("relatime", "relatime"),
        ("sync", "sync"),
        ("dirsync", "dirsync"),
        ("lazytime", "lazytime"),
        ("nosymfollow", "nosymfollow"),
        ("max_read=65536", "max_read=65536"),
        ("users", "noexec"),
        ("default_permissions", "default_permissions"),
        ("allow_other", "allow_other"),
    ] {
        assert_eq!(dirs.mounted(&format!("{LAYERS},{word}")), "", "{word}");
        let info = dirs.info();
        dirs.umount();
        let mut words = info.split([' ', ',']);
        assert!(words.any(|w| w == shown), "{word}: {info}");
    }
    for (word, hidden) in [
        ("strictatime", "relatime"),
        ("dev,suid,exec", "nodev"),
        ("nosuid,suid", "nosuid"),
        ("ro,rw", "ro"),
    ] {
        dirs.mounted(&format!("{LAYERS},{word}"));
        let info = dirs.info();
        dirs.umount();
        assert!(
            !info.split([' ', ',']).any(|w| w == hidden),
            "{word}: {info}"
        );
    }
}

#[test]
fn sources_and_propagation_are_shown() {
    let Some(dirs) = Dirs::new("options::sources_and_propagation_are_shown", "") else {
        return;
    };
    for (word, end) in [
        ("fsname=my\\,name", "fuse.strata my,name"),
        ("ro", "fuse.strata a:b"),
    ] {
        dirs.mounted(&format!("{LAYERS},{word}"));
        let info = dirs.info();
        dirs.umount();
        assert!(info.contains(end), "{word}: {info}");
    }
    for (word, field) in [
        ("shared", " shared:"),
        ("private", " - "),
        ("unbindable", " unbindable "),
    ] {
        dirs.mounted(&format!("{LAYERS},{word}"));
        let info = dirs.info();
        dirs.umount();
        assert!(info.contains(field), "{word}: {info}");
        assert_eq!(info.contains(" shared:"), word == "shared", "{info}");
    }
}

#[test]
fn who_may_use_it() {
    let Some(dirs) = Dirs::new("options::who_may_use_it", "echo x > a/f") else {
        return;
    };
    dirs.mounted(LAYERS);
    let said = dirs.as_user(1000, "cat f");
    dirs.umount();
    assert_eq!(said.success(), "x\n");
    dirs.mounted(&format!("{LAYERS},allow_root"));
    // The kernel lets nobody else in; what it may keep for root is not shown either.
    let said = dirs.as_user(1000, "cat f");
    let root = fs::read_to_string(dirs.path("f"));
    dirs.umount();
    assert_eq!(root.unwrap(), "x\n");
    said.failure();
}

#[test]
fn links_of_directories_are_not_counted() {
    let Some(dirs) = Dirs::new(
        "options::links_of_directories_are_not_counted",
        "mkdir -p a/d/1 a/d/2",
    ) else {
        return;
    };
    for (words, links) in [("ro", 4), ("ro,static_nlink", 1)] {
        dirs.mounted(&format!("lowerdir=a,{words}"));
        let count = fs::metadata(dirs.path("d")).unwrap().nlink();
        dirs.umount();
        assert_eq!(count, links, "{words}");
    }
}

#[test]
fn attributes_and_acls_can_be_off() {
    let script = "touch a/f; setfattr -n user.x -v y a/f; setfacl -m u:7:rw a/f";
    let Some(dirs) = Dirs::new("options::attributes_and_acls_can_be_off", script) else {
        return;
    };
    let file = dirs.path("f");
    let attribute = || {
        run(
            "getfattr",
            &["-n".as_ref(), "user.x".as_ref(), file.as_os_str()],
        )
    };
    let set = || {
        let words = ["-n", "user.z", "-v", "1"].map(std::ffi::OsStr::new);
        run("setfattr", &[&words[..], &[file.as_os_str()]].concat())
    };
    let acl = || {
        run(
            "setfacl",
            &["-m".as_ref(), "u:8:r".as_ref(), file.as_os_str()],
        )
    };
    let shown = || run("getfacl", &["-nc".as_ref(), file.as_os_str()]).success();
    dirs.mounted(LAYERS);
    let all = (
        attribute().ok,
        set().ok,
        acl().ok,
        shown().contains("user:7:"),
    );
    dirs.umount();
    dirs.mounted(&format!("{LAYERS},noacl"));
    let no_acl = (
        attribute().ok,
        set().ok,
        acl().ok,
        shown().contains("user:7:"),
    );
    dirs.umount();
    dirs.mounted(&format!("{LAYERS},noxattrs=1"));
    let none = (
        attribute().ok,
        set().ok,
        acl().ok,
        shown().contains("user:7:"),
    );
    let listed = run("getfattr", &["-d".as_ref(), file.as_os_str()]);
    dirs.umount();
    assert_eq!(all, (true, true, true, true));
    assert_eq!(no_acl, (true, true, false, false));
    assert_eq!(none, (false, false, false, false));
    assert!(!listed.out.contains("user.x"));
}

#[test]
fn what_is_kept_has_an_end_only_when_asked_for() {
    let Some(dirs) = Dirs::new(
        "options::what_is_kept_has_an_end_only_when_asked_for",
        "echo x > u/f; chmod 644 u/f",
    ) else {
        return;
    };
    for (word, sees) in [("rw", false), ("timeout=0", true)] {
        dirs.mounted(&format!("{LAYERS},{word}"));
        let (name, mode) = (dirs.path("later"), || {
            fs::metadata(dirs.path("f")).unwrap().mode() & 0o777
        });
        let before = (name.exists(), mode());
        // Behind its back, which is not to be done, and shows what the kernel asks for again.
        fs::write(dirs.strata.path("u/later"), b"").unwrap();
        fs::set_permissions(dirs.strata.path("u/f"), fs::Permissions::from_mode(0o600)).unwrap();
        let after = (name.exists(), mode() == 0o600);
        dirs.umount();
        fs::remove_file(dirs.strata.path("u/later")).unwrap();
        fs::set_permissions(dirs.strata.path("u/f"), fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(before, (false, 0o644));
        assert_eq!(after, (sees, sees), "{word}");
    }
}

#[test]
fn marks_in_user_attributes() {
    let script = "mkdir a/d b/d; touch b/d/hidden; setfattr -n user.overlay.opaque -v y a/d";
    let Some(dirs) = Dirs::new("options::marks_in_user_attributes", script) else {
        return;
    };
    for (word, hides) in [("rw", false), ("userxattr", true)] {
        dirs.mounted_by_command(&format!("{LAYERS},{word}"));
        let there = dirs.path("d/hidden").exists();
        dirs.umount();
        assert_eq!(there, !hides, "{word}");
    }
}

#[test]
fn changes_of_attributes_copy_data_unless_metacopy() {
    let Some(dirs) = Dirs::new(
        "options::changes_of_attributes_copy_data_unless_metacopy",
        "head -c 1000000 /dev/urandom > a/f",
    ) else {
        return;
    };
    for (word, copies) in [("metacopy=on", false), ("metacopy=off", true), ("rw", true)] {
        dirs.mounted(&format!("{LAYERS},{word}"));
        fs::set_permissions(dirs.path("f"), fs::Permissions::from_mode(0o600)).unwrap();
        let same = fs::read(dirs.path("f")).unwrap() == fs::read(dirs.strata.path("a/f")).unwrap();
        dirs.umount();
        let upper = dirs.strata.path("u/f");
        let copied = fs::metadata(&upper).unwrap().blocks() > 100;
        fs::remove_file(upper).unwrap();
        assert!(same);
        assert_eq!(copied, copies, "{word}");
    }
}

#[test]
fn forms_of_other_programs_count_for_a_mount_program() {
    let script = "touch b/x b/y; touch a/.wh.x; mkdir a/d b/d; touch a/d/.wh..wh..opq b/d/z";
    let test = "options::forms_of_other_programs_count_for_a_mount_program";
    let Some(dirs) = Dirs::new(test, script) else {
        return;
    };
    let names = |dir: &Path| {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names.join(" ")
    };
    dirs.mounted(LAYERS);
    let (top, below) = (names(&dirs.point), names(&dirs.path("d")));
    dirs.umount();
    assert_eq!((top.as_str(), below.as_str()), ("d y", ""));
    let ordinary = |options: &str| {
        dirs.mounted_by_command(options);
        let shown = names(&dirs.point);
        dirs.umount();
        shown
    };
    assert_eq!(ordinary(LAYERS), ".wh.x d x y");
    assert_eq!(ordinary(&format!("{LAYERS},aufs")), "d y");
}

#[test]
fn paths_with_separators_in_them() {
    let script = r"mkdir 'p:q' 'p,q' 'p\q' 'u,:'; touch 'p:q/1' 'p,q/2' 'p\q/3'";
    let Some(dirs) = Dirs::new("options::paths_with_separators_in_them", script) else {
        return;
    };
    dirs.mounted(r"lowerdir=p\:q:p\,q:p\\q,upperdir=u\,:,workdir=w,,");
    let there = ["1", "2", "3"].map(|n| dirs.path(n).exists());
    fs::write(dirs.path("new"), b"").unwrap();
    dirs.umount();
    assert_eq!(there, [true; 3]);
    assert!(dirs.strata.path("u,:/new").exists());
    dirs.mounted(r"lowerdir+=p:q,lowerdir+=p\,q");
    let there = ["1", "2"].map(|n| dirs.path(n).exists());
    dirs.umount();
    assert_eq!(there, [true; 2]);
}

#[test]
fn five_hundred_layers_that_overlap() {
    let script =
        "mkdir l; for i in $(seq 249); do mkdir l/$i; echo $i > l/$i/f$i; echo $i > l/$i/all; done";
    let Some(dirs) = Dirs::new("options::five_hundred_layers_that_overlap", script) else {
        return;
    };
    let mut layers: Vec<String> = (1..=249).map(|i| format!("l/{i}")).collect();
    layers.extend(layers.clone());
    layers.extend(["l".to_owned(), "l/7".to_owned()]);
    let lowers = format!("lowerdir={}", layers.join(":"));
    dirs.mounted(&format!("{lowers},upperdir=u,workdir=w"));
    let read = |name: &str| fs::read_to_string(dirs.path(name)).unwrap();
    let found = (read("f249"), read("all"), read("7/f7"));
    fs::write(dirs.path("f249"), b"new").unwrap();
    dirs.umount();
    assert_eq!(found, ("249\n".into(), "1\n".into(), "7\n".into()));
    let below = dirs.strata.path("l/249/f249");
    assert_eq!(fs::read_to_string(below).unwrap(), "249\n");
    let said = dirs.mount(&format!("{lowers}:l/1")).failure();
    assert!(said.contains("500"), "{said}");
}

#[test]
fn what_cannot_be_is_said_in_one_line() {
    let script = "mkdir u/in w/in a/in; touch file; mkdir t; mount -t tmpfs t t; mkdir t/w";
    let Some(dirs) = Dirs::new("options::what_cannot_be_is_said_in_one_line", script) else {
        return;
    };
    for (options, why) in [
        (
            "lowerdir=a:none",
            "lowerdir: none: No such file or directory",
        ),
        ("lowerdir=a:file", "file: Not a directory"),
        (
            "lowerdir=a,upperdir=none,workdir=w",
            "upperdir: none: No such file",
        ),
        (
            "lowerdir=a,upperdir=u,workdir=none",
            "workdir: none: No such file",
        ),
        ("lowerdir=a,upperdir=u", "needs workdir="),
        (
            "lowerdir=a,upperdir=u,workdir=u/in",
            "must not be inside each other",
        ),
        (
            "lowerdir=a,upperdir=w/in,workdir=w",
            "must not be inside each other",
        ),
        (
            "lowerdir=a,upperdir=u,workdir=u",
            "must not be inside each other",
        ),
        (
            "lowerdir=a,upperdir=a/in,workdir=w",
            "lower layers don't change",
        ),
        (
            "lowerdir=a:u/in,upperdir=u,workdir=w",
            "lower layers don't change",
        ),
        (
            "lowerdir=a,upperdir=u,workdir=t/w",
            "not on the file system",
        ),
        ("upperdir=u,workdir=w", "no layer below"),
        ("ro", "nothing to mount"),
        ("lowerdir=a,lowerdirr=b", "did you mean lowerdir?"),
        ("lowerdir=a,verity=require", "digests"),
    ] {
        let said = dirs.mount(options).failure();
        assert!(said.contains(why), "{options}: {said}");
        assert_eq!(said.lines().count(), 1, "{options}: {said}");
        assert!(!is_mounted(&dirs.point), "{options}");
    }
    run("umount", &[dirs.strata.path("t")]).success();
}

#[test]
fn an_upper_has_one_mount() {
    let Some(dirs) = Dirs::new("options::an_upper_has_one_mount", "mkdir n") else {
        return;
    };
    dirs.mounted(LAYERS);
    let mut command = Command::new(env!("CARGO_BIN_EXE_strata"));
    command.args(["-o", "lowerdir=b,upperdir=u,workdir=w", "n"]);
    let said = cli::said(command.current_dir(&dirs.strata.scratch));
    dirs.umount();
    let said = said.failure();
    assert!(said.contains("in use by another mount"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn what_has_no_effect_is_said_once() {
    let Some(dirs) = Dirs::new("options::what_has_no_effect_is_said_once", "") else {
        return;
    };
    let said = dirs.mounted(&format!(
        "{LAYERS},threaded=1,writeback=1,threaded=0,plugins=x"
    ));
    dirs.umount();
    assert_eq!(
        said,
        "strata: no effect here: plugins, threaded, writeback\n"
    );
}

#[test]
fn lower_directories_are_renamed_or_copied() {
    let test = "options::lower_directories_are_renamed_or_copied";
    let Some(dirs) = Dirs::new(test, "mkdir b/d; echo x > b/d/f") else {
        return;
    };
    for (word, renamed) in [
        ("redirect_dir=on", true),
        ("redirect_dir=off", false),
        ("rw", false),
    ] {
        dirs.mounted(&format!("{LAYERS},{word}"));
        let result = fs::rename(dirs.path("d"), dirs.path("e"));
        if renamed {
            fs::rename(dirs.path("e"), dirs.path("d")).unwrap();
        }
        dirs.umount();
        let errno = result.err().and_then(|e| e.raw_os_error());
        assert_eq!(errno, (!renamed).then_some(libc::EXDEV), "{word}");
    }
    // A redirect that is there.
    dirs.mounted(&format!("{LAYERS},redirect_dir=on"));
    fs::rename(dirs.path("d"), dirs.path("e")).unwrap();
    dirs.umount();
    for (word, follows) in [("redirect_dir=off", true), ("redirect_dir=nofollow", false)] {
        dirs.mounted(&format!("{LAYERS},{word}"));
        let there = dirs.path("e/f").exists();
        dirs.umount();
        assert_eq!(there, follows, "{word}");
    }
}

#[test]
fn hard_links_of_lowers_by_index() {
    let test = "options::hard_links_of_lowers_by_index";
    let Some(dirs) = Dirs::new(test, "echo x > a/f; ln a/f a/g") else {
        return;
    };
    for (word, stays) in [("index=on", true), ("index=off", false)] {
        dirs.mounted(&format!("{LAYERS},{word}"));
        fs::write(dirs.path("f"), b"new").unwrap();
        dirs.umount();
        dirs.mounted(&format!("{LAYERS},{word}"));
        let other = fs::read_to_string(dirs.path("g")).unwrap();
        dirs.umount();
        assert_eq!(other == "new", stays, "{word}");
        run(
            "sh",
            &[
                "-c",
                &format!(
                    "cd {} && rm -rf u w && mkdir u w",
                    dirs.strata.scratch.display()
                ),
            ],
        )
        .success();
    }
}

#[test]
fn data_only_layers_give_only_data() {
    let script = "echo data > b/blob; echo other > b/other; touch a/f; truncate -s 5 a/f
        setfattr -n trusted.overlay.metacopy a/f; setfattr -n trusted.overlay.redirect -v /blob a/f";
    let Some(dirs) = Dirs::new("options::data_only_layers_give_only_data", script) else {
        return;
    };
    for words in ["lowerdir=a::b,metacopy=on", "lowerdir+=a,datadir+=b"] {
        dirs.mounted(words);
        let (data, there) = (
            fs::read_to_string(dirs.path("f")),
            dirs.path("other").exists(),
        );
        dirs.umount();
        assert_eq!(data.unwrap(), "data\n", "{words}");
        assert!(!there, "{words}");
    }
}

/// A daemon that was killed between cutting a metacopy and taking the mark away.
#[test]
fn a_metacopy_that_a_crash_left_cut_is_empty() {
    let test = "options::a_metacopy_that_a_crash_left_cut_is_empty";
    let cut = "echo data >a/f; : >u/f; setfattr -n trusted.overlay.metacopy u/f";
    let Some(dirs) = Dirs::new(test, cut) else {
        return;
    };
    let shown = |words: &str, text: &str| {
        dirs.mounted(words);
        let path = dirs.path("f");
        let (meta, read) = (fs::metadata(&path), fs::read_to_string(&path));
        assert_eq!(read.unwrap(), text, "{words}");
        assert_eq!(meta.unwrap().len(), text.len() as u64, "{words}");
        if text.is_empty() && words.contains("upperdir") {
            fs::write(&path, "new").unwrap();
        }
        dirs.umount();
    };
    shown("lowerdir=u:a,metacopy=on", "");
    // What is written to it stays.
    let both = "lowerdir=a,upperdir=u,workdir=w,metacopy=on";
    shown(both, "");
    shown(both, "new");
}
