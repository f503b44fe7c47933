//! The daemon is killed at random moments under a write load. After each, the upper mounts again,
//! each file is the old or the new, `work` is clean and the lowers are as they were.
//!
//! `STRATA_KILLS` and `STRATA_SEED` change how often, and from which seed.

mod model;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use self::model::{Done, Model, Step};
use crate::common::cli::can_mount;
use crate::common::daemon::Daemon;
use crate::common::random::{Random, number};
use crate::common::tree;

/// Two lowers with the directories of all writers, an upper, and a daemon that can be killed.
struct Bench {
    daemon: Option<Daemon>,
    dir: TempDir,
    lowers: Vec<tree::Tree>,
    options: &'static str,
}

const LOWERS: [&str; 2] = ["a", "b"];

impl Bench {
    fn new(options: &'static str, models: &[Model]) -> Bench {
        let dir = TempDir::with_prefix("strata-kill-").unwrap();
        for name in ["a", "b", "upper", "work", "point"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        for (writer, model) in models.iter().enumerate() {
            for lower in LOWERS {
                fs::create_dir(dir.path().join(format!("{lower}/{writer}"))).unwrap();
            }
            model.make(LOWERS.map(|lower| dir.path().join(format!("{lower}/{writer}"))));
        }
        let lowers = LOWERS.map(|lower| tree::list(&dir.path().join(lower)));
        Bench {
            dir,
            lowers: lowers.into(),
            options,
            daemon: None,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn mount(&mut self) {
        let [a, b, upper, work, point] = ["a", "b", "upper", "work", "point"].map(|n| self.path(n));
        let options = format!(
            "lowerdir={}:{},upperdir={},workdir={}{}",
            a.display(),
            b.display(),
            upper.display(),
            work.display(),
            self.options
        );
        self.daemon = Some(Daemon::start(&options, &point));
    }

    fn kill(&mut self) {
        self.daemon.take().unwrap().kill();
    }

    fn unmount(&mut self) {
        self.daemon.take().unwrap().unmount();
    }

    /// What an earlier daemon left in `work` is gone once the next one serves.
    fn assert_work_is_clean(&self) {
        let left: Vec<_> = fs::read_dir(self.path("work/work"))
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert!(left.is_empty(), "in work: {left:?}");
    }

    fn assert_lowers_unchanged(&self) {
        for (name, before) in LOWERS.iter().zip(&self.lowers) {
            let now = tree::list(&self.path(name));
            tree::assert_same(("before", before), (name, &now));
        }
    }
}

/// Changes one directory until the daemon is gone; the model follows.
fn write_load(dir: &Path, model: &mut Model, random: &mut Random, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let step = Step::random(random, model);
        if model.run(dir, &step) == Done::Gone {
            return;
        }
    }
}

fn rounds(options: &'static str) {
    const WRITERS: u64 = 3;
    let seed = number("STRATA_SEED", 1);
    let mut random = Random::new(seed);
    let mut models: Vec<_> = (0..WRITERS).map(|_| Model::first()).collect();
    let mut bench = Bench::new(options, &models);
    for round in 0..number("STRATA_KILLS", 6) {
        // An upper grows until nothing of the lowers is left to be copied up; then comes a new one.
        if round % 8 == 0 && round > 0 {
            fs::remove_dir_all(bench.path("upper")).unwrap();
            fs::create_dir(bench.path("upper")).unwrap();
            fs::remove_dir_all(bench.path("work")).unwrap();
            fs::create_dir(bench.path("work")).unwrap();
            models.iter_mut().for_each(|model| *model = Model::first());
        }
        bench.mount();
        bench.assert_work_is_clean();
        let after = Duration::from_micros(random.below(60_000));
        let stop = AtomicBool::new(false);
        let point = bench.path("point");
        std::thread::scope(|scope| {
            for (writer, model) in models.iter_mut().enumerate() {
                let (stop, dir) = (&stop, point.join(writer.to_string()));
                let mut random = Random::new(seed + (round << 8) + writer as u64);
                scope.spawn(move || write_load(&dir, model, &mut random, stop));
            }
            std::thread::sleep(after);
            bench.kill();
            stop.store(true, Ordering::Relaxed);
        });
        bench.mount();
        bench.assert_work_is_clean();
        for (writer, model) in models.iter_mut().enumerate() {
            if let Err(why) = model.settle(&point.join(writer.to_string())) {
                panic!("seed {seed}, round {round}, writer {writer}: {why}");
            }
        }
        bench.unmount();
        bench.assert_lowers_unchanged();
    }
}

#[test]
fn killed_at_any_instant() {
    if can_mount("kill::killed_at_any_instant") {
        rounds("");
    }
}

#[test]
fn killed_at_any_instant_with_metacopy() {
    if can_mount("kill::killed_at_any_instant_with_metacopy") {
        rounds(",metacopy=on");
    }
}
