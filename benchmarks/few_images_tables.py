"""The tables of docs/results.md, of results/few_images.json and results/finetune.json."""

import re
from collections.abc import Mapping, Sequence

from benchmarks.few_images_runs import (
    HEADINGS,
    NETWORK,
    by_metrics,
    groups_of,
    headings_beside_cross_entropy,
    rows_beside_cross_entropy,
    rows_by_experiment,
    runs_of_methods,
    source,
)
from benchmarks.markdown import read, rows_of, where
from configs import few_images

SCORES = {"maximum_probability": "by probability", "energy": "by energy", "feature_distance": "by features"}


def methods(data: str) -> list[str]:
    """Every method, with one recipe, and its top-1 error minus that of cross-entropy on the same images."""
    keys = ("top1_error", "top5_error", "nll", "ece_20", "recall_at_1", "aurc")
    groups = runs_of_methods(data)
    return [*rows_of(*by_metrics(data, groups, keys)), "", source(groups)]


def _kit(data: str, columns: Sequence[tuple[str, str]]) -> list[str]:
    heading = [data, "runs", *(HEADINGS[key][0] for _, key in columns)]
    groups = runs_of_methods(data)
    return [*rows_of(heading, rows_by_experiment(groups, columns)), "", source(groups)]


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
    rows = rows_by_experiment(with_others, columns)
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
    both = [(part, key) for key in ("nll", "ece_20") for part in ("test", "after_temperature")]
    columns = [("test", "top1_error"), *both, ("test", "recall_at_1"), ("test", "aurc")]
    names = [HEADINGS[key][0] if part == "test" else "after a temperature" for part, key in columns]
    compared = [("test", "top1_error"), ("after_temperature", "nll")]
    heading = headings_beside_cross_entropy(names, [columns.index(column) for column in compared])
    runs = [line for line in read("finetune") if "test" in line]
    rows = []
    for images in sorted({line["images_per_class"] for line in runs}):
        of_images = [line for line in runs if line["images_per_class"] == images]
        groups = {
            name: [line for line in of_images if line["experiment"] == name] for name in ("cross_entropy", "cskd")
        }
        of_methods = rows_beside_cross_entropy(groups, columns, compared)
        rows += [[f"{images} per class, {name}", *cells] for name, *cells in of_methods]
    return [*rows_of(["CIFAR-10", *heading], rows), "", where("finetune", runs)]


def recalibrated(data: str) -> list[str]:
    """What scaling leaves of each method's calibration; of a temperature, minus cross-entropy's."""
    parts = ("test", "after_temperature", "after_vector_scaling")
    columns = [(part, key) for key in ("ece_20", "nll") for part in parts]
    scalings = ("after a temperature", "vector scaling")
    heading = headings_beside_cross_entropy(["ECE %, 20 bins", *scalings, "NLL", *scalings], [1, 4])
    groups = runs_of_methods(data)
    rows = rows_beside_cross_entropy(groups, columns, [columns[1], columns[4]])
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
    heading = headings_beside_cross_entropy(names, range(len(names)))
    return [*rows_of([data, *heading], rows_beside_cross_entropy(groups, columns, columns)), "", source(groups)]


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
