"""The third part: how many FUSE requests each case makes, by opcode, and how many system calls strata makes for
each. Counts don't depend on the machine's load, so that two runs can be compared.

Requests come from the kernel's tracepoint, for this mount alone; FORGETs are not in it, nor are, over io_uring,
those that the kernel sends in the background (readahead, the RELEASEs of files). System calls are strace's."""

import collections
import json
import os
import re
import signal
import subprocess
from pathlib import Path

import tree
from bench import Outcome
from host import RUN, Failed, say
from results import number

# Cases whose data the kernel reads and writes itself: a READ or a WRITE of the daemon is a fault.
PASSED_THROUGH = ("write", "read-large", "random-read", "random-write")


class Tracer:
    """Counts the requests of one FUSE connection."""

    def __init__(self):
        self.root = Path("/sys/kernel/tracing")
        if not (self.root / "instances").exists():
            subprocess.run(["mount", "-t", "tracefs", "none", self.root], check=True)
        self.dir = self.root / "instances" / os.path.basename(os.environ["BENCH_WORK"])
        self.dir.mkdir()
        self.write("buffer_size_kb", "32768")

    def write(self, name, text):
        (self.dir / name).write_text(text)

    def start(self, point):
        device = os.minor(os.stat(point).st_dev)
        self.write("tracing_on", "0")
        self.write("trace", "")
        for event in ("fuse_request_send", "fuse_request_end"):
            self.write(f"events/fuse/{event}/filter", f"connection == {device}")
            self.write(f"events/fuse/{event}/enable", "1")
        self.write("tracing_on", "1")

    def stop(self):
        """Requests by opcode; `others` are those that only their end was seen of."""
        self.write("tracing_on", "0")
        lost = sum(
            int(line.split()[1])
            for stats in self.dir.glob("per_cpu/cpu*/stats")
            for line in stats.read_text().splitlines()
            if line.startswith("overrun:")
        )
        if lost:
            raise Failed(f"{lost} events did not fit into the trace")
        sent, ended = collections.Counter(), 0
        with open(self.dir / "trace", errors="replace") as lines:
            for line in lines:
                if "fuse_request_send:" in line:
                    sent[re.search(r"opcode \d+ \((?:FUSE_)?(\w+)\)", line)[1]] += 1
                elif "fuse_request_end:" in line:
                    ended += 1
        if ended > sum(sent.values()):
            sent["background"] = ended - sum(sent.values())
        return sent

    def remove(self):
        self.dir.rmdir()


class Strace:
    """Counts the system calls of processes, by name."""

    def __init__(self, pids):
        self.file = RUN / "strace"
        words = ["strace", "-c", "-f", "-o", self.file]
        for pid in pids:
            words += ["-p", str(pid)]
        self.process = subprocess.Popen(words, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        # It says so when it is attached to every thread.
        line = self.process.stderr.readline().decode()
        if "attached" not in line:
            raise Failed(f"strace: {line.strip()}")

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)
        calls = {}
        for line in self.file.read_text().splitlines():
            words = line.split()
            if len(words) >= 5 and words[3].isdigit() and words[-1] != "total":
                calls[words[-1]] = int(words[3])
        return calls


def main(bench):
    names = bench.args.cases or [c.name for c in tree.CASES]
    chosen = [c for c in bench.contenders() if c.program]
    rows, wrong = [], []
    bench.deep = False
    tracer = Tracer()
    try:
        for contender in chosen:
            say(contender.name)

            def around(on, step):
                try:
                    row = measured(tracer, on, step)
                except Failed as why:
                    wrong.append(f"{step.title}, {contender.name}: {why}")
                    return
                rows.append({"case": step.name, "contender": contender.name, **row})
                if contender.is_strata and step.name in PASSED_THROUGH:
                    data = row["requests"].get("READ", 0) + row["requests"].get("WRITE", 0)
                    if data:
                        wrong.append(f"{step.title}, {contender.name}: {data} READs and WRITEs reach the daemon")

            tree.play(bench, contender, 1, names, around)
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


def measured(tracer, on, step):
    """Runs a case with its preparation; what that asks for is a small part and always the same."""
    strace = Strace(on.mounted.daemons)
    tracer.start(on.point)
    try:
        outcome = step.body(on)
    finally:
        requests = tracer.stop()
        calls = strace.stop()
    if not isinstance(outcome, Outcome):
        raise Failed("no outcome")
    return {"requests": dict(requests.most_common()), "system_calls": dict(sorted(calls.items(), key=lambda c: -c[1]))}


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
