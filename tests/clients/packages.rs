//! Package managers and compilers in containers: what they leave on strata is what they leave on the
//! kernel's overlayfs. They fetch packages, so this runs only when `STRATA_TEST_LONG` is set
//! (`scripts/test --long`).

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::cli::{Stopwatch, Strata, announce, can_mount, have};
use crate::common::tree::{self, Tree, assert_same};
use crate::peers::Podman;
use crate::samples::{Sample, big};

/// Fixed dates and no caches, so that two runs leave the same bytes.
const SESSION: &str = r#"
    set -eu
    export DEBIAN_FRONTEND=noninteractive PIP_ROOT_USER_ACTION=ignore PIP_NO_CACHE_DIR=1 PIP_CERT=/run/host-ca.crt \
        NODE_EXTRA_CA_CERTS=/run/host-ca.crt SOURCE_DATE_EPOCH=1700000000 PYTHONDONTWRITEBYTECODE=1 HOME=/root \
        GIT_AUTHOR_DATE='2024-01-01T00:00:00Z' GIT_COMMITTER_DATE='2024-01-01T00:00:00Z' LC_ALL=C
    apt-get -qq update
    apt-get -qq install -y --no-install-recommends git gcc libc6-dev make python3 python3-pip >/dev/null
    apt-get -qq remove -y --purge npm >/dev/null 2>&1
    dpkg --verify
    apt-get -qq install -y --no-install-recommends npm >/dev/null 2>&1
    rm -rf /var/lib/apt/lists /var/cache/apt

    python3 -m pip install -q --break-system-packages --no-compile six==1.16.0 click==8.1.7
    python3 -m pip install -q --break-system-packages --no-compile --force-reinstall click==8.1.6
    python3 -c 'import click, six; print(click.__version__, six.__version__)'

    mkdir /project && cd /project && npm init -y >/dev/null
    npm install --no-audit --no-fund --no-update-notifier --loglevel=error left-pad@1.3.0 chalk@4.1.2 >/dev/null
    npm uninstall --no-audit --no-fund --no-update-notifier --loglevel=error left-pad >/dev/null
    node -e 'console.log(require("chalk").green.name, require("fs").readdirSync("node_modules").sort().join())'
    rm -rf /root/.npm node_modules/.package-lock.json

    git config --global user.name x && git config --global user.email x@example.org && git config --global gc.auto 0 && git config --global pack.threads 1
    git init -q -b main /origin && cd /origin && cp -a /app/node_modules/lodash /app/node_modules/core-js .
    git add . && git commit -q -m first && git clone -q file:///origin /clone && cd /clone && git status --short
    git checkout -q -b other && git mv lodash moved && git rm -rq core-js && git commit -q -m moved
    git checkout -q main && git merge -q --ff-only other && git fsck --no-progress && git log --format=%H
    rm -rf /origin/.git/index /clone/.git/index /clone/.git/logs /origin/.git/logs

    mkdir /build && cd /build
    for i in $(seq 1 60); do echo "int f$i(int x) { return x + $i; }" >"f$i.c"; done
    { for i in $(seq 1 60); do echo "int f$i(int);"; done; echo '#include <stdio.h>'; echo 'int main(void) { int x = 0;'
      for i in $(seq 1 60); do echo "x = f$i(x);"; done; echo 'printf("%d\n", x); return 0; }'; } >main.c
    printf 'OBJECTS := $(patsubst %%.c,%%.o,$(wildcard *.c))\nprogram: $(OBJECTS)\n\t$(CC) -o $@ $(sort $^)\n' >Makefile
    make -s -j4 program && ./program && touch f7.c && make program | grep -c cc && make -q program && echo 'up to date'

    tar -C / --one-file-system -cf /dev/null usr etc app project clone build
"#;

/// The tree, without what differs from run to run.
fn timeless(root: &Path, since: i64) -> Tree {
    let mut tree = tree::list(root);
    let of_one_run = |path: &Path| {
        let roots = ["var/log", "run", "tmp", "etc/hostname", "etc/hosts"];
        roots.iter().any(|prefix| path.starts_with(prefix))
            || path.starts_with("etc/resolv.conf")
            || path.starts_with("var/cache/debconf")
            || path.starts_with("var/cache/ldconfig")
            || path.to_string_lossy().contains("__pycache__")
    };
    tree.retain(|path, _| !of_one_run(path));
    for object in tree.values_mut() {
        if object.mtime >= since {
            object.mtime = 0;
        }
        // On overlayfs as podman mounts it, changing a file with several names separates that name.
        object.links = None;
    }
    tree
}

fn session(podman: &Podman, sample: &Sample, ca: &Path, watch: &mut Stopwatch) -> (String, Tree) {
    let since = jiff::Timestamp::now().as_second() - 1;
    podman.ok(&["load", "-q", "-i", sample.archive.to_str().unwrap()]);
    let volume = format!("{}:/run/host-ca.crt:ro", ca.display());
    let mut words = vec!["run", "--name", "c", "--network", "host"];
    words.extend(["-v", &volume, sample.name, "bash", "-c", SESSION]);
    let said = podman.run(&words);
    watch.lap("a session");
    assert!(said.ok, "{}\n{}", said.out, said.err);
    // What overlayfs users see tar say where a file system changes times behind its back.
    assert!(!said.err.contains("changed as we read it"), "{}", said.err);
    let root = PathBuf::from(podman.ok(&["mount", "c"]).trim());
    let tree = timeless(&root, since);
    podman.ok(&["umount", "c"]);
    watch.lap("its tree");
    (said.out, tree)
}

#[test]
fn packages_and_builds_are_as_on_overlayfs() {
    const TEST: &str = "clients::packages::packages_and_builds_are_as_on_overlayfs";
    if std::env::var_os("STRATA_TEST_LONG").is_none() {
        return announce(
            TEST,
            "STRATA_TEST_LONG is not set; scripts/test --long runs it",
        );
    }
    if !(can_mount(TEST) && have(TEST, &["podman", "runc"])) {
        return;
    }
    let Some(sample) = big(TEST) else { return };
    let scratch = Strata::new();
    let ca = scratch.path("ca.crt");
    fs::write(
        &ca,
        fs::read("/etc/ssl/certs/ca-certificates.crt").unwrap_or_default(),
    )
    .unwrap();
    let strata = Path::new(env!("CARGO_BIN_EXE_strata"));
    let mut watch = Stopwatch::start(TEST);
    let on_kernel = Podman::new(&scratch.path("kernel"));
    let kernel = session(&on_kernel, &sample, &ca, &mut watch);
    drop(on_kernel);
    let on_strata = Podman::with_mount_program(&scratch.path("strata"), strata);
    let ours = session(&on_strata, &sample, &ca, &mut watch);
    assert_eq!(ours.0, kernel.0);
    assert_same(("on strata", &ours.1), ("on overlayfs", &kernel.1));
}
