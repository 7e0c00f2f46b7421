"""The tables of docs/results.md, of results/few_images.json and results/finetune.json."""

import statistics
from collections.abc import Callable, Iterable, Sequence

from benchmarks.markdown import read, rows_of, where

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
    "ece_20": ("ECE %, 20 bins", 100, 1),
    "recall_at_1": ("R@1 %", 100, 1),
    "aurc": ("AURC × 1000", 1000, 0),
    "augrc": ("AUGRC × 1000", 1000, 0),
}
LOWER_IS_BETTER = set(HEADINGS) - {"recall_at_1"}
NETWORK = "preact_resnet10"


def _groups(data: str, keep: Callable[[dict], bool]) -> dict[str, list[dict]]:
    """The runs of each experiment, in the order of `NAMES`, then of the file."""
    found: dict[str, list[dict]] = {}
    for line in read("few_images"):
        if line["data"] == data and keep(line):
            found.setdefault(line["experiment"], []).append(line)
    order = list(NAMES)
    place = lambda name: order.index(name) if name in order else len(order)  # noqa: E731
    return {name: found[name] for name in sorted(found, key=place)}


def _cell(values: Sequence[float], key: str, *, best: bool) -> str:
    _, factor, digits = HEADINGS[key]
    text = f"{factor * statistics.mean(values):.{digits}f}"
    text = f"**{text}**" if best else text
    return f"{text} ± {factor * statistics.stdev(values):.{digits}f}" if len(values) > 1 else text


def _defined(values: Iterable[float | None]) -> list[float]:
    """Without what is undefined, which is null in results/ or not there at all."""
    return [value for value in values if value is not None]


def _columns(groups: dict[str, list[dict]], columns: Sequence[tuple[str, str]]) -> list[list[str]]:
    """A row per experiment; columns are `(part of the line, metric)`, the best mean of each in bold."""
    values = {
        name: [_defined(line[part].get(key) for line in lines) for part, key in columns]
        for name, lines in groups.items()
    }
    best = []
    for place, (_, key) in enumerate(columns):
        means = [statistics.mean(row[place]) for row in values.values() if row[place]]
        best.append((min if key in LOWER_IS_BETTER else max)(means, default=None))
    return [
        [
            NAMES.get(name, name),
            str(len(groups[name])),
            *(
                _cell(cell, key, best=statistics.mean(cell) == top) if cell else "undefined"
                for cell, (_, key), top in zip(row, columns, best, strict=True)
            ),
        ]
        for name, row in values.items()
    ]


def _beside_cross_entropy(groups: dict[str, list[dict]], keys: Sequence[str]) -> list[list[str]]:
    """A row per experiment; behind the first metric its difference from cross-entropy's, seed by seed."""
    plain = {line["seed"]: line["test"][keys[0]] for line in groups["cross_entropy"]}
    rows = []
    for lines, (name, runs, first, *rest) in zip(
        groups.values(), _columns(groups, [("test", key) for key in keys]), strict=True
    ):
        less = [line["test"][keys[0]] - plain[line["seed"]] for line in lines if line["seed"] in plain]
        itself = lines[0]["experiment"] == "cross_entropy"
        rows.append([name, runs, first, "" if itself else _cell(less, keys[0], best=False), *rest])
    return rows


def _heading_beside_cross_entropy(keys: Sequence[str]) -> list[str]:
    first, *rest = (HEADINGS[key][0] for key in keys)
    return ["runs", first, "less cross-entropy's", *rest]


def methods(data: str) -> list[str]:
    """Every method, with one recipe, and its top-1 error less that of cross-entropy on the same images."""
    keys = ("top1_error", "top5_error", "nll", "ece_20", "recall_at_1", "aurc")
    groups = _groups(data, lambda line: line["experiment"] in NAMES and line["network"] == NETWORK)
    heading = [data, *_heading_beside_cross_entropy(keys)]
    return [*rows_of(heading, _beside_cross_entropy(groups, keys)), "", where("few_images")]


def finetune() -> list[str]:
    """Cross-entropy and CS-KD after fine-tuning, by the number of images per class."""
    keys = ("top1_error", "nll", "ece_20", "recall_at_1", "aurc")
    runs = [line for line in read("finetune") if "test" in line]
    rows = []
    for images in sorted({line["images_per_class"] for line in runs}):
        of_images = [line for line in runs if line["images_per_class"] == images]
        names = [name for name in NAMES if any(line["experiment"] == name for line in of_images)]
        groups = {name: [line for line in of_images if line["experiment"] == name] for name in names}
        compared = _beside_cross_entropy(groups, keys)
        rows += [[f"{images} per class, {name}", *cells] for name, *cells in compared]
    heading = ["CIFAR-10", *_heading_beside_cross_entropy(keys)]
    return [*rows_of(heading, rows), "", where("finetune")]


def recalibrated(data: str) -> list[str]:
    """What a temperature leaves of each method's calibration."""
    columns = [(part, key) for key in ("ece_20", "nll") for part in ("test", "after_temperature")]
    groups = _groups(data, lambda line: line["experiment"] in NAMES and line["network"] == NETWORK)
    heading = [data, "runs", "ECE %, 20 bins", "after a temperature", "NLL", "after a temperature"]
    return [*rows_of(heading, _columns(groups, columns)), "", where("few_images")]


def selective(data: str) -> list[str]:
    """Selective classification, by three confidences."""
    parts = ("test", "after_temperature", "normalized_logits")
    groups = _groups(data, lambda line: line["experiment"] in NAMES and line["network"] == NETWORK)
    heading = [
        data, "runs", "AURC × 1000", "after a temperature", "normalised logits",
        "AUGRC × 1000", "after a temperature", "normalised logits",
    ]  # fmt: skip
    columns = [(part, key) for key in ("aurc", "augrc") for part in parts]
    return [*rows_of(heading, _columns(groups, columns)), "", where("few_images")]


def grid(data: str, method: str) -> list[str]:
    """The points of a grid, by validation and by test images."""
    groups = _groups(data, lambda line: line["experiment"].startswith(f"{method},") and "=" in line["experiment"])
    rows = []
    for name, lines in groups.items():
        validation = 100 * statistics.mean(line["val_top1_error"] for line in lines)
        cells = [_cell([line["test"][key] for line in lines], key, best=False) for key in ("top1_error", "ece_20")]
        rows.append([name.partition(",")[2].replace(",", ", "), str(len(lines)), f"{validation:.1f}", *cells])
    heading = [f"{data}, {NAMES[method]}", "runs", "validation top-1 error %", "test top-1 error %", "ECE %, 20 bins"]
    return [*rows_of(heading, rows), "", where("few_images")]


def depth(data: str) -> list[str]:
    """Cross-entropy and CS-KD, of each network."""
    keys = ("top1_error", "nll", "ece_20", "recall_at_1")
    rows = []
    for network in dict.fromkeys(line["network"] for line in read("few_images") if line["data"] == data):
        names = {name if network == NETWORK else f"{name},{network}": name for name in ("cross_entropy", "cskd")}
        groups = _groups(data, lambda line, names=names: line["experiment"] in names)
        groups = {names[name]: lines for name, lines in groups.items()}
        rows += [[f"`{network}`, {name}", *row] for name, *row in _columns(groups, [("test", key) for key in keys])]
    return [*rows_of([data, "runs", *(HEADINGS[key][0] for key in keys)], rows), "", where("few_images")]
