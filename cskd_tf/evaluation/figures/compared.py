"""What is compared in a figure: predictions by name, each of one seed or of several."""

import dataclasses
import statistics
from collections.abc import Sequence

import numpy as np

from cskd_tf.errors import UserError
from cskd_tf.evaluation.predictions import Predictions


@dataclasses.dataclass(frozen=True)
class Compared:
    """One of what is compared.

    Attributes:
        name: such as `CSKD(temperature=4, weight=1)`.
        seeds: predictions of each seed, at least one.
    """

    name: str
    seeds: Sequence[Predictions]


def mean_and_deviation(values: Sequence[float], *, digits: int) -> str:
    """The mean of values, with their standard deviation where there are several.

    Example:
        >>> mean_and_deviation([1.0, 2.0], digits=2), mean_and_deviation([1.0], digits=2)
        ('1.50 ± 0.71', '1.00')
    """
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"


def labels_of_all(compared: Sequence[Compared]) -> np.ndarray:
    """The labels int `[N]` that the first seed of each has in common.

    Raises:
        UserError: predictions of different images.
    """
    labels = compared[0].seeds[0].labels
    if others := [each.name for each in compared if not np.array_equal(each.seeds[0].labels, labels)]:
        raise UserError(
            f"Expected predictions of the same images. Received: others than those of {compared[0].name!r} of {others}"
        )
    return labels


def wrong_in_all(compared: Sequence[Compared]) -> np.ndarray:
    """Indices int `[n]` of the images that the first seed of each takes for a class that is not theirs.

    Raises:
        UserError: predictions of different images.
    """
    labels = labels_of_all(compared)
    return np.flatnonzero(np.all([each.seeds[0].logits.argmax(axis=1) != labels for each in compared], axis=0))
