"""Metrics of a whole split, from its logits and embeddings, as fractions; and ECE as a Keras metric.

Everything is computed in float64: in float32 many confidences round to exactly 1, and the order among them is lost.
"""

import keras
import numpy as np
from sklearn.neighbors import NearestNeighbors

DEFAULT_ECE_BINS = 20
# The names of `summarize`, and whether less or more of each is better.
DIRECTIONS = {"top1_error": "min", "top5_error": "min", "nll": "min", "ece": "min", "recall_at_1": "max", "aurc": "min"}


def _check_scores(scores, labels) -> tuple[np.ndarray, np.ndarray]:
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels)
    if scores.ndim != 2 or labels.shape != scores.shape[:1] or not len(labels):
        raise ValueError(
            f"Expected scores [N, classes] and labels [N]. Received: shapes {scores.shape} and {labels.shape}"
        )
    if labels.dtype.kind not in "ui" or labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise ValueError(
            f"Expected integer labels from 0 to {scores.shape[1] - 1}. "
            f"Received: {labels.dtype} from {labels.min()} to {labels.max()}"
        )
    if not np.isfinite(scores).all():
        raise ValueError("Expected finite scores. Received: NaN or infinity")
    return scores, labels


def _log_probabilities(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _probabilities(scores: np.ndarray, *, from_logits: bool) -> np.ndarray:
    sums_to_one = bool((scores >= 0).all() and np.allclose(scores.sum(axis=1), 1, atol=1e-3))
    if from_logits:
        if sums_to_one:
            raise ValueError("Expected logits. Received: rows of probabilities; pass from_logits=False for those")
        return np.exp(_log_probabilities(scores))
    if not sums_to_one:
        raise ValueError("Expected probabilities that sum to 1. Received: other rows; pass from_logits=True for logits")
    return scores


def _confidence_and_correct(scores, labels, *, from_logits: bool) -> tuple[np.ndarray, np.ndarray]:
    scores, labels = _check_scores(scores, labels)
    probabilities = _probabilities(scores, from_logits=from_logits)
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
        raise ValueError(f"Expected k of at least 1. Received: k={k}")
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
        raise ValueError(f"Expected a group for each of {scores.shape[1]} classes. Received: shape {groups.shape}")
    return float(np.mean(groups[scores.argmax(axis=1)] != groups[labels]))


def negative_log_likelihood(scores, labels, *, from_logits: bool = True) -> float:
    """Mean cross-entropy in nats. Example: logits `[[ln 3, 0]]` with label 0 give `-ln .75 = 0.287682`.

    Args:
        scores: `[N, C]`, logits, or probabilities with `from_logits=False`.
        labels: int `[N]`.
        from_logits: what the scores are.

    Raises:
        ValueError: shapes, labels or the kind of scores do not fit.
    """
    scores, labels = _check_scores(scores, labels)
    probabilities = _probabilities(scores, from_logits=from_logits)
    rows = np.arange(len(labels))
    if from_logits:
        return float(-_log_probabilities(scores)[rows, labels].mean())
    with np.errstate(divide="ignore"):
        return float(-np.log(probabilities[rows, labels]).mean())


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
    if bins < 1:
        raise ValueError(f"Expected at least one bin. Received: bins={bins}")
    confidence, correct = _confidence_and_correct(scores, labels, from_logits=from_logits)
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
    parts = confidence_bins(scores, labels, bins=bins, from_logits=from_logits)
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
    confidence, correct = _confidence_and_correct(scores, labels, from_logits=from_logits)
    _, group = np.unique(-confidence, return_inverse=True)
    group_error = np.bincount(group, weights=~correct) / np.bincount(group)
    errors = np.cumsum(group_error[np.sort(group)])
    return float((errors / np.arange(1, len(errors) + 1)).mean())


def recall_at_k(embeddings, labels, *, k: int = 1) -> float:
    """Share of images with another image of their class among the k nearest others, by L2 distance of embeddings.

    Example: embeddings `[[0], [1], [3]]` with labels `[0, 0, 1]` have R@1 2/3.

    Args:
        embeddings: `[N, D]`.
        labels: int `[N]`.
        k: from 1 to N - 1.

    Raises:
        ValueError: shapes or k that do not fit, or values that are not finite.
    """
    embeddings, labels = np.asarray(embeddings, np.float64), np.asarray(labels)
    if embeddings.ndim != 2 or labels.shape != embeddings.shape[:1]:
        raise ValueError(
            f"Expected embeddings [N, D] and labels [N]. Received: shapes {embeddings.shape} and {labels.shape}"
        )
    if not np.isfinite(embeddings).all():
        raise ValueError("Expected finite embeddings. Received: NaN or infinity")
    if not 1 <= k < len(labels):
        raise ValueError(f"Expected k from 1 to {len(labels) - 1}, the number of other images. Received: k={k}")
    # Without an argument, kneighbors leaves each point out of its own neighbours, copies of it excepted.
    neighbours = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(embeddings).kneighbors(return_distance=False)
    return float((labels[neighbours] == labels[:, None]).any(axis=1).mean())


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
        raise ValueError(f"Expected logits of one shape. Received: {[logits.shape for logits in members]}")
    return np.log(
        np.mean([np.exp(_log_probabilities(logits)) for logits in members], axis=0) + np.finfo("float64").tiny
    )


def summarize(logits, labels, embeddings, *, ece_bins: int = DEFAULT_ECE_BINS) -> dict[str, float]:
    """All metrics of a split under the names that logs, JSON and TensorBoard use. Arguments as of the functions.

    Without embeddings (None, of an ensemble), there is no `recall_at_1`.
    """
    results = {
        "top1_error": top_k_error(logits, labels, k=1),
        "top5_error": top_k_error(logits, labels, k=5),
        "nll": negative_log_likelihood(logits, labels),
        "ece": expected_calibration_error(logits, labels, bins=ece_bins),
    }
    if embeddings is not None:
        results["recall_at_1"] = recall_at_k(embeddings, labels, k=1)
    return {**results, "aurc": area_under_risk_coverage(logits, labels)}


@keras.saving.register_keras_serializable("cskd_tf")
class ExpectedCalibrationError(keras.metrics.Metric):
    """ECE as a streaming metric for `compile(metrics=[...])`, exact over the batches it has seen.

    Example: as `expected_calibration_error`.

    Args:
        bins: equal-width confidence bins.
        from_logits: whether the predictions are logits; as elsewhere in Keras, probabilities are the default.
        name: of the metric.

    Raises:
        ValueError: fewer than one bin.
    """

    def __init__(self, *, bins: int = DEFAULT_ECE_BINS, from_logits: bool = False, name: str = "ece", **kwargs):
        super().__init__(name=name, **kwargs)
        if bins < 1:
            raise ValueError(f"Expected at least one bin. Received: bins={bins}")
        self.bins = bins
        self.from_logits = from_logits
        self._direction = "down"  # where Keras' callbacks look for whether lower is better
        self._edges = np.linspace(0, 1, bins + 1)[1:].astype("float32")
        self._count = self.add_variable((bins,), "zeros", name="count")
        self._gap = self.add_variable((bins,), "zeros", name="gap")

    def update_state(self, y_true, y_pred, sample_weight=None):
        probabilities = keras.ops.softmax(y_pred) if self.from_logits else y_pred
        probabilities = keras.ops.cast(probabilities, "float32")
        confidence = keras.ops.max(probabilities, axis=-1)
        labels = keras.ops.reshape(keras.ops.cast(y_true, "int32"), keras.ops.shape(confidence))
        correct = keras.ops.cast(keras.ops.cast(keras.ops.argmax(probabilities, axis=-1), "int32") == labels, "float32")
        weight = keras.ops.ones_like(confidence) if sample_weight is None else keras.ops.cast(sample_weight, "float32")
        # (lo, hi]: as many edges lie below a confidence as bins do.
        index = keras.ops.minimum(keras.ops.searchsorted(self._edges, confidence, side="left"), self.bins - 1)
        member = keras.ops.one_hot(index, self.bins, dtype="float32") * weight[:, None]
        self._count.assign_add(keras.ops.sum(member, axis=0))
        self._gap.assign_add(keras.ops.sum(member * (correct - confidence)[:, None], axis=0))

    def result(self):
        total = keras.ops.sum(self._count)
        return keras.ops.sum(keras.ops.abs(self._gap)) / keras.ops.maximum(total, keras.config.epsilon())

    def get_config(self):
        return {**super().get_config(), "bins": self.bins, "from_logits": self.from_logits}
