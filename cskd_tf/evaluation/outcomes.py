"""What is known of each image of a split, and the metrics of any choice of these images."""

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from cskd_tf.evaluation.calibration import adaptive_gap, bin_of
from cskd_tf.evaluation.intervals import interval
from cskd_tf.evaluation.metrics import brier_scores, label_ranks
from cskd_tf.evaluation.neighbours import recalled
from cskd_tf.evaluation.scores import check_scores_of_kind, log_probabilities, softmax
from cskd_tf.evaluation.selective import (
    DEFAULT_COVERAGE,
    DEFAULT_RISK,
    excess,
    generalized,
    largest_coverage,
    risk_of_share,
    risks,
)

ECE_BINS = (10, 15, 20)  # of PS-KD's code, of most libraries, of the CS-KD paper
CALIBRATION = (*(f"ece_{bins}" for bins in ECE_BINS), "adaptive_ece", "mce")  # of what is biased: see `interval`
BINS = 15  # of the calibration errors that are given for one number of bins
RECALLS = (1, 2, 4, 8)


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """Of each image how it came out, `[N]` each.

    Example:
        >>> outcomes = Outcomes.of([[math.log(3), 0.0], [0.0, math.log(3)]], [0, 0])
        >>> outcomes.confidence.round(6).tolist(), outcomes.correct.tolist(), outcomes.brier.round(6).tolist()
        ([0.75, 0.75], [True, False], [0.125, 1.125])

    Attributes:
        confidence: the largest probability.
        correct: whether its class is the label.
        rank: how many classes come before the label.
        nll: cross-entropy in nats.
        brier: the Brier score.
        bins: of each number of confidence bins the bin that the image is in.
        recalled: of each k whether one of its class is among the k nearest; empty without embeddings, and where all
            images are of one class.
    """

    confidence: np.ndarray
    correct: np.ndarray
    rank: np.ndarray
    nll: np.ndarray
    brier: np.ndarray
    bins: dict[int, np.ndarray]
    recalled: dict[int, np.ndarray]

    @classmethod
    def of(cls, logits: ArrayLike, labels: ArrayLike, embeddings: ArrayLike | None = None) -> "Outcomes":
        """The outcomes of a split.

        Args:
            logits: `[N, C]`.
            labels: int `[N]`.
            embeddings: `[N, D]`; None: nothing is recalled.

        Raises:
            UserError: shapes or labels that do not fit, or values that are not finite.
        """
        logits, labels = check_scores_of_kind(logits, labels, from_logits=True)
        probabilities, rank = softmax(logits), label_ranks(logits, labels)
        # Where all images are of one class, so are all neighbours, and nothing is measured.
        measures = embeddings is not None and (labels != labels[0]).any()
        reachable = [k for k in RECALLS if k < len(labels)] if measures else []
        confidence = probabilities.max(axis=1)
        return cls(
            confidence=confidence,
            correct=rank == 0,  # and not of probabilities, which may be equal where logits are not
            rank=rank,
            nll=-log_probabilities(logits)[np.arange(len(labels)), labels],
            brier=brier_scores(probabilities, labels),
            bins={bins: bin_of(confidence, bins=bins) for bins in ECE_BINS},
            recalled={k: recalled(embeddings, labels, k=k) for k in reachable if embeddings is not None},
        )

    def metrics(self, chosen: np.ndarray | slice = slice(None)) -> dict[str, float]:
        """The metrics of the images at some indices, which may have images several times; NaN for what is undefined.

        Neighbours are looked for among all images, whichever are chosen.
        """
        confidence, correct, rank = self.confidence[chosen], self.correct[chosen], self.rank[chosen]
        curve = risks(confidence, correct)
        gaps = {bins: _gaps(correct - confidence, index[chosen]) for bins, index in self.bins.items()}
        parts, counts = gaps[BINS]
        return {
            "top1_error": float((rank >= 1).mean()),
            "top5_error": float((rank >= 5).mean()),
            "nll": float(self.nll[chosen].mean()),
            "brier": float(self.brier[chosen].mean()),
            **{f"ece_{bins}": float(np.abs(each).sum() / len(correct)) for bins, (each, _) in gaps.items()},
            "adaptive_ece": adaptive_gap(confidence, correct, bins=BINS),
            "mce": float((np.abs(parts) / np.maximum(counts, 1)).max()),
            "aurc": float(curve.mean()),
            "e_aurc": excess(curve),
            "augrc": generalized(curve),
            "coverage_at_5_risk": largest_coverage(curve, DEFAULT_RISK),
            "risk_at_80_coverage": risk_of_share(curve, DEFAULT_COVERAGE),
            **{f"recall_at_{k}": _mean_of_defined(values[chosen]) for k, values in self.recalled.items()},
        }


def metric_intervals(
    drawn: Mapping[str, np.ndarray], figures: Mapping[str, float], *, differences: bool = False
) -> dict[str, list[float] | None]:
    """The interval of each metric, of calibration errors about the figure itself.

    Example:
        Drawn images have ECEs that are larger by .1 on average.

        >>> drawn = {"nll": np.linspace(0, 1, 101), "ece_15": np.linspace(0.1, 0.3, 101)}
        >>> found = metric_intervals(drawn, {"nll": 0.4, "ece_15": 0.1})
        >>> {name: [round(end, 6) for end in ends] for name, ends in found.items()}
        {'nll': [0.025, 0.975], 'ece_15': [0.005, 0.195]}

    Args:
        drawn: of `resampled`, by the names of `Outcomes.metrics`.
        figures: of all images, by the same names.
        differences: whether they are of two networks' metrics, and may be below 0.

    Returns:
        As of `interval`.
    """
    found = {
        name: interval(values, figure=figures[name] if name in CALIBRATION else None) for name, values in drawn.items()
    }
    for name in CALIBRATION:
        if not differences and (ends := found.get(name)):
            found[name] = np.clip(ends, 0, 1).tolist()
    return found


def _gaps(gaps: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each bin the sum of `gaps` and how many there are, where the bins are at hand, as a bootstrap asks for it."""
    return np.bincount(index, weights=gaps), np.bincount(index)


def _mean_of_defined(values: np.ndarray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")
