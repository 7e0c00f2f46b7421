import numpy as np
import pytest

from cskd_tf import metrics
from tests.evaluation.cases import CASES, NAMES, probabilities_of
from tests.helpers import random_split, softmax


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


@pytest.mark.parametrize("bins", [10, 15, 20, 30])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_confidence_at_an_edge_is_in_one_bin_whatever_its_precision(bins, dtype):
    confidences = np.arange(bins // 2 + 1, bins + 1) / bins  # of two classes, more than half
    probabilities = np.stack([confidences, 1 - confidences], axis=1).astype(dtype)
    parts = metrics.confidence_bins(probabilities, np.zeros(len(confidences), int), bins=bins, from_logits=False)
    assert parts["count"].tolist() == [0] * (bins // 2) + [1] * len(confidences)


def test_less_than_one_bin_is_refused():
    with pytest.raises(ValueError, match="bins=0"):
        metrics.expected_calibration_error([[3.0, 1.0]], [0], bins=0)


def by_hand(confidence, right, bins):
    """Of each bin that is not empty: images, and the gap between accuracy and confidence."""
    parts = []
    for number in range(bins):
        low, high = np.linspace(0, 1, bins + 1)[number : number + 2]
        inside = (confidence > low) & (confidence <= high) | ((confidence == 0) & (number == 0))
        if number == bins - 1:
            inside |= confidence > 1  # by rounding
        if inside.any():
            parts.append((inside.sum(), abs(right[inside].mean() - confidence[inside].mean())))
    return parts


@pytest.mark.parametrize(("name", "logits", "labels"), CASES, ids=NAMES)
def test_every_error_against_brute_force(name, logits, labels):
    probabilities = softmax(logits.astype(float))
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    for bins in (10, 15, 20):
        parts = by_hand(confidence, right, bins)
        expected = sum(count * gap for count, gap in parts) / len(labels)
        assert metrics.expected_calibration_error(logits, labels, bins=bins) == pytest.approx(expected, abs=1e-12)
        largest = metrics.maximum_calibration_error(logits, labels, bins=bins)
        assert largest == pytest.approx(max(gap for _, gap in parts), abs=1e-12)
        of_classes = [by_hand(column, labels == number, bins) for number, column in enumerate(probabilities.T)]
        expected = np.mean([sum(count * gap for count, gap in parts) / len(labels) for parts in of_classes])
        assert metrics.classwise_calibration_error(logits, labels, bins=bins) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("bins", [2, 4, 8, 10])
def test_confidences_on_edges_belong_to_the_bin_below(bins):
    """Confidences of 1/2 to 1 in steps of a bin, each right: each bin has one, which is its upper edge."""
    edges = np.linspace(0, 1, bins + 1)[bins // 2 :]
    scores, labels = probabilities_of(*edges), np.zeros(len(edges), int)
    shown = metrics.confidence_bins(scores, labels, bins=bins, from_logits=False)
    assert shown["count"].tolist() == [0] * (bins // 2 - 1) + [1] * len(edges)
    expected = np.mean(1 - edges)
    assert metrics.expected_calibration_error(scores, labels, bins=bins, from_logits=False) == pytest.approx(expected)
    assert metrics.maximum_calibration_error(scores, labels, bins=bins, from_logits=False) == pytest.approx(0.5)


@pytest.mark.parametrize(("name", "logits", "labels"), CASES, ids=NAMES)
@pytest.mark.parametrize("bins", [1, 7, 400])
def test_adaptive_error_against_brute_force(name, logits, labels, bins):
    probabilities = softmax(logits.astype(float))
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    accuracy = np.array([right[confidence == value].mean() for value in confidence])  # in any order of ties
    order, total, taken = np.argsort(confidence), 0.0, 0
    for number in range(bins):
        size = len(labels) // bins + (number < len(labels) % bins)
        part, taken = order[taken : taken + size], taken + size
        if size:
            total += size / len(labels) * abs(accuracy[part].mean() - confidence[part].mean())
    assert metrics.adaptive_calibration_error(logits, labels, bins=bins) == pytest.approx(total, abs=1e-12)


def test_the_order_of_tied_images_does_not_matter():
    logits, labels = np.zeros((8, 2)), np.array([0, 0, 0, 0, 1, 1, 1, 1])
    values = {metrics.adaptive_calibration_error(logits, order, bins=2) for order in (labels, labels[::-1], 1 - labels)}
    assert values == {0.0}


def test_a_confidence_of_zero_counts_in_the_first_bin():
    # Class 1 has the probabilities 0 (it is not) and 0 (it is): in one bin, |.5 - 0|; class 0 has 1 twice, |.5 - 1|.
    scores = np.array([[1.0, 0.0], [1.0, 0.0]])
    assert metrics.classwise_calibration_error(scores, [0, 1], bins=10, from_logits=False) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "measure",
    [
        metrics.expected_calibration_error,
        metrics.maximum_calibration_error,
        metrics.adaptive_calibration_error,
        metrics.classwise_calibration_error,
    ],
)
def test_no_images_and_no_bins_are_refused(measure):
    with pytest.raises(ValueError, match=r"Expected at least one image. Received: shapes \(0, 3\)"):
        measure(np.zeros((0, 3)), np.zeros(0, int))
    with pytest.raises(ValueError, match="Expected a whole number of bins, at least one. Received: bins=0"):
        measure([[3.0, 1.0]], [0], bins=0)
