"""Metrics of a whole split, from its logits and embeddings, as fractions."""

import math
from collections.abc import Iterable

import numpy as np
import scipy.special
from numpy.typing import ArrayLike

from cskd_tf.errors import UserError
from cskd_tf.evaluation.calibration import DEFAULT_ECE_BINS, calibration_gap
from cskd_tf.evaluation.neighbours import recall_at_k
from cskd_tf.evaluation.scores import (
    check_logits,
    check_scores,
    check_scores_of_kind,
    confidence_and_correct,
    log_probabilities,
    softmax,
)
from cskd_tf.evaluation.selective import risks

# The names in the result of `summarize`, and whether the smallest or the largest value is the best one.
DIRECTIONS = {"top1_error": "min", "top5_error": "min", "nll": "min", "ece": "min", "recall_at_1": "max", "aurc": "min"}


def top_k_error(scores: ArrayLike, labels: ArrayLike, *, k: int = 1) -> float:
    """Share of images whose label is not among the k largest scores; among equal scores the lower class comes first.

    Example:
        The first image's label is its second guess, the second image's label is its first.

        >>> scores, labels = [[0.1, 0.7, 0.2], [0.5, 0.3, 0.2]], [2, 0]
        >>> top_k_error(scores, labels), top_k_error(scores, labels, k=2)
        (0.5, 0.0)

    Args:
        scores: logits or probabilities `[N, C]`.
        labels: int `[N]`.
        k: at least 1; with k of C or more the error is 0.

    Returns:
        A fraction in [0, 1].

    Raises:
        UserError: shapes, labels or k that do not fit.
    """
    if not isinstance(k, int | np.integer) or k < 1:
        raise UserError(f"Expected k of at least 1. Received: k={k!r}")
    return float((label_ranks(*check_scores(scores, labels)) >= k).mean())


def label_ranks(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many classes come before the label of each image, `[N]`; among equal scores the lower class comes first.

    Example:
        >>> label_ranks(np.array([[0.1, 0.7, 0.2], [0.5, 0.3, 0.5]]), np.array([2, 2])).tolist()
        [1, 1]
    """
    label_score = scores[np.arange(len(labels)), labels][:, None]
    is_lower_class = np.arange(scores.shape[1])[None, :] < labels[:, None]
    return (scores > label_score).sum(axis=1) + ((scores == label_score) & is_lower_class).sum(axis=1)


def negative_log_likelihood(scores: ArrayLike, labels: ArrayLike, *, from_logits: bool = True) -> float:
    """Mean cross-entropy in nats.

    Example:
        Logits (ln 3, 0) are probabilities (.75, .25), and `-ln .75` is the value for class 0.

        >>> round(negative_log_likelihood([[math.log(3), 0.0]], [0]), 6)
        0.287682

    Args:
        scores: `[N, C]`, logits, or probabilities with `from_logits=False`.
        labels: int `[N]`.
        from_logits: what the scores are; logits that look like probabilities are computed with, after a warning.

    Returns:
        Nats per image, at least 0.

    Raises:
        UserError: shapes, labels or the kind of scores do not fit.
    """
    scores, labels = check_scores_of_kind(scores, labels, from_logits=from_logits)
    return _negative_log_likelihood(scores, labels, from_logits=from_logits)


def _negative_log_likelihood(scores: np.ndarray, labels: np.ndarray, *, from_logits: bool) -> float:
    rows = np.arange(len(labels))
    if from_logits:
        return float(-log_probabilities(scores)[rows, labels].mean())
    with np.errstate(divide="ignore"):
        return float(-np.log(scores[rows, labels]).mean())


def brier_score(scores: ArrayLike, labels: ArrayLike, *, from_logits: bool = True) -> float:
    """Mean over images of the sum over classes of `(probability - 1 if it is the label, else 0)^2` (Brier, 1950).

    Example:
        `(.75 - 1)^2 + .25^2` and `.75^2 + (.25 - 1)^2`.

        >>> brier_score([[0.75, 0.25], [0.75, 0.25]], [0, 1], from_logits=False)
        0.625

    Arguments and errors are those of `negative_log_likelihood`.

    Returns:
        From 0 to 2: of two classes twice of what is common for a single probability.
    """
    scores, labels = check_scores_of_kind(scores, labels, from_logits=from_logits)
    return float(brier_scores(softmax(scores) if from_logits else scores, labels).mean())


def brier_scores(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The Brier score of each image, `[N]`.

    Example:
        >>> brier_scores(np.array([[0.75, 0.25]]), np.array([1])).tolist()
        [1.125]
    """
    of_label = probabilities[np.arange(len(labels)), labels]
    return np.square(probabilities).sum(axis=1) - np.square(of_label) + np.square(1 - of_label)


def ensemble(members: Iterable[ArrayLike]) -> np.ndarray:
    """Log-probabilities of the mean of several networks' probabilities; they can be used as logits.

    Example:
        The probabilities (.75, .25) and (.25, .75) of one image average to (.5, .5).

        >>> np.exp(ensemble([[[math.log(3), 0.0]], [[0.0, math.log(3)]]])).round(6).tolist()
        [[0.5, 0.5]]

    Args:
        members: logits `[N, C]` of each network, for the same images.

    Returns:
        `[N, C]` float64.

    Raises:
        UserError: no network at all, logits of different shapes, or that are not finite.
    """
    all_logits = [check_logits(logits) for logits in members]
    if not all_logits or len({logits.shape for logits in all_logits}) > 1:
        raise UserError(f"Expected logits of one shape. Received: {[logits.shape for logits in all_logits]}")
    # Not of probabilities: those that are 0 in float64 would all be ties.
    together = scipy.special.logsumexp([log_probabilities(logits) for logits in all_logits], axis=0)
    return together - math.log(len(all_logits))


def summarize(
    logits: ArrayLike, labels: ArrayLike, embeddings: ArrayLike | None, *, ece_bins: int = DEFAULT_ECE_BINS
) -> dict[str, float]:
    """All metrics of a split, under the names that logs, JSON and TensorBoard use.

    Logits that look like probabilities cause one warning.

    Example:
        >>> logits = [[math.log(3), 0.0], [0.0, math.log(3)], [0.0, math.log(3)]]
        >>> scores = summarize(logits, [0, 0, 1], [[1.0], [2.0], [9.0]])
        >>> [(name, round(value, 6)) for name, value in scores.items()][:4]
        [('top1_error', 0.333333), ('top5_error', 0.0), ('nll', 0.653886), ('ece', 0.083333)]
        >>> scores["recall_at_1"], round(scores["aurc"], 6)
        (1.0, 0.333333)

    Args:
        logits: `[N, C]`.
        labels: int `[N]`.
        embeddings: `[N, D]`; None, as for an ensemble: the result has no `recall_at_1`.
        ece_bins: confidence bins of the ECE, at least 1.

    Returns:
        Fractions, and nats for `nll`. `recall_at_1` is NaN where every image is alone in its class, and where all are
        of one, as every neighbour is then.

    Raises:
        UserError: shapes, labels or bins that do not fit.
    """
    logits, labels = check_scores_of_kind(logits, labels, from_logits=True)
    confidence, correct = confidence_and_correct(logits, labels, from_logits=True)
    results = {
        "top1_error": top_k_error(logits, labels, k=1),
        "top5_error": top_k_error(logits, labels, k=5),
        "nll": _negative_log_likelihood(logits, labels, from_logits=True),
        "ece": calibration_gap(confidence, correct, bins=ece_bins),
    }
    if embeddings is not None:
        several = len(np.unique(labels)) > 1
        results["recall_at_1"] = recall_at_k(embeddings, labels, k=1) if several else float("nan")
    return {**results, "aurc": float(risks(confidence, correct).mean())}
