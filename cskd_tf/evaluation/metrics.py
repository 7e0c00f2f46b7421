"""Metrics of a whole split, from its logits and embeddings, as fractions."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from cskd_tf.errors import UserError
from cskd_tf.evaluation.calibration import DEFAULT_ECE_BINS, calibration_gap
from cskd_tf.evaluation.neighbours import recall_at_k
from cskd_tf.evaluation.scores import check_scores, check_scores_of_kind, confidence_and_correct, log_probabilities

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
    scores, labels = check_scores(scores, labels)
    if k < 1:
        raise UserError(f"Expected k of at least 1. Received: k={k}")
    label_score = scores[np.arange(len(labels)), labels][:, None]
    is_lower_class = np.arange(scores.shape[1])[None, :] < labels[:, None]
    rank = (scores > label_score).sum(axis=1) + ((scores == label_score) & is_lower_class).sum(axis=1)
    return float((rank >= k).mean())


def group_error(scores: ArrayLike, labels: ArrayLike, *, groups: ArrayLike) -> float:
    """Share of images whose predicted class lies in another group than their own: a dog taken for a bird, say.

    CS-KD paper, section 3.3, hierarchical image classification.

    Example:
        The first image, of class 0, is taken for class 1 of the same group; the second, a bird, is taken for a dog.

        >>> group_error([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2]], [0, 2], groups=["dog", "dog", "bird"])
        0.5

    Args:
        scores: logits or probabilities `[N, C]`.
        labels: int `[N]`.
        groups: the group of each class, `[C]`, numbers or names.

    Returns:
        A fraction in [0, 1].

    Raises:
        UserError: shapes or labels that do not fit.
    """
    scores, labels = check_scores(scores, labels)
    groups = np.asarray(groups)
    if groups.shape != scores.shape[1:]:
        raise UserError(f"Expected a group for each of {scores.shape[1]} classes. Received: shape {groups.shape}")
    return float(np.mean(groups[scores.argmax(axis=1)] != groups[labels]))


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


def area_under_risk_coverage(scores: ArrayLike, labels: ArrayLike, *, from_logits: bool = True) -> float:
    """AURC: mean over all coverages of the error rate among the most confident images (Geifman et al., 2019).

    Images of equal confidence count as in a random order: each carries the mean error of its tied group. Papers print
    the value times 1000.

    Example:
        With confidences .9 (right), .8 (wrong) and .7 (right) the risks are 0, 1/2 and 1/3.

        >>> scores = [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]]
        >>> round(area_under_risk_coverage(scores, [0, 1, 0], from_logits=False), 6)
        0.277778

    Args:
        scores: `[N, C]`, logits, or probabilities with `from_logits=False`.
        labels: int `[N]`.
        from_logits: what the scores are.

    Returns:
        A fraction in [0, 1].

    Raises:
        UserError: shapes, labels or the kind of scores do not fit.
    """
    scores, labels = check_scores_of_kind(scores, labels, from_logits=from_logits)
    return _area_under_risk_coverage(*confidence_and_correct(scores, labels, from_logits=from_logits))


def _area_under_risk_coverage(confidence: np.ndarray, correct: np.ndarray) -> float:
    _, tied_group = np.unique(-confidence, return_inverse=True)
    error_in_group = np.bincount(tied_group, weights=~correct) / np.bincount(tied_group)
    errors = np.cumsum(error_in_group[np.sort(tied_group)])
    return float((errors / np.arange(1, len(errors) + 1)).mean())


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
        UserError: no network at all, or logits of different shapes.
    """
    all_logits = [np.asarray(logits, "float64") for logits in members]
    if not all_logits or len({logits.shape for logits in all_logits}) > 1:
        raise UserError(f"Expected logits of one shape. Received: {[logits.shape for logits in all_logits]}")
    probabilities = np.mean([np.exp(log_probabilities(logits)) for logits in all_logits], axis=0)
    return np.log(probabilities + np.finfo("float64").tiny)


def summarize(
    logits: ArrayLike, labels: ArrayLike, embeddings: ArrayLike | None, *, ece_bins: int = DEFAULT_ECE_BINS
) -> dict[str, float]:
    """All metrics of a split, under the names that logs, JSON and TensorBoard use.

    Logits that look like probabilities cause one warning.

    Example:
        >>> scores = summarize([[math.log(3), 0.0], [0.0, math.log(3)]], [0, 0], [[1.0], [2.0]])
        >>> {name: round(value, 6) for name, value in scores.items()}
        {'top1_error': 0.5, 'top5_error': 0.0, 'nll': 0.836988, 'ece': 0.25, 'recall_at_1': 1.0, 'aurc': 0.5}

    Args:
        logits: `[N, C]`.
        labels: int `[N]`.
        embeddings: `[N, D]`; None, as for an ensemble: the result has no `recall_at_1`.
        ece_bins: confidence bins of the ECE, at least 1.

    Returns:
        Fractions, and nats for `nll`. `recall_at_1` is NaN where every image is alone in its class.

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
        results["recall_at_1"] = recall_at_k(embeddings, labels, k=1) if len(labels) > 1 else float("nan")
    return {**results, "aurc": _area_under_risk_coverage(confidence, correct)}
