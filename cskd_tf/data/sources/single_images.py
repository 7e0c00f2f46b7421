"""Classes with a single image, of which nothing else is an example."""

import weakref
from collections.abc import Mapping

import numpy as np
from absl import logging

from cskd_tf.data.sources.base import Source

SHOWN = 10  # names
_NAMED: weakref.WeakSet[Source] = weakref.WeakSet()


def name_single_images(source: Source, *, others: Mapping[str, Source] | None = None) -> None:
    """Warns of the classes of training images that have a single one, by count and name; of each source once.

    Args:
        source: the training images.
        others: the other splits, by name, in which such classes may have none.
    """
    classes = np.flatnonzero(np.bincount(source.labels, minlength=len(source.class_names)) == 1)
    if not len(classes) or source in _NAMED:
        return
    _NAMED.add(source)
    absent = {split: len(np.setdiff1d(classes, images.labels)) for split, images in (others or {}).items()}
    elsewhere = "".join(f"; absent from {split}: {count}" for split, count in absent.items() if count)
    names = ", ".join(source.class_names[number] for number in classes[:SHOWN])
    logging.warning(
        "Classes of a single training image, its own partner where a method pairs images: %d of %d (%s)%s",
        len(classes), len(source.class_names), names + (", ..." if len(classes) > SHOWN else ""), elsewhere,
    )  # fmt: skip
