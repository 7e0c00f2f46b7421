"""Runs of results/few_images.json, grouped by experiment, and how tables show them."""

import json
import statistics
from collections.abc import Callable, Mapping, Sequence

from benchmarks.markdown import read, where

NAMES = {
    "cross_entropy": "cross-entropy", "label_smoothing": "label smoothing", "max_entropy": "maximum entropy",
    "adacos": "AdaCos", "virtual_softmax": "virtual softmax", "ddgsd": "DDGSD", "byot": "BYOT", "mixup": "Mixup",
    "cskd": "CS-KD", "mixup_cskd": "Mixup + CS-KD", "cskd_e": "CS-KD-E", "iclr": "CS-KD, ICLR form", "kd": "KD",
    "kd_cskd": "KD + CS-KD", "tfkd": "TF-KD", "tfkd_reg": "TF-KD, virtual teacher", "pskd": "PS-KD",
    "cutout": "Cutout", "cutout_pskd": "Cutout + PS-KD", "cutmix": "CutMix", "cutmix_pskd": "CutMix + PS-KD",
    "cutmix_cskd": "CutMix + CS-KD",
}  # fmt: skip
HEADINGS = {
    "top1_error": ("top-1 error %", 100, 1),
    "top5_error": ("top-5 error %", 100, 1),
    "nll": ("NLL", 1, 3),
    "nll_calibration": ("calibration", 1, 3),
    "nll_refinement": ("refinement", 1, 3),
    "brier": ("Brier score", 1, 3),
    "ece_10": ("ECE %, 10 bins", 100, 1),
    "ece_15": ("15 bins", 100, 1),
    "ece_20": ("ECE %, 20 bins", 100, 1),
    "adaptive_ece": ("adaptive", 100, 1),
    "classwise_ece": ("class-wise", 100, 1),
    "mce": ("MCE %", 100, 1),
    "recall_at_1": ("R@1 %", 100, 1),
    "recall_at_2": ("R@2", 100, 1),
    "recall_at_4": ("R@4", 100, 1),
    "recall_at_8": ("R@8", 100, 1),
    "aurc": ("AURC × 1000", 1000, 0),
    "e_aurc": ("E-AURC × 1000", 1000, 0),
    "augrc": ("AUGRC × 1000", 1000, 0),
    "coverage_at_5_risk": ("coverage % at 5 % risk", 100, 1),
    "risk_at_80_coverage": ("risk % at 80 % coverage", 100, 1),
    "group_error": ("taken for another group %", 100, 1),
    "auroc": ("AUROC %", 100, 1),
    "size": ("size of sets", 1, 1),
    "coverage": ("their coverage %", 100, 1),
}
NO_BEST = {"coverage"}  # which has a nominal value
HIGHER_IS_BETTER = {"recall_at_1", "recall_at_2", "recall_at_4", "recall_at_8", "coverage_at_5_risk", "auroc"}
NETWORK = "preact_resnet10"
MINUS = "minus cross-entropy's"


def groups_of(data: str, keep: Callable[[dict], bool]) -> dict[str, list[dict]]:
    """The runs of each experiment, in the order of `NAMES`, then of the file.

    Raises:
        ValueError: runs of one experiment that differ in more than seeds.
    """
    found: dict[str, list[dict]] = {}
    for line in read("few_images"):
        if line["data"] == data and keep(line):
            found.setdefault(line["experiment"], []).append(line)
    for name, lines in found.items():
        kinds = {json.dumps([line["network"], line["epochs"], line["overrides"]]) for line in lines}
        if len(kinds) > 1:
            raise ValueError(f"Expected runs of {data},{name} that differ in seeds alone. Received: {sorted(kinds)}")
    order = list(NAMES)
    place = lambda name: order.index(name) if name in order else len(order)  # noqa: E731
    return {name: found[name] for name in sorted(found, key=place)}


def runs_of_methods(data: str) -> dict[str, list[dict]]:
    """The runs of every method in the network that all have in common."""
    return groups_of(data, lambda line: line["experiment"] in NAMES and line["network"] == NETWORK)


def cell(values: Sequence[float], key: str, *, best: bool = False) -> str:
    """Mean and deviation; nothing of nothing."""
    if not values:
        return ""
    _, factor, digits = HEADINGS[key]
    text = f"{factor * statistics.mean(values):.{digits}f}"
    text = f"**{text}**" if best else text
    return f"{text} ± {factor * statistics.stdev(values):.{digits}f}" if len(values) > 1 else text


def _value(line: Mapping, part: str, key: str) -> float | None:
    """A figure of a run; parts within a part are told by a dot."""
    for name in part.split("."):
        line = line.get(name, {})
    return line.get(key)


def rows_by_experiment(groups: Mapping[str, list[dict]], columns: Sequence[tuple[str, str]]) -> list[list[str]]:
    """A row per experiment; columns are `(part of the line, metric)`, the best mean of each in bold.

    What is undefined in one of an experiment's runs is so in its row: a mean of the others is one of other images.
    """
    values: dict[str, list[list[float]]] = {}
    for name, lines in groups.items():
        cells = [[_value(line, part, key) for line in lines] for part, key in columns]
        values[name] = [[] if None in found else found for found in cells]
    best: list[float | None] = []
    for place, (_, key) in enumerate(columns):
        means = [statistics.mean(row[place]) for row in values.values() if row[place]]
        best.append(None if key in NO_BEST else (max if key in HIGHER_IS_BETTER else min)(means, default=None))
    return [
        [
            NAMES.get(name, name),
            str(len(groups[name])),
            *(
                cell(found, key, best=statistics.mean(found) == top) if found else "undefined"
                for found, (_, key), top in zip(row, columns, best, strict=True)
            ),
        ]
        for name, row in values.items()
    ]


def _minus_cross_entropy(groups: Mapping[str, list[dict]], key: str, part: str = "test") -> list[str]:
    """Per experiment the difference of a metric from cross-entropy's, seed by seed; empty where no seed has both."""
    plain = {line["seed"]: _value(line, part, key) for line in groups.get("cross_entropy", [])}
    cells = []
    for name, lines in groups.items():
        pairs = [(_value(line, part, key), plain[line["seed"]]) for line in lines if line["seed"] in plain]
        differences = [value - other for value, other in pairs if value is not None and other is not None]
        shown = name != "cross_entropy" and len(differences) == len(pairs)
        cells.append(cell(differences, key) if shown else "")
    return cells


def rows_beside_cross_entropy(
    groups: Mapping[str, list[dict]], columns: Sequence[tuple[str, str]], compared: Sequence[tuple[str, str]]
) -> list[list[str]]:
    """As `rows_by_experiment`; behind each of the columns `compared` its difference from cross-entropy's."""
    rows = rows_by_experiment(groups, columns)
    for place in sorted((columns.index(column) for column in compared), reverse=True):
        part, key = columns[place]
        for row, difference in zip(rows, _minus_cross_entropy(groups, key, part), strict=True):
            row.insert(2 + place + 1, difference)
    return rows


def headings_beside_cross_entropy(names: Sequence[str], compared: Sequence[int]) -> list[str]:
    """The headings of those columns, of which those at the places `compared` have their difference behind them."""
    return ["runs", *(each for place, name in enumerate(names) for each in (name, MINUS)[: 1 + (place in compared)])]


def source(groups: Mapping[str, list[dict]]) -> str:
    return where("few_images", [line for lines in groups.values() for line in lines])


def by_metrics(data: str, groups: Mapping[str, list[dict]], keys: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Heading and rows of metrics of the test split, the first of which is compared with cross-entropy's."""
    columns = [("test", key) for key in keys]
    heading = headings_beside_cross_entropy([HEADINGS[key][0] for key in keys], [0])
    return [data, *heading], rows_beside_cross_entropy(groups, columns, columns[:1])
