"""What every part shares: one run's inputs, contenders, stores and results."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import contenders
from host import RUN, Disk, Failed, Runner, say
from inputs import FULL, QUICK, Inputs
from results import Results


@dataclass
class Outcome:
    """What one contender did in one case, once."""

    value: float
    # What must be the same for every contender, or the value does not count.
    same: str = ""
    unit: str = "s"


class Bench:
    def __init__(self, args):
        self.args = args
        self.work = Path(os.environ["BENCH_WORK"])
        self.strata = os.environ["STRATA"]
        # Nothing is asked of, or left in, the machine's own store.
        os.environ["STRATA_ROOT"] = str(self.work / "root")
        os.environ["TMPDIR"] = str(self.work)
        peers = [os.environ["BENCH_FUSE_OVERLAYFS_1"], os.environ["BENCH_FUSE_OVERLAYFS_2"]]
        self.run = Runner(args.limit or (60 if args.quick else 300), [self.strata, *peers])
        self.rounds = args.rounds or (1 if args.quick else 5)
        self.fs = args.fs
        self.scale = QUICK if args.quick else FULL
        self.sample = Path(args.archive or os.environ["BENCH_SAMPLE"])
        self.inputs = Inputs(os.environ["BENCH_CACHE"], os.environ["BENCH_SAMPLE"], self.fs, self.scale)
        self.results = Results(args.part, self.about())
        # Whether this round also compares contents, which takes longer than what is timed.
        self.deep = True
        self.stores = {}

    def about(self):
        def first_line(*words):
            try:
                done = subprocess.run(words, capture_output=True, text=True)
            except OSError:
                return "none"
            return (done.stdout or done.stderr).splitlines()[0].strip()

        return {
            "date": first_line("date", "-u", "+%F %H:%M UTC"),
            "kernel": os.uname().release,
            "processors": os.cpu_count(),
            "file system": self.fs,
            "mounted by": "root of a user namespace" if self.args.rootless else "root",
            "rounds": self.rounds,
            "sizes": "; ".join(f"{v} {k.replace('_', ' ')}" for k, v in vars(self.scale).items()),
            "strata": f"{first_line(self.strata, 'version')} {os.environ.get('BENCH_COMMIT', '')}".strip(),
            "fuse-overlayfs 1": version_of(os.environ["BENCH_FUSE_OVERLAYFS_1"]),
            "fuse-overlayfs 2": version_of(os.environ["BENCH_FUSE_OVERLAYFS_2"]),
            "load average at the start": "%.1f" % os.getloadavg()[0],
        }

    def contenders(self):
        """Those of this run, that can run here, in order."""
        every = contenders.every(
            self.strata, os.environ["BENCH_FUSE_OVERLAYFS_1"], os.environ["BENCH_FUSE_OVERLAYFS_2"]
        )
        if self.args.contenders:
            every = [c for c in every if c.name in self.args.contenders]
        if self.args.rootless:
            every = [contenders.without_rights(c) for c in every]
        with Disk(self.work / "probe.img", RUN / "probe", self.fs, "1G", 20_000) as disk:
            return contenders.usable(self.run, every, self.inputs.stack("few"), disk.point)

    def disk(self, name="disk", **how):
        """A file system that nobody has used."""
        return Disk(self.work / f"{name}.img", RUN / name, self.fs, **how)

    def store(self, stack, to):
        """A store at a place, that holds a stack's image: a copy of one that was loaded once."""
        if stack.image not in self.stores:
            template = self.work / f"store-{len(self.stores)}"
            done = self.run(self.strata, "--root", template, "load", "-q", "-i", stack.archive, limit=900)
            say(f"strata loaded {stack.image} in {done.seconds:.1f} s")
            self.stores[stack.image] = template
        store = Path(to) / "store"
        self.run("cp", "-a", self.stores[stack.image], store)
        self.run("sync", "-f", store)
        return store

    def mount(self, contender, stack, disk, point=None, store=None, container=None):
        """A live mount whose changes lie on a disk; an image's store is put there first."""
        if contender.image and store is None:
            store = disk.point / "store"
            if not store.exists():
                self.store(stack, disk.point)
        place = disk.point / (container or "box")
        rootless = self.args.rootless
        return contenders.mount(self.run, contender, stack, place, point, store, container, rootless)

    def record(self, case, contender, round_number, step):
        """Runs a step and keeps its outcome, or why there is none."""
        try:
            outcome = step()
        except Failed as why:
            say(f"{contender.name}: {case.name}: {why}")
            self.results.failed(case, contender.name, round_number, str(why))
            return False
        if outcome is not None:
            self.results.add(case, contender.name, round_number, outcome)
        return True


def version_of(program):
    """The line of a program's answer that names it."""
    done = subprocess.run([program, "--version"], capture_output=True, text=True)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if "overlayfs" in line]
    return lines[0] if lines else "unknown"
