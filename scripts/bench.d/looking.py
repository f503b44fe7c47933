"""The part `inspect`: looking into an image that is stored, or an archive that was never loaded, beside tar(1).

The archive is in the page cache. For tar it is unpacked and each layer listed, which is what a user without an index
does for every question; that time stands beside each command."""

import hashlib
from dataclasses import dataclass

from bench import Outcome
from host import Failed, say
from images import archive_name

# What is asked, `IMAGE` being the image; and whether its first answer from an archive is timed, too.
COMMANDS = [
    "ls -lR IMAGE",
    "tree IMAGE",
    "find IMAGE -perm -4000 -ls",
    "stat IMAGE:/etc/passwd",
    "layers IMAGE",
    "which IMAGE /etc/passwd",
    "du -d1 IMAGE",
    "du --waste IMAGE",
    "diff IMAGE@..1 IMAGE",
    "dockerfile IMAGE",
    "cat IMAGE:/etc/passwd",
    "grep -c needle-in-no-file IMAGE",
    "sum IMAGE",
]

TAR = """
set -e
mkdir "$2"
tar -xf "$1" -C "$2"
find "$2" -name '*.tar' -type f -exec sh -c 'for layer; do tar -tvf "$layer" || exit; done' sh {} + | wc -l
rm -rf "$2"
"""


@dataclass
class Case:
    name: str
    title: str


def title(line):
    return " ".join(word.replace("IMAGE", "") for word in line.split() if word != "IMAGE")


def words(bench, root, line, image):
    """The command line of strata for a question."""
    return [bench.strata, "--root", root, *(word.replace("IMAGE", image) for word in line.split())]


def asked(bench, root, line, image):
    """Asks; what it took, and what tells whether the answer is the same."""
    # These say by a status of 1 that there is nothing, or a difference.
    script = '"$@"; status=$?; case $4 in grep | diff) [ $status -le 1 ] ;; *) exit $status ;; esac'
    done = bench.run("bash", "-c", script, "ask", *words(bench, root, line, image))
    # The image's own name is in some answers.
    answer = done.output.replace(image.encode(), b"IMAGE")
    return Outcome(done.seconds, hashlib.sha256(answer).hexdigest()[:12])


def one_round(bench, number, stored, image):
    archive = f"docker-archive:{bench.sample}"
    listed = bench.run("bash", "-c", TAR, "tar", bench.sample, bench.work / "unpacked")
    if int(listed.output.split()[-1]) < 1000:
        raise Failed(f"tar lists {listed.output!r} members")
    fresh = bench.work / f"looked-{number}"
    for line in COMMANDS:
        case = Case(line, title(line))
        bench.results.add(case, "tar tvf", number, Outcome(listed.seconds))
        if line == COMMANDS[0]:
            bench.results.add(case, "archive, first", number, asked(bench, fresh, line, archive))
        bench.results.add(case, "archive, again", number, asked(bench, fresh, line, archive))
        bench.results.add(case, "stored", number, asked(bench, stored, line, image))
    bench.results.compare(number)
    bench.run("rm", "-rf", fresh)


def main(bench):
    image = archive_name(bench.sample)
    bench.results.about["image"] = f"{bench.sample.name}, {bench.sample.stat().st_size >> 20} MiB"
    stored = bench.work / "stored"
    # This brings the archive into the page cache, too.
    bench.run(bench.strata, "--root", stored, "load", "-q", "-i", bench.sample)
    for number in range(1, bench.rounds + 1):
        say(f"round {number} of {bench.rounds}")
        try:
            one_round(bench, number, stored, image)
        except (Failed, OSError) as why:
            say(str(why))
            bench.results.wrong.append(f"round {number}: {why}")
    return bench.results.show("tar tvf", bench.args.json)
