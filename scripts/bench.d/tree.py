"""The cases on one mount of the real tree: walks, reads, tar, copies, removals, large files.

They run in this order on a mount that each contender has for itself in each round. What removes many files comes
last: ext4 is slow at new inodes for minutes after that."""

import hashlib
import json
from dataclasses import dataclass, field

import contenders
from bench import Bench, Outcome
from host import Failed, drop_caches, settle


@dataclass
class Subject:
    """One contender's mount of the tree, in one round."""

    bench: Bench
    disk: object
    mounted: contenders.Mounted
    # Counts what the timed commands ask for, where counts are wanted.
    tracer: object = None

    def shell(self, script, *words):
        return self.mounted.shell(self.bench.run, script, *words)

    def said(self, script):
        return self.shell(script).output.decode().strip()

    def timed(self, script, *words):
        """The command that the case is about."""
        if self.tracer:
            with self.tracer.of(self.mounted):
                return self.shell(script, *words)
        return self.shell(script, *words)

    def settle(self):
        settle(self.disk.point)

    def sum(self, script, *words):
        """Checks contents, in the round that compares them."""
        if not self.bench.deep:
            return ""
        return self.shell(f"{script} | sha256sum", *words).output[:16].decode()


@dataclass
class Case:
    name: str
    title: str
    body: object
    # Cases whose result this one works on: they run too, unrecorded.
    needs: tuple = ()
    # Contenders of this case alone.
    extra: list = field(default_factory=list)


CASES = []


def case(name, title, *needs):
    def keep(body):
        CASES.append(Case(name, title, body, needs))
        return body

    return keep


def listing(output):
    """What `find -ls` says, without what no two file systems have in common: inode numbers, blocks, the
    sizes of directories, the number of links; and without the root, which is new."""
    rows = []
    for line in output.splitlines():
        words = line.split()
        if words[10:] == [b"."]:
            continue
        kind = words[2][:1]
        size = b"" if kind == b"d" else words[6]
        rows.append(b" ".join([words[2], words[4], words[5], size, *words[7:]]))
    rows.sort()
    return f"{len(rows)} entries {hashlib.sha256(b'@'.join(rows)).hexdigest()[:12]}"


@case("find-cold", "find -ls, cold")
def find_cold(on):
    drop_caches()
    return find(on)


@case("find-warm", "find -ls, warm")
def find_warm(on):
    on.shell("find . -ls")
    return find(on)


def find(on):
    done = on.timed("exec find . -ls")
    return Outcome(done.seconds, listing(done.output))


@case("read-cold", "read every file, cold")
def read_cold(on):
    drop_caches()
    return read(on)


@case("read-again", "read every file again", "read-cold")
def read_again(on):
    return read(on)


def read(on):
    files = on.bench.inputs.read_list()
    done = on.timed('xargs -0 -a "$1" cat | wc -c', files)
    return Outcome(done.seconds, done.output.decode().strip() + on.sum('xargs -0 -a "$1" cat', files))


@case("tar", "tar of /usr to a pipe, warm")
def tar(on):
    what = "usr" if on.bench.scale.read_each == 1 else "usr/share"
    script = f"tar -cf - {what}"
    on.shell(f"{script} | cat >/dev/null")
    done = on.timed(f"{script} | wc -c")
    # Sorted, and hard links as what they are linked to: the order of a directory is each file system's own.
    total = done.output.decode().strip() if not on.bench.deep else ""
    return Outcome(done.seconds, total + on.sum(f"tar --sort=name --hard-dereference -cf - {what}"))


@case("extract", "extract a tar of small files")
def extract(on):
    archive = on.bench.inputs.small_tar()
    on.shell("mkdir new && cat $1 >/dev/null", archive)
    on.settle()
    done = on.timed("exec tar -xf $1 -C new", archive)
    return Outcome(done.seconds, count(on, "new"))


@case("cp", "cp -a of those", "extract")
def cp(on):
    on.settle()
    done = on.timed("exec cp -a new copy")
    return Outcome(done.seconds, count(on, "copy"))


@case("four-extract", "four clients: extract a quarter each")
def four_extract(on):
    tars = [on.bench.inputs.small_tar(part) for part in range(4)]
    on.shell('mkdir four four/0 four/1 four/2 four/3 && cat "$@" >/dev/null', *tars)
    on.settle()
    done = four(on, "tar -xf $tar -C four/$n", *tars)
    return Outcome(done.seconds, count(on, "four", "*/*"))


@case("four-read", "four clients: read them", "four-extract")
def four_read(on):
    done = four(on, "find four/$n -type f -exec cat {} + >/dev/null")
    return Outcome(done.seconds, on.sum("find four -type f -print0 | sort -z | xargs -0 cat"))


def four(on, command, *tars):
    """Runs a command as four processes at once."""
    return on.timed(
        f'run() {{ n=$1 tar=$2; {command}; }}; run 0 "$1" & a=$!; run 1 "$2" & b=$!; run 2 "$3" & c=$!; run 3 "$4" & d=$!\n'
        "wait $a && wait $b && wait $c && wait $d",
        *tars,
    )


def count(on, place, below="*"):
    """How many entries there are, and what is in them."""
    entries = on.shell(f"find {place} -printf '%y %m %s %P\\n' | grep -v ^d | wc -l").output.decode().strip()
    # Not the directory itself, which is of now.
    return f"{entries} files {on.sum(f'cd {place} && tar --sort=name --hard-dereference -cf - {below}')}"


@case("chmod", "chmod -R of lower files")
def chmod(on):
    on.settle()
    done = on.timed("exec chmod -R g+w few/a")
    changed = on.shell("find few/a -type f -perm -020 | wc -l").output.decode().strip()
    return Outcome(done.seconds, f"{changed} changed {on.sum('find few/a -type f -print0 | sort -z | xargs -0 cat')}")


@case("rm-lower", "rm -rf of lower files")
def rm_lower(on):
    on.settle()
    done = on.timed("exec rm -rf few/b")
    return Outcome(done.seconds, on.said("ls few"))


@case("write", "write a large file, fsync")
def write(on):
    on.settle()
    mib = on.bench.scale.large_mib
    done = on.timed(f"exec dd if=/dev/zero of=large bs=1M count={mib} conv=fsync status=none")
    return Outcome(done.seconds, on.said("stat -c '%s bytes' large"))


@case("read-large", "read it, warm", "write")
def read_large(on):
    on.shell("cat large >/dev/null")
    done = on.timed("exec dd if=large of=/dev/null bs=1M status=none")
    return Outcome(done.seconds, on.sum("cat large"))


@case("random-read", "random 4 KiB reads in it", "write")
def random_read(on):
    return fio(on, "randread")


@case("random-write", "random 4 KiB writes in it", "write")
def random_write(on):
    outcome = fio(on, "randwrite")
    on.settle()
    return outcome


def fio(on, kind):
    scale = on.bench.scale
    on.shell("cat large >/dev/null")
    done = on.timed(
        f"exec fio --name=a --filename=large --rw={kind} --bs=4k --size={scale.large_mib}m --io_size={scale.random_mib}m"
        " --ioengine=psync --invalidate=0 --randrepeat=1 --allow_file_create=0 --output-format=json"
    )
    job = json.loads(done.output[done.output.index(b"{") :])["jobs"][0]
    side = job["read" if kind == "randread" else "write"]
    if job["error"] or side["io_bytes"] != scale.random_mib << 20:
        raise Failed(f"fio: error {job['error']}, {side['io_bytes']} bytes")
    return Outcome(side["runtime"] / 1000, f"{side['io_bytes']} bytes")


@case("rm", "rm -rf of extracted files", "extract")
def rm(on):
    on.settle()
    done = on.timed("exec rm -rf new")
    return Outcome(done.seconds, on.said("[ -e new ] && echo there || echo gone"))


@case("four-rm", "four clients: remove a quarter each", "four-extract")
def four_rm(on):
    on.settle()
    done = four(on, "rm -rf four/$n")
    return Outcome(done.seconds, on.said("ls four | wc -l") + " left")


def with_needed(names):
    """The chosen cases and those they stand on, in the order in which they run."""
    wanted = set(names)
    for found in reversed(CASES):
        if found.name in wanted:
            wanted |= set(found.needs)
    return [c for c in CASES if c.name in wanted]


def play(bench, contender, round_number, names, tracer=None, counted=None):
    """One contender's round. What an earlier case could not make, later ones do without. With a tracer nothing is
    recorded: `counted` is told of each case."""
    stack = bench.inputs.stack("tree")
    with bench.disk() as disk:
        if contender.image:
            bench.store(stack, disk.point)
        with bench.mount(contender, stack, disk) as mounted:
            on = Subject(bench, disk, mounted, tracer)
            broken = set()
            for step in with_needed(names):
                if broken & set(step.needs):
                    broken.add(step.name)
                    continue
                if step.name not in names:
                    step.body(on)
                elif tracer:
                    step.body(on)
                    counted(step, tracer.counts)
                elif not bench.record(step, contender, round_number, lambda: step.body(on)):
                    broken.add(step.name)
    if contender.program is None and "chmod" in names and not tracer and not bench.args.rootless:
        whole_copy(bench, round_number)


def whole_copy(bench, round_number):
    """The kernel's overlayfs again, without metacopy: a copy and an fsync for each file."""
    step = next(c for c in CASES if c.name == "chmod")
    with bench.disk() as disk:
        with bench.mount(contenders.WHOLE_COPY, bench.inputs.stack("tree"), disk) as mounted:
            on = Subject(bench, disk, mounted)
            bench.record(step, contenders.WHOLE_COPY, round_number, lambda: step.body(on))
