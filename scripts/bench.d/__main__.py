"""The bench's measuring side; scripts/bench prepares the machine and starts it in namespaces of its own."""

import argparse
import sys

import host

PARTS = ("images", "inspect", "counts", "podman", "soak")
# The file of a part, where it can't have its name: Python has an `inspect` of its own.
FILES = {"inspect": "looking"}


def parse(words):
    part = words[0] if words and words[0] in PARTS else "mounts"
    words = words[1:] if part != "mounts" else words
    parser = argparse.ArgumentParser(prog="scripts/bench" + ("" if part == "mounts" else f" {part}"))
    parser.add_argument("--check", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=positive)
    parser.add_argument("--contenders", type=lambda text: text.split(","), default=[])
    parser.add_argument("--fs", choices=("ext4", "xfs"), default="ext4")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--limit", type=positive, metavar="SECONDS")
    parser.add_argument("--archive", metavar="FILE")
    parser.set_defaults(rootless=False)
    if part == "mounts":
        parser.add_argument("--rootless", action="store_true")
    if part == "soak":
        parser.add_argument("seconds", type=positive, metavar="SECONDS")
    elif part in ("mounts", "counts"):
        parser.add_argument("cases", nargs="*", metavar="CASE")
    args = parser.parse_args(words)
    args.part = part
    check(parser, args)
    return args


def check(parser, args):
    """A name that does not exist is an error before anything has been done."""
    cases, contenders = known("counts" if args.rootless else args.part)
    for name in getattr(args, "cases", []):
        if name not in cases:
            parser.error(f"no case {name}; scripts/bench --list names them")
    for name in args.contenders:
        if name not in contenders:
            parser.error(f"no contender {name}; there are {', '.join(contenders)}")


def known(part):
    """Names of the cases and contenders of a part."""
    if part == "images":
        import images

        return [], list(images.CONTENDERS)
    if part == "inspect":
        return [], []
    import contenders
    import scaling
    import tree

    cases = [c.name for c in tree.CASES]
    if part == "mounts":
        cases += [c.name for c in scaling.CASES]
    names = [c.name for c in contenders.every("", "", "")]
    if part == "podman":
        import podman

        names.append(podman.COMPARED.name)
    return cases, names


def positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("a number above 0")
    return value


def show_list():
    import images
    import looking
    import podman
    import scaling
    import tree

    for case in [*tree.CASES, *scaling.CASES]:
        print(f"{case.name:18} {case.title}")
    print("\nimages: " + ", ".join(images.STEPS.values()))
    print("inspect: " + ", ".join(map(looking.title, looking.COMMANDS)))
    print("podman: " + ", ".join(step.title for step in podman.STEPS))
    print("\ncontenders: " + ", ".join(known("podman")[1]))
    print("of images: " + ", ".join(images.CONTENDERS))


def main():
    # scripts/bench checks the command line first, before it prepares anything.
    only_check = sys.argv[1:2] == ["--check"]
    args = parse(sys.argv[2:] if only_check else sys.argv[1:])
    if args.list:
        show_list()
        return 0
    if only_check:
        return 0
    host.prepare()
    import bench

    run = __import__(FILES.get(args.part, args.part))
    return run.main(bench.Bench(args))


if __name__ == "__main__":
    sys.exit(main())
