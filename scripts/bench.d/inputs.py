"""What the contenders work on: made once from the sample image, and kept in the cache."""

import hashlib
import io
import json
import os
import shutil
import stat
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from host import RUN, Disk, Failed, say

# Part of the cache's name: another number when what is made here changes.
VERSION = "5"

DEEP = 127
DEEP_FILE = "d/e/e/p/file"
DEEP_TEXT = b"found\n"


@dataclass(frozen=True)
class Scale:
    """How much there is to do."""

    small_files: int = 30_000
    lower_files: int = 10_000
    large_mib: int = 1024
    random_mib: int = 512
    many: int = 1_000_000
    containers: int = 50
    # Of the real tree's files, one in so many is read.
    read_each: int = 1
    lookups: int = 10_000


FULL = Scale()
QUICK = Scale(
    small_files=4_000,
    lower_files=1_500,
    large_mib=256,
    random_mib=32,
    many=100_000,
    containers=10,
    read_each=8,
    lookups=2_000,
)


@dataclass
class Stack:
    """One stack of layers, as directories and as an archive of an image."""

    image: str
    archive: Path
    point: Path
    layers: int

    def lowers(self):
        """The top first."""
        return [self.point / str(n) for n in range(self.layers, 0, -1)]


class Inputs:
    """Makes each input when it is first asked for."""

    def __init__(self, cache, sample, fs, scale):
        key = hashlib.sha256(f"{VERSION} {Path(sample).name} {scale}".encode()).hexdigest()[:12]
        self.dir = Path(cache) / key
        self.dir.mkdir(parents=True, exist_ok=True)
        self.sample, self.fs, self.scale = Path(sample), fs, scale
        self.stacks = {}

    def cached(self, name, make):
        """A file of the cache, in place only when it is whole."""
        path = self.dir / name
        if not path.exists():
            say(f"making {path} (once)")
            draft = self.dir / f"{name}.tmp"
            draft.unlink(missing_ok=True)
            make(draft)
            draft.rename(path)
        return path

    def archive(self, name):
        """A stack as an archive of its image."""
        return self.cached(f"{name}.tar", MAKERS[name].__get__(self))

    def stack(self, name):
        """A stack, its directories mounted read-only for the rest of the run."""
        if name not in self.stacks:
            archive = self.archive(name)
            layers = len(archive_layers(archive))
            point = RUN / name
            disk = self.cached(f"{name}.{self.fs}", lambda draft: self.unpack(archive, draft, point))
            Disk(disk, point, self.fs, read_only=True, make=False)
            self.stacks[name] = Stack(f"localhost/{name}:latest", archive, point, layers)
        return self.stacks[name]

    def unpack(self, archive, draft, point):
        """Each layer into a directory of its own, as overlayfs wants it."""
        disk = Disk(draft, point, self.fs, "6G", self.scale.many + 200_000)
        with tarfile.open(archive) as outer:
            for number, name in enumerate(archive_layers(archive), 1):
                to = point / str(number)
                to.mkdir()
                words = ["tar", "-xf", "-", "-C", to, "--numeric-owner", "--xattrs", "--xattrs-include=*"]
                pipe = subprocess.Popen(words, stdin=subprocess.PIPE)
                shutil.copyfileobj(outer.extractfile(name), pipe.stdin, 1 << 20)
                pipe.stdin.close()
                if pipe.wait():
                    raise Failed(f"tar could not unpack {name} of {archive}")
                to_overlay(to)
        disk.remove(keep=True)

    # --- archives -----------------------------------------------------------------------------------

    def real(self, draft):
        """The sample image, without times before 1970: they end fuse-overlayfs 2.0 (a panic)."""
        last = self.dir / "last-layer.tmp"
        with tarfile.open(self.sample) as outer:
            layers = [outer.extractfile(name) for name in archive_layers(self.sample)]
            after_1970(layers.pop(), last)
            with open(last, "rb") as top:
                docker_archive(draft, "localhost/real:latest", [*layers, top])
        last.unlink()

    def tree(self, draft):
        """The same and one layer more, of small files: `few/a` and `few/b`."""
        real = self.archive("real")
        extra = self.dir / "small-layer.tmp"
        with Members(extra) as out:
            for side in ("a", "b"):
                for number in range(self.scale.lower_files):
                    out.add(f"few/{side}/{number // 250}/{number}", contents(number))
        with tarfile.open(real) as outer:
            lower = [outer.extractfile(name) for name in archive_layers(real)]
            with open(extra, "rb") as top:
                docker_archive(draft, "localhost/tree:latest", [*lower, top])
        extra.unlink()

    def deep(self, draft):
        self.spread(draft, "localhost/deep:latest", DEEP)

    def flat(self, draft):
        self.spread(draft, "localhost/flat:latest", 1)

    def spread(self, draft, name, layers):
        """Files of the real tree, dealt out to so many layers."""
        parts = [io.BytesIO() for _ in range(layers)]
        tars = [Members(part) for part in parts]
        for number, path in enumerate(self.lookup_names()):
            tars[number % layers].add(path, contents(number))
        for out, part in zip(tars, parts):
            out.close()
            part.seek(0)
        docker_archive(draft, name, parts)

    def many(self, draft):
        self.counted(draft, "localhost/many:latest", self.scale.many)

    def few(self, draft):
        self.counted(draft, "localhost/few:latest", 10)

    def counted(self, draft, name, entries):
        """One layer of so many entries: empty files, 1,000 a directory, and one file deep in the tree."""
        layer = self.dir / "counted-layer.tmp"
        with open(layer, "wb") as out:
            blank = tarfile.TarInfo("x").tobuf(tarfile.USTAR_FORMAT)
            for path in ("d", "d/e", "d/e/e", "d/e/e/p"):
                out.write(directory(path))
            head = tarfile.TarInfo(DEEP_FILE)
            head.size = len(DEEP_TEXT)
            out.write(head.tobuf(tarfile.USTAR_FORMAT) + DEEP_TEXT.ljust(512, b"\0"))
            left = entries - 5
            while left > 0:
                place = f"n/{left // 1000}"
                out.write(directory(place))
                here = min(left - 1, 999)
                out.write(b"".join(renamed(blank, f"{place}/{n}") for n in range(here)))
                left -= here + 1
            out.write(bytes(1024))
        with open(layer, "rb") as data:
            docker_archive(draft, name, [data])
        layer.unlink()

    # --- lists and tars from the real tree --------------------------------------------------------------

    def names(self):
        """Every regular file of the merged tree, sorted."""

        def make(draft):
            stack, point = self.stack("tree"), RUN / "names"
            point.mkdir()
            lowers = ":".join(str(d) for d in stack.lowers())
            subprocess.run(["mount", "-t", "overlay", "o", "-o", f"lowerdir={lowers}", point], check=True)
            found = subprocess.run(
                ["find", ".", "-type", "f", "-printf", "%s %P\\0"], cwd=point, check=True, capture_output=True
            ).stdout
            subprocess.run(["umount", point], check=True)
            rows = [row.split(b" ", 1) for row in found.split(b"\0")[:-1]]
            rows.sort(key=lambda row: row[1])
            draft.write_bytes(b"".join(b"%s %s\0" % (size, path) for size, path in rows))

        rows = self.cached("names", make).read_bytes().split(b"\0")[:-1]
        return [(int(size), os.fsdecode(path)) for size, path in (row.split(b" ", 1) for row in rows)]

    def read_list(self):
        """The files that are read, for xargs -0."""

        def make(draft):
            # Small files of the extra layer are another case's.
            chosen = [path for _, path in self.names() if not path.startswith("few/")]
            draft.write_bytes(b"".join(os.fsencode(p) + b"\0" for p in chosen[:: self.scale.read_each]))

        return self.cached("read.list", make)

    def lookup_names(self):
        chosen = [p for _, p in self.names() if p.startswith(("app/", "usr/share/"))]
        step = max(1, len(chosen) // self.scale.lookups)
        return chosen[::step][: self.scale.lookups]

    def lookup_list(self):
        """Names that are there, and as many that are not."""

        def make(draft):
            names = [os.fsencode(p) for p in self.lookup_names()]
            draft.write_bytes(b"".join(n + b"\0" + n + b".absent\0" for n in names))

        return self.cached("lookup.list", make)

    def small_tar(self, part=None):
        """A tar of small files of the real tree in their directories; or a quarter of them."""

        def make(draft):
            chosen = [row for row in self.names() if row[0] <= 16384 and not row[1].startswith("few/")]
            step = max(1, len(chosen) // self.scale.small_files)
            chosen = chosen[::step][: self.scale.small_files]
            if part is not None:
                chosen = chosen[part::4]
            with Members(draft) as out:
                for number, (size, path) in enumerate(chosen):
                    out.add(path, contents(number, size))

        return self.cached("small.tar" if part is None else f"small-{part}.tar", make)


MAKERS = {name: getattr(Inputs, name) for name in ("real", "tree", "deep", "flat", "many", "few")}


def contents(number, size=None):
    """The same bytes for the same file each time."""
    size = number * 37 % 4000 + 1 if size is None else size
    seed = hashlib.sha256(str(number).encode()).hexdigest().encode()
    return (seed * (size // len(seed) + 1))[:size]


class Members:
    """A tar of the bench's own files, each after its directories, with owner, mode and time of the bench."""

    def __init__(self, to):
        where = {"fileobj": to} if isinstance(to, io.BytesIO) else {"name": to}
        self.tar = tarfile.open(mode="w", format=tarfile.GNU_FORMAT, **where)
        self.made = set()

    def add(self, path, data):
        for parent in list(Path(path).parents)[-2::-1]:
            if parent not in self.made:
                self.made.add(parent)
                head = member(str(parent))
                head.type, head.mode = tarfile.DIRTYPE, 0o755
                self.tar.addfile(head)
        head = member(path)
        head.size = len(data)
        self.tar.addfile(head, io.BytesIO(data))

    def close(self):
        self.tar.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def member(path):
    head = tarfile.TarInfo(path)
    head.mtime = 1_700_000_000
    return head


def after_1970(layer, to):
    """Copies a layer; what is older than 1970 is of 1970."""
    with tarfile.open(fileobj=layer) as source, tarfile.open(to, "w", format=tarfile.PAX_FORMAT) as out:
        for head in source:
            if head.mtime < 0:
                head.mtime = 0
                head.pax_headers.pop("mtime", None)
            out.addfile(head, source.extractfile(head) if head.isreg() else None)


def directory(path):
    head = tarfile.TarInfo(path)
    head.type, head.mode = tarfile.DIRTYPE, 0o755
    return head.tobuf(tarfile.USTAR_FORMAT)


def renamed(blank, path):
    """A tar header with another name: a million of them in seconds."""
    name = path.encode()
    block = bytearray(name.ljust(100, b"\0") + blank[100:])
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def archive_layers(archive):
    """The names of an archive's layers, the lowest first."""
    with tarfile.open(archive) as outer:
        return json.load(outer.extractfile("manifest.json"))[0]["Layers"]


def docker_archive(path, name, layers):
    """An archive as `docker save` writes it, of layers that can be read and rewound."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as out:
        # Docker's readers want the manifest, but not first.
        diff_ids, names = [], []
        for number, layer in enumerate(layers):
            digest = hashlib.sha256()
            size = 0
            while block := layer.read(1 << 20):
                digest.update(block)
                size += len(block)
            layer.seek(0)
            head = tarfile.TarInfo(f"{number:03}-{digest.hexdigest()}.tar")
            head.size = size
            out.addfile(head, layer)
            diff_ids.append(f"sha256:{digest.hexdigest()}")
            names.append(head.name)
        machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
        config = {
            "architecture": machine,
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            # podman can't build on an image whose history is shorter than its layers.
            "history": [{"created_by": f"layer {number}"} for number in range(len(diff_ids))],
        }
        manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": names}]
        for file, value in (("config.json", config), ("manifest.json", manifest)):
            data = json.dumps(value).encode()
            head = member(file)
            head.size = len(data)
            out.addfile(head, io.BytesIO(data))


def to_overlay(layer):
    """Turns an image layer's whiteout names into overlayfs's forms."""
    for place, _, files in os.walk(layer):
        for file in files:
            if not file.startswith(".wh."):
                continue
            marker = os.path.join(place, file)
            # The time of the directory is the layer's, not of now.
            before = os.stat(place)
            os.unlink(marker)
            if file == ".wh..wh..opq":
                # As it is read by root, and in a user namespace.
                for space in ("trusted", "user"):
                    os.setxattr(place, f"{space}.overlay.opaque", b"y")
            elif not file.startswith(".wh..wh."):
                os.mknod(os.path.join(place, file[4:]), stat.S_IFCHR | 0o600, os.makedev(0, 0))
            os.utime(place, ns=(before.st_atime_ns, before.st_mtime_ns))
