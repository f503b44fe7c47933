"""Create, walk, read, delete, again and again: the daemon's memory must not grow."""

import os
import time
from dataclasses import dataclass

from bench import Outcome
from host import Failed, say

# What a daemon may hold more at the end than after it has warmed up, in bytes.
SLACK = 4 << 20


@dataclass
class Case:
    name: str
    title: str


CYCLE = """set -e
mkdir soak
for d in 1 2; do cp -a few/a soak/$d; done
find . -ls | wc -l
find soak -type f -exec cat {} + >/dev/null
chmod -R g+w soak
rm -rf soak
"""


def main(bench):
    chosen = [c for c in bench.contenders() if c.is_strata]
    if not chosen:
        raise Failed("only strata's contenders are soaked")
    share = bench.args.seconds / len(chosen)
    for contender in chosen:
        say(f"{contender.name}: {share:.0f} s")
        try:
            soak(bench, contender, share)
        except Failed as why:
            say(f"{contender.name}: {why}")
            bench.results.wrong.append(f"{contender.name}: {why}")
    return bench.results.show(chosen[0].name, bench.args.json)


def soak(bench, contender, seconds):
    samples, counts = [], set()
    with bench.disk() as disk, bench.mount(contender, bench.inputs.stack("tree"), disk) as mounted:
        end = time.monotonic() + seconds
        while time.monotonic() < end or len(samples) < 4:
            done = bench.run.shell(CYCLE, cwd=mounted.point)
            counts.add(done.output)
            samples.append((mounted.memory(), descriptors(mounted)))
    if len(counts) != 1:
        raise Failed(f"the walks differ: {counts}")
    memory = [sample[0] for sample in samples]
    quarter = max(1, len(memory) // 4)
    early, late = max(memory[: 2 * quarter]), max(memory[-quarter:])
    for name, title, value, unit in (
        ("cycles", "cycles", len(samples), "cycles"),
        ("first", "memory after the first", memory[0] / 1048576, "MiB"),
        ("early", "highest of the first half", early / 1048576, "MiB"),
        ("late", "highest of the last quarter", late / 1048576, "MiB"),
        ("files", "descriptors at the end", samples[-1][1], "files"),
    ):
        bench.results.add(Case(name, title), contender.name, 1, Outcome(value, unit=unit))
    if late > early + SLACK:
        raise Failed(f"memory grew from {early >> 20} to {late >> 20} MiB")


def descriptors(mounted):
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in mounted.daemons)
