"""Metrics of a whole split, from its logits and embeddings, as fractions.

Everything is computed in float64: in float32 many confidences round to exactly 1, and the order among them is lost.
"""

import warnings

import numpy as np

from cskd_tf.errors import UserError
from cskd_tf.evaluation.neighbours import alone_in_class, recall_at_k

__all__ = [
    "DEFAULT_ECE_BINS",
    "DIRECTIONS",
    "alone_in_class",
    "area_under_risk_coverage",
    "confidence_bins",
    "ensemble",
    "expected_calibration_error",
    "group_error",
    "negative_log_likelihood",
    "recall_at_k",
    "summarize",
    "top_k_error",
]
DEFAULT_ECE_BINS = 20  # as in the CS-KD paper
# The names of `summarize`, and whether less or more of each is better.
DIRECTIONS = {"top1_error": "min", "top5_error": "min", "nll": "min", "ece": "min", "recall_at_1": "max", "aurc": "min"}


def _check_scores(scores, labels) -> tuple[np.ndarray, np.ndarray]:
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels)
    if scores.ndim != 2 or labels.shape != scores.shape[:1] or not len(labels):
        raise UserError(
            f"Expected scores [N, classes] and labels [N]. Received: shapes {scores.shape} and {labels.shape}"
        )
    if labels.dtype.kind not in "bui" or labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise UserError(
            f"Expected integer labels from 0 to {scores.shape[1] - 1}. "
            f"Received: {labels.dtype} from {labels.min()} to {labels.max()}"
        )
    if not np.isfinite(scores).all():
        raise UserError("Expected finite scores. Received: NaN or infinity")
    return scores, labels.astype(np.int64)


def _log_probabilities(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    # Not through the logarithm: 1/10 of ten equal logits has to fall on the edge of its bin.
    return exponents / exponents.sum(axis=1, keepdims=True)


def _check_scores_of_kind(scores, labels, *, from_logits: bool) -> tuple[np.ndarray, np.ndarray]:
    """Refuses what cannot be probabilities; warns of logits that may be some, as values alone cannot tell."""
    scores, labels = _check_scores(scores, labels)
    sums_to_one = bool((scores >= 0).all() and np.allclose(scores.sum(axis=1), 1, atol=1e-3))
    if not from_logits and not sums_to_one:
        raise UserError("Expected probabilities that sum to 1. Received: other rows; pass from_logits=True for logits")
    # A collapsed network returns the same logits for every image, such as .5 and .5.
    if from_logits and sums_to_one and (scores != scores[0]).any():
        warnings.warn(
            "The scores look like probabilities, and were taken for logits; from_logits=False is for probabilities",
            UserWarning,
            stacklevel=3,
        )
    return scores, labels


def _confidence_and_correct(scores, labels, *, from_logits: bool) -> tuple[np.ndarray, np.ndarray]:
    probabilities = _softmax(scores) if from_logits else scores
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == labels


def top_k_error(scores, labels, *, k: int = 1) -> float:
    """Share of images whose label is not among the k largest scores; among equal scores the lower class comes first.

    Example: scores `[[.1, .7, .2], [.5, .3, .2]]` with labels `[2, 0]` have top-1 error .5 and top-2 error 0.

    Args:
        scores: logits or probabilities `[N, C]`.
        labels: int `[N]`.
        k: at least 1; with k of C or more the error is 0.

    Raises:
        ValueError: shapes, labels or k that do not fit.
    """
    scores, labels = _check_scores(scores, labels)
    if k < 1:
        raise UserError(f"Expected k of at least 1. Received: k={k}")
    own = scores[np.arange(len(labels)), labels][:, None]
    lower = np.arange(scores.shape[1])[None, :] < labels[:, None]
    rank = (scores > own).sum(axis=1) + ((scores == own) & lower).sum(axis=1)
    return float((rank >= k).mean())


def group_error(scores, labels, *, groups) -> float:
    """Share of images whose predicted class lies in another group than their own: a dog taken for a bird, say.

    CS-KD paper, section 3.3, hierarchical image classification. Example: classes in groups `[0, 0, 1]`, scores
    `[[.1, .7, .2], [.5, .3, .2]]` and labels `[0, 2]`: the first image stays in its group, the second does not: .5.

    Args:
        scores: logits or probabilities `[N, C]`.
        labels: int `[N]`.
        groups: for each class its group, `[C]`, numbers or names.

    Raises:
        ValueError: shapes or labels that do not fit.
    """
    scores, labels = _check_scores(scores, labels)
    groups = np.asarray(groups)
    if groups.shape != scores.shape[1:]:
        raise UserError(f"Expected a group for each of {scores.shape[1]} classes. Received: shape {groups.shape}")
    return float(np.mean(groups[scores.argmax(axis=1)] != groups[labels]))


def negative_log_likelihood(scores, labels, *, from_logits: bool = True) -> float:
    """Mean cross-entropy in nats. Example: logits `[[ln 3, 0]]` with label 0 give `-ln .75 = 0.287682`.

    Args:
        scores: `[N, C]`, logits, or probabilities with `from_logits=False`.
        labels: int `[N]`.
        from_logits: what the scores are; logits that look like probabilities are warned of.

    Raises:
        ValueError: shapes, labels or the kind of scores do not fit.
    """
    scores, labels = _check_scores_of_kind(scores, labels, from_logits=from_logits)
    return _negative_log_likelihood(scores, labels, from_logits=from_logits)


def _negative_log_likelihood(scores, labels, *, from_logits: bool) -> float:
    rows = np.arange(len(labels))
    if from_logits:
        return float(-_log_probabilities(scores)[rows, labels].mean())
    with np.errstate(divide="ignore"):
        return float(-np.log(scores[rows, labels]).mean())


def confidence_bins(scores, labels, *, bins: int = DEFAULT_ECE_BINS, from_logits: bool = True) -> dict[str, np.ndarray]:
    """What a reliability diagram shows: images, mean confidence and accuracy of each equal-width confidence bin.

    Bins are `(lo, hi]`; a confidence of exactly 0 falls into the first.

    Example: confidences .9 (right) and .95 (wrong) with 2 bins: `{"count": [0, 2], "confidence": [0, .925],
    "accuracy": [0, .5]}`.

    Args:
        scores: `[N, C]`, logits, or probabilities with `from_logits=False`.
        labels: int `[N]`.
        bins: at least 1.
        from_logits: what the scores are.

    Returns:
        `count`, `confidence` and `accuracy`, each `[bins]`, 0 where a bin is empty.

    Raises:
        ValueError: shapes, labels, bins or the kind of scores do not fit.
    """
    scores, labels = _check_scores_of_kind(scores, labels, from_logits=from_logits)
    return _bins(*_confidence_and_correct(scores, labels, from_logits=from_logits), bins=bins)


def _bins(confidence, correct, *, bins: int) -> dict[str, np.ndarray]:
    if bins < 1:
        raise UserError(f"Expected at least one bin. Received: bins={bins}")
    edges = np.linspace(0, 1, bins + 1)
    # Rounding may put a certain prediction just above 1.
    index = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    count = np.bincount(index, minlength=bins)
    divisor = np.maximum(count, 1)
    return {
        "count": count,
        "confidence": np.bincount(index, weights=confidence, minlength=bins) / divisor,
        "accuracy": np.bincount(index, weights=correct, minlength=bins) / divisor,
    }


def expected_calibration_error(scores, labels, *, bins: int = DEFAULT_ECE_BINS, from_logits: bool = True) -> float:
    """ECE, `sum_m n_m / N * |accuracy_m - confidence_m|` over confidence bins (Naeini et al., 2015).

    The CS-KD paper uses 20 bins, PS-KD's public code 10 and most libraries 15: state the number beside the figure.

    Example: confidences .9 (right) and .95 (wrong) with 2 bins give `|.5 - .925| = .425`.

    Args and errors: as `confidence_bins`.
    """
    scores, labels = _check_scores_of_kind(scores, labels, from_logits=from_logits)
    return _mean_gap(_bins(*_confidence_and_correct(scores, labels, from_logits=from_logits), bins=bins))


def _mean_gap(parts: dict[str, np.ndarray]) -> float:
    gaps = np.abs(parts["accuracy"] - parts["confidence"])
    return float((parts["count"] * gaps).sum() / parts["count"].sum())


def area_under_risk_coverage(scores, labels, *, from_logits: bool = True) -> float:
    """AURC: mean over all coverages of the error rate among the most confident images (Geifman et al., 2019).

    Images of equal confidence count as in a random order: each carries the mean error of its tied group.

    Example: confidences .9 (right), .8 (wrong), .7 (right) have risks 0, 1/2, 1/3 and AURC 0.277778. Papers print it
    times 1000.

    Args:
        scores: `[N, C]`, logits, or probabilities with `from_logits=False`.
        labels: int `[N]`.
        from_logits: what the scores are.

    Raises:
        ValueError: shapes, labels or the kind of scores do not fit.
    """
    scores, labels = _check_scores_of_kind(scores, labels, from_logits=from_logits)
    return _area_under_risk_coverage(*_confidence_and_correct(scores, labels, from_logits=from_logits))


def _area_under_risk_coverage(confidence, correct) -> float:
    _, group = np.unique(-confidence, return_inverse=True)
    group_error = np.bincount(group, weights=~correct) / np.bincount(group)
    errors = np.cumsum(group_error[np.sort(group)])
    return float((errors / np.arange(1, len(errors) + 1)).mean())


def ensemble(members) -> np.ndarray:
    """Log-probabilities `[N, C]` of the mean of several networks' probabilities, which serve as logits.

    Example: probabilities (.75, .25) and (.25, .75) of one image average to (.5, .5): `[[ln .5, ln .5]]`.

    Args:
        members: logits `[N, C]` of each network, for the same images.

    Raises:
        ValueError: none, or of different shapes.
    """
    members = [np.asarray(logits, "float64") for logits in members]
    if not members or len({logits.shape for logits in members}) > 1:
        raise UserError(f"Expected logits of one shape. Received: {[logits.shape for logits in members]}")
    return np.log(
        np.mean([np.exp(_log_probabilities(logits)) for logits in members], axis=0) + np.finfo("float64").tiny
    )


def summarize(logits, labels, embeddings, *, ece_bins: int = DEFAULT_ECE_BINS) -> dict[str, float]:
    """All metrics of a split under the names that logs, JSON and TensorBoard use. Arguments as of the functions.

    Without embeddings (None, of an ensemble), there is no `recall_at_1`; it is NaN where no image has another one of
    its class, as of a single image. Logits that look like probabilities are warned of once.
    """
    logits, labels = _check_scores_of_kind(logits, labels, from_logits=True)
    confidence, correct = _confidence_and_correct(logits, labels, from_logits=True)
    results = {
        "top1_error": top_k_error(logits, labels, k=1),
        "top5_error": top_k_error(logits, labels, k=5),
        "nll": _negative_log_likelihood(logits, labels, from_logits=True),
        "ece": _mean_gap(_bins(confidence, correct, bins=ece_bins)),
    }
    if embeddings is not None:
        results["recall_at_1"] = recall_at_k(embeddings, labels, k=1) if len(labels) > 1 else float("nan")
    return {**results, "aurc": _area_under_risk_coverage(confidence, correct)}
