import itertools
import math

import numpy as np
import pytest

from cskd_tf import metrics
from tests.evaluation.cases import CASES, NAMES, ORDINARY, probabilities_of
from tests.helpers import softmax


def as_logits(confidences):
    return np.log(probabilities_of(*confidences))


def curve_by_hand(confidence, wrong):
    """Of each coverage the errors among the most confident: all of the groups above, and a share of the tied one."""
    risks = []
    for count in range(1, len(wrong) + 1):
        edge = sorted(confidence, reverse=True)[count - 1]
        tied = wrong[confidence == edge]
        above = wrong[confidence > edge]
        risks.append((above.sum() + (count - len(above)) * tied.mean()) / count)
    return np.array(risks)


@pytest.mark.parametrize(("name", "logits", "labels"), CASES, ids=NAMES)
def test_every_area_against_the_curve_by_hand(name, logits, labels):
    probabilities = softmax(logits.astype(float))
    wrong = (probabilities.argmax(axis=1) != labels).astype(float)
    expected, total = curve_by_hand(probabilities.max(axis=1), wrong), len(labels)
    coverage, risk = metrics.risk_coverage_curve(logits, labels)
    np.testing.assert_allclose(risk, expected, atol=1e-12)
    np.testing.assert_allclose(coverage, np.arange(1, total + 1) / total, rtol=1e-15)
    assert metrics.area_under_risk_coverage(logits, labels) == pytest.approx(expected.mean(), abs=1e-12)
    # The best order: everything that is right, then everything that is wrong.
    best = np.cumsum(np.sort(wrong)) / np.arange(1, total + 1)
    excess = metrics.excess_area_under_risk_coverage(logits, labels)
    assert excess == pytest.approx((expected - best).mean(), abs=1e-12)
    assert excess >= -1e-12
    shares = [0, *(risk * (count + 1) / total for count, risk in enumerate(expected))]
    area = np.trapezoid(shares, dx=1 / total)
    assert metrics.area_under_generalized_risk_coverage(logits, labels) == pytest.approx(area, abs=1e-12)


def test_aurc_by_hand():
    # Right, wrong, right by falling confidence: risks 0, 1/2, 1/3.
    logits = as_logits([0.9, 0.8, 0.7])
    assert metrics.area_under_risk_coverage(logits, [0, 1, 0]) == pytest.approx((0 + 1 / 2 + 1 / 3) / 3)


def test_areas_with_ties_are_the_mean_over_all_orders():
    confidences, wrong = np.array([0.9, 0.8, 0.8, 0.8, 0.6]), np.array([0, 1, 0, 0, 1])
    values = []
    for middle in itertools.permutations([1, 2, 3]):
        errors = np.cumsum(wrong[[0, *middle, 4]])
        values.append(((errors / np.arange(1, 6)).mean(), np.trapezoid([0, *errors / 5], dx=1 / 5)))
    measures = metrics.area_under_risk_coverage, metrics.area_under_generalized_risk_coverage
    shuffled = [3, 0, 4, 1, 2]
    for measure, expected in zip(measures, np.mean(values, axis=0), strict=True):
        measured = measure(as_logits(confidences), wrong)
        assert measured == pytest.approx(expected)
        assert measure(as_logits(confidences[shuffled]), wrong[shuffled]) == measured


def test_a_random_order_has_half_the_error_rate_as_augrc():
    # Of equal confidences every order is random: the share of k / N images is wrong by the error rate.
    for images in (10, 1000):
        labels = np.arange(images) % 2
        measured = metrics.area_under_generalized_risk_coverage(np.zeros((images, 2)), labels)
        assert measured == pytest.approx(0.25, rel=1e-12)


def test_coverage_at_risk_by_hand():
    # Risks 0, 1/2, 1/3, 1/4, 2/5.
    logits, labels = as_logits([0.95, 0.9, 0.8, 0.7, 0.6]), [0, 1, 0, 0, 1]
    for risk, expected in ((0.0, 0.2), (0.24, 0.2), (0.25, 0.8), (0.3, 0.8), (0.4, 1.0), (1.0, 1.0)):
        assert metrics.coverage_at_risk(logits, labels, risk=risk) == expected
    assert math.isnan(metrics.coverage_at_risk(logits, [1, 0, 0, 0, 0]))
    # 1 of 20 is exactly 5 %.
    twenty = as_logits(np.linspace(0.9, 0.6, 20))
    assert metrics.coverage_at_risk(twenty, [0] * 19 + [1]) == 1.0
    assert metrics.coverage_at_risk(twenty[1:], [0] * 18 + [1]) == 18 / 19


def test_risk_at_coverage_by_hand():
    logits, labels = as_logits([0.95, 0.9, 0.8, 0.7, 0.6]), [0, 1, 0, 0, 1]
    for coverage, expected in (
        (1e-13, 0),
        (0.01, 0),
        (0.2, 0),
        (0.21, 1 / 2),
        (0.6, 1 / 3),
        (0.8, 1 / 4),
        (0.81, 2 / 5),
        (1, 2 / 5),
    ):
        assert metrics.risk_at_coverage(logits, labels, coverage=coverage) == pytest.approx(expected)
    images = as_logits(np.linspace(0.9, 0.6, 100))  # .55 * 100 is a little more than 55 in floating point
    assert metrics.risk_at_coverage(images, [0] * 55 + [1] * 45, coverage=0.55) == 0


@pytest.mark.parametrize("wrong", [{"risk": 1.5}, {"risk": -0.1}, {"risk": None}])
def test_no_fraction_is_refused(wrong):
    with pytest.raises(ValueError, match=r"Expected risk in \[0, 1\]. Received: risk="):
        metrics.coverage_at_risk(*ORDINARY, **wrong)
    with pytest.raises(ValueError, match=r"Expected coverage in \(0, 1\]. Received: coverage=0"):
        metrics.risk_at_coverage(*ORDINARY, coverage=0)
    with pytest.raises(ValueError, match=r"Received: shapes \(0, 3\)"):
        metrics.risk_coverage_curve(np.zeros((0, 3)), np.zeros(0, int))
