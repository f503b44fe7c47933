//! Every word that `-o` takes, and what it does.

use std::path::Path;
use std::time::Duration;

use rustix::mount::{MountFlags, MountPropagationFlags as Spread};

use super::values::{SWITCH, Verity, Xino, one_of};
use super::{MountOptions, Transport, Users, words};
use crate::error::Failure;
use crate::fuse::Pages;
use crate::fuse::ids::IdMap;
use crate::fuse::policy::FOREVER;
use crate::layer::owner_record::RecordName;
use crate::union::RedirectDir;

/// What a word does.
#[derive(Clone, Copy)]
enum Effect {
    /// Sets or clears flags of mount(2).
    Flag(MountFlags, bool),
    /// How mounts below spread.
    Spread(Spread),
    /// A word without a value.
    Set(fn(&mut MountOptions)),
    /// A word with a value.
    Text(fn(&mut MountOptions, &str) -> Result<(), String>),
    /// A word with a value that may be a path.
    Path(fn(&mut MountOptions, &[u8]) -> Result<(), String>),
    /// A word for the kernel, value and all.
    Kernel,
    /// SELinux's labels, for a kernel that has it.
    Label,
    /// For mount(8), fstab(5) or other tools, or always so here: nothing to say. Any value.
    Silent,
    /// Has no effect, which is said. Any value.
    Idle,
}

use Effect::{Flag, Idle, Kernel, Label, Path as AsPath, Set, Silent, Text};

/// What fstab(5)'s `user` and `users` imply.
const HARMLESS: MountFlags = MountFlags::NOSUID
    .union(MountFlags::NODEV)
    .union(MountFlags::NOEXEC);

/// What `owner` and `group` imply.
const OWNED: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);

/// mount(8), "FILESYSTEM-INDEPENDENT MOUNT OPTIONS".
const GENERIC: &[(&str, Effect)] = &[
    ("ro", Set(|o| o.read_only = true)),
    ("rw", Set(|o| o.read_only = false)),
    ("suid", Flag(MountFlags::NOSUID, false)),
    ("nosuid", Flag(MountFlags::NOSUID, true)),
    ("dev", Flag(MountFlags::NODEV, false)),
    ("nodev", Flag(MountFlags::NODEV, true)),
    ("exec", Flag(MountFlags::NOEXEC, false)),
    ("noexec", Flag(MountFlags::NOEXEC, true)),
    ("atime", Flag(MountFlags::NOATIME, false)),
    ("noatime", Flag(MountFlags::NOATIME, true)),
    ("diratime", Flag(MountFlags::NODIRATIME, false)),
    ("nodiratime", Flag(MountFlags::NODIRATIME, true)),
    ("relatime", Flag(MountFlags::RELATIME, true)),
    ("norelatime", Flag(MountFlags::RELATIME, false)),
    ("strictatime", Flag(MountFlags::STRICTATIME, true)),
    ("nostrictatime", Flag(MountFlags::STRICTATIME, false)),
    ("lazytime", Flag(MountFlags::LAZYTIME, true)),
    ("nolazytime", Flag(MountFlags::LAZYTIME, false)),
    ("sync", Flag(MountFlags::SYNCHRONOUS, true)),
    ("async", Flag(MountFlags::SYNCHRONOUS, false)),
    ("dirsync", Flag(MountFlags::DIRSYNC, true)),
    ("silent", Flag(MountFlags::SILENT, true)),
    ("loud", Flag(MountFlags::SILENT, false)),
    ("remount", Set(|o| o.remount = true)),
    ("private", Effect::Spread(Spread::PRIVATE)),
    ("shared", Effect::Spread(Spread::SHARED)),
    ("slave", Effect::Spread(Spread::DOWNSTREAM)),
    ("unbindable", Effect::Spread(Spread::UNBINDABLE)),
    ("rprivate", Effect::Spread(Spread::PRIVATE)),
    ("rshared", Effect::Spread(Spread::SHARED)),
    ("rslave", Effect::Spread(Spread::DOWNSTREAM)),
    ("runbindable", Effect::Spread(Spread::UNBINDABLE)),
    ("user", Flag(HARMLESS, true)),
    ("users", Flag(HARMLESS, true)),
    ("owner", Flag(OWNED, true)),
    ("group", Flag(OWNED, true)),
    ("nouser", Silent),
    ("nousers", Silent),
    ("noowner", Silent),
    ("nogroup", Silent),
    ("defaults", Silent),
    ("auto", Silent),
    ("noauto", Silent),
    ("nofail", Silent),
    ("_netdev", Silent),
    ("comment", Silent),
    ("helper", Silent),
    ("uhelper", Silent),
    ("context", Label),
    ("fscontext", Label),
    ("defcontext", Label),
    ("rootcontext", Label),
    ("mand", Idle),
    ("nomand", Silent),
    ("iversion", Idle),
    ("noiversion", Silent),
    ("nosymfollow", Flag(NOSYMFOLLOW, true)),
    ("symfollow", Flag(NOSYMFOLLOW, false)),
];

/// `MS_NOSYMFOLLOW`
const NOSYMFOLLOW: MountFlags = MountFlags::from_bits_retain(256);

/// The kernel's Documentation/filesystems/overlayfs.rst.
const OVERLAYFS: &[(&str, Effect)] = &[
    ("lowerdir", AsPath(set_lowers)),
    (
        "lowerdir+",
        AsPath(|o, v| dir(v).map(|dir| o.lowers.push(dir))),
    ),
    (
        "datadir+",
        AsPath(|o, v| dir(v).map(|dir| o.data_lowers.push(dir))),
    ),
    ("upperdir", AsPath(|o, v| some(&mut o.upper, dir(v)))),
    ("workdir", AsPath(|o, v| some(&mut o.work, dir(v)))),
    ("volatile", Set(|o| o.volatile = true)),
    ("userxattr", Set(|o| o.userxattr = true)),
    (
        "redirect_dir",
        Text(|o, v| some(&mut o.redirect_dir, one_of(v, REDIRECT))),
    ),
    (
        "metacopy",
        Text(|o, v| some(&mut o.metacopy, one_of(v, SWITCH))),
    ),
    ("index", Text(|o, v| some(&mut o.index, one_of(v, SWITCH)))),
    (
        "nfs_export",
        Text(|o, v| some(&mut o.nfs_export, one_of(v, SWITCH))),
    ),
    ("xino", Text(|o, v| some(&mut o.xino, one_of(v, XINO)))),
    (
        "verity",
        Text(|o, v| some(&mut o.verity, one_of(v, VERITY))),
    ),
    (
        "uuid",
        Text(|o, v| one_of(v, UUID).map(|()| o.ignore("uuid"))),
    ),
    ("override_creds", Idle),
    ("nooverride_creds", Idle),
];

const REDIRECT: &[(&str, RedirectDir)] = &[
    ("on", RedirectDir::On),
    ("off", RedirectDir::Follow),
    ("follow", RedirectDir::Follow),
    ("nofollow", RedirectDir::NoFollow),
];

const XINO: &[(&str, Xino)] = &[("on", Xino::On), ("off", Xino::Off), ("auto", Xino::Auto)];

const VERITY: &[(&str, Verity)] = &[
    ("on", Verity::On),
    ("off", Verity::Off),
    ("require", Verity::Require),
];

const UUID: &[(&str, ())] = &[("on", ()), ("off", ()), ("null", ()), ("auto", ())];

/// fuse-overlayfs(1) and its source.
const FUSE_OVERLAYFS: &[(&str, Effect)] = &[
    (
        "uidmapping",
        Text(|o, v| IdMap::parse(v).map(|map| o.ids.uids.set_ranges(map))),
    ),
    (
        "gidmapping",
        Text(|o, v| IdMap::parse(v).map(|map| o.ids.gids.set_ranges(map))),
    ),
    ("squash_to_root", Set(squash_to_root)),
    (
        "squash_to_uid",
        Text(|o, v| number(v).map(|id| o.ids.uids.squash(id))),
    ),
    (
        "squash_to_gid",
        Text(|o, v| number(v).map(|id| o.ids.gids.squash(id))),
    ),
    ("static_nlink", Set(|o| o.static_nlink = true)),
    (
        "noxattrs",
        Text(|o, v| put(&mut o.noxattrs, zero_or_one(v))),
    ),
    ("xattr_permissions", Text(set_xattr_permissions)),
    (
        "timeout",
        Text(|o, v| seconds(v).map(|limit| o.set_timeout(limit))),
    ),
    (
        "fsync",
        Text(|o, v| zero_or_one(v).map(|on| o.volatile |= !on)),
    ),
    ("noacl", Set(|o| o.noacl = true)),
    ("threaded", Idle),
    ("writeback", Idle),
    ("fast_ino", Idle),
    ("ino32_t", Idle),
    ("nfs_filehandles", Idle),
    ("plugins", Idle),
];

/// mount.fuse3(8) and fuse(4).
const FUSE: &[(&str, Effect)] = &[
    (
        "fsname",
        AsPath(|o, v| some(&mut o.fsname, text(&words::plain(v)))),
    ),
    ("allow_other", Set(|o| o.users = Some(Users::All))),
    ("allow_root", Set(|o| o.users = Some(Users::OwnerAndRoot))),
    ("default_permissions", Silent),
    ("nonempty", Silent),
    ("debug", Set(|o| o.debug = true)),
    // What /proc/mounts shows, and mount(8) gives back at a remount.
    ("rootmode", Silent),
    ("user_id", Silent),
    ("group_id", Silent),
    ("max_read", Kernel),
    (
        "attr_timeout",
        Text(|o, v| put(&mut o.lifetimes.attr, seconds(v))),
    ),
    (
        "entry_timeout",
        Text(|o, v| put(&mut o.lifetimes.entry, seconds(v))),
    ),
    (
        "negative_timeout",
        Text(|o, v| put(&mut o.lifetimes.absent, seconds(v))),
    ),
    ("ac_attr_timeout", Idle),
    ("subtype", Idle),
    ("auto_unmount", Idle),
    ("auto_cache", Idle),
    ("noauto_cache", Idle),
    ("kernel_cache", Idle),
    ("direct_io", Idle),
    ("noforget", Idle),
    ("remember", Idle),
    ("hard_remove", Idle),
    ("use_ino", Idle),
    ("readdir_ino", Idle),
    ("nopath", Idle),
    ("intr", Idle),
    ("intr_signal", Idle),
    ("modules", Idle),
    ("clone_fd", Idle),
    ("max_idle_threads", Idle),
    ("max_threads", Idle),
    ("max_write", Idle),
    ("max_readahead", Idle),
    ("max_background", Idle),
    ("congestion_threshold", Idle),
    ("async_read", Idle),
    ("sync_read", Idle),
    ("async_dio", Idle),
    ("no_async_dio", Idle),
    ("atomic_o_trunc", Idle),
    ("no_atomic_o_trunc", Idle),
    ("big_writes", Idle),
    ("large_read", Idle),
    ("writeback_cache", Idle),
    ("no_writeback_cache", Idle),
    ("splice_read", Idle),
    ("no_splice_read", Idle),
    ("splice_write", Idle),
    ("no_splice_write", Idle),
    ("splice_move", Idle),
    ("no_splice_move", Idle),
    ("no_remote_lock", Idle),
    ("no_remote_flock", Idle),
    ("no_remote_posix_lock", Idle),
];

/// Ours.
const STRATA: &[(&str, Effect)] = &[
    (
        "image",
        AsPath(|o, v| some(&mut o.image, text(&words::plain(v)))),
    ),
    (
        "container",
        AsPath(|o, v| some(&mut o.container, text(&words::plain(v)))),
    ),
    ("name", Text(|o, v| some(&mut o.name, Ok(v.to_owned())))),
    ("rm", Set(|o| o.remove = true)),
    ("root", AsPath(|o, v| some(&mut o.root, dir(v)))),
    ("aufs", Set(|o| o.aufs = true)),
    (
        "transport",
        Text(|o, v| put(&mut o.transport, one_of(v, TRANSPORT))),
    ),
    ("pages", Text(|o, v| some(&mut o.pages, one_of(v, PAGES)))),
    ("nodes", Text(|o, v| some(&mut o.nodes, count(v)))),
    ("joint", Set(|o| o.joint = Some(true))),
    ("nojoint", Set(|o| o.joint = Some(false))),
];

const PAGES: &[(&str, Pages)] = &[("own", Pages::Own), ("shared", Pages::Shared)];

const TRANSPORT: &[(&str, Transport)] = &[
    ("auto", Transport::Auto),
    ("dev", Transport::Dev),
    ("uring", Transport::Uring),
];

fn put<T>(field: &mut T, value: Result<T, String>) -> Result<(), String> {
    *field = value?;
    Ok(())
}

fn some<T>(field: &mut Option<T>, value: Result<T, String>) -> Result<(), String> {
    put(field, value.map(Some))
}

fn all() -> impl Iterator<Item = &'static (&'static str, Effect)> {
    [GENERIC, OVERLAYFS, FUSE_OVERLAYFS, FUSE, STRATA]
        .into_iter()
        .flatten()
}

/// Whether the word of an item is in the table.
pub(super) fn knows(item: &[u8]) -> bool {
    let word = item.split(|byte| *byte == b'=').next().unwrap_or(item);
    all().any(|(known, _)| known.as_bytes() == word)
}

/// Takes one item of a list.
pub(super) fn take(options: &mut MountOptions, item: &[u8]) -> Result<(), Failure> {
    let (word, value) = match item.iter().position(|byte| *byte == b'=') {
        Some(at) => {
            let (word, rest) = item.split_at_checked(at).unwrap_or((item, b""));
            (word, rest.get(1..))
        }
        None => (item, None),
    };
    let Ok(word) = std::str::from_utf8(word) else {
        return Err(unknown(&String::from_utf8_lossy(word)));
    };
    if word.starts_with("x-") || word.starts_with("X-") {
        return Ok(());
    }
    let Some((_, effect)) = all().find(|(known, _)| *known == word) else {
        return Err(unknown(word));
    };
    apply(options, word, value, *effect)
        .map_err(|why| Failure::usage(format!("mount option {word}: {why}")))
}

fn apply(
    options: &mut MountOptions,
    word: &str,
    value: Option<&[u8]>,
    effect: Effect,
) -> Result<(), String> {
    match (effect, value) {
        (Silent, _) => {}
        (Idle, _) => options.ignore(word),
        (Flag(HARMLESS, _), Some(_)) => {}
        (Flag(flags, on), None) => options.flags.0.set(flags, on),
        (Effect::Spread(how), None) => options.propagation = Some(how),
        (Set(set), None) => set(options),
        (Text(set), Some(value)) => set(options, &text(value)?)?,
        (AsPath(set), Some(value)) => set(options, value)?,
        (Kernel, Some(value)) => options
            .kernel_words
            .push(format!("{word}={}", text(value)?)),
        (Label, Some(_)) if !has_selinux() => options.ignore(word),
        (Label, Some(value)) => options
            .kernel_words
            .push(format!("{word}={}", text(value)?)),
        (_, Some(_)) => return Err("takes no value".into()),
        (_, None) => return Err("a value is missing".into()),
    }
    Ok(())
}

/// Labels mean something to a kernel with SELinux only; others refuse the words.
fn has_selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

fn unknown(word: &str) -> Failure {
    let nearest = words::nearest(word, all().map(|(known, _)| *known));
    let hint = nearest.map_or_else(String::new, |n| format!(" (did you mean {n}?)"));
    Failure::usage(format!(
        "unknown mount option \"{}\"{hint}",
        word.escape_debug()
    ))
}

fn text(value: &[u8]) -> Result<String, String> {
    match std::str::from_utf8(value) {
        Ok("") => Err("a value is missing".into()),
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err("not UTF-8".into()),
    }
}

fn dir(value: &[u8]) -> Result<std::path::PathBuf, String> {
    if value.is_empty() {
        return Err("a value is missing".into());
    }
    Ok(words::path(value))
}

fn set_lowers(options: &mut MountOptions, value: &[u8]) -> Result<(), String> {
    (options.lowers, options.data_lowers) = words::lowers(value)?;
    Ok(())
}

/// `squash_to_uid` and `squash_to_gid` come before it.
fn squash_to_root(options: &mut MountOptions) {
    for map in [&mut options.ids.uids, &mut options.ids.gids] {
        if !map.is_squashed() {
            map.squash(0);
        }
    }
}

fn set_xattr_permissions(options: &mut MountOptions, value: &str) -> Result<(), String> {
    options.xattr_permissions = one_of(
        value,
        &[
            ("0", None),
            ("1", Some(RecordName::Privileged)),
            ("2", Some(RecordName::Containers)),
        ],
    )?;
    Ok(())
}

fn zero_or_one(value: &str) -> Result<bool, String> {
    one_of(value, &[("0", false), ("1", true)])
}

fn number(value: &str) -> Result<u32, String> {
    let parsed = value.parse().ok().filter(|id| *id != u32::MAX);
    parsed.ok_or_else(|| format!("\"{}\" is no id", value.escape_debug()))
}

fn count(value: &str) -> Result<usize, String> {
    let parsed = value.parse();
    parsed.map_err(|_| format!("\"{}\" is no number", value.escape_debug()))
}

/// Seconds, with a fraction.
fn seconds(value: &str) -> Result<Duration, String> {
    let parsed: Option<f64> = value.parse().ok();
    let positive = parsed.filter(|s| *s >= 0.0);
    let wrong = || format!("\"{}\" is no number of seconds", value.escape_debug());
    let seconds = positive.ok_or_else(wrong)?;
    Ok(Duration::try_from_secs_f64(seconds).map_or(FOREVER, |d| d.min(FOREVER)))
}
