"""Calibration: whether of the images that a network is 80 % sure of, 80 % are right."""

import numpy as np
from numpy.typing import ArrayLike

from cskd_tf.errors import UserError
from cskd_tf.evaluation.scores import check_scores_of_kind, confidence_and_correct, mean_over_ties, softmax

DEFAULT_ECE_BINS = 20  # as in the CS-KD paper


def confidence_bins(
    scores: ArrayLike, labels: ArrayLike, *, bins: int = DEFAULT_ECE_BINS, from_logits: bool = True
) -> dict[str, np.ndarray]:
    """What a reliability diagram shows: images, mean confidence and accuracy of each equal-width confidence bin.

    Bins are `(lo, hi]`; a confidence of exactly 0 falls into the first.

    Example:
        Two images, with confidence .9 (right) and .95 (wrong), are both in the second of two bins.

        >>> shown = confidence_bins([[0.9, 0.1], [0.95, 0.05]], [0, 1], bins=2, from_logits=False)
        >>> {name: values.round(6).tolist() for name, values in shown.items()}
        {'count': [0, 2], 'confidence': [0.0, 0.925], 'accuracy': [0.0, 0.5]}

    Args:
        scores: `[N, C]`, logits, or probabilities with `from_logits=False`.
        labels: int `[N]`.
        bins: at least 1.
        from_logits: what the scores are.

    Returns:
        `count` (images), `confidence` and `accuracy` (fractions), each `[bins]`, 0 where a bin is empty.

    Raises:
        UserError: shapes, labels, bins or the kind of scores do not fit.
    """
    scores, labels = check_scores_of_kind(scores, labels, from_logits=from_logits)
    return _bins(*confidence_and_correct(scores, labels, from_logits=from_logits), bins=bins)


def _bins(confidence: np.ndarray, correct: np.ndarray, *, bins: int) -> dict[str, np.ndarray]:
    index = bin_of(confidence, bins=bins)
    count = np.bincount(index, minlength=bins)
    divisor = np.maximum(count, 1)
    return {
        "count": count,
        "confidence": np.bincount(index, weights=confidence, minlength=bins) / divisor,
        "accuracy": np.bincount(index, weights=correct, minlength=bins) / divisor,
    }


def bin_of(confidence: np.ndarray, *, bins: int) -> np.ndarray:
    """The number of the bin that each confidence falls into, `[N]`.

    Edges are compared in float32, in which .6 is the same number however the confidence was computed: 12/20 ends the
    twelfth of 20 bins for float32 and float64 alike.

    Example:
        >>> bin_of(np.array([0.0, 0.5, 0.6, 1.0]), bins=2).tolist()
        [0, 0, 1, 1]

    Raises:
        UserError: fewer than one bin.
    """
    check_bins(bins)
    edges = np.linspace(0, 1, bins + 1).astype("float32")
    # Clipped: rounding may put a confidence of 1 just above it, and 0 lies in no bin `(lo, hi]`.
    return np.clip(np.searchsorted(edges, confidence.astype("float32"), side="left") - 1, 0, bins - 1)


def check_bins(bins: int) -> None:
    """Raises UserError where there are no bins."""
    if isinstance(bins, bool) or not isinstance(bins, int | np.integer) or bins < 1:
        raise UserError(f"Expected a whole number of bins, at least one. Received: bins={bins}")


def expected_calibration_error(
    scores: ArrayLike, labels: ArrayLike, *, bins: int = DEFAULT_ECE_BINS, from_logits: bool = True
) -> float:
    """ECE, `sum_m n_m / N * |accuracy_m - confidence_m|` over confidence bins (Naeini et al., 2015).

    The CS-KD paper uses 20 bins, PS-KD's public code 10 and most libraries 15: report the number of bins with the ECE.

    Example:
        Confidences .9 (right) and .95 (wrong) are both in the second of two bins: `|.5 - .925|`.

        >>> round(expected_calibration_error([[0.9, 0.1], [0.95, 0.05]], [0, 1], bins=2, from_logits=False), 6)
        0.425

    Arguments and errors are those of `confidence_bins`.

    Returns:
        A fraction in [0, 1].
    """
    scores, labels = check_scores_of_kind(scores, labels, from_logits=from_logits)
    return calibration_gap(*confidence_and_correct(scores, labels, from_logits=from_logits), bins=bins)


def calibration_gap(confidence: np.ndarray, correct: np.ndarray, *, bins: int) -> float:
    """The ECE, where confidences and whether they are right, both `[N]`, are at hand: see `confidence_and_correct`.

    Example:
        >>> round(calibration_gap(np.array([0.9, 0.95]), np.array([True, False]), bins=2), 6)
        0.425

    Raises:
        UserError: fewer than one bin.
    """
    parts = _bins(confidence, correct, bins=bins)
    gaps = np.abs(parts["accuracy"] - parts["confidence"])
    return float((parts["count"] * gaps).sum() / parts["count"].sum())


def maximum_calibration_error(
    scores: ArrayLike, labels: ArrayLike, *, bins: int = DEFAULT_ECE_BINS, from_logits: bool = True
) -> float:
    """MCE, the largest `|accuracy_m - confidence_m|` of a confidence bin with images in it (Naeini et al., 2015).

    Example:
        Confidence .4 (right) is alone in the first of two bins: `|1 - .4|`; in the second are `|.5 - .925|`.

        >>> scores = [[0.4, 0.3, 0.3], [0.9, 0.1, 0.0], [0.95, 0.05, 0.0]]
        >>> round(maximum_calibration_error(scores, [0, 0, 1], bins=2, from_logits=False), 6)
        0.6

    Arguments and errors are those of `confidence_bins`.

    Returns:
        A fraction in [0, 1].
    """
    parts = confidence_bins(scores, labels, bins=bins, from_logits=from_logits)
    return float(np.abs(parts["accuracy"] - parts["confidence"])[parts["count"] > 0].max())


def adaptive_calibration_error(
    scores: ArrayLike, labels: ArrayLike, *, bins: int = DEFAULT_ECE_BINS, from_logits: bool = True
) -> float:
    """The ECE in bins of equally many images, instead of equally wide ones (Nguyen and O'Connor, 2015).

    The images are sorted by confidence; where the bins do not divide them, the first ones have one more. Images of
    equal confidence carry their mean accuracy, so that their order does not matter. With more bins than images each
    image is a bin.

    Example:
        Three images, the bins are (.4 right, .9 right) and (.95 wrong): `2/3 |1 - .65| + 1/3 |0 - .95|`.

        >>> scores = [[0.4, 0.3, 0.3], [0.9, 0.1, 0.0], [0.95, 0.05, 0.0]]
        >>> round(adaptive_calibration_error(scores, [0, 0, 1], bins=2, from_logits=False), 6)
        0.55

    Arguments and errors are those of `confidence_bins`.

    Returns:
        A fraction in [0, 1].
    """
    scores, labels = check_scores_of_kind(scores, labels, from_logits=from_logits)
    return adaptive_gap(*confidence_and_correct(scores, labels, from_logits=from_logits), bins=bins)


def adaptive_gap(confidence: np.ndarray, correct: np.ndarray, *, bins: int) -> float:
    """The adaptive ECE, where confidences and whether they are right, both `[N]`, are at hand.

    Example:
        >>> round(adaptive_gap(np.array([0.4, 0.9, 0.95]), np.array([True, True, False]), bins=2), 6)
        0.55

    Raises:
        UserError: fewer than one bin.
    """
    check_bins(bins)
    gaps = mean_over_ties(confidence, correct) - np.sort(confidence)
    return float(sum(abs(part.sum()) for part in np.array_split(gaps, bins)) / len(gaps))


def classwise_calibration_error(
    scores: ArrayLike, labels: ArrayLike, *, bins: int = DEFAULT_ECE_BINS, from_logits: bool = True
) -> float:
    """The mean over classes of the ECE of each class' probability, right where it is the label (Kull et al., 2019).

    It sees what the ECE, of the largest probability alone, does not.

    Example:
        Of class 0, .9 (it is) and .6 (it is not) are in one bin: `|.5 - .75|`. Of class 1 it is as much.

        >>> round(classwise_calibration_error([[0.9, 0.1], [0.6, 0.4]], [0, 1], bins=1, from_logits=False), 6)
        0.25

    Arguments and errors are those of `confidence_bins`.

    Returns:
        A fraction in [0, 1].
    """
    scores, labels = check_scores_of_kind(scores, labels, from_logits=from_logits)
    probabilities = softmax(scores) if from_logits else scores
    gaps = [calibration_gap(column, labels == number, bins=bins) for number, column in enumerate(probabilities.T)]
    return float(np.mean(gaps))
