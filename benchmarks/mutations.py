"""Images and settings as nobody means them: none may crash, take all memory, or end in more than a line.

    python -m benchmarks.mutations [--images=10000] [--settings=1000] [--seed=0] [--first=0] [--[no]bombs]

Images are changed by bits, lengths, headers and metadata; the doctor and training must agree on each. A table, a JSON
line, and a non-zero exit code with the seed and the case where one fails. Needs Linux.
"""

import collections
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from absl import app, flags

from benchmarks import workers
from benchmarks.mutated_images import BOMBS, mutated_image
from benchmarks.mutated_settings import SMALL, mutated_settings
from benchmarks.results import commit, record
from cskd_tf.runs import printing

IMAGES = flags.DEFINE_integer("images", 10_000, "How many images.", lower_bound=0)
SETTINGS = flags.DEFINE_integer("settings", 1000, "How many command lines.", lower_bound=0)
SEED = flags.DEFINE_integer("seed", 0, "Of all that is changed.", lower_bound=0)
FIRST = flags.DEFINE_integer("first", 0, "The first case, to try one again.", lower_bound=0)
VERBOSE = flags.DEFINE_boolean("verbose", False, "Whether to print each case and what became of it.")
WITH_BOMBS = flags.DEFINE_boolean("bombs", True, "Whether to add small files of very many pixels.")

GIB = 2**30
MOST_MEMORY = 4 * GIB  # that an image may take, of those of 2**28 pixels too
MOST_FOR_SETTINGS = 4 * GIB
SECONDS = 300
AS_COMMAND = 50  # one in so many settings is a command of its own too
COLUMNS = ("cases", "accepted", "refused", "failed")


def image_tester() -> Callable[[dict[str, Any]], dict]:
    from benchmarks.judged_images import judge

    for channels in (3, 1):  # the graphs are made once
        with tempfile.TemporaryDirectory() as folder:
            judge(mutated_image(0, 0)[1], pathlib.Path(folder), channels=channels, in_whole_set=True)
    return lambda case: judge(**case)


def image_cases(seed: int, numbers: range, *, bombs: bool, folder: pathlib.Path) -> Iterator[tuple[str, dict]]:
    """What each case is called, and the arguments of `judge`."""
    for number in numbers:
        name, content = mutated_image(seed, number)
        options = {"channels": 3 if number % 3 else 1, "in_whole_set": number % 50 == 0}
        yield f"{number}: {name}", {"content": content, "folder": folder, **options}
    for name, make in BOMBS.items() if bombs else ():
        yield f"{name}: bomb", {"content": make(), "folder": folder, "channels": 3, "in_whole_set": False}


def settings_tester() -> Callable[[dict[str, Any]], dict]:
    from benchmarks.judged_settings import judge

    judge(arguments=SMALL, files={}, as_command=False)  # what is imported once
    return lambda case: judge(**case)


def settings_cases(seed: int, numbers: range) -> Iterator[tuple[str, dict]]:
    """What each case is called, and the arguments of `judge`."""
    for number in numbers:
        name, case = mutated_settings(seed, number)
        yield f"{number}: {name}", {**case, "as_command": number % AS_COMMAND == 0}


def run(
    kind: str, cases: Iterator[tuple[str, dict]], make_tester: Callable[[], Callable[[Any], dict]], *, most_bytes: int
) -> bool:
    """Tries all cases, prints what became of them, and returns whether none failed."""
    console = printing.console()
    counts: dict[str, collections.Counter] = {}
    reasons: collections.Counter[str] = collections.Counter()
    names, arguments = zip(*cases, strict=True)
    results = workers.try_all(make_tester, arguments, seconds=SECONDS, most_bytes=2 * most_bytes)
    for name, case, result in zip(names, arguments, results, strict=True):
        faults = result.get("faults", [result.get("crash")])
        if result.get("bytes", 0) > most_bytes:
            faults = [*faults, f"took {result['bytes'] / GIB:.1f} GiB"]
        for fault in faults:
            console.print(f"FAILED, --seed={SEED.value}, {kind} {name}: {fault}")
        if VERBOSE.value:
            shown = {key: value for key, value in case.items() if key in ("arguments", "files")}
            console.print(f"{kind} {name} {shown}: {result.get('problem')!r}")
        outcome = "failed" if faults else "refused" if result["problem"] else "accepted"
        changes = name.rpartition(": ")[2]
        counted = counts.setdefault("several of these" if ", " in changes else changes, collections.Counter())
        counted.update({"cases": 1, outcome: 1})
        counted["bytes"] = max(counted["bytes"], result.get("bytes", 0))
        reasons[result.get("problem", "")] += 1
    table = printing.table(kind, ["", *COLUMNS, "most memory, MiB"])
    for name, counted in sorted(counts.items()):
        row = [counted[key] for key in COLUMNS]
        table.add_row(name, *(f"{count:,}" for count in row), f"{counted['bytes'] / 2**20:,.0f}")
    printing.show(console, table)
    total = {
        key: sum(counted[key] for counted in counts.values()) for key in ("cases", "accepted", "refused", "failed")
    }
    most = max(counted["bytes"] for counted in counts.values())
    line = {
        "benchmark": "mutations",
        "of": kind,
        "seed": SEED.value,
        **total,
        "reasons": len(reasons),
        "most_mib": most >> 20,
    }
    record(f"mutations_{kind}", line)
    return not total["failed"]


def main(argv):
    del argv
    commit()  # asked now, and not when all that runs may have been edited
    sound = True
    with tempfile.TemporaryDirectory() as folder:
        if IMAGES.value:
            numbers = range(FIRST.value, FIRST.value + IMAGES.value)
            cases = image_cases(SEED.value, numbers, bombs=WITH_BOMBS.value, folder=pathlib.Path(folder))
            sound &= run("images", cases, image_tester, most_bytes=MOST_MEMORY)
    if SETTINGS.value:
        cases = settings_cases(SEED.value, range(FIRST.value, FIRST.value + SETTINGS.value))
        sound &= run("settings", cases, settings_tester, most_bytes=MOST_FOR_SETTINGS)
    sys.exit(not sound)


if __name__ == "__main__":
    app.run(main)
