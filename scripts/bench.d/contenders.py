"""What is compared: the kernel's overlayfs, fuse-overlayfs 1.x and 2.0, and strata."""

import os
import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path

from host import RUN, Failed, Namespace, mounts_below, processes, resident, say, wait_for


@dataclass
class Contender:
    name: str
    # The program that serves a mount; None for the kernel.
    program: str | None = None
    # What is mounted: directories, or an image of a store.
    image: bool = False
    options: tuple = ()
    transport: str | None = None

    @property
    def is_strata(self):
        return self.transport is not None

    def command(self, stack, place, point, store=None, container=None):
        """The command that mounts a stack at a point with its changes kept at a place."""
        if self.image:
            words = [self.program, "--root", store, "mount", "--name", container or "box"]
            return words + ["-o", f"transport={self.transport}", stack.image, point]
        options = [
            "lowerdir=" + ":".join(str(d) for d in stack.lowers()),
            f"upperdir={place}/upper",
            f"workdir={place}/work",
            *self.options,
        ]
        if self.transport:
            options.append(f"transport={self.transport}")
        options = ",".join(options)
        if self.program is None:
            return ["mount", "-t", "overlay", "overlay", "-o", options, point]
        if self.is_strata:
            return [self.program, "mount", "-o", options, point]
        return [self.program, "-o", options, point]


@dataclass
class Mounted:
    """A live mount of one contender, and the process that serves it."""

    contender: Contender
    point: Path
    seconds: float
    daemons: set = field(default_factory=set)
    # Where it is seen, unless everywhere.
    inside: Namespace | None = None

    def shell(self, run, script, *words):
        """Runs a line of bash in the mount."""
        if self.inside is None:
            return run.shell(script, *words, cwd=self.point)
        script = f"cd {self.point} || exit\n{script}"
        return run(*self.inside.words("bash", "-o", "pipefail", "-c", script, "bench", *words))

    def memory(self):
        if not self.daemons:
            raise Failed("no process serves it")
        return sum(resident(pid) for pid in self.daemons)

    def unmount(self):
        if self.inside:
            # The daemon keeps the namespace as long as it has a mount there.
            subprocess.run([str(w) for w in self.inside.words("umount", self.point)])
            self.inside.end()
        elif str(self.point) in mounts_below(self.point):
            done = subprocess.run(["umount", self.point], capture_output=True, text=True)
            if done.returncode:
                say(f"{self.contender.name}: {done.stderr.strip()}")
                subprocess.run(["umount", "-l", self.point])
        program = self.contender.program
        if program:
            try:
                wait_for(lambda: not self.daemons & processes(program), 30, "the daemon's end")
            except Failed as odd:
                say(f"{self.contender.name}: {odd}")
                for pid in self.daemons & processes(program):
                    os.kill(pid, 9)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.unmount()


def mount(run, contender, stack, place, point=None, store=None, container=None, rootless=False):
    """Mounts as a user would; the command must not end before the mount is live. The mount of one who is not root is
    in a namespace of its own."""
    place, point = Path(place), Path(point or RUN / "m")
    for directory in (place / "upper", place / "work", point):
        directory.mkdir(parents=True, exist_ok=True)
    before = processes(contender.program) if contender.program else set()
    command = contender.command(stack, place, point, store, container)
    inside = Namespace() if rootless else None
    try:
        done = run(*(inside.words(*command) if inside else command), limit=120)
        if not mounts_below(point, inside.process.pid if inside else "self"):
            raise Failed("the command ended without a mount")
    except Failed:
        if inside:
            inside.end()
        raise
    after = processes(contender.program) if contender.program else set()
    return Mounted(contender, point, done.seconds, after - before, inside)


def every(strata, peer_1, peer_2):
    """All contenders; the first is what the others are measured by."""
    # metacopy: else a change of mode copies the file, with an fsync each.
    found = [
        Contender("overlayfs", options=("metacopy=on",)),
        Contender("fuse-overlayfs-1", peer_1),
        Contender("fuse-overlayfs-2", peer_2),
    ]
    for transport in ("dev", "uring"):
        found.append(Contender(f"strata-dirs-{transport}", strata, transport=transport, options=("metacopy=on",)))
        found.append(Contender(f"strata-image-{transport}", strata, image=True, transport=transport))
    return found


def without_rights(contender):
    """As it is mounted in a user namespace: the kernel has its marks in user.*, and no metacopy with them."""
    return replace(contender, options=("userxattr",)) if contender.program is None else contender


# A kernel overlayfs as distributions mount it, where that matters.
WHOLE_COPY = Contender("overlayfs-no-metacopy", options=("metacopy=off",))


def usable(run, contenders, stack, scratch):
    """Leaves out, loudly, what this kernel or this strata does not have."""
    over_uring = [c for c in contenders if c.transport == "uring"]
    if not over_uring:
        return contenders
    probe = Contender("probe", over_uring[0].program, transport="uring")
    try:
        mount(run, probe, stack, scratch / "probe").unmount()
        return contenders
    except Failed as why:
        say(f"*** SKIPPED: strata over io_uring: {why}")
        return [c for c in contenders if c.transport != "uring"]
