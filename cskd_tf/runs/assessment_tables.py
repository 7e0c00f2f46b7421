"""Tables of an assessment: the figures with their intervals, recalibration, prediction sets, the worst classes."""

from collections.abc import Iterator, Mapping
from typing import Any

import rich.table

from cskd_tf.runs import printing

WORST = 10  # classes in the table, of however many there are
# Name, heading, factor. Papers print per cent, and areas times 1000.
METRICS = (
    ("top1_error", "top-1 error %", 100),
    ("top5_error", "top-5 error %", 100),
    ("group_error", "group error %", 100),
    ("nll", "NLL", 1),
    ("nll_calibration", "  calibration", 1),
    ("nll_refinement", "  refinement", 1),
    ("brier", "Brier score", 1),
    ("ece_10", "ECE %, 10 bins", 100),
    ("ece_15", "ECE %, 15 bins", 100),
    ("ece_20", "ECE %, 20 bins", 100),
    ("adaptive_ece", "adaptive ECE %, 15 bins", 100),
    ("classwise_ece", "class-wise ECE %, 15 bins", 100),
    ("mce", "MCE %, 15 bins", 100),
    ("aurc", "AURC x 1000", 1000),
    ("e_aurc", "E-AURC x 1000", 1000),
    ("augrc", "AUGRC x 1000", 1000),
    ("coverage_at_5_risk", "coverage % at 5 % risk", 100),
    ("risk_at_80_coverage", "risk % at 80 % coverage", 100),
    ("recall_at_1", "R@1 %", 100),
    ("recall_at_2", "R@2 %", 100),
    ("recall_at_4", "R@4 %", 100),
    ("recall_at_8", "R@8 %", 100),
)
HEADINGS = {name: (heading, factor) for name, heading, factor in METRICS} | {
    "nll_calibration": ("the NLL's part of calibration", 1),
    "nll_refinement": ("the NLL's part of refinement", 1),
    "recall": ("R@k", 100),
    "recall_left_out": ("R@k of some images", 100),
}
# What `cskd_tf.evaluation.scaling` fits, and the kinds of sets of `cskd_tf.evaluation.conformal`, in one clause each.
SCALINGS = {
    "temperature": "temperature scaling, one divisor of all logits",
    "vector": "vector scaling, a factor and an offset of each class's logit",
    "matrix": "matrix scaling, a linear map of the logits of an image to other logits",
}
SETS = {
    "threshold": "threshold, all classes of a probability from one limit on",
    "aps": "aps, the most probable classes, up to a sum of their probabilities",
    "raps": "raps, as aps with a penalty on each class behind the first few, which keeps sets small",
}
SCALED = ("top1_error", "nll", "brier", "ece_15", "aurc")
DETECTION = (
    ("auroc", "AUROC %"),
    ("aupr_inside", "AUPR %, own"),
    ("aupr_outside", "AUPR %, other"),
    ("fpr_at_95_recall", "FPR % at 95 %"),
)


def show(assessment: dict[str, Any], *, title: str) -> None:
    """Prints the tables of an assessment, `title` over the first of them."""
    screen = printing.console()
    for part in tables(assessment, title=title):
        if isinstance(part, str):
            printing.say(screen, part)
        else:
            printing.show(screen, part)


def tables(assessment: dict[str, Any], *, title: str) -> Iterator[rich.table.Table | str]:
    """The tables of an assessment, and lines for what is undefined or was not fitted, with the reasons."""
    yield _headline(assessment, title=title)
    if undefined := assessment["undefined"]:
        whys = {HEADINGS.get(name, (name, 1))[0].strip(): why for name, why in undefined.items()}
        yield f"Undefined, or left out: {_by_reason(whys)}"
    yield from _scaling(assessment)
    yield from _normalized_logits(assessment)
    yield from _conformal(assessment)
    if detection := assessment.get("detection"):
        yield _detection(detection)
        for score in ("energy", "feature_distance"):
            if why := detection[score].get("undefined"):
                yield f"{score.replace('_', ' ').capitalize()}: {why}"
    for other, compared in assessment.get("compared", {}).items():
        yield _comparison(compared, names=(assessment["of"][0], other))
    if groups := assessment.get("per_group"):
        yield _groups(groups)
    yield _worst(assessment["per_class"])


def cell(value: float | None, factor: int) -> str:
    """A metric times its factor, as it is printed."""
    # "z": what rounds to zero has no sign.
    return "undefined" if value is None else f"{factor * value:z.{3 if factor == 1 else 2}f}"


def ends(interval: list[float] | None, factor: int) -> str:
    """Both ends of an interval, as `cell`; a dash where there is none."""
    return f"{cell(interval[0], factor)} to {cell(interval[1], factor)}" if interval else "-"


def _by_reason(whys: Mapping[str, str]) -> str:
    """Names with the reason behind those that share it.

    Example:
        >>> _by_reason({"R@1 %": "there is one image", "R@2 %": "there is one image", "NLL": "no logits"})
        'R@1 %, R@2 % (there is one image); NLL (no logits)'
    """
    reasons = dict.fromkeys(whys.values())
    return "; ".join(f"{', '.join(name for name in whys if whys[name] == reason)} ({reason})" for reason in reasons)


def _headline(assessment: dict[str, Any], *, title: str) -> rich.table.Table:
    intervals = assessment["intervals"]
    level = f"{100 * intervals['level']:.0f} % interval"
    table = printing.table(f"{title}, {assessment['images']} images", ["", "value", level])
    for name, heading, factor in METRICS:
        if name in assessment["metrics"]:
            table.add_row(heading, cell(assessment["metrics"][name], factor), ends(intervals.get(name), factor))
    return table


def _scaling(assessment: dict[str, Any]) -> Iterator[rich.table.Table | str]:
    scaling = assessment["scaling"]
    if "undefined" in scaling:
        yield f"Recalibration: {scaling['undefined']}"
        return
    table = printing.table("Recalibrated on validation images", ["", *(HEADINGS[name][0] for name in SCALED)])
    for row, values in {"as it is": assessment["metrics"], **scaling}.items():
        if "undefined" not in values:
            name = f"temperature {values['temperature']:.3f}" if row == "temperature" else row
            table.add_row(name, *(cell(values[key], HEADINGS[key][1]) for key in SCALED))
    yield table
    if fitted := [SCALINGS[row] for row in SCALINGS if "undefined" not in scaling.get(row, {"undefined": ""})]:
        yield f"Fitted: {'; '.join(fitted)}."
    if missing := {SCALINGS[row]: values["undefined"] for row, values in scaling.items() if "undefined" in values}:
        yield f"Not fitted to the validation images: {_by_reason(missing)}"


def _normalized_logits(assessment: dict[str, Any]) -> Iterator[rich.table.Table | str]:
    normalized = assessment["normalized_logits"]
    if "undefined" in normalized:  # which the line of the recalibration says too
        return
    if not normalized["norm"]:  # the figures are those above
        yield (
            "Normalised logits, which answer first the images whose largest logit stands out most from all their "
            "logits, put the validation images in no better order than the largest probability does."
        )
        return
    names = [name for name in normalized if name != "norm"]
    table = printing.table("Answering first what it is surest of", ["sure by", *(HEADINGS[name][0] for name in names)])
    by = f"logits over their {normalized['norm']}-norm"
    for row, values in {"the largest probability": assessment["metrics"], by: normalized}.items():
        table.add_row(row, *(cell(values[name], HEADINGS[name][1]) for name in names))
    yield table


def _conformal(assessment: dict[str, Any]) -> Iterator[rich.table.Table | str]:
    conformal = assessment["conformal"]
    if "undefined" in conformal:
        yield f"Prediction sets: {conformal['undefined']}"
        return
    title = f"Prediction sets that promise the class in {100 * (1 - conformal['alpha']):.0f} %"
    table = printing.table(title, ["", "coverage %", "classes", "empty %"])
    for kind, values in conformal.items():
        if kind != "alpha":
            table.add_row(kind, cell(values["coverage"], 100), f"{values['size']:.2f}", cell(values["empty"], 100))
    yield table
    yield f"Sets: {'; '.join(SETS[kind] for kind in conformal if kind != 'alpha')}."


def _detection(detection: dict[str, Any]) -> rich.table.Table:
    title = f"Told from {detection['other_images']} images of {detection['against']} by"
    table = printing.table(title, ["", *(heading for _, heading in DETECTION)])
    for score in ("maximum_probability", "energy", "feature_distance"):
        values = detection[score]
        cells = ["undefined"] * 4 if "undefined" in values else [cell(values[key], 100) for key, _ in DETECTION]
        table.add_row(score.replace("_", " "), *cells)
    return table


def _comparison(compared: dict[str, Any], *, names: tuple[str, str]) -> rich.table.Table:
    test = compared["mcnemar"]
    table = printing.table(
        f"{names[0]} less {names[1]}", ["", "difference", f"{100 * compared['level']:.0f} % interval"]
    )
    for name in SCALED:
        heading, factor = HEADINGS[name]
        limits = compared["intervals"][name]
        table.add_row(heading, cell(compared["differences"][name], factor), ends(limits, factor))
    right = f"{test['one_alone_right']} to {test['other_alone_right']}"
    table.add_row("one alone is right (McNemar)", right, f"p = {test['p']:.4f}")
    return table


def _groups(groups: dict[str, Any]) -> rich.table.Table:
    table = printing.table("Groups of classes", ["", "images", "top-1 error %", "group error %"])
    rows = zip(groups["groups"], groups["images"], groups["top1_error"], groups["group_error"], strict=True)
    for name, images, error, group_error in rows:
        table.add_row(name, str(images), cell(error, 100), cell(group_error, 100))
    return table


def _worst(rows: list[dict[str, Any]]) -> rich.table.Table:
    """The classes, or of many those that are recognised least often."""
    known = sorted((row for row in rows if row["images"]), key=lambda row: row["recall"])
    title = "Classes, by recall"
    if len(rows) > WORST:
        title = f"The {min(WORST, len(known))} classes with the lowest recall, of {len(rows)}"
    table = printing.table(title, ["", "images", "recall %", "precision %", "confidence %"])
    for row in known[:WORST]:
        cells = (cell(row[key], 100) for key in ("recall", "precision", "confidence"))
        table.add_row(str(row["name"]), str(row["images"]), *cells)
    return table
