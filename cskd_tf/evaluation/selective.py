"""Selective classification: what a network's confidence is worth, if it may leave the images aside that it is least
sure of.

Coverage is the share of images that it answers, risk the error rate among those. Images of equal confidence count as in
a random order: each carries the mean error of its tied group.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from cskd_tf.checks import check_fraction
from cskd_tf.evaluation.scores import check_scores_of_kind, confidence_and_correct, mean_over_ties

ROUNDING = 1e-12  # of a risk that is computed as a quotient of sums
DEFAULT_RISK, DEFAULT_COVERAGE = 0.05, 0.8


def risk_coverage_curve(
    scores: ArrayLike, labels: ArrayLike, *, from_logits: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Coverages 1/N, 2/N ... 1, and the risk at each (El-Yaniv and Wiener, 2010).

    Example:
        With confidences .9 (right), .8 (wrong), .7 (right) and .6 (right) the risks are 0, 1/2, 1/3 and 1/4.

        >>> scores = [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]]
        >>> coverage, risk = risk_coverage_curve(scores, [0, 1, 0, 0], from_logits=False)
        >>> coverage.tolist(), risk.round(6).tolist()
        ([0.25, 0.5, 0.75, 1.0], [0.0, 0.5, 0.333333, 0.25])

    Args:
        scores: `[N, C]`, logits, or probabilities with `from_logits=False`.
        labels: int `[N]`.
        from_logits: what the scores are.

    Returns:
        Fractions, both `[N]`.

    Raises:
        UserError: shapes, labels or the kind of scores do not fit.
    """
    scores, labels = check_scores_of_kind(scores, labels, from_logits=from_logits)
    risk = risks(*confidence_and_correct(scores, labels, from_logits=from_logits))
    return np.arange(1, len(risk) + 1) / len(risk), risk


def risks(confidence: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """The risk among the 1, 2 ... N most confident images, `[N]`.

    Example:
        >>> risks(np.array([0.9, 0.8, 0.8]), np.array([True, True, False])).round(6).tolist()
        [0.0, 0.25, 0.333333]
    """
    errors = np.cumsum(mean_over_ties(-confidence, ~correct))
    return errors / np.arange(1, len(errors) + 1)


def area_under_risk_coverage(scores: ArrayLike, labels: ArrayLike, *, from_logits: bool = True) -> float:
    """AURC: mean over all coverages of the error rate among the most confident images (Geifman et al., 2019).

    Images of equal confidence count as in a random order: each carries the mean error of its tied group. Papers print
    the value times 1000.

    Example:
        With confidences .9 (right), .8 (wrong) and .7 (right) the risks are 0, 1/2 and 1/3.

        >>> scores = [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]]
        >>> round(area_under_risk_coverage(scores, [0, 1, 0], from_logits=False), 6)
        0.277778

    Arguments and errors are those of `risk_coverage_curve`.

    Returns:
        A fraction in [0, 1].
    """
    return float(risk_coverage_curve(scores, labels, from_logits=from_logits)[1].mean())


def excess_area_under_risk_coverage(scores: ArrayLike, labels: ArrayLike, *, from_logits: bool = True) -> float:
    """E-AURC: the AURC less the one of a network that is less sure of each error than of anything that is right.

    Geifman et al. (2019), with the exact sum in place of their approximation of it by an integral: it is never below 0.

    Example:
        The risks 0, 1/2 and 1/3 could have been 0, 0 and 1/3.

        >>> scores = [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]]
        >>> round(excess_area_under_risk_coverage(scores, [0, 1, 0], from_logits=False), 6)
        0.166667

    Arguments and errors are those of `risk_coverage_curve`.

    Returns:
        A fraction in [0, 1].
    """
    return excess(risk_coverage_curve(scores, labels, from_logits=from_logits)[1])


def excess(risk: np.ndarray) -> float:
    """The E-AURC of a curve of risks `[N]`, of which the last one is the error rate.

    Example:
        >>> round(excess(np.array([0, 1 / 2, 1 / 3])), 6)
        0.166667
    """
    answered = np.arange(1, len(risk) + 1)
    right = len(risk) - round(float(risk[-1]) * len(risk))
    return float((risk - np.maximum(answered - right, 0) / answered).mean())


def area_under_generalized_risk_coverage(scores: ArrayLike, labels: ArrayLike, *, from_logits: bool = True) -> float:
    """AUGRC: area under the share of all images that are answered, and wrong, over the coverage (Traub et al., 2024).

    By trapezoids from coverage 0 on, as in their code. Unlike the AURC it does not weigh the errors of the most
    confident images above all others; half of the error rate is what a random order has.

    Example:
        With confidences .9 (right), .8 (wrong) and .7 (right) the shares are 0 at no coverage, then 0, 1/3 and 1/3.

        >>> scores = [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]]
        >>> round(area_under_generalized_risk_coverage(scores, [0, 1, 0], from_logits=False), 6)
        0.166667

    Arguments and errors are those of `risk_coverage_curve`.

    Returns:
        A fraction in [0, 1].
    """
    return generalized(risk_coverage_curve(scores, labels, from_logits=from_logits)[1])


def generalized(risk: np.ndarray) -> float:
    """The AUGRC of a curve of risks `[N]`, of which the last one is the error rate.

    Example:
        >>> round(generalized(np.array([0, 1 / 2, 1 / 3])), 6)
        0.166667
    """
    shares = risk * np.arange(1, len(risk) + 1) / len(risk)
    return float((shares.sum() - shares[-1] / 2) / len(risk))


def coverage_at_risk(
    scores: ArrayLike, labels: ArrayLike, *, risk: float = DEFAULT_RISK, from_logits: bool = True
) -> float:
    """The largest coverage at which the risk is at most `risk`.

    Example:
        The risks are 0, 1/2, 1/3 and 1/4.

        >>> scores = [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]]
        >>> coverage_at_risk(scores, [0, 1, 0, 0], risk=0.2, from_logits=False)
        0.25

    Args:
        scores: `[N, C]`, logits, or probabilities with `from_logits=False`.
        labels: int `[N]`.
        risk: a fraction.
        from_logits: what the scores are.

    Returns:
        A fraction in (0, 1]; NaN where the risk is larger at every coverage.

    Raises:
        UserError: shapes, labels, the kind of scores or the risk do not fit.
    """
    check_fraction("risk", risk, one=True)
    return largest_coverage(risk_coverage_curve(scores, labels, from_logits=from_logits)[1], risk)


def largest_coverage(curve: np.ndarray, risk: float) -> float:
    """The coverage of `coverage_at_risk`, of a curve of risks `[N]`.

    Example:
        >>> largest_coverage(np.array([0, 1 / 2, 1 / 3]), 0.4)
        1.0
    """
    allowed = np.flatnonzero(curve <= risk + ROUNDING)
    return float((allowed[-1] + 1) / len(curve)) if len(allowed) else math.nan


def risk_at_coverage(
    scores: ArrayLike, labels: ArrayLike, *, coverage: float = DEFAULT_COVERAGE, from_logits: bool = True
) -> float:
    """The risk at the smallest coverage that is at least `coverage`.

    Example:
        The risks are 0, 1/2, 1/3 and 1/4; 60 % of four images are three.

        >>> scores = [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]]
        >>> round(risk_at_coverage(scores, [0, 1, 0, 0], coverage=0.6, from_logits=False), 6)
        0.333333

    Args:
        scores: `[N, C]`, logits, or probabilities with `from_logits=False`.
        labels: int `[N]`.
        coverage: a fraction above 0.
        from_logits: what the scores are.

    Returns:
        A fraction in [0, 1].

    Raises:
        UserError: shapes, labels, the kind of scores or the coverage do not fit.
    """
    check_fraction("coverage", coverage, zero=False, one=True)  # no image has no risk
    return risk_of_share(risk_coverage_curve(scores, labels, from_logits=from_logits)[1], coverage)


def risk_of_share(curve: np.ndarray, coverage: float) -> float:
    """The risk of `risk_at_coverage`, of a curve of risks `[N]`.

    Example:
        >>> risk_of_share(np.array([0, 1 / 2, 1 / 3]), 0.5)
        0.5
    """
    return float(curve[max(1, math.ceil(coverage * len(curve) - ROUNDING * len(curve))) - 1])
