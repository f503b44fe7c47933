"""The fourth part: podman's own work on each file system: diff, commit, build, export, and what runs in containers.

podman mounts with a mount_program, so it compares whole trees; on the kernel's overlayfs it looks into the upper. What
the comparison itself takes is seen where a mount_program mounts the kernel's overlayfs."""

import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path

import contenders
import storage
from bench import Outcome
from host import RUN, Failed, say

BUILD = """FROM {image}
RUN rm -rf /usr/share/doc /app/node_modules/core-js
RUN find /app/node_modules/lodash -type f -exec touch -d @1700000000 {{}} +
COPY context /srv/context
"""


# The kernel's overlayfs, mounted by a program, so that podman compares there too.
COMPARED = contenders.Contender("overlayfs-compared")

# What podman calls for that. It gives a mount_program the whiteouts of archives (.wh.NAME), which overlayfs does not
# know: a layer gets the kernel's the first time that it is mounted. One lower alone needs a second.
KERNEL_PROGRAM = r"""#!/bin/bash
set -euo pipefail
[ "$1" = -o ] || exit 1
IFS=, read -ra options <<<"$2"
kept=() alone=1
for option in "${options[@]}"; do
    case $option in
    lowerdir=*)
        IFS=: read -ra lowers <<<"${option#lowerdir=}"
        for lower in "${lowers[@]}"; do
            diff=$(readlink -f "$lower")
            [ -e "$diff.whiteouts" ] && continue
            find "$diff" -name .wh..wh..opq -printf '%h\0' | xargs -0r setfattr -n trusted.overlay.opaque -v y
            find "$diff" -name .wh..wh..opq -delete
            find "$diff" -name '.wh.*' -print | while IFS= read -r mark; do
                rm "$mark"
                [ -e "${mark%/*}/${mark##*/.wh.}" ] || mknod "${mark%/*}/${mark##*/.wh.}" c 0 0
            done
            touch "$diff.whiteouts"
        done
        ;;&
    upperdir=*) alone= ;;&
    lowerdir=* | upperdir=* | workdir=* | volatile) kept+=("$option") ;;
    esac
done
if [ -n "$alone" ]; then
    mkdir -p EMPTY
    kept=("${kept[@]/#lowerdir=/lowerdir=EMPTY:}")
fi
exec mount -t overlay overlay -o "$(IFS=, && echo "${kept[*]}")" "$3"
""".replace("EMPTY", str(RUN / "empty"))


@dataclass
class Step:
    name: str
    title: str
    body: object


STEPS = []


def step(name, title):
    def keep(body):
        STEPS.append(Step(name, title, body))
        return body

    return keep


class Subject:
    """podman on one contender's new disk, with a container that runs and has changes."""

    def __init__(self, bench, place, words, image):
        self.bench, self.place, self.words, self.image = bench, place, words, image

    def podman(self, *words, **how):
        return self.bench.run(*self.words, *words, **how)

    def inside(self, script):
        return self.podman("exec", "box", "sh", "-c", script)


@step("find", "find of it all in the container")
def find(on):
    done = on.inside("find / -xdev -ls >/tmp/list; wc -l </tmp/list")
    return Outcome(done.seconds, done.output.decode().strip())


@step("find-again", "the same again")
def find_again(on):
    return find(on)


@step("tar", "tar of it all in the container")
def tar(on):
    done = on.inside("tar -cf - --one-file-system --exclude=/tmp --exclude=/proc --exclude=/sys --exclude=/dev / 2>/tmp/errors | wc -c")
    changed = on.inside("grep -c 'changed as we read it' /tmp/errors; true").output.decode().strip()
    # Directory sizes and the order decide nothing here: they are not in a tar's length.
    return Outcome(done.seconds, f"{changed} files changed meanwhile")


@step("cp-rm", "cp -a of the dependencies, rm -rf")
def cp_rm(on):
    done = on.inside("cp -a /app/node_modules /srv/copy && find /srv/copy | wc -l && rm -rf /srv/copy")
    return Outcome(done.seconds, done.output.decode().strip())


@step("diff", "podman diff")
def diff(on):
    change(on)
    done = on.podman("diff", "box")
    # Of a directory in which something was, and is no more, only the kernel's overlayfs has a trace: podman
    # compares no times of directories.
    shown = [row for row in done.output.splitlines() if row != b"C /tmp"]
    return Outcome(done.seconds, lines(b"\n".join(shown)))


def change(on):
    on.inside(
        "rm -rf /tmp/* && echo one >/srv/one && rm -rf /usr/share/nodejs/npm/docs && echo more >>/etc/passwd"
        " && chmod 700 /app/static && mv /app/node_modules/lodash /app/lodash && mkdir /srv/dir && ln -s one /srv/link && touch -h -d @1700000000 /srv/one /srv/link /etc/passwd"
    )


@step("commit", "podman commit")
def commit(on):
    done = on.podman("commit", "-q", "box", "localhost/committed:1")
    return Outcome(done.seconds, members(on, "localhost/committed:1"))


@step("build", "podman build, 3 steps")
def build(on):
    context = RUN / "context"
    if not context.exists():
        (context / "context").mkdir(parents=True)
        for number in range(100):
            (context / "context" / str(number)).write_text(f"{number}\n")
    (context / "Containerfile").write_text(BUILD.format(image=on.image))
    words = ["build", "-q", "--layers", "--no-cache", "--isolation", "chroot", "--network", "host"]
    done = on.podman(*words, "-t", "localhost/built:1", context)
    return Outcome(done.seconds, members(on, "localhost/built:1"))


@step("export", "podman export")
def export(on):
    file = on.place / "export.tar"
    done = on.podman("export", "-o", file, "box")
    listed = on.bench.run.shell('tar --numeric-owner -tvf "$1" | grep -v "^d" | LC_ALL=C sort', file).output
    file.unlink()
    return Outcome(done.seconds, lines(without_volatile(listed)))


def without_volatile(listed):
    """Without what podman itself puts there at each start."""
    volatile = (b" etc/hosts", b" etc/hostname", b" etc/resolv.conf", b" run/.containerenv", b" etc/mtab", b" tmp/")
    return b"\n".join(row for row in listed.splitlines() if not any(v in row for v in volatile))


def members(on, image):
    """What is in the last layer of an image, and how many layers there are."""
    if not on.bench.deep:
        return ""
    archive = on.place / "members.tar"
    archive.unlink(missing_ok=True)
    on.podman("save", "-q", "-o", archive, image)
    import inputs
    import images

    layers = inputs.archive_layers(archive)
    listed = on.bench.run.shell(
        'tar -xOf "$1" "$2" | tar --numeric-owner -tf - | LC_ALL=C sort | sed "s/^/ /"', archive, images.linked(archive, layers[-1])
    ).output
    archive.unlink()
    return f"{len(layers)} layers, {lines(without_volatile(listed))}"


def lines(output):
    rows = sorted(output.strip().splitlines())
    return f"{len(rows)} lines {hashlib.sha256(b'@'.join(rows)).hexdigest()[:12]}"


def mount_program(contender):
    """The program that podman calls: strata's is told its transport."""
    if contender is COMPARED:
        return script("mount-kernel", KERNEL_PROGRAM)
    if not contender.is_strata:
        return contender.program
    line = f'exec {contender.program} -o transport={contender.transport} "$@"'
    return script(f"mount-{contender.transport}", f"#!/bin/sh\n{line}\n")


def script(name, text):
    path = RUN / name
    path.write_text(text)
    path.chmod(0o755)
    return path


def play(bench, contender, number, archive, image):
    with bench.disk(size="12G", inodes=800_000) as disk:
        words = storage.podman(disk.point, mount_program=mount_program(contender))
        on = Subject(bench, disk.point, words, image)
        on.podman("load", "-q", "-i", archive)
        on.podman("run", "-d", "--name", "box", "--network", "host", image, "sleep", "100000")
        try:
            for each in STEPS:
                on.bench.run("sync", "-f", disk.point)
                bench.record(each, contender, number, lambda: each.body(on))
        finally:
            on.podman("rm", "-f", "-t", "0", "box")
            left_over(bench, contender)


def left_over(bench, contender):
    """No daemon outlives its mount."""
    from host import processes, wait_for

    if contender.program:
        wait_for(lambda: not processes(contender.program), 30, "the end of all daemons")


def main(bench):
    import images

    archive = bench.sample if bench.args.archive else bench.inputs.archive("real")
    image = images.archive_name(archive)
    chosen = [c for c in bench.contenders() if not c.image]
    if not bench.args.contenders or COMPARED.name in bench.args.contenders:
        chosen.insert(1, COMPARED)
    for number in range(1, bench.rounds + 1):
        bench.deep = number == 1
        for contender in chosen:
            say(f"round {number} of {bench.rounds}: {contender.name}")
            try:
                play(bench, contender, number, archive, image)
            except Failed as why:
                say(f"{contender.name}: {why}")
                bench.results.wrong.append(f"{contender.name}, round {number}: {why}")
        bench.results.compare(number)
    return bench.results.show("overlayfs", bench.args.json)
