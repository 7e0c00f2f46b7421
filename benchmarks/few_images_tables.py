"""The tables of docs/results.md, of results/few_images.json and results/finetune.json."""

import json
import re
import statistics
from collections.abc import Callable, Mapping, Sequence

from benchmarks.markdown import read, rows_of, where
from configs import few_images

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
SCORES = {"maximum_probability": "by probability", "energy": "by energy", "feature_distance": "by features"}
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


def _columns(groups: Mapping[str, list[dict]], columns: Sequence[tuple[str, str]]) -> list[list[str]]:
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


def _beside_cross_entropy(
    groups: Mapping[str, list[dict]], columns: Sequence[tuple[str, str]], compared: Sequence[tuple[str, str]]
) -> list[list[str]]:
    """As `_columns`; behind each of the columns `compared` its difference from cross-entropy's."""
    rows = _columns(groups, columns)
    for place in sorted((columns.index(column) for column in compared), reverse=True):
        part, key = columns[place]
        for row, difference in zip(rows, _minus_cross_entropy(groups, key, part), strict=True):
            row.insert(2 + place + 1, difference)
    return rows


def _heading_beside_cross_entropy(names: Sequence[str], compared: Sequence[int]) -> list[str]:
    """The headings of those columns, of which those at the places `compared` have their difference behind them."""
    return ["runs", *(each for place, name in enumerate(names) for each in (name, MINUS)[: 1 + (place in compared)])]


def source(groups: Mapping[str, list[dict]]) -> str:
    return where("few_images", [line for lines in groups.values() for line in lines])


def by_metrics(data: str, groups: Mapping[str, list[dict]], keys: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Heading and rows of metrics of the test split, the first of which is compared with cross-entropy's."""
    columns = [("test", key) for key in keys]
    heading = _heading_beside_cross_entropy([HEADINGS[key][0] for key in keys], [0])
    return [data, *heading], _beside_cross_entropy(groups, columns, columns[:1])


def methods(data: str) -> list[str]:
    """Every method, with one recipe, and its top-1 error minus that of cross-entropy on the same images."""
    keys = ("top1_error", "top5_error", "nll", "ece_20", "recall_at_1", "aurc")
    groups = runs_of_methods(data)
    return [*rows_of(*by_metrics(data, groups, keys)), "", source(groups)]


def _kit(data: str, columns: Sequence[tuple[str, str]]) -> list[str]:
    heading = [data, "runs", *(HEADINGS[key][0] for _, key in columns)]
    groups = runs_of_methods(data)
    return [*rows_of(heading, _columns(groups, columns)), "", source(groups)]


def calibration(data: str) -> list[str]:
    """Every metric of calibration."""
    keys = ("nll_calibration", "nll_refinement", "brier", "ece_10", "ece_15", "adaptive_ece", "classwise_ece", "mce")
    return _kit(data, [("test", key) for key in keys])


def selection(data: str) -> list[str]:
    """What can be answered with few errors, what sets are needed otherwise, and what is near in the features."""
    keys = ("augrc", "coverage_at_5_risk", "risk_at_80_coverage", "recall_at_2", "recall_at_4", "recall_at_8")
    of_sets = [("conformal.threshold", key) for key in ("size", "coverage")]
    return _kit(data, [*(("test", key) for key in keys), *of_sets])


def beyond(data: str) -> list[str]:
    """Errors across groups of classes, and how well images of other data sets are told from the own."""
    groups, lines = runs_of_methods(data), [line for line in read("detection") if line["data"] == data]
    others = list(dict.fromkeys(line["against"] for line in lines))
    with_others = {
        name: [
            {"test": line["test"]} | {each["against"]: each for each in lines if _same_run(each, line)} for line in own
        ]
        for name, own in groups.items()
    }
    columns = [("test", "group_error"), *((f"{other}.{score}", "auroc") for other in others for score in SCORES)]
    names = [HEADINGS["group_error"][0], *(f"{other} {score}" for other in others for score in SCORES.values())]
    rows = _columns(with_others, columns)
    return [*rows_of([data, "runs", *names], rows), "", source(groups), where("detection", lines)]


def _same_run(one: Mapping, other: Mapping) -> bool:
    return all(one[key] == other[key] for key in ("data", "experiment", "seed"))


def equal_time(data: str) -> list[str]:
    """Every method after the time of cross-entropy's epochs: those whose steps take longer have fewer epochs."""
    keys = ("top1_error", "nll", "ece_20", "recall_at_1", "aurc")
    ratios = {"cross_entropy": 1.0} | {line["experiment"]: line["over_cross_entropy"] for line in read("equal_time")}
    shorter = groups_of(data, lambda line: re.fullmatch(r"\w+,\d+", line["experiment"]) and line["network"] == NETWORK)
    shorter = {name.partition(",")[0]: lines for name, lines in shorter.items()}
    groups = {
        name: shorter.get(name, lines)
        for name, lines in runs_of_methods(data).items()
        if name in shorter or few_images.keeps_its_epochs(ratios[name])
    }
    (_, *heading), compared = by_metrics(data, groups, keys)
    rows = [
        [row[0], f"{ratios[name]:.2f}", str(lines[0]["epochs"]), *row[1:]]
        for (name, lines), row in zip(groups.items(), compared, strict=True)
    ]
    heading = [data, "step over cross-entropy's", "epochs", *heading]
    return [*rows_of(heading, rows), "", source(groups), where("equal_time")]


def finetune() -> list[str]:
    """Cross-entropy and CS-KD after fine-tuning, by the number of images per class."""
    keys = ("top1_error", "nll", "ece_20", "recall_at_1", "aurc")
    runs = [line for line in read("finetune") if "test" in line]
    heading, rows = [], []
    for images in sorted({line["images_per_class"] for line in runs}):
        of_images = [line for line in runs if line["images_per_class"] == images]
        names = [name for name in NAMES if any(line["experiment"] == name for line in of_images)]
        groups = {name: [line for line in of_images if line["experiment"] == name] for name in names}
        heading, compared = by_metrics("CIFAR-10", groups, keys)
        rows += [[f"{images} per class, {name}", *cells] for name, *cells in compared]
    return [*rows_of(heading, rows), "", where("finetune", runs)]


def recalibrated(data: str) -> list[str]:
    """What scaling leaves of each method's calibration; of a temperature, minus cross-entropy's."""
    parts = ("test", "after_temperature", "after_vector_scaling")
    columns = [(part, key) for key in ("ece_20", "nll") for part in parts]
    scalings = ("after a temperature", "vector scaling")
    heading = _heading_beside_cross_entropy(["ECE %, 20 bins", *scalings, "NLL", *scalings], [1, 4])
    groups = runs_of_methods(data)
    rows = _beside_cross_entropy(groups, columns, [columns[1], columns[4]])
    return [*rows_of([data, *heading], rows), "", source(groups)]


def selective(data: str) -> list[str]:
    """Selective classification, by three confidences, each beside its difference from cross-entropy's."""
    columns = [("test", "e_aurc"), ("test", "aurc"), ("after_temperature", "aurc"), ("normalized_logits", "aurc")]
    names = [HEADINGS["e_aurc"][0], HEADINGS["aurc"][0], "AURC after a temperature", "AURC of normalised logits"]
    return _all_beside_cross_entropy(data, columns, names)


def generalized(data: str) -> list[str]:
    """The same by AUGRC, in which what is answered early does not count more than what is answered late."""
    columns = [(part, "augrc") for part in ("test", "after_temperature", "normalized_logits")]
    return _all_beside_cross_entropy(
        data, columns, [HEADINGS["augrc"][0], "after a temperature", "of normalised logits"]
    )


def _all_beside_cross_entropy(data: str, columns: Sequence[tuple[str, str]], names: Sequence[str]) -> list[str]:
    groups = runs_of_methods(data)
    heading = _heading_beside_cross_entropy(names, range(len(names)))
    return [*rows_of([data, *heading], _beside_cross_entropy(groups, columns, columns)), "", source(groups)]


def depth(data: str) -> list[str]:
    """Cross-entropy and CS-KD, of each network, and the difference of their errors."""
    keys = ("top1_error", "nll", "ece_20", "recall_at_1", "aurc")
    heading, rows, shown = [], [], []
    for network in dict.fromkeys(line["network"] for line in read("few_images") if line["data"] == data):
        names = {name if network == NETWORK else f"{name},{network}": name for name in ("cross_entropy", "cskd")}
        found = groups_of(data, lambda line, names=names: line["experiment"] in names)
        groups = {names[name]: found[name] for name in names if name in found}
        heading, compared = by_metrics(data, groups, keys)
        rows += [[f"`{network}`, {name}", *row] for name, *row in compared]
        shown += [line for lines in groups.values() for line in lines]
    return [*rows_of(heading, rows), "", where("few_images", shown)]


TABLES = (
    methods,
    calibration,
    selection,
    beyond,
    equal_time,
    recalibrated,
    selective,
    generalized,
    depth,
    finetune,
)
