"""Tables of a paper's form: means of finished runs beside the figures that it published."""

import dataclasses
import os
import pathlib
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from cskd_tf.errors import UserError
from cskd_tf.runs import report, sweep
from cskd_tf.runs.choice import better
from cskd_tf.runs.config import OF_NO_RESULT
from cskd_tf.runs.grid import SEED_KEYS, Run
from cskd_tf.runs.json_files import flatten
from cskd_tf.runs.workdir import CONFIG, Workdir

FACTORS = {key: factor for _, key, factor in report.COLUMNS}  # from fractions to what papers print
# Of the machine and of files; no experiment of a paper says them.
OF_NO_PAPER = (
    *OF_NO_RESULT, "seed", "data.split.seed", "strategy",
    "data.source.path", "data.source.archive", "data.source.memory",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure as tables print it, per cent or AURC times 1000.

    Attributes:
        mean: None where it is undefined in one of the runs.
        deviation: over runs, of the sample; None of a single one.
        runs: how many; 0 of a figure that was published.
    """

    mean: float | None
    deviation: float | None = None
    runs: int = 0


@dataclasses.dataclass(frozen=True)
class Cell:
    """What stands in a table's cell: runs of an experiment and one of their metrics, or that of their ensemble."""

    experiment: str
    metric: str
    published: Figure
    ensemble: bool = False


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of a table, in a part within which the best is marked and changes are told from the first line."""

    part: str
    label: str
    cells: tuple[Cell, ...]


@dataclasses.dataclass(frozen=True)
class Layout:
    """A table: what it is called, its columns and rows, whether it tells changes, and what there is to know of it."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    changes: bool = False
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Found:
    """The runs of an experiment.

    Attributes:
        runs: those that have finished; they differ in seeds alone.
        unfinished: folders of those that have begun.
        differs: where their config is not the experiment's: `{"epochs": (60, 200)}`, theirs first.
    """

    runs: tuple[Workdir, ...]
    unfinished: tuple[str, ...]
    differs: Mapping[str, tuple[Any, Any]]


def index(root: pathlib.Path) -> dict[tuple[bool, str], list[Workdir]]:
    """All runs at and below a folder, by whether they were chosen and by the point that their folder is named after.

    A run lies in `POINT/seed=0` as a sweep trains it, or in `POINT`, as `--mode=train` does.
    """
    found: dict[tuple[bool, str], list[Workdir]] = {}
    for path in sorted(root.rglob(CONFIG)):
        *above, last = pathlib.Path(os.path.abspath(path.parent)).parts
        if re.match(r"seed=", last):
            *above, last = above
        found.setdefault((above[-1:] == [sweep.CHOSEN], last), []).append(Workdir(path.parent))
    return found


def find(there: Mapping[tuple[bool, str], Sequence[Workdir]], expected: Run) -> Found:
    """The runs of an experiment: those that were chosen for it, or else those of its own config.

    Args:
        there: as `index` gives them.
        expected: a run of the experiment as the sweep of its table has it.

    Raises:
        UserError: runs that differ in more than seeds or in the bins of the ECE, or one twice; with names and keys.
    """
    chosen = [
        run
        for (is_chosen, point), runs in there.items()
        if is_chosen and sweep.is_point_of(expected.experiment, point)
        for run in runs
        if sweep.is_chosen(expected.experiment, run.path if run.path.name == point else run.path.parent)
    ]
    runs = chosen or list(there.get((False, expected.point), ()))
    finished = [run for run in runs if run.metrics()]
    check_alike(finished)
    differs = _differences(finished[0], expected) if finished else {}
    unfinished = [str(run.path) for run in runs if not run.metrics()]
    return Found(tuple(finished), tuple(unfinished), differs)


def check_alike(runs: Sequence[Workdir]) -> None:
    """Refuses to average runs that differ in more than seeds. Errors as `find`."""
    seeds: dict[tuple, Workdir] = {}
    for run in runs:
        first, other = report.settings(runs[0]), report.settings(run)
        first["ece_bins"], other["ece_bins"] = (each.metrics_of("test")["ece_bins"] for each in (runs[0], run))
        if keys := sorted(key for key in first.keys() | other.keys() if first.get(key) != other.get(key)):
            changes = ", ".join(f"{key}: {first.get(key)!r} and {other.get(key)!r}" for key in keys[:5])
            raise UserError(
                f"Expected runs of one cell that differ in seeds alone. Received: {runs[0].path} and {run.path}, "
                f"which differ in {changes}"
            )
        config = run.config()
        twin = seeds.setdefault((config.seed, config.data.split.seed), run)
        if twin is not run:
            raise UserError(f"Expected each run once. Received: {twin.path} and {run.path}, of the same seed")
    report.check_same_images(runs)


def _differences(run: Workdir, expected: Run) -> dict[str, tuple[Any, Any]]:
    ours, theirs = flatten(run.config().as_dict()), flatten(dict(expected.config))
    teachers = {key for key, value in theirs.items() if str(value).endswith(expected.teachers or ("\n",))}
    keys = [key for key in {**theirs, **ours} if key not in (*OF_NO_PAPER, *teachers)]
    return {key: (ours.get(key), theirs.get(key)) for key in keys if ours.get(key) != theirs.get(key)}


def figure(found: Found, cell: Cell, *, best_epoch: bool = False) -> Figure | None:
    """A cell's figure under the last epoch's weights, or those of the best validation epoch; None where there is none.

    Args:
        found: the runs of the cell's experiment.
        cell: which metric, and whether of their ensemble, which is of the last epoch alone.
        best_epoch: take the epoch that was best by validation.
    """
    if not found.runs or (cell.ensemble and best_epoch):
        return None
    factor, count = FACTORS[cell.metric], len(found.runs)
    if cell.ensemble:
        together = report.ensemble_metrics(found.runs, split="test")
        return None if together is None else Figure(factor * together[cell.metric], None, count)
    if best_epoch:
        if not all("best_epoch" in run.metrics() for run in found.runs):
            return None
        values = [run.metrics()["best_epoch"]["test"].get(cell.metric) for run in found.runs]
    else:
        values = [run.metrics_of("test").get(cell.metric) for run in found.runs]
    if any(value is None for value in values):
        return Figure(None, None, count)
    scaled = [factor * value for value in values]
    return Figure(statistics.mean(scaled), statistics.stdev(scaled) if count > 1 else None, count)


@dataclasses.dataclass(frozen=True)
class Entry:
    """A figure as it is printed: with the relative change from its part's first line, and whether none is better."""

    figure: Figure | None
    change: float | None
    best: bool


@dataclasses.dataclass(frozen=True)
class Line:
    """A printed line: of a row the last epoch's figures, the best epoch's, or the published ones."""

    row: Row
    kind: str
    entries: tuple[Entry, ...]


def lines(layout: Layout, found: Mapping[str, Found]) -> list[Line]:
    """The printed lines of a table; those of the best epoch only where there is one in the row.

    Args:
        layout: of the table.
        found: the runs of each of its experiments.
    """
    kinds = {
        "last epoch": lambda cell: figure(found[cell.experiment], cell),
        "best epoch": lambda cell: figure(found[cell.experiment], cell, best_epoch=True),
        "published": lambda cell: cell.published,
    }
    figures = {kind: [[take(cell) for cell in row.cells] for row in layout.rows] for kind, take in kinds.items()}
    printed = []
    for number, row in enumerate(layout.rows):
        part = [other for other, each in enumerate(layout.rows) if each.part == row.part]
        for kind, table in figures.items():
            if kind == "best epoch" and not any(table[number]):
                continue
            entries = []
            for column, (cell, own) in enumerate(zip(row.cells, table[number], strict=True)):
                means = [mean for other in part if (mean := _mean(table[other][column])) is not None]
                mean, first = _mean(own), _mean(table[part[0]][column])
                change = None
                if layout.changes and number != part[0] and mean is not None and first:
                    change = mean / first - 1
                ranked = sorted(means, key=lambda each: better(each, metric=cell.metric))
                entries.append(Entry(own, change, best=len(means) > 1 and mean == ranked[0]))
            printed.append(Line(row, kind, tuple(entries)))
    return printed


def _mean(figure: Figure | None) -> float | None:
    return None if figure is None else figure.mean


def _seeds(config: Mapping[str, Any]) -> tuple[Any, ...]:
    """By which the runs of an experiment are told apart, wherever they lie."""
    values = flatten(config)
    return tuple(values[key] for key in SEED_KEYS)


def notes(layout: Layout, found: Mapping[str, Found], expected: Mapping[str, Sequence[Run]]) -> list[str]:
    """What there is to know below a table: what was not as the papers have it, and what is missing."""
    result = list(layout.notes)
    alike: dict[str, list[str]] = {}  # experiments by what is not as in the paper
    for experiment, each in found.items():
        if each.differs:
            words = [f"{key}={ours} ({theirs})" for key, (ours, theirs) in sorted(each.differs.items())]
            alike.setdefault(", ".join(words), []).append(experiment)
    with_runs = [experiment for experiment, each in found.items() if each.runs]
    for changes, experiments in alike.items():
        where = "All runs" if experiments == with_runs else "; ".join(experiments)
        result.append(f"Not as the paper's config, whose value is in brackets: {changes}. {where}.")
    for experiment, each in found.items():
        planned = {_seeds(run.config): pathlib.PurePath(run.name).name for run in expected[experiment]}
        if each.runs and len(each.runs) < len(planned):
            there = {_seeds(run.config().as_dict()) for run in each.runs}
            missing = [name for seeds, name in planned.items() if seeds not in there]
            result.append(f"{experiment}: {len(each.runs)} of {len(planned)} runs; missing: {', '.join(missing)}.")
    if without := [experiment for experiment, each in found.items() if not each.runs]:
        result.append(f"No finished runs: {'; '.join(without)}.")
    if unfinished := [path for each in found.values() for path in each.unfinished]:
        result.append(f"Unfinished: {'; '.join(unfinished)}.")
    bins = sorted({run.metrics_of("test")["ece_bins"] for each in found.values() for run in each.runs})
    if any(cell.metric == "ece" for row in layout.rows for cell in row.cells):
        result.append(f"ECE with {' or '.join(map(str, bins))} bins.")
    return result
