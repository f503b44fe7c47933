"""The first part: every case of every contender, in turn."""

import scaling
import tree
from host import Failed, say


def main(bench):
    # Those of scaling look at their mounts from outside.
    every = tree.CASES if bench.args.rootless else [*tree.CASES, *scaling.CASES]
    names = bench.args.cases or [c.name for c in every]
    contenders = bench.contenders()
    in_tree = [c.name for c in tree.CASES if c.name in names]
    for number in range(1, bench.rounds + 1):
        bench.deep = number == 1
        for contender in contenders:
            say(f"round {number} of {bench.rounds}: {contender.name}")
            try:
                if in_tree:
                    tree.play(bench, contender, number, in_tree)
                scaling.play(bench, contender, number, names)
            except Failed as why:
                say(f"{contender.name}: {why}")
                bench.results.wrong.append(f"{contender.name}, round {number}: {why}")
        bench.results.compare(number)
    return bench.results.show("overlayfs", bench.args.json)
