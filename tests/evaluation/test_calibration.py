import numpy as np
import pytest

from cskd_tf import metrics
from tests.helpers import random_split


def brute_force_ece(logits, labels, bins):
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    total = 0.0
    for number in range(bins):
        low, high = number / bins, (number + 1) / bins
        inside = [index for index, value in enumerate(confidence) if low < value <= high or (value == 0 == low)]
        if inside:
            total += len(inside) / len(labels) * abs(right[inside].mean() - confidence[inside].mean())
    return total


@pytest.mark.parametrize("bins", [1, 10, 15, 20])
def test_ece_against_brute_force(bins):
    logits, labels = random_split()
    expected = brute_force_ece(logits, labels, bins)
    assert metrics.expected_calibration_error(logits, labels, bins=bins) == pytest.approx(expected, abs=1e-12)


def test_ece_by_hand_and_bins_closed_above():
    # .5 belongs to the first of two bins, .95 to the second: |1 - .5| / 2 + |0 - .95| / 2.
    probabilities = [[0.5, 0.5], [0.95, 0.05]]
    assert metrics.expected_calibration_error(probabilities, [0, 1], bins=2, from_logits=False) == pytest.approx(0.725)
    # In one bin they average: |.5 - .725|.
    assert metrics.expected_calibration_error(probabilities, [0, 1], bins=1, from_logits=False) == pytest.approx(0.225)
    assert metrics.confidence_bins(probabilities, [0, 1], bins=2, from_logits=False)["count"].tolist() == [1, 1]


def test_certain_predictions_fall_into_the_last_bin():
    parts = metrics.confidence_bins([[800.0, 0.0], [0.0, 800.0]], [0, 0], bins=20)
    assert parts["count"].tolist() == [0] * 19 + [2]
    assert parts["accuracy"][19] == 0.5


def test_a_confidence_at_an_edge_falls_below_it():
    parts = metrics.confidence_bins(np.full((3, 10), 7.0), [0, 0, 1], bins=10)
    assert parts["count"].tolist() == [3] + [0] * 9
    assert parts["confidence"][0] == pytest.approx(0.1)


def test_less_than_one_bin_is_refused():
    with pytest.raises(ValueError, match="bins=0"):
        metrics.expected_calibration_error([[3.0, 1.0]], [0], bins=0)
