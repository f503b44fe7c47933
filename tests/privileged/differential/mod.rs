//! The same random operations on the kernel's overlayfs and on a strata mount, of an image and of
//! directories: every call gives the same result, the trees are the same at the end and after a
//! remount, no lower has changed, and each one's upper, below the other, shows the same tree.
//!
//! `STRATA_SEQUENCES` and `STRATA_SEED` change how many sequences are run, and from which seed.

pub mod sides;
pub mod steps;

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use self::sides::{Overlay, make_archive, make_lower, make_lowers};
use self::steps::{Act, Random, Slots, Step};
use crate::common::cli::{self, Mounted, Strata};
use crate::common::tree::{self, Tree};

/// A tree as it is to be compared: times of this run are not.
fn comparable(root: &Path, since: i64) -> Tree {
    let mut tree = tree::list(root);
    for object in tree.values_mut() {
        if (since..since + 1_000_000).contains(&object.mtime) {
            object.mtime = since;
        }
    }
    tree
}

/// What both sides are put over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    /// An image of one layer; the kernel has the tree that the layer was made of.
    Image,
    /// Two directories, the same for both.
    Directories,
}

struct Bench {
    strata: Strata,
    over: Over,
    /// Top first.
    lowers: Vec<PathBuf>,
    since: i64,
}

struct Difference(String);

impl fmt::Debug for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// With `metacopy=on` the kernel loses a file's time of modification when the data follows the
/// attributes; strata keeps it.
const OPTIONS: &str = "redirect_dir=on,index=on,metacopy=off";
/// Until it is first mounted again, strata has in memory only what has changed or is in use.
const FORGETFUL: &str = "nodes=0";
/// What reads all that strata writes.
const READING: &str = "redirect_dir=on,index=on,metacopy=on";

impl Bench {
    fn new(over: Over) -> Bench {
        let strata = Strata::new();
        let mut lowers = vec![strata.path("lower")];
        match over {
            Over::Image => {
                make_lower(&lowers[0]);
                let archive = strata.path("image.tar");
                make_archive(&lowers[0], &archive);
                strata.load(&archive);
            }
            Over::Directories => {
                lowers.insert(0, strata.path("top"));
                make_lowers(&lowers[0], &lowers[1]);
            }
        }
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        Bench {
            strata,
            over,
            lowers,
            since: i64::try_from(now.as_secs()).unwrap() - 5,
        }
    }

    /// The value of the `lowerdir` option.
    fn lowerdir(&self) -> String {
        let paths: Vec<_> = self.lowers.iter().map(|l| l.to_str().unwrap()).collect();
        paths.join(":")
    }

    /// Mounts strata: a container of this name, new or not, or an upper and work in `dir`.
    fn mount(&self, dir: &Path, name: &str, first: bool) -> Mounted<'_> {
        match self.over {
            Over::Image if first => {
                let options = ["--name", name, "-o", FORGETFUL];
                self.strata.mount(&options, "differential")
            }
            Over::Image => self.strata.mount(&[], name),
            Over::Directories => {
                let (upper, work) = (dir.join("upper"), dir.join("work"));
                if first {
                    fs::create_dir_all(&upper).unwrap();
                    copy_root(&self.lowers[0], &upper);
                    fs::create_dir(&work).unwrap();
                }
                self.mount_directories(&upper, &work, if first { FORGETFUL } else { "" })
            }
        }
    }

    fn mount_directories(&self, upper: &Path, work: &Path, more: &str) -> Mounted<'_> {
        let options = format!(
            "lowerdir={},upperdir={},workdir={},metacopy=on,{more}",
            self.lowerdir(),
            upper.display(),
            work.display()
        );
        self.strata.mount_directories(&options)
    }

    fn run(&self, steps: &[Act]) -> Result<(), Difference> {
        let dir = tempfile::tempdir_in(&self.strata.scratch).unwrap();
        let (theirs, mine) = (dir.path().join("theirs"), dir.path().join("mine"));
        let upper = theirs.join("upper");
        fs::create_dir_all(&upper).unwrap();
        copy_root(&self.lowers[0], &upper);
        let untouched: Vec<_> = self.lowers.iter().map(|l| tree::list(l)).collect();
        let kernel = Overlay::new(&theirs, &self.lowerdir(), &upper, OPTIONS);
        let name = format!("c{}", self.since.unsigned_abs() + self.next());
        let mut ours = self.mount(&mine, &name, true);
        let mut open = (Slots::new(), Slots::new());
        for (n, step) in steps.iter().enumerate() {
            if let Step::Remount = step.step {
                open = (Slots::new(), Slots::new());
                kernel.unmount();
                kernel.mount();
                ours.unmount();
                ours = self.mount(&mine, &name, false);
                continue;
            }
            let theirs = step.run(&kernel.point, &mut open.0);
            let mine = step.run(&ours.point, &mut open.1);
            if theirs != mine {
                return Err(Difference(format!(
                    "step {n}, {step}: kernel {theirs:?}, strata {mine:?}"
                )));
            }
        }
        drop(open);
        let expected = comparable(&kernel.point, self.since);
        let compare = |what: &str, tree: &Tree| -> Result<(), Difference> {
            match tree::differences(&expected, tree).as_slice() {
                [] => Ok(()),
                lines => Err(Difference(format!("{what}:\n  {}", lines.join("\n  ")))),
            }
        };
        compare("live", &comparable(&ours.point, self.since))?;
        ours.unmount();
        let again = self.mount(&mine, &name, false);
        compare("remounted", &comparable(&again.point, self.since))?;
        again.unmount();
        kernel.unmount();
        for (lower, before) in self.lowers.iter().zip(&untouched) {
            match tree::differences(before, &tree::list(lower)).as_slice() {
                [] => {}
                lines => panic!("a lower has changed:\n  {}", lines.join("\n  ")),
            }
        }
        let over = match self.over {
            Over::Image => {
                let upper = self.container_dir(&name).join("upper");
                let options = "redirect_dir=on,metacopy=on";
                Overlay::new(
                    &dir.path().join("beside"),
                    &self.lowerdir(),
                    &upper,
                    options,
                )
            }
            Over::Directories => {
                let lower = self.lowerdir();
                let (upper, work) = (mine.join("upper"), mine.join("work"));
                Overlay::with_work(dir.path(), &lower, &upper, &work, READING)
            }
        };
        let shown = comparable(&over.point, self.since);
        drop(over);
        compare("strata's upper below the kernel's overlayfs", &shown)?;
        match self.over {
            Over::Image => drop(self.strata.ok(&["rm", &name])),
            Over::Directories => {
                let swapped = self.mount_directories(&upper, &theirs.join("work"), "");
                compare(
                    "the kernel's upper below strata",
                    &comparable(&swapped.point, self.since),
                )?;
            }
        }
        Ok(())
    }

    fn next(&self) -> u64 {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NEXT: AtomicU64 = AtomicU64::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }

    fn container_dir(&self, name: &str) -> PathBuf {
        let text = self.strata.ok(&["inspect", name]);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let id = value[0]["Id"].as_str().unwrap();
        self.strata.root.join("strata/containers").join(id)
    }

    /// The smallest part of a failing sequence that still fails, with what it says.
    fn shrink(&self, mut steps: Vec<Act>, mut why: Difference) -> (Vec<Act>, Difference) {
        let mut chunk = steps.len() / 2;
        while chunk > 0 {
            let mut at = 0;
            while at < steps.len() {
                let mut fewer = steps.clone();
                fewer.drain(at..(at + chunk).min(steps.len()));
                match self.run(&fewer) {
                    Err(e) => (steps, why) = (fewer, e),
                    Ok(()) => at += chunk,
                }
            }
            chunk /= 2;
        }
        (steps, why)
    }
}

/// overlayfs shows the upper root's attributes: the kernel's upper gets those of the lower.
fn copy_root(lower: &Path, upper: &Path) {
    let script = r#"chmod --reference="$1" "$2" && chown --reference="$1" "$2" && touch --reference="$1" "$2""#;
    let arguments = [
        OsStr::new("-c"),
        OsStr::new(script),
        OsStr::new("sh"),
        lower.as_os_str(),
        upper.as_os_str(),
    ];
    cli::run("sh", &arguments).success();
}

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |v| v.parse().unwrap())
}

fn compare_sequences(over: Over) {
    let bench = Bench::new(over);
    let first = setting("STRATA_SEED", 1);
    for seed in first..first + setting("STRATA_SEQUENCES", 60) {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let length = 5 + random.below(45);
        let steps: Vec<_> = (0..length).map(|_| Act::random(&mut random)).collect();
        if (seed - first) % 100 == 99 {
            println!("{} sequences", seed - first + 1);
        }
        if let Err(why) = bench.run(&steps) {
            let (steps, why) = bench.shrink(steps, why);
            let script: Vec<_> = steps.iter().map(|s| s.to_string()).collect();
            panic!(
                "seed {seed}: {why:?}\nthe shortest sequence, for python3 in a mount:\n{}\n{}",
                steps::PRELUDE,
                script.join("\n")
            );
        }
    }
}

#[test]
fn an_image_is_as_on_kernel_overlayfs() {
    if cli::can_mount("differential, image") {
        compare_sequences(Over::Image);
    }
}

#[test]
fn directories_are_as_on_kernel_overlayfs() {
    if cli::can_mount("differential, directories") {
        compare_sequences(Over::Directories);
    }
}
