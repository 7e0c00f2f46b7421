"""What CS-KD and PS-KD gained at which sizes: the papers' figures, and those of results/ where they are at hand."""

import dataclasses
import json
import math
import pathlib
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence

import rich.table

from configs import digits, fashion_mnist, fonts, tables
from configs.published import SIZES
from cskd_tf.runs import printing

RESULTS = pathlib.Path(__file__).parents[1] / "results"  # not in an installed package
HEADINGS = {"top1_error": "top-1\nerror %", "ece": "ECE %\n20 bins", "recall_at_1": "\nR@1 %"}
PSKD_HEADINGS = {"top1_error": "top-1\nerror %", "ece": "ECE %\n10 bins"}  # as its public code counts them
OWN = {"top1_error": "top1_error", "ece": "ece_20", "recall_at_1": "recall_at_1"}
UNEVEN = 10  # times as many images in the largest class as in the smallest: the least that Cui et al. (2019) weigh
PUBLISHED_LABELS = {**tables.DATA, "imagenet2012": "ImageNet"}
BASELINE, METHOD = "cross_entropy", "cskd"
LEAST = 50  # training images: the fewest on which methods were compared here, 5 of each class of CIFAR-10
LEAST_SOURCE = "results/finetune.json"
# Configs with results of their own, and their classes.
EMBEDDED = {"digits": (digits, 10), "fonts": (fonts, 50), "fashion_mnist": (fashion_mnist, 10)}


@dataclasses.dataclass(frozen=True)
class Gain:
    """Cross-entropy beside CS-KD, or PS-KD, on one data set.

    Attributes:
        data: name of the data set.
        label: the same, to be read.
        images: per class, in training.
        classes: C; None where the results do not say.
        network: which they are of.
        figures: by metric, per cent: cross-entropy's and the method's.
    """

    data: str
    label: str
    images: float
    classes: int | None
    network: str
    figures: dict[str, tuple[float, float]]

    @property
    def in_error(self) -> float:
        """Percentage points of top-1 error that the method has less."""
        before, after = self.figures["top1_error"]
        return before - after


def published() -> list[Gain]:
    """The CVPR paper's: a ResNet-18 (Tables 1 and 6), on ImageNet a ResNet-50 (Table 5, which has no other metric).

    The fewest images per class come first.
    """
    columns = {metric: _part(*place) for metric, place in {
        "top1_error": ("cvpr1", "resnet18"), "ece": ("cvpr6", "ece"), "recall_at_1": ("cvpr6", "recall_at_1"),
    }.items()}  # fmt: skip
    gains = []
    for number, data in enumerate(tables.DATA):
        figures = {metric: (lines[BASELINE][number], lines[METHOD][number]) for metric, lines in columns.items()}
        gains.append(_gain(data, PUBLISHED_LABELS[data], "resnet18", figures))
    lines = _part("cvpr5", "resnet50")
    data, figures = "imagenet2012", {"top1_error": (lines[BASELINE][0], lines[METHOD][0])}
    gains.append(_gain(data, PUBLISHED_LABELS[data], "resnet50", figures))
    return sorted(gains, key=lambda gain: gain.images)


def published_of_pskd() -> list[Gain]:
    """The PS-KD paper's: on CIFAR-100 a ResNet-18 (Table 1), on ImageNet a ResNet-152 (Table 4)."""
    places = {"cifar100": ("pskd1", "preact_resnet18"), "imagenet2012": ("pskd4", "resnet152")}
    gains = []
    for data, (name, network) in places.items():
        lines, columns = _part(name, network), tables.FORMS[name].columns
        before, after = (dict(zip(columns, lines[method], strict=True)) for method in (BASELINE, "pskd"))
        figures = {metric: (before[metric], after[metric]) for metric in PSKD_HEADINGS}
        gains.append(_gain(data, PUBLISHED_LABELS[data], network, figures))
    return gains


def _gain(data: str, label: str, network: str, figures: dict[str, tuple[float, float]]) -> Gain:
    images, classes = SIZES[data]
    return Gain(data, label, images / classes, classes, tables.LABELS[network], figures)


def _part(name: str, part: str) -> dict[str, list[float]]:
    """The means of one part of a published table, by method."""
    lines = dict(tables.parts(name))[part]
    return {method: [float(figure.partition("±")[0]) for figure in figures] for method, *figures in lines}


def own(path: pathlib.Path = RESULTS / "few_images.json") -> list[Gain]:
    """This repository's, means over the seeds that both were trained with; none where the file is not there."""
    lines = json.loads(path.read_text()) if path.is_file() else []
    gains = []
    for data, network in sorted({(line["data"], line["network"]) for line in lines}):
        of = [line for line in lines if (line["data"], line["network"]) == (data, network)]
        tests = [
            {line["seed"]: line["test"] for line in of if line["experiment"] == experiment}
            for experiment in (BASELINE, METHOD)
        ]
        if seeds := sorted(tests[0].keys() & tests[1].keys()):
            figures = {}
            for metric, key in OWN.items():
                before, after = (100 * statistics.mean(test[seed][key] for seed in seeds) for test in tests)
                figures[metric] = (before, after)
            images = float(data.rpartition("_")[2])  # as configs/few_images.py names them
            gains.append(Gain(data, f"{data}, ours", images, None, network, figures))
    return gains


def embedded(folder: pathlib.Path = RESULTS) -> list[Gain]:
    """Those of the data sets that come along, means over seeds; none where the files are not there."""
    gains = []
    for data, (module, classes) in EMBEDDED.items():
        path, config = folder / f"{data}.json", module.get_config()
        if not path.is_file():
            continue
        before, after = json.loads(path.read_text())  # cross-entropy comes first
        figures = {metric: (100 * before[metric]["mean"], 100 * after[metric]["mean"]) for metric in OWN}
        label, network = f"{data}, ours", config.network.name
        gains.append(Gain(data, label, config.data.split.train_per_class, classes, network, figures))
    return gains


def finetuned(path: pathlib.Path = RESULTS / "finetune.json") -> str:
    """What CS-KD changed in fine-tuning, by images per class, in a sentence; empty where the file is not there."""
    lines = json.loads(path.read_text()) if path.is_file() else []
    changes = {line["images_per_class"]: line["top1_error"] for line in lines if "difference" in line}
    if not (found := [(images, 100 * change["mean"]) for images, change in sorted(changes.items()) if change]):
        return ""
    listed = ", ".join(f"{points:+.1f} points with {images}" for images, points in found)
    return (
        "Of a network that begins with weights of other images: fine-tuned here on CIFAR-10, CS-KD's top-1 error less "
        f"that of cross-entropy was {listed} images per class ({LEAST_SOURCE})."
    )


def distance(gain: Gain, *, images: float, classes: int) -> float:
    """How unlike sizes are: of images per class and, where they are known, of classes, in powers of ten.

    Example: ten times the images, and as many classes.
        >>> distance(Gain("a", "A", 50, 20, "resnet18", {}), images=500, classes=20)
        1.0
    """
    between = math.log10(classes / gain.classes) if gain.classes else 0.0
    return math.hypot(math.log10(images / gain.images), between)


def nearest(gains: Sequence[Gain], *, images: float, classes: int, count: int = 3) -> list[Gain]:
    """The gains on data of the most similar sizes, the nearest first."""
    return sorted(gains, key=lambda gain: distance(gain, images=images, classes=classes))[:count]


def table(gains: Sequence[Gain]) -> rich.table.Table:
    """One row per data set: what cross-entropy has, and what CS-KD."""
    title = "cross-entropy → CS-KD on the data sets nearest in images per class and classes"
    return _table(gains, title=title, metrics=HEADINGS)


def table_of_pskd(gains: Sequence[Gain]) -> rich.table.Table:
    """The same of PS-KD."""
    return _table(gains, title="cross-entropy → PS-KD on those of them that its paper has", metrics=PSKD_HEADINGS)


def _table(gains: Sequence[Gain], *, title: str, metrics: Mapping[str, str]) -> rich.table.Table:
    result = printing.table(title, ["", "images\na class", "\nclasses", *metrics.values()])
    for gain in gains:
        classes = f"{gain.classes:,}" if gain.classes else "-"
        result.add_row(gain.label, f"{gain.images:,.0f}", classes, *_cells(gain, metrics))
    return result


def networks(gains: Sequence[Gain]) -> str:
    """Which network each row of the table is of.

    Example:
        >>> networks([Gain("a", "A", 1, 2, "ResNet-18", {}), Gain("b", "B, ours", 1, 2, "preact_resnet10", {})])
        'ResNet-18: A; preact_resnet10: B, ours.'
    """
    names = dict.fromkeys(gain.network for gain in gains)
    return "; ".join(f"{name}: {', '.join(g.label for g in gains if g.network == name)}" for name in names) + "."


def _cells(gain: Gain, metrics: Iterable[str]) -> Iterator[str]:
    for metric in metrics:
        yield " → ".join(f"{figure:.1f}" for figure in gain.figures[metric]) if metric in gain.figures else "-"


def verdict(gains: Sequence[Gain], *, images: float, uneven: float) -> Iterator[str]:
    """What the published figures say of data of such sizes, line by line; where they say nothing, that.

    Args:
        gains: `published()`.
        images: per class, the median.
        uneven: images of the largest class over those of the smallest.
    """
    fewest, most = gains[0], gains[-1]
    better = sum(gain.in_error > 0 for gain in gains)
    if images < 2:
        yield (
            "CS-KD: nothing is known that speaks for it here. A class of one image has no other for a partner; the "
            f"fewest images per class in its paper are {fewest.images:.0f} ({fewest.label})."
        )
    elif images < fewest.images / 2:
        yield (
            "CS-KD: its paper (Yun et al., 2020) has no data of so few images per class. With the fewest, "
            f"{fewest.images:.0f} ({fewest.label}), it had {fewest.in_error:.1f} points of top-1 error less than "
            "cross-entropy."
        )
    elif images > 2 * most.images:
        yield (
            "CS-KD: its paper (Yun et al., 2020) has no data of so many images per class, and says nothing of its gain "
            f"here. With the most, {most.images:,.0f} ({most.label}), it had {most.in_error:.1f} points of top-1 error "
            "less."
        )
    else:
        yield (
            f"CS-KD: its paper (Yun et al., 2020) has data of such sizes, from {fewest.images:.0f} to "
            f"{most.images:,.0f} images per class. It had the lower top-1 error on {better} of {len(gains)} data sets."
        )
    if uneven >= UNEVEN:
        yield f"Its classes are of similar size; of classes as uneven as these ({uneven:,.0f} to 1) it says nothing."
    yield "Its networks began with random weights, on photographs; of other images and weights it says nothing."
