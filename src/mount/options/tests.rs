use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::fuse::policy::FOREVER;

fn parsed(list: &str) -> MountOptions {
    let mut options = MountOptions::default();
    options
        .parse(list)
        .unwrap_or_else(|e| panic!("{list}: {e}"));
    options
}

fn refused(list: &str) -> String {
    let mut options = MountOptions::default();
    options.parse(list).unwrap_err().to_string()
}

fn paths<const N: usize>(paths: [&str; N]) -> Vec<PathBuf> {
    paths.map(PathBuf::from).into()
}

#[test]
fn lists_are_taken_apart() {
    let options = parsed(
        r"lowerdir=/a\:b:/c\,d:/e\\:/g=h,,upperdir=/u\,v,workdir=/w,ro,dev,nosuid,x-systemd.automount,",
    );
    assert_eq!(options.lowers, paths(["/a:b", "/c,d", r"/e\", "/g=h"]));
    assert_eq!(options.upper, Some("/u,v".into()));
    assert!(options.read_only);
    let flags = MountFlags::RDONLY | MountFlags::NOSUID;
    assert_eq!(options.mount_flags(), flags);
    for nothing in ["", ",,,", "defaults", "rw", "x-a.b=c,X-d"] {
        assert_eq!(parsed(nothing), MountOptions::default());
    }
    let mut bytes = MountOptions::default();
    let name = OsStr::from_bytes(b"lowerdir=/\xff\xfe");
    bytes.parse(name).unwrap();
    assert_eq!(bytes.lowers[0].as_os_str().as_bytes(), b"/\xff\xfe");
}

#[test]
fn layers_one_by_one_and_data_only() {
    let options = parsed("lowerdir=/a:/b::/c::/d");
    assert_eq!(options.lowers, paths(["/a", "/b"]));
    assert_eq!(options.data_lowers, paths(["/c", "/d"]));
    let options = parsed(r"lowerdir+=/a:b,lowerdir+=/c\,d,datadir+=/e");
    assert_eq!(options.lowers, paths(["/a:b", "/c,d"]));
    assert_eq!(options.data_lowers, paths(["/e"]));
    let many = format!("lowerdir={}", ["/l"; 500].join(":"));
    assert_eq!(parsed(&many).lowers.len(), 500);
    for wrong in [
        "lowerdir=",
        "lowerdir=:/a",
        "lowerdir=/a:",
        "lowerdir=/a:::/b",
        "lowerdir=::/a",
        "lowerdir=/a::/b:/c",
        "lowerdir",
        "upperdir=",
        "workdir",
    ] {
        assert!(refused(wrong).starts_with("mount option "), "{wrong}");
    }
}

#[test]
fn flags_of_mount() {
    let flags = |list: &str| parsed(list).mount_flags();
    assert_eq!(flags(""), MountFlags::NODEV);
    assert_eq!(flags("dev,suid,exec,rw"), MountFlags::empty());
    assert_eq!(
        flags("ro,noatime,lazytime,rw,nodev,nodev,ro,dirsync,noexec"),
        MountFlags::RDONLY
            | MountFlags::NODEV
            | MountFlags::NOATIME
            | MountFlags::LAZYTIME
            | MountFlags::DIRSYNC
            | MountFlags::NOEXEC
    );
    assert_eq!(flags("noatime,atime,dev"), MountFlags::empty());
    let harmless = MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
    assert_eq!(flags("users"), harmless);
    assert_eq!(flags("user,exec"), MountFlags::NODEV | MountFlags::NOSUID);
    assert_eq!(
        flags("user=anna,_netdev,nofail,comment=x,noauto"),
        MountFlags::NODEV
    );
    let spread = parsed("shared,rslave").propagation;
    assert_eq!(spread, Some(MountPropagationFlags::DOWNSTREAM));
    assert_eq!(parsed("allow_other").users, Some(Users::All));
    assert_eq!(parsed("allow_root").users, Some(Users::OwnerAndRoot));
    assert_eq!(parsed("max_read=65536").kernel_words, ["max_read=65536"]);
}

#[test]
fn overlay_words() {
    let options = parsed("redirect_dir=off,metacopy=on,index=off,xino=auto,nfs_export=on,volatile");
    assert_eq!(options.redirect_dir, Some(RedirectDir::Follow));
    assert_eq!(options.metacopy, Some(Switch::On));
    assert_eq!(options.index, Some(Switch::Off));
    assert_eq!(options.xino, Some(Xino::Auto));
    assert_eq!(options.nfs_export, Some(Switch::On));
    assert!(options.volatile && !options.userxattr);
    assert!(parsed("fsync=0").volatile && !parsed("fsync=1").volatile);
    assert_eq!(parsed("verity=require").verity, Some(Verity::Require));
    let options = parsed("redirect_dir=nofollow,userxattr");
    assert_eq!(options.redirect_dir, Some(RedirectDir::NoFollow));
    assert!(options.userxattr);
}

#[test]
fn fuse_overlayfs_words() {
    let options = parsed(
        "uidmapping=:0:100000:65536,gidmapping=0:1:1:1:5:10,static_nlink,noxattrs=1,noacl,\
         xattr_permissions=2,timeout=1.5",
    );
    assert_eq!(options.ids.uids.shown(5), 100_005);
    assert_eq!(options.ids.gids.shown(2), 6);
    assert!(options.static_nlink && options.noxattrs && options.noacl);
    assert_eq!(options.xattr_permissions, Some(RecordName::Containers));
    assert_eq!(options.lifetimes.absent, Duration::from_millis(1500));
    assert_eq!(parsed("timeout=1e30").lifetimes.entry, FOREVER);
    for squashed in [
        "squash_to_uid=7,squash_to_root",
        "squash_to_root,squash_to_uid=7",
    ] {
        let ids = parsed(squashed).ids;
        assert_eq!((ids.uids.shown(3), ids.gids.shown(3)), (7, 0), "{squashed}");
    }
    for wrong in [
        "uidmapping=1:2",
        "squash_to_uid=-1",
        "squash_to_gid=4294967295",
        "timeout=soon",
        "timeout=-1",
        "timeout=nan",
        "xattr_permissions=3",
        "fsync=2",
        "nodes=-1",
        "nodes=few",
    ] {
        assert!(refused(wrong).starts_with("mount option "), "{wrong}");
    }
}

#[test]
fn our_words() {
    let options = parsed(
        r"image=nginx:1,root=/s,fsname=a\,b,transport=uring,pages=shared,nodes=0,name=web,rm",
    );
    assert_eq!(options.pages, Some(Pages::Shared));
    assert_eq!(options.nodes, Some(0));
    assert_eq!(options.image.as_deref(), Some("nginx:1"));
    assert_eq!(options.root, Some("/s".into()));
    assert_eq!(options.fsname.as_deref(), Some("a,b"));
    assert_eq!(options.transport, Transport::Uring);
    assert_eq!(options.name.as_deref(), Some("web"));
    assert!(options.remove);
    assert_eq!(parsed("container=c").container.as_deref(), Some("c"));
}

#[test]
fn what_has_no_effect_is_said_once() {
    let options = parsed("threaded=1,writeback=0,ro,threaded=0,plugins=/p,clone_fd,uuid=null");
    assert_eq!(
        options.notice().unwrap(),
        "no effect here: clone_fd, plugins, threaded, uuid, writeback"
    );
    assert_eq!(parsed("ro,nofail").notice(), None);
    // A label with commas is one word, whatever the kernel does with it.
    let label = parsed("context=\"system_u:object_r:t:s0:c1,c2\",ro");
    assert!(label.read_only);
    assert_eq!(label.ignored.len() + label.kernel_words.len(), 1);
}

#[test]
fn unknown_words_are_refused_with_the_nearest() {
    assert_eq!(
        refused("nosiud"),
        "unknown mount option \"nosiud\" (did you mean nosuid?)"
    );
    assert_eq!(
        refused("lowerdirs=/a"),
        "unknown mount option \"lowerdirs\" (did you mean lowerdir?)"
    );
    assert_eq!(
        refused("frobnicate=1"),
        "unknown mount option \"frobnicate\""
    );
    assert_eq!(
        refused("metacopy=perhaps"),
        "mount option metacopy: \"perhaps\" is none of on, off"
    );
    assert_eq!(
        refused("upperdir"),
        "mount option upperdir: a value is missing"
    );
    assert_eq!(refused("ro=1"), "mount option ro: takes no value");
}
