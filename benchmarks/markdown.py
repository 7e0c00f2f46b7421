"""Tables in Markdown, of results/*.json."""

import functools
import json
from collections.abc import Callable, Mapping, Sequence

from benchmarks.results import RESULTS


def read(name: str) -> list[dict]:
    return json.loads((RESULTS / f"{name}.json").read_text())


def rows_of(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligned in the source too: names on the left, figures on the right of their columns."""
    widths = [max(map(len, column)) for column in zip(heading, *rows, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    aligned = [
        [cells[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))]
        for cells in (heading, rule, *rows)
    ]
    return [f"| {' | '.join(cells)} |" for cells in aligned]


def where(pattern: str, lines: Sequence[Mapping] | None = None) -> str:
    """What the lines of one or, by a `*`, several files were measured on, all or those that are given.

    Of what was trained before it was measured, also by which commit.
    """
    if lines is None:
        lines = [line for path in sorted(RESULTS.glob(f"{pattern}.json")) for line in read(path.stem)]
    commits, cpus, kernels, trained = (
        ", ".join(dict.fromkeys(line[key] for line in lines if key in line))
        for key in ("commit", "cpu", "onednn", "trained_at")
    )
    trained = f", trained at {trained}" if trained else ""
    return f"`results/{pattern}.json`: commit {commits}{trained}, {cpus}, oneDNN {kernels}."


def of_each_cpu(name: str) -> Callable[[Callable[[list[dict]], list[str]]], Callable[[], list[str]]]:
    """Makes of a table of lines one for each CPU in a file, one below the other, with where it was measured."""

    def decorate(table: Callable[[list[dict]], list[str]]) -> Callable[[], list[str]]:
        @functools.wraps(table)
        def tables() -> list[str]:
            of_cpus: dict[str, list[dict]] = {}
            for line in read(name):
                of_cpus.setdefault(line["cpu"], []).append(line)
            written = [[*table(lines), "", where(name, lines)] for lines in of_cpus.values()]
            return [row for block in written for row in ("", *block)][1:]

        return tables

    return decorate


def percent(share: float, places: int = 0) -> str:
    """A share in per cent, without the sign."""
    return f"{100 * share:.{places}f}"
