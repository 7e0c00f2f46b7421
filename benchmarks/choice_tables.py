"""The tables of docs/results.md of values that were tried: grids, what validation chooses, an automatic weight."""

import re
import statistics
from collections.abc import Mapping, Sequence

from benchmarks.few_images_runs import NAMES, NETWORK, by_metrics, cell, groups_of, runs_of_methods, source
from benchmarks.markdown import rows_of, where
from configs import few_images


def grid(data: str, method: str) -> list[str]:
    """The points of a grid by test images, and by validation images, which choose the one in bold, or one of these."""
    groups = _tried(data, method)
    least = min(map(_validation, groups.values()), default=0.0)
    rows = []
    for name, lines in groups.items():
        cells = [cell([line["test"][key] for line in lines], key) for key in ("top1_error", "ece_20")]
        is_least = _validation(lines) == least  # of which there may be several
        by_validation = cell([line["val_top1_error"] for line in lines], "top1_error", best=is_least)
        rows.append([_values(name), str(len(lines)), by_validation, *cells])
    heading = [f"{data}, {NAMES[method]}", "runs", "validation top-1 error %", "test top-1 error %", "ECE %, 20 bins"]
    return [*rows_of(heading, rows), "", source(groups)]


def chosen(data: str) -> list[str]:
    """Every method of which values were tried, with those that validation images choose; of equals the usual."""
    keys = ("top1_error", "nll", "ece_20", "recall_at_1", "aurc")
    usual = runs_of_methods(data)
    groups, values, with_usual = {"cross_entropy": usual["cross_entropy"]}, {}, {}
    for method in filter(usual.__contains__, few_images.VALUES):
        if tried := _tried(data, method):
            values[method], groups[method] = min(
                tried.items(), key=lambda each: (_validation(each[1]), len(each[1][0]["overrides"]))
            )
            with_usual[method] = [line["test"]["top1_error"] for line in usual[method]]
    (_, *heading), compared = by_metrics(data, groups, keys)
    rows = [
        [label, _values(values.get(name, "")), cell(with_usual.get(name, []), "top1_error"), *cells]
        for name, (label, *cells) in zip(groups, compared, strict=True)
    ]
    return [*rows_of([data, "chosen", "error % with the usual", *heading], rows), "", source(groups)]


def automatic() -> list[str]:
    """CS-KD with the weight that was tried and taken out again, beside cross-entropy and the grid of weights."""
    heading = ["top-1 error %", "cross-entropy", "T = 4, weight 1", "least of the grid", "automatic weight"]
    heading += [f"ECE %, {name}" for name in ("weight 1", "automatic")]
    rows, shown = [], []
    for data in few_images.EPOCHS:
        by_name = groups_of(data, lambda line: line["network"] == NETWORK)
        grid_of = {name: lines for name, lines in by_name.items() if re.match(r"cskd,temperature=", name)}
        if "cskd_auto" not in by_name or not grid_of:
            continue
        of = lambda lines, key="top1_error": [line["test"][key] for line in lines]  # noqa: E731
        best = min(grid_of.values(), key=lambda lines: statistics.mean(of(lines)))
        usual, found = grid_of["cskd,temperature=4,weight=1"], by_name["cskd_auto"]
        errors = [cell(of(lines), "top1_error") for lines in (by_name["cross_entropy"], usual, best, found)]
        rows.append([data, *errors, *(cell(of(lines, "ece_20"), "ece_20") for lines in (usual, found))])
        shown += found
    return [*rows_of(heading, rows), "", where("few_images", shown)]


def _tried(data: str, method: str) -> dict[str, list[dict]]:
    """The points of a method's grid."""
    return groups_of(data, lambda line: re.match(rf"{method},\w+=", line["experiment"]) is not None)


def _values(experiment: str) -> str:
    """What a point of a grid is called."""
    return experiment.partition(",")[2].replace(",", ", ")


def _validation(lines: Sequence[Mapping]) -> float:
    """The mean error on validation images; equal where it differs by rounding alone."""
    return round(statistics.mean(line["val_top1_error"] for line in lines), 9)


TABLES = (grid, chosen, automatic)
