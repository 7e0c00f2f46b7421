"""The README's tables, written from results/*.json: `python -m benchmarks.tables` puts them between their marks.

A table `NAME` stands between `<!-- NAME -->` and `<!-- end -->`, and a test compares the two; so a figure in the README
is one that a command of this repository printed, on the commit and CPU that stand in its file.
"""

import json
import pathlib
import re
from collections.abc import Callable, Sequence

from absl import app

from benchmarks.results import RESULTS, ROOT

README = ROOT / "README.md"
_BLOCK = re.compile(r"<!-- (\w+) -->\n(.*?)<!-- end -->\n", re.DOTALL)


def read(name: str) -> list[dict]:
    return json.loads((RESULTS / f"{name}.json").read_text())


def _rows(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (heading, ["---"] * len(heading), *rows)]


def _where(name: str) -> str:
    lines = read(name)
    commits = ", ".join(dict.fromkeys(line["commit"] for line in lines))
    return f"`results/{name}.json`: commit {commits}, {lines[0]['cpu']}, oneDNN {lines[0]['onednn']}."


DIGITS_COLUMNS = (
    ("top-1 error %", "top1_error", 100, 2),
    ("top-5 error %", "top5_error", 100, 2),
    ("NLL", "nll", 1, 3),
    ("ECE % (20 bins)", "ece", 100, 2),
    ("R@1 %", "recall_at_1", 100, 2),
    ("AURC × 1000", "aurc", 1000, 2),
)


def digits() -> list[str]:
    """Mean ± deviation over the seeds."""
    rows = []
    for line in read("digits"):
        cells = [
            f"{factor * line[key]['mean']:.{places}f} ± {factor * line[key]['deviation']:.{places}f}"
            for _, key, factor, places in DIGITS_COLUMNS
        ]
        rows.append([f"{line['methods']}, {line['runs']} seeds", *cells])
    return [*_rows(["", *(column[0] for column in DIGITS_COLUMNS)], rows), "", _where("digits")]


def network_speed() -> list[str]:
    """Times as fast as PyTorch, a row a network, a column a precision."""
    networks: dict[str, dict] = {}
    for line in read("network_speed"):
        networks.setdefault(line["network"], {"batch": str(line["batch"])})[line["precision"]] = line
    precisions = ("float32", "bfloat16")
    rows = [
        [f"`{name}`", found["batch"], *(f"{found[each]['times_as_fast_as_torch']:.2f}" for each in precisions)]
        for name, found in networks.items()
    ]
    heading = ["times as fast as PyTorch", "batch", *precisions]
    return [*_rows(heading, rows), "", _where("network_speed")]


PIPELINE = {
    "arrays32": "32-pixel arrays, pad, crop, flip",
    "folder64": "64-pixel JPEG files to 32 pixels",
    "folder500": "500-pixel JPEG files to 224 pixels",
}


def pipeline_speed() -> list[str]:
    """Times as fast as PyTorch's loader, and as a lean one."""
    rows = []
    for case, name in PIPELINE.items():
        torch, plain = (read(f"pipeline_speed_{case}_{baseline}")[0] for baseline in ("torch", "plain"))
        rows.append([name, f"{torch['ratio']:.1f}", f"{plain['ratio']:.1f}"])
        if "in_memory_ratio" in torch:
            held = [f"{each['in_memory_ratio']:.1f}" for each in (torch, plain)]
            rows.append(["the same, held in memory (what a run does)", *held])
    heading = ["pairs a second: times as many as", "PyTorch's loader", "a lean one in plain Python"]
    return [*_rows(heading, rows), "", _where("pipeline_speed_folder500_torch")]


TABLES: dict[str, Callable[[], list[str]]] = {each.__name__: each for each in (digits, network_speed, pipeline_speed)}


def refreshed(text: str) -> str:
    """The text with every marked table as the results have it.

    Raises:
        KeyError: a mark of no table.
    """
    return _BLOCK.sub(lambda found: "\n".join([f"<!-- {found[1]} -->", *TABLES[found[1]](), "<!-- end -->", ""]), text)


def main(argv):
    del argv
    pathlib.Path(README).write_text(refreshed(README.read_text()))


if __name__ == "__main__":
    app.run(main)
