//! The sample images, made by `scripts/sample-image`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::cli::{announce, have, said};

/// An image with its application and the places where the story changes it.
pub struct Sample {
    /// The archive.
    pub archive: PathBuf,
    /// Its name as `strata load` prints it.
    pub name: &'static str,
    /// At least so many objects in the merged tree.
    pub objects: usize,
    /// The application: a command line for a chroot.
    pub application: &'static [&'static str],
    /// `CHANGE_*` of change.sh, without the prefix.
    pub changes: &'static [(&'static str, &'static str)],
}

impl Sample {
    /// The changed place of that purpose.
    pub fn change(&self, purpose: &str) -> &'static str {
        self.changes
            .iter()
            .find(|(name, _)| *name == purpose)
            .map_or("", |(_, path)| path)
    }
}

/// busybox in two layers; made within a second.
pub fn small(test: &str) -> Option<Sample> {
    Some(Sample {
        archive: archive(test, "small")?,
        name: "busybox:latest",
        objects: 300,
        application: &[
            "/bin/sh",
            "-c",
            "cat /srv/www/index.html; sha256sum /bin/busybox; ls /usr/share/words; id",
        ],
        changes: &[
            ("TOUCH", "bin/busybox"),
            ("TRUNCATE", "home/numbers"),
            ("DELETE_FILE", "etc/issue"),
            ("DELETE_DIR", "usr/share/words/a"),
            ("RENAME_FILE", "usr/share/words/b/1"),
            ("RENAME_DIR", "usr/share/words/c"),
            ("RENAME_OVER", "usr/share/words/d/1"),
            ("REPLACE_DIR", "usr/share/words/e"),
            ("DIR_TO_FILE", "usr/share/words/f"),
            ("FILE_TO_DIR", "usr/share/words/d/2"),
            ("LINK", "usr/share/words/d/3"),
        ],
    })
}

/// Debian, Node.js, an application with its dependencies: 50,000 entries, 600 MB, five layers.
/// Only when `STRATA_TEST_SAMPLE` asks for it (`scripts/test` does): it takes minutes.
pub fn big(test: &str) -> Option<Sample> {
    if std::env::var_os("STRATA_TEST_SAMPLE").is_none() {
        announce(
            test,
            "STRATA_TEST_SAMPLE is not set; scripts/test without --quick runs it",
        );
        return None;
    }
    Some(Sample {
        archive: archive(test, "big")?,
        name: "localhost/node-app:latest",
        objects: 50_000,
        application: &["node", "/app/app.js"],
        changes: &[
            ("TOUCH", "app/node_modules/typescript/lib/typescript.js"),
            ("TRUNCATE", "app/package-lock.json"),
            ("DELETE_FILE", "etc/debian_version"),
            ("DELETE_DIR", "app/node_modules/core-js"),
            ("RENAME_FILE", "app/static/page-1.html"),
            ("RENAME_DIR", "app/node_modules/date-fns"),
            ("RENAME_OVER", "app/static/page-2.html"),
            ("REPLACE_DIR", "usr/share/doc"),
            ("DIR_TO_FILE", "app/node_modules/lodash/fp"),
            ("FILE_TO_DIR", "app/static/page-3.html"),
            ("LINK", "app/app.js"),
        ],
    })
}

fn archive(test: &str, which: &str) -> Option<PathBuf> {
    if !have(
        test,
        &[
            "bash",
            if which == "small" {
                "busybox"
            } else {
                "buildah"
            },
        ],
    ) {
        return None;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/sample-image");
    let printed = said(Command::new(script).arg(which)).success();
    Some(PathBuf::from(printed.trim_end()))
}
