"""Whether one of two networks is better on the same images, or differs from the other by chance alone."""

from typing import Any

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike

from cskd_tf.errors import UserError
from cskd_tf.evaluation.intervals import LEVEL, RESAMPLES, resampled
from cskd_tf.evaluation.outcomes import Outcomes, metric_intervals
from cskd_tf.evaluation.predictions import Predictions, check_same_classes, check_several_classes
from cskd_tf.evaluation.scores import taken_for_logits


def compare(one: Predictions, other: Predictions, *, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Any]:
    """The metrics of one less those of the other, with paired bootstrap intervals, and McNemar's exact test.

    Each resample draws the same images for both (Efron, 1979): what makes an image hard for either does not count. An
    interval that leaves out 0 says that the difference is more than chance.

    Example:
        Both are right of two images, one of four alone, the other of none alone: four coins on one side.

        >>> right, wrong = [5.0, 0.0], [0.0, 5.0]
        >>> labels, nothing = np.zeros(6, int), np.zeros((6, 1))
        >>> one = Predictions(np.array([right] * 6), labels, nothing)
        >>> other = Predictions(np.array([right] * 2 + [wrong] * 4), labels, nothing)
        >>> compared = compare(one, other, resamples=100)
        >>> round(compared["differences"]["top1_error"], 6), compared["mcnemar"]
        (-0.666667, {'one_alone_right': 4, 'other_alone_right': 0, 'p': 0.125})

    Args:
        one: of a split.
        other: of the same images and classes, in the same order, which their labels alone can tell here: that images
            with the same labels are the same ones is for the caller to know.
        resamples: draws of the bootstrap.
        seed: of the draws.

    Returns:
        `images`, `resamples`, `level`; `differences`, one less other, and their `intervals` under the names of
        `Outcomes.metrics`, None for what is undefined, and without R@k where one has no embeddings; `mcnemar`: how many
        images one of the two alone is right about, and the probability `p` of a split at least as uneven by chance.

    Raises:
        UserError: predictions of different labels or classes, or of a single class.
    """
    check_same_images(one.labels, other.labels)
    check_several_classes(one)
    check_same_classes({"one": one, "other": other})
    with taken_for_logits(one.logits, other.logits):
        first, second = (Outcomes.of(each.logits, each.labels, each.given_embeddings) for each in (one, other))

    def differences(chosen: np.ndarray | slice) -> dict[str, float]:
        minuend, subtrahend = first.metrics(chosen), second.metrics(chosen)
        return {name: minuend[name] - subtrahend[name] for name in minuend if name in subtrahend}

    drawn = resampled(differences, len(one.labels), resamples=resamples, seed=seed)
    of_all = differences(slice(None))
    alone = int((first.correct & ~second.correct).sum()), int((second.correct & ~first.correct).sum())
    return {
        "images": len(one.labels),
        "resamples": resamples,
        "level": LEVEL,
        "differences": {name: None if np.isnan(value) else value for name, value in of_all.items()},
        "intervals": metric_intervals(drawn, of_all, differences=True),
        "mcnemar": {"one_alone_right": alone[0], "other_alone_right": alone[1], "p": mcnemar(*alone)},
    }


def mcnemar(one_alone: int, other_alone: int) -> float:
    """The two-sided p of McNemar's exact test (1947): of so many fair coins, a split at least as uneven.

    Example:
        >>> mcnemar(4, 0), mcnemar(0, 0)
        (0.125, 1.0)
    """
    coins = one_alone + other_alone
    return float(scipy.stats.binomtest(one_alone, coins).pvalue) if coins else 1.0


def check_same_images(labels: ArrayLike, others: ArrayLike) -> None:
    """Raises UserError where labels say that predictions are not of the same images in the same order."""
    one, other = np.asarray(labels), np.asarray(others)
    if not np.array_equal(one, other):
        differ = "" if one.shape != other.shape else f", of which {(one != other).sum()} labels differ"
        raise UserError(
            f"Expected predictions of the same images. Received: {len(one)} and {len(other)} images{differ}"
        )
