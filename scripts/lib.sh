# Shared by the scripts beside it; sourced, not run.
# shellcheck shell=bash

say() { echo "${0##*/}: $*" >&2; }
die() { say "$*"; exit 1; }

# need COMMAND PACKAGE...: installs Debian packages when the command is missing.
need() {
    local command=$1
    shift
    if command -v "$command" >/dev/null; then return 0; fi
    install_packages "$@"
    command -v "$command" >/dev/null || die "$command is still missing after installing $*"
}

# install_packages PACKAGE...: quiet, without questions, the package lists read at most once a run.
install_packages() {
    command -v apt-get >/dev/null || die "install by hand: $* (no apt-get here)"
    [ "$(id -u)" = 0 ] || die "install as root: apt-get install --no-install-recommends $*"
    say "installing $*"
    local log
    log=$(mktemp)
    if [ -z "${apt_updated:-}" ]; then
        DEBIAN_FRONTEND=noninteractive apt-get -qq update >"$log" 2>&1 </dev/null || { tail -n 5 "$log" >&2; say "apt-get update failed"; }
        apt_updated=1
    fi
    if ! DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends -o Dpkg::Use-Pty=0 \
        -o DPkg::Lock::Timeout=120 "$@" >"$log" 2>&1 </dev/null; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        die "could not install $*"
    fi
    rm -f "$log"
}

# cargo_tool CRATE VERSION: a program from crates.io, built once and kept; prints where it is.
cargo_tool() {
    local tools=${STRATA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/strata}/tools
    # The list is cargo's own: a program's answer to --version has many forms.
    if ! grep -qs "^\"$1 $2 " "$tools/.crates.toml" || [ ! -x "$tools/bin/$1" ]; then
        say "building $1 $2"
        CARGO_TARGET_DIR=$tools/target cargo install --quiet --locked --root "$tools" "$1@$2" >&2
    fi
    echo "$tools/bin/$1"
}

# storage_driver DIR: the driver of containers/storage that works on DIR's file system.
storage_driver() {
    local probe=$1/probe answer=vfs
    mkdir -p "$probe"/{l,u,w,m}
    if mount -t overlay overlay -o "lowerdir=$probe/l,upperdir=$probe/u,workdir=$probe/w" "$probe/m" 2>/dev/null; then
        umount "$probe/m"
        answer=overlay
    fi
    rm -rf "$probe"
    echo "$answer"
}

# unmount_below DIR: whatever is mounted below a directory.
unmount_below() {
    local mounted
    # Deepest first; mountinfo writes a space as \040.
    awk -v dir="$1/" 'index($5, dir) == 1 {print $5}' /proc/self/mountinfo | sort -r | while IFS= read -r mounted; do
        umount -l "$(printf '%b' "$mounted")" || true
    done
}

# cleanup_dir DIR: removes a directory and first what is still mounted below it.
cleanup_dir() {
    [ -e "$1" ] || return 0
    unmount_below "$1"
    rm -rf "$1"
}

# go_architecture: this machine in the words of image configurations.
go_architecture() {
    case $(uname -m) in
        x86_64) echo amd64 ;;
        aarch64) echo arm64 ;;
        armv7l) echo arm ;;
        *) uname -m ;;
    esac
}
