"""What there is in the splits of a data set: a table, remarks, and what cannot be decoded."""

from collections.abc import Callable, Sequence

import numpy as np
import rich.table

from cskd_tf.data.sources.base import EncodedSource, Source
from cskd_tf.data.sources.caching import GIB
from cskd_tf.data.sources.inspection import Inspection, duplicates
from cskd_tf.evaluation.neighbours import alone_in_class
from cskd_tf.runs import printing

SHOWN = 5  # examples of each finding
FEW = 10  # images of a class


def unreadable(splits: dict[str, Source], inspections: dict[str, Inspection]) -> list[str]:
    """One line per split that has images which cannot be decoded."""
    lines = []
    for split, inspection in inspections.items():
        if reasons := inspection.unreadable:
            shown = [f"{splits[split].locate(index)} ({reason})" for index, reason in list(reasons.items())[:SHOWN]]
            lines.append(f"{len(reasons)} images of {split} cannot be decoded: {'; '.join(shown)}")
    return lines


def table(name: str, splits: dict[str, Source], inspections: dict[str, Inspection]) -> rich.table.Table:
    """One row per figure, one column per split.

    Args:
        name: of the data set.
        splits: its splits.
        inspections: what was found in each of them.
    """
    result = printing.table(f"{name}: what is there", ["", *splits])
    rows = {
        "images": lambda images, seen: f"{len(images.labels):,}",
        "classes": lambda images, seen: f"{len(images.class_names):,}",
        "groups of classes": lambda images, seen: f"{len(set(images.class_groups or []))}",
        "images per class: fewest": lambda images, seen: f"{seen.counts.min():,}",
        "median": lambda images, seen: f"{np.median(seen.counts):,.0f}",
        "most": lambda images, seen: f"{seen.counts.max():,}",
        "most over fewest": lambda images, seen: _ratio(seen.counts),
        f"classes below {FEW} images": lambda images, seen: _share(seen.counts < FEW),
        "effective number of classes": lambda images, seen: f"{effective_number(seen.counts):,.1f}",
        "classes of a single image": lambda images, seen: f"{(seen.counts == 1).sum():,}",
        "unreadable images": lambda images, seen: f"{len(seen.unreadable):,}",
        "also in an earlier split": lambda images, seen: f"{len(_repeated(inspections, seen)):,}",
        "GiB encoded": lambda images, seen: _encoded_size(images),
        "GiB decoded": lambda images, seen: f"{seen.extents.prod(axis=1).sum() * images.image_shape[2] / GIB:.2f}",
        "smallest, pixels": lambda images, seen: _extent(seen.extents, np.argmin),
        "largest": lambda images, seen: _extent(seen.extents, np.argmax),
    }
    if not splits["train"].class_groups:
        del rows["groups of classes"]
    for heading, cell in rows.items():
        result.add_row(heading, *(cell(splits[split], inspection) for split, inspection in inspections.items()))
    return result


def effective_number(counts: np.ndarray) -> float:
    """How many classes of one size would be as mixed: e to the entropy of the classes' shares (Hill, 1973).

    Example, of 3 images and 1: e to (.75 ln (4 / 3) + .25 ln 4).
        >>> round(effective_number(np.array([5, 5, 5])), 6), round(effective_number(np.array([3, 1])), 6)
        (3.0, 1.754765)

    Args:
        counts: `[C]`, images of each class, not all of them 0.
    """
    shares = counts[counts > 0] / counts.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _ratio(counts: np.ndarray) -> str:
    return f"{counts.max() / counts.min():,.1f}" if counts.min() else "undefined"


def _share(which: np.ndarray) -> str:
    return f"{which.sum():,} ({100 * which.mean():.0f} %)"


def _encoded_size(images: Source) -> str:
    return f"{images.sizes.sum() / GIB:.2f}" if isinstance(images, EncodedSource) else ""


def _repeated(inspections: dict[str, Inspection], inspection: Inspection) -> list[tuple[str, int, int]]:
    """Images of a split that are in one before it too, each once: the first such split, index there, index here."""
    repeated: dict[int, tuple[str, int, int]] = {}
    for split, earlier in inspections.items():
        if earlier is inspection:
            break
        for there, here in duplicates(earlier, inspection):
            repeated.setdefault(here, (split, there, here))
    return list(repeated.values())


def _extent(extents: np.ndarray, choose: Callable[[np.ndarray], int]) -> str:
    """Height and width of the image of least or most area."""
    return " x ".join(map(str, extents[choose(extents.prod(axis=1))])) if len(extents) else ""


def remarks(splits: dict[str, Source], inspections: dict[str, Inspection]) -> list[str]:
    """One line per finding that does not keep a run from training; classes of a single image are logged already."""
    lines = []
    for split, inspection in inspections.items():
        images = splits[split]
        if split != "train" and (alone := alone_in_class(images.labels)):
            undefined = ", and is undefined" if alone == len(images.labels) else ""
            lines.append(
                f"{split}: R@1 leaves out {alone:,} of {len(images.labels):,} images, alone in their class{undefined}"
            )
        lines += [f"{split}: {count:,} images are {remark}" for remark, count in inspection.remarks.most_common()]
        if repeated := _repeated(inspections, inspection):
            pairs = [(splits[earlier].locate(there), images.locate(here)) for earlier, there, here in repeated]
            lines.append(
                f"{split}: {len(repeated)} images are in an earlier split as well, to the byte: {_some(pairs)}"
            )
        lines += _copies(images, inspection, split=split)
    return lines


def _copies(images: Source, inspection: Inspection, *, split: str) -> list[str]:
    """What is in one split more than once, and what has other labels there."""
    alike = [(same[0], other) for same in inspection.digests.values() for other in same[1:]]
    torn = [(one, other) for one, other in alike if images.labels[one] != images.labels[other]]
    name = lambda index: f"{images.locate(index)} ({images.class_names[images.labels[index]]})"  # noqa: E731
    found = {"are copies of others in it, to the byte": alike, "have a copy under another label": torn}
    return [
        f"{split}: {len(pairs)} images {what}: {_some([(name(one), name(other)) for one, other in pairs])}"
        for what, pairs in found.items()
        if pairs
    ]


def _some(pairs: Sequence[tuple[str, str]]) -> str:
    """The first pairs of names, and how many more there are."""
    more = f" and {len(pairs) - SHOWN:,} more" if len(pairs) > SHOWN else ""
    return ", ".join(f"{one} and {other}" for one, other in pairs[:SHOWN]) + more
