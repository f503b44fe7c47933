"""The second part: what is done with whole images, beside podman, docker, and skopeo with umoci.

A step's seconds are the command's and those of the syncfs after it; the archive is in the page cache."""

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from bench import Outcome
from host import RUN, Failed, say
from inputs import archive_layers
from storage import Dockerd, podman

CONTENDERS = {}

STEPS = {
    "load": "load",
    "store": "the store after it",
    "first": "mount, read the first file",
    "to-first": "from archive to first file",
    "commit-small": "commit, a small change",
    "commit-large": "commit, 100 MB",
    "commit-plain": "commit, 100 MB, not compressed",
    "save": "save",
}


@dataclass
class Case:
    name: str
    title: str


def contender(name):
    def keep(body):
        CONTENDERS[name] = body
        return body

    return keep


class Subject:
    """One contender's images on a new disk, in one round."""

    def __init__(self, bench, name, round_number, disk, image):
        self.bench, self.name, self.round = bench, name, round_number
        self.place, self.image = disk.point, image
        self.archive = bench.sample
        self.deep = "usr/share/nodejs/npm/package.json"
        self.seconds = {}

    def add(self, step, outcome):
        self.bench.results.add(Case(step, STEPS.get(step, step)), self.name, self.round, outcome)

    def step(self, step, *words, same="", server=None):
        """Times a command; its peak memory, or its server's, is a row of its own."""
        done = self.bench.run(*words)
        begin = time.perf_counter()
        self.sync()
        self.seconds[step] = done.seconds + time.perf_counter() - begin
        self.add(step, Outcome(self.seconds[step], same))
        peak = server.peak_kib() if server else done.peak_kib
        self.bench.results.add(Case(f"{step}-peak", f"  {STEPS[step]}: peak memory"), self.name, self.round, Outcome(peak / 1024, unit="MiB"))
        return done

    def first(self, script, *words, server=None):
        """From a stored image to the contents of a file."""
        done = self.step("first", "bash", "-o", "pipefail", "-c", script, "first", *words, server=server)
        if b'"name": "npm"' not in done.output:
            raise Failed(f"the first file is not right: {done.output[:80]!r}")
        self.add("to-first", Outcome(self.seconds["load"] + self.seconds["first"]))

    def sync(self):
        subprocess.run(["sync", "-f", self.place], check=True)

    def size(self, *places):
        self.sync()
        done = subprocess.run(["du", "-scm", *places], check=True, capture_output=True, text=True)
        self.add("store", Outcome(int(done.stdout.splitlines()[-1].split()[0]), unit="MiB"))

    def small_change(self, root):
        root = Path(root)
        for number in range(1, 11):
            (root / f"app/new-{number}").write_text(f"line {number}\n")
        with open(root / "etc/passwd", "a") as out:
            out.write("changed\n")
        (root / "etc/debian_version").unlink()

    def large_change(self, root):
        """100 files of 1 MiB of the image's own bytes, so that they compress as real files do."""
        place = Path(root) / "srv/large"
        place.mkdir()
        with open(self.archive, "rb") as source:
            source.seek(200_000_000)
            for number in range(100):
                (place / f"part-{number:03}").write_bytes(source.read(1 << 20))
        self.sync()

    def check_saved(self, layers):
        """What was saved has the image's layers and those that were committed, and the large files in the last."""
        saved = self.place / "saved.tar"
        found = archive_layers(saved)
        if len(found) != layers:
            raise Failed(f"the saved archive has {len(found)} layers, not {layers}")
        script = 'tar -xOf "$1" "$2" | (gzip -dcf 2>/dev/null || cat) | tar -tf - | grep -c "srv/large/part-"'
        real = self.bench.run.shell(script, saved, linked(saved, found[-1])).output.decode().strip()
        if real != "100":
            raise Failed(f"the saved layer has {real} of 100 files")


def linked(archive, member):
    """The member that holds the data: podman and skopeo name layers by links too."""
    import tarfile

    with tarfile.open(archive) as outer:
        head = outer.getmember(member)
        if not head.issym():
            return member
        return str((Path(member).parent / head.linkname)).replace(f"{Path(member).parent}/../", "")


@contender("strata")
def strata(on):
    program, store, point = on.bench.strata, on.place / "store", RUN / "m"
    words = [program, "--root", store]
    point.mkdir(exist_ok=True)
    on.step("load", *words, "load", "-q", "-i", on.archive)
    on.size(store)
    on.first('"$1" --root "$2" mount --name box "$3" "$4" >/dev/null && cat "$4/$5"', program, store, on.image, point, on.deep)
    try:
        on.small_change(point)
        on.step("commit-small", *words, "commit", "box", "localhost/small:1")
        on.large_change(point)
        on.step("commit-large", *words, "commit", "box", "localhost/large:1")
        on.step("commit-plain", *words, "commit", "--compression", "none", "box", "localhost/large:2")
        on.step("save", *words, "save", "-o", on.place / "saved.tar", "localhost/large:1")
        on.check_saved(len(archive_layers(on.archive)) + 1)
    finally:
        on.bench.run(*words, "umount", point)


def with_podman(on, driver):
    words = podman(on.place, driver)
    on.step("load", *words, "load", "-q", "-i", on.archive)
    on.size(on.place / "root")
    script = 'image=$1 file=$2; shift 2; "$@" create --name box "$image" node >/dev/null && cat "$("$@" mount box)/$file"'
    on.first(script, on.image, on.deep, *words)
    point = on.bench.run(*words, "mount", "box").output.decode().strip()
    try:
        on.small_change(point)
        # podman's default compresses nothing.
        on.step("commit-small", *words, "commit", "-q", "box", "localhost/small:1")
        on.large_change(point)
        on.step("commit-plain", *words, "commit", "-q", "box", "localhost/large:1")
        on.step("save", *words, "save", "-q", "-o", on.place / "saved.tar", "localhost/large:1")
        on.check_saved(len(archive_layers(on.archive)) + 1)
    finally:
        on.bench.run(*words, "umount", "box")


@contender("podman-overlay")
def podman_overlay(on):
    with_podman(on, "overlay")


@contender("podman-vfs")
def podman_vfs(on):
    with_podman(on, "vfs")


@contender("docker")
def docker(on):
    server = Dockerd(on.place)
    words = server.words
    try:
        on.step("load", *words, "load", "-q", "-i", on.archive, server=server)
        on.size(on.place / "docker")
        script = 'image=$1 file=$2; shift 2; "$@" run --rm --network none --entrypoint cat "$image" "/$file"'
        on.first(script, on.image, on.deep, *words, server=server)
        on.bench.run(*words, "run", "-d", "--name", "box", "--network", "none", "--entrypoint", "sleep", on.image, "600")
        state = json.loads(on.bench.run(*words, "inspect", "box").output)[0]["State"]
        root = f"/proc/{state['Pid']}/root"
        on.small_change(root)
        on.step("commit-small", *words, "commit", "box", "localhost/small:1", server=server)
        on.large_change(root)
        on.step("commit-plain", *words, "commit", "box", "localhost/large:1", server=server)
        on.step("save", *words, "save", "-o", on.place / "saved.tar", "localhost/large:1", server=server)
        on.check_saved(len(archive_layers(on.archive)) + 1)
        on.bench.run(*words, "rm", "-f", "box")
    finally:
        server.stop()


@contender("skopeo-umoci")
def umoci(on):
    layout, bundle = on.place / "oci", on.place / "bundle"
    on.step("load", "skopeo", "copy", "-q", f"docker-archive:{on.archive}", f"oci:{layout}:n")
    unpack = ["umoci", "unpack", "--image", f"{layout}:n", bundle]
    on.first('file=$1; shift; "$@" >/dev/null 2>&1 && cat "$file"', bundle / "rootfs" / on.deep, *unpack)
    # What can be used is the layout and the tree that it was unpacked to.
    on.size(layout, bundle)
    on.small_change(bundle / "rootfs")
    on.step("commit-small", "umoci", "repack", "--image", f"{layout}:small", bundle)
    on.bench.run("rm", "-rf", bundle)
    on.bench.run(*unpack)
    on.small_change(bundle / "rootfs")
    on.large_change(bundle / "rootfs")
    on.step("commit-large", "umoci", "repack", "--image", f"{layout}:large", bundle)
    on.step("save", "skopeo", "copy", "-q", f"oci:{layout}:large", f"docker-archive:{on.place}/saved.tar:localhost/large:1")
    on.check_saved(len(archive_layers(on.archive)) + 1)


def main(bench):
    names = bench.args.contenders or list(CONTENDERS)
    image = archive_name(bench.sample)
    bench.results.about["image"] = f"{bench.sample.name}, {bench.sample.stat().st_size >> 20} MiB"
    for number in range(1, bench.rounds + 1):
        for name in names:
            say(f"round {number} of {bench.rounds}: {name}")
            with open(bench.sample, "rb") as source:
                while source.read(1 << 20):
                    pass
            with bench.disk(size="12G", inodes=800_000) as disk:
                try:
                    CONTENDERS[name](Subject(bench, name, number, disk, image))
                except (Failed, OSError) as why:
                    say(f"{name}: {why}")
                    bench.results.wrong.append(f"{name}, round {number}: {why}")
    return bench.results.show("strata", bench.args.json)


def archive_name(archive):
    import tarfile

    with tarfile.open(archive) as outer:
        return json.load(outer.extractfile("manifest.json"))[0]["RepoTags"][0]
