"""Scores and labels, as all metrics take them: checked, and as probabilities.

Everything is computed in float64: in float32 many confidences would round to exactly 1, and lose their order.
"""

import contextlib
import warnings
from collections.abc import Iterator

import numpy as np
import scipy.special
from numpy.typing import ArrayLike

from cskd_tf.errors import UserError

TAKEN_FOR_LOGITS = "The scores look like probabilities, and were taken for logits"


LARGEST = float(np.finfo(np.float32).max)  # whose differences, squares and sums float64 holds


def check_logits(logits: ArrayLike) -> np.ndarray:
    """Scores of images without labels as float64.

    Args:
        logits: `[N, C]`.

    Raises:
        UserError: another shape, or scores that are not finite in float32.
    """
    values = np.asarray(logits, np.float64)
    if values.ndim != 2:
        raise UserError(f"Expected logits [N, classes]. Received: shape {values.shape}")
    _check_finite(values)
    return values


def _check_finite(scores: np.ndarray) -> None:
    if not np.isfinite(scores).all():
        raise UserError("Expected finite scores. Received: NaN or infinity")
    if scores.size and np.abs(scores).max() > LARGEST:
        raise UserError(f"Expected scores that float32 holds. Received: {np.abs(scores).max():.3g}")


def check_scores(scores: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The scores as float64 and the labels as int64; refuses what does not fit together.

    Args:
        scores: logits or probabilities `[N, C]`.
        labels: int `[N]`.

    Raises:
        UserError: shapes or labels that do not fit, no image at all, scores that are not finite in float32.
    """
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels)
    if labels.shape[:1] == scores.shape[:1] == (0,):
        raise UserError(f"Expected at least one image. Received: shapes {scores.shape} and {labels.shape}")
    if scores.ndim != 2 or labels.shape != scores.shape[:1]:
        raise UserError(
            f"Expected scores [N, classes] and labels [N]. Received: shapes {scores.shape} and {labels.shape}"
        )
    if labels.dtype.kind not in "bui":
        raise UserError(f"Expected integer labels from 0 to {scores.shape[1] - 1}. Received: {labels.dtype}")
    if labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise UserError(
            f"Expected integer labels from 0 to {scores.shape[1] - 1}. "
            f"Received: {labels.dtype} from {labels.min()} to {labels.max()}"
        )
    _check_finite(scores)
    return scores, labels.astype(np.int64)


def check_scores_of_kind(scores: ArrayLike, labels: ArrayLike, *, from_logits: bool) -> tuple[np.ndarray, np.ndarray]:
    """Refuses probabilities that are none, and warns of logits that look like probabilities: they may be either.

    The warning names the line that called the caller of this function.

    Args:
        scores: `[N, C]`.
        labels: int `[N]`.
        from_logits: what the scores are.

    Returns:
        Scores and labels as of `check_scores`.

    Raises:
        UserError: what `check_scores` refuses, or probabilities that do not sum to 1.
    """
    tolerance = sum_tolerance(np.asarray(scores).dtype.itemsize)
    scores, labels = check_scores(scores, labels)
    if not from_logits and not _sum_to_one(scores, tolerance=tolerance):
        raise UserError("Expected probabilities that sum to 1. Received: other rows; pass from_logits=True for logits")
    if from_logits and _look_like_probabilities(scores):
        warnings.warn(f"{TAKEN_FOR_LOGITS}; from_logits=False is for probabilities", UserWarning, stacklevel=3)
    return scores, labels


def sum_tolerance(size: int) -> float:
    """By how much the sum of an image's probabilities may differ from 1 where each takes so many bytes.

    Example:
        >>> sum_tolerance(2), sum_tolerance(4)
        (0.02, 0.001)
    """
    return 2e-2 if size <= 2 else 1e-3  # bfloat16 rounds each by up to .4 %


def _sum_to_one(scores: np.ndarray, *, tolerance: float) -> bool:
    return bool((scores >= 0).all() and np.allclose(scores.sum(axis=1), 1, rtol=0, atol=tolerance))


def _look_like_probabilities(scores: np.ndarray) -> bool:
    """A collapsed network returns the same logits for every image, such as .5 and .5: these may be logits as well.

    What was rounded to two bytes may have been cast to float32 since.
    """
    return _sum_to_one(scores, tolerance=sum_tolerance(2)) and bool((scores != scores[0]).any())


@contextlib.contextmanager
def taken_for_logits(*everything: np.ndarray) -> Iterator[None]:
    """Warns, once, where scores `[N, C]` that are taken for logits look like probabilities, whatever is called inside.

    The warning names the line that called the caller of this function.
    """
    if any(scores.ndim == 2 and len(scores) and _look_like_probabilities(scores) for scores in everything):
        advice = "logits are expected, or np.log of the probabilities"
        warnings.warn(f"{TAKEN_FOR_LOGITS}; {advice}", UserWarning, stacklevel=4)  # over contextlib's own frame
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=TAKEN_FOR_LOGITS, category=UserWarning)
        yield


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    """Logarithms of the softmax of each row of `[N, C]`; no exponent overflows.

    Example:
        >>> log_probabilities(np.array([[math.log(3), 0.0]])).round(6).tolist()
        [[-0.287682, -1.386294]]
    """
    return scipy.special.log_softmax(logits, axis=1)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of each row of `[N, C]`.

    Example:
        >>> softmax(np.array([[math.log(3), 0.0]])).round(6).tolist()
        [[0.75, 0.25]]
    """
    # Not as exp of log_probabilities: ten equal logits have to give exactly 1/10, the upper edge of a bin.
    return scipy.special.softmax(logits, axis=1)


def confidence_and_correct(
    scores: np.ndarray, labels: np.ndarray, *, from_logits: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Of each image the largest probability, and whether its class is the image's, both `[N]`.

    Example:
        >>> scores = np.array([[0.9, 0.1], [0.95, 0.05]])
        >>> [values.tolist() for values in confidence_and_correct(scores, np.array([0, 1]), from_logits=False)]
        [[0.9, 0.95], [True, False]]
    """
    probabilities = softmax(scores) if from_logits else scores
    # Of the scores themselves: probabilities may be equal where logits are not.
    return probabilities.max(axis=1), scores.argmax(axis=1) == labels


def mean_over_ties(keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The values in the order of their keys, each as the mean of those with an equal key: of all orders, the mean.

    Example:
        >>> mean_over_ties(np.array([0.8, 0.7, 0.8]), np.array([1.0, 5.0, 0.0])).tolist()
        [5.0, 0.5, 0.5]

    Args:
        keys: `[N]`.
        values: `[N]`.
    """
    _, group, counts = np.unique(keys, return_inverse=True, return_counts=True)
    return np.repeat(np.bincount(group, weights=values) / counts, counts)
