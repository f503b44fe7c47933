"""The cases about size: layers, entries, memory, containers. Each has mounts of its own."""

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path

from bench import Outcome
from contenders import Mounted
from host import RUN, Failed, PageCache, drop_caches, processes
from inputs import DEEP, DEEP_FILE, DEEP_TEXT


@dataclass
class Case:
    name: str
    title: str
    body: object


CASES = []


def case(name, title):
    def keep(body):
        CASES.append(Case(name, title, body))
        return body

    return keep


def lookups(bench, contender, layers):
    """Names that are there and names that are not, through so many layers; no name is cached."""
    stack = bench.inputs.stack("deep" if layers == DEEP else "flat")
    names = bench.inputs.lookup_list()
    with bench.disk() as disk, bench.mount(contender, stack, disk) as mounted:
        script = 'xargs -0 -a "$1" stat -c "%n %s" 2>/dev/null | sort | sha256sum'
        # Pages stay, so that the layers below are read; names and inodes go.
        bench.run.shell(f"{script}; true", names, cwd=mounted.point)
        Path("/proc/sys/vm/drop_caches").write_text("2")
        done = bench.run(
            "bash", "-c", 'xargs -0 -a "$1" stat -c "%n %s" 2>/dev/null; [ $? = 123 ]', "bench", names, cwd=mounted.point
        )
        found = sorted(done.output.splitlines())
        # The same contents in one layer and in many.
        return Outcome(done.seconds, f"{len(found)} found {hash_of(found)}")


def hash_of(lines):
    return hashlib.sha256(b"\n".join(lines)).hexdigest()[:12]


@case("lookups-1", "lookups through 1 layer")
def lookups_1(bench, contender):
    return lookups(bench, contender, 1)


@case("lookups-127", f"the same through {DEEP} layers")
def lookups_127(bench, contender):
    return lookups(bench, contender, DEEP)


def mount_time(bench, contender, size, cold):
    """From exec until a file deep in the tree has been read: the best of what a user can do. Warm: the median of five."""
    stack = bench.inputs.stack(size)
    with bench.disk() as disk:
        store = bench.store(stack, disk.point) if contender.image else None
        times = []
        for turn in range(2 if cold else 6):
            place, point = disk.point / f"box{turn}", RUN / "m"
            for directory in (place / "upper", place / "work", point):
                directory.mkdir(parents=True, exist_ok=True)
            words = contender.command(stack, place, point, store, f"box{turn}")
            before = processes(contender.program) if contender.program else set()
            if cold and turn:
                drop_caches()
            script = 'file=$1; shift; "$@" >/dev/null && exec cat "$file"'
            done = bench.run.shell(script, point / DEEP_FILE, *words, limit=120)
            daemons = processes(contender.program) - before if contender.program else set()
            Mounted(contender, point, 0, daemons).unmount()
            if done.output != DEEP_TEXT:
                raise Failed(f"read {done.output!r}")
            times.append(done.seconds * 1000)
        # The first one is the first ever of this store.
        times = sorted(times[1:])
        return Outcome(times[len(times) // 2], "read", "ms")


@case("mount-few", "mount and read a file: 10 entries, warm")
def mount_few(bench, contender):
    return mount_time(bench, contender, "few", False)


@case("mount-few-cold", "mount and read a file: 10 entries, cold")
def mount_few_cold(bench, contender):
    return mount_time(bench, contender, "few", True)


@case("mount-many", "the same: many entries, warm")
def mount_many(bench, contender):
    return mount_time(bench, contender, "many", False)


@case("mount-many-cold", "the same: many entries, cold")
def mount_many_cold(bench, contender):
    return mount_time(bench, contender, "many", True)


@case("walk-many", "find -ls of many entries")
def walk_many(bench, contender):
    """Three outcomes of one walk: its time, and the daemon's memory after it, and when the kernel forgot it all."""
    stack = bench.inputs.stack("many")
    with bench.disk() as disk, bench.mount(contender, stack, disk) as mounted:
        drop_caches()
        done = bench.run.shell("find . -ls | wc -l", cwd=mounted.point)
        yield Outcome(done.seconds, done.output.decode().strip())
        if contender.program is None:
            return
        yield memory_case("after"), Outcome(mounted.memory() / 1048576, unit="MiB")
        Path("/proc/sys/vm/drop_caches").write_text("2")
        yield memory_case("dropped"), Outcome(settled(mounted.memory) / 1048576, unit="MiB")


def memory_case(when):
    return next(c for c in CASES if c.name == f"memory-{when}")


# Recorded by walk-many.
CASES.append(Case("memory-after", "daemon's memory after that walk", None))
CASES.append(Case("memory-dropped", "and when caches were dropped", None))


def settled(measure):
    """A value that falls for a while, when it has not fallen for three seconds."""
    lowest, fell, end = measure(), time.monotonic(), time.monotonic() + 30
    while time.monotonic() < min(end, fell + 3):
        time.sleep(0.2)
        latest = measure()
        if latest < lowest:
            lowest, fell = latest, time.monotonic()
    return lowest


@case("containers", "many containers read the same files")
def containers(bench, contender):
    """Containers of one image, each with its own upper: time, how often what they read is in the page cache, and all
    daemons' memory."""
    stack, count = bench.inputs.stack("tree"), bench.scale.containers
    mounts = []
    with bench.disk() as disk, PageCache() as cache:
        store = bench.store(stack, disk.point) if contender.image else None
        try:
            for number in range(count):
                point = RUN / f"m{number}"
                mounts.append(bench.mount(contender, stack, disk, point, store, f"box{number}"))
            drop_caches()
            start = cache.bytes()
            sums = [read_programs(bench, mounts[0])]
            begin = time.perf_counter()
            sums += [read_programs(bench, mounted) for mounted in mounts[1:]]
            seconds = time.perf_counter() - begin
            total = cache.bytes() - start
            if len(set(sums)) != 1:
                raise Failed("containers differ")
            yield Outcome(seconds, sums[0])
            yield pages_case("pages"), Outcome(total / int(sums[0]), unit="copies")
            if contender.program:
                yield pages_case("memory"), Outcome(sum(m.memory() for m in mounts) / 1048576, unit="MiB")
        finally:
            for mounted in mounts:
                mounted.unmount()


def read_programs(bench, mounted):
    return bench.run.shell("find usr/bin usr/lib -type f -size +32k -print0 | sort -z | xargs -0 cat | wc -c", cwd=mounted.point).output.decode().strip()


def pages_case(what):
    return next(c for c in CASES if c.name == f"containers-{what}")


# Recorded by containers.
CASES.append(Case("containers-pages", "the same in the page cache", None))
CASES.append(Case("containers-memory", "memory of all their daemons", None))


def chosen(names):
    """The cases to run: one that is recorded by another brings that one."""
    by = {"memory-after": "walk-many", "memory-dropped": "walk-many"}
    by |= {"containers-pages": "containers", "containers-memory": "containers"}
    wanted = {by.get(name, name) for name in names}
    return [c for c in CASES if c.name in wanted and c.body]


def play(bench, contender, round_number, names):
    for step in chosen(names):
        outcomes = []

        def measure():
            found = step.body(bench, contender)
            outcomes.extend([found] if isinstance(found, Outcome) else found)

        bench.record(step, contender, round_number, measure)
        for outcome in outcomes:
            case, outcome = outcome if isinstance(outcome, tuple) else (step, outcome)
            bench.results.add(case, contender.name, round_number, outcome)
