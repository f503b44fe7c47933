"""The third part: how many FUSE requests each case makes, by opcode, and how many system calls strata makes for
each. Counts hardly depend on the machine's load, so that two runs can be compared.

Both come from the kernel's tracepoints, for this mount and its daemon alone. FORGETs are not in them, and of what
the kernel sends over io_uring in the background (readahead, RELEASE) only the number."""

import collections
import contextlib
import json
import os
import re
import subprocess
from pathlib import Path

import tree
from host import Failed, say
from results import number

# Cases whose data the kernel reads and writes itself: a READ or a WRITE of the daemon is a fault.
PASSED_THROUGH = ("write", "read-large", "random-read", "random-write")


class Buffer:
    """A trace buffer of our own."""

    def __init__(self, name, kib):
        self.dir = TRACING / "instances" / name
        self.dir.mkdir()
        self.write("buffer_size_kb", str(kib))
        self.write("tracing_on", "0")

    def write(self, name, text):
        (self.dir / name).write_text(text)

    def start(self):
        self.write("trace", "")
        self.write("tracing_on", "1")

    def lines(self):
        """What was traced; all of it, or it is an error."""
        self.write("tracing_on", "0")
        for stats in self.dir.glob("per_cpu/cpu*/stats"):
            if not re.search(r"^overrun: 0$", stats.read_text(), re.M):
                raise Failed("more events than fit into the trace")
        with open(self.dir / "trace", errors="replace") as lines:
            yield from lines

    def remove(self):
        self.write("events/enable", "0")
        self.dir.rmdir()


TRACING = Path("/sys/kernel/tracing")


class Tracer:
    """Counts the requests of one FUSE connection and the system calls of what serves it."""

    def __init__(self):
        if not (TRACING / "instances").exists():
            subprocess.run(["mount", "-t", "tracefs", "none", TRACING], check=True)
        name = os.path.basename(os.environ["BENCH_WORK"])
        self.names = system_call_names()
        self.requests = Buffer(name, 65536)
        # A million and more, on each processor.
        self.calls = Buffer(f"{name}-calls", 262144)
        # Threads that are started later belong to it too.
        self.calls.write("options/event-fork", "1")

    def start(self, point, daemons):
        device = os.minor(os.stat(point).st_dev)
        for event in ("fuse_request_send", "fuse_request_end"):
            self.requests.write(f"events/fuse/{event}/filter", f"connection == {device}")
            self.requests.write(f"events/fuse/{event}/enable", "1")
        threads = [t for pid in daemons for t in threads_outside(pid)]
        self.calls.write("set_event_pid", " ".join(threads))
        self.calls.write("events/raw_syscalls/sys_enter/enable", "1")
        self.requests.start()
        self.calls.start()

    def stop(self):
        """Requests by opcode and system calls by name; `background` are requests of which only the end was seen."""
        sent, calls, ended = collections.Counter(), collections.Counter(), 0
        for line in self.calls.lines():
            if "sys_enter: NR" in line:
                call = line.partition("sys_enter: NR ")[2].split(" ", 1)[0]
                calls[self.names.get(call, call)] += 1
        for line in self.requests.lines():
            if "fuse_request_send:" in line:
                sent[re.search(r"opcode \d+ \((?:FUSE_)?(\w+)\)", line)[1]] += 1
            elif "fuse_request_end:" in line:
                ended += 1
        if ended > sum(sent.values()):
            sent["background"] = ended - sum(sent.values())
        return sent, calls

    @contextlib.contextmanager
    def of(self, mounted):
        """Counts what is done within, into `counts`."""
        self.start(mounted.point, mounted.daemons)
        try:
            yield
        finally:
            requests, calls = self.stop()
            self.counts = {"requests": dict(requests.most_common()), "system_calls": dict(calls.most_common())}

    def remove(self):
        self.requests.remove()
        self.calls.remove()


# The /proc of outside: the kernel's traces have its numbers, and we are in a namespace.
OUTSIDE = Path("/proc/self/fd/8")


def threads_outside(pid):
    """The numbers that a process's threads have outside."""
    ours = os.readlink(f"/proc/{pid}/ns/pid")
    for entry in os.listdir(OUTSIDE):
        try:
            if not entry.isdigit() or os.readlink(OUTSIDE / entry / "ns/pid") != ours:
                continue
            status = (OUTSIDE / entry / "status").read_text()
            if re.search(r"^NSpid:.*\s(\d+)$", status, re.M)[1] == str(pid):
                return sorted(os.listdir(OUTSIDE / entry / "task"))
        except OSError:
            continue
    raise Failed(f"process {pid} is not found outside")


def system_call_names():
    """Numbers to names, where the C library's headers are installed."""
    names = {}
    for header in Path("/usr/include").glob("**/asm/unistd_64.h"):
        names |= {n: name for name, n in re.findall(r"#define __NR_(\w+) (\d+)", header.read_text())}
    return names


def main(bench):
    names = bench.args.cases or [c.name for c in tree.CASES]
    chosen = [c for c in bench.contenders() if c.program]
    rows, wrong = [], []
    bench.deep = False
    tracer = Tracer()
    try:
        for contender in chosen:
            say(contender.name)

            def counted(step, row):
                say(f"{contender.name}: {step.title}: {sum(row['requests'].values())} requests")
                rows.append({"case": step.name, "contender": contender.name, **row})
                data = row["requests"].get("READ", 0) + row["requests"].get("WRITE", 0)
                if contender.is_strata and step.name in PASSED_THROUGH and data:
                    wrong.append(f"{step.title}, {contender.name}: {data} READs and WRITEs reach the daemon")

            try:
                tree.play(bench, contender, 1, names, tracer, counted)
            except Failed as why:
                wrong.append(f"{contender.name}: {why}")
    finally:
        tracer.remove()
    show(bench, rows)
    for line in wrong:
        print(f"WRONG: {line}")
    if bench.args.json:
        with open(bench.args.json, "w") as out:
            json.dump({"part": "counts", "about": bench.results.about, "cases": rows}, out, indent=1)
            out.write("\n")
    return 1 if wrong else 0


def show(bench, rows):
    for key, value in bench.results.about.items():
        print(f"{key}: {value}")
    print()
    print(f"| {'case':14} | {'contender':20} | {'requests':>9} | {'calls each':>10} | by opcode; system calls |")
    print("|---|---|---:|---:|---|")
    for row in sorted(rows, key=lambda r: [c.name for c in tree.CASES].index(r["case"])):
        requests, calls = sum(row["requests"].values()), sum(row["system_calls"].values())
        each = number(calls / requests) if requests else "-"
        text = ", ".join(f"{name} {n}" for name, n in list(row["requests"].items())[:8])
        text += "; " + ", ".join(f"{name} {n}" for name, n in list(row["system_calls"].items())[:6])
        print(f"| {row['case']:14} | {row['contender']:20} | {requests:9} | {each:>10} | {text} |")
