"""What the bench does to this machine: commands with a limit, caches, mounts, loop disks, processes."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

# Everything is mounted below here: short, since 127 lowers must fit into the page that mount(2) takes.
RUN = Path("/run/b")


class Failed(Exception):
    """A step that did not do what it should; the run goes on with the next."""


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


@dataclass
class Done:
    """A command that ended well."""

    seconds: float
    peak_kib: int
    output: bytes


class Runner:
    """Runs commands, each in a session of its own and for a limited time."""

    def __init__(self, limit, servers):
        self.limit = limit
        # Programs that serve mounts.
        self.servers = servers

    def __call__(self, *words, cwd=None, env=None, limit=None, stdin=None):
        """Runs a program; raises Failed unless it ends with 0 in time."""
        out_path, err_path = RUN / "stdout", RUN / "stderr"
        with open(out_path, "wb") as out, open(err_path, "wb") as err:
            begin = time.perf_counter()
            child = subprocess.Popen(
                [str(w) for w in words],
                cwd=cwd,
                env=None if env is None else {**os.environ, **env},
                stdin=stdin or subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
            late = threading.Event()

            def stop():
                late.set()
                os.killpg(child.pid, signal.SIGKILL)

            # Not Popen.wait(timeout), which polls. What waits for a server that hangs can outlive SIGKILL.
            timers = [
                threading.Timer(limit or self.limit, stop),
                threading.Timer((limit or self.limit) + 20, self.kill_servers),
            ]
            for timer in timers:
                timer.daemon = True
                timer.start()
            _, status, usage = os.wait4(child.pid, 0)
            seconds = time.perf_counter() - begin
            for timer in timers:
                timer.cancel()
        child.returncode = os.waitstatus_to_exitcode(status)
        if late.is_set():
            raise Failed(f"not done after {limit or self.limit} s")
        if child.returncode != 0:
            lines = err_path.read_text(errors="replace").strip().splitlines()
            name = Path(str(words[0])).name
            raise Failed(f"{name} ended with {child.returncode}: {lines[-1] if lines else 'no message'}")
        return Done(seconds, usage.ru_maxrss, out_path.read_bytes())

    def kill_servers(self):
        say("a server hangs: killing it")
        for program in self.servers:
            for pid in processes(program):
                os.kill(pid, signal.SIGKILL)

    def shell(self, script, *words, **how):
        """Runs a line of bash; each command of a pipe must succeed."""
        return self("bash", "-o", "pipefail", "-c", script, "bench", *words, **how)


def prepare():
    """Private places for what programs keep in /run and in shared memory."""
    for place in ("/run", "/dev/shm"):
        subprocess.run(["mount", "-t", "tmpfs", "bench", place], check=True)
    RUN.mkdir()


def settle(disk):
    """Writes back what earlier steps left, so that no step pays for another."""
    with_fd(disk, os.fsync)
    subprocess.run(["sync", "-f", str(disk)], check=True)


def with_fd(path, action):
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return action(fd)
    finally:
        os.close(fd)


def drop_caches():
    """Pages, names and inodes, everywhere; the programs that are timed are read in again."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")
    for program in ("bash", "find", "cat", "xargs", "tar", "stat", "wc"):
        subprocess.run([program, "--version"], stdout=subprocess.DEVNULL, check=True)


class PageCache:
    """Counts the cached pages of what runs inside: those of its own cgroup, since others read files too."""

    def __enter__(self):
        for hierarchy, field in (("memory", "cache"), ("unified", "file"), ("", "file")):
            self.parent = Path("/sys/fs/cgroup") / hierarchy
            self.dir = self.parent / os.path.basename(os.environ["BENCH_WORK"])
            try:
                self.dir.mkdir()
            except OSError:
                continue
            if (self.dir / "memory.stat").exists():
                self.field = field
                (self.dir / "cgroup.procs").write_text("0")
                return self
            self.dir.rmdir()
        raise Failed("no cgroup of memory, so pages can't be counted")

    def bytes(self):
        for line in (self.dir / "memory.stat").read_text().splitlines():
            name, value = line.split()
            if name == self.field:
                return int(value)
        raise Failed(f"{self.dir}/memory.stat has no {self.field}")

    def __exit__(self, *_):
        (self.parent / "cgroup.procs").write_text("0")
        wait_for(self.removed, 10, "the end of all processes of a cgroup")

    def removed(self):
        try:
            self.dir.rmdir()
            return True
        except OSError:
            return False


class Namespace:
    """A user namespace with its own mounts, whose root has no rights outside: where rootless clients mount. The
    numbers of users are the same on both sides."""

    def __init__(self):
        self.process = subprocess.Popen(["unshare", "--user", "--mount", "sleep", "infinity"])
        here = os.readlink("/proc/self/ns/mnt")
        wait_for(lambda: os.readlink(f"/proc/{self.process.pid}/ns/mnt") != here, 10, "a namespace")
        for kind in ("uid_map", "gid_map"):
            Path(f"/proc/{self.process.pid}/{kind}").write_text("0 0 65536")

    def words(self, *words):
        """A command that runs inside."""
        return ["nsenter", "-t", self.process.pid, "--user", "--mount", *words]

    def end(self):
        self.process.kill()
        self.process.wait()


def mounts_below(place, pid="self"):
    """Mount points at or below a place, the latest first."""
    points = []
    for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
        point = line.split()[4].encode().decode("unicode_escape")
        if point == str(place) or point.startswith(f"{place}/"):
            points.append(point)
    return points[::-1]


def unmount_below(place):
    for point in mounts_below(place):
        if subprocess.run(["umount", point], stderr=subprocess.DEVNULL).returncode:
            subprocess.run(["umount", "-l", point], stderr=subprocess.DEVNULL)


class Disk:
    """A new file system in a loop file; removed with everything on it."""

    def __init__(self, image, point, fs, size="8G", inodes=300_000, read_only=False, make=True):
        self.image, self.point = Path(image), Path(point)
        if make:
            self.image.unlink(missing_ok=True)
            subprocess.run(["truncate", "-s", size, self.image], check=True)
            make_fs = MKFS[fs] + (["-N", str(inodes)] if fs == "ext4" else []) + [self.image]
            subprocess.run(make_fs, check=True, stdout=subprocess.DEVNULL)
        self.point.mkdir(parents=True, exist_ok=True)
        mode = "ro" if read_only else "rw"
        subprocess.run(["mount", "-o", f"loop,{mode}", self.image, self.point], check=True)
        # Else each page would be cached twice. Some file systems have no direct I/O.
        device = subprocess.run(
            ["findmnt", "-no", "SOURCE", self.point], check=True, capture_output=True, text=True
        ).stdout.strip()
        subprocess.run(["losetup", "--direct-io=on", device], stderr=subprocess.DEVNULL)

    def remove(self, keep=False):
        unmount_below(self.point)
        if not keep:
            self.image.unlink(missing_ok=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.remove()


# Nothing is left for a background thread of the file system to do.
MKFS = {
    "ext4": ["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"],
    "xfs": ["mkfs.xfs", "-q", "-f"],
}


def processes(program):
    """The pids in this namespace that run a program."""
    program = os.path.realpath(program)
    found = set()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if os.readlink(f"/proc/{entry}/exe") == program:
                    found.add(int(entry))
            except OSError:
                continue
    return found


def wait_for(condition, seconds, what):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise Failed(f"{what}: not within {seconds} s")
        time.sleep(0.01)


def resident(pid):
    """RssAnon and RssShmem of a process, in bytes: what it holds apart from files."""
    total = 0
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(("RssAnon:", "RssShmem:")):
            total += int(line.split()[1]) * 1024
    return total


def empty(directory):
    shutil.rmtree(directory, ignore_errors=True)
    Path(directory).mkdir(parents=True)
