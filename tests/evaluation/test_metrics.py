import math
import warnings

import numpy as np
import pytest

from cskd_tf import metrics


def random_split(seed=0, size=200, classes=6):
    generator = np.random.default_rng(seed)
    return generator.normal(size=(size, classes)) * 2, generator.integers(0, classes, size)


def as_logits(confidences):
    """Two-class logits whose largest probability is the confidence, for class 0."""
    confidences = np.asarray(confidences)
    return np.stack([np.log(confidences), np.log(1 - confidences)], axis=1)


def test_top_k_error_against_sorting():
    logits, labels = random_split()
    for k in (1, 3, 5, 6, 9):
        largest = np.argsort(-logits, axis=1)[:, :k]
        expected = 1 - np.mean([label in row for label, row in zip(labels, largest, strict=True)])
        assert metrics.top_k_error(logits, labels, k=k) == pytest.approx(expected)


def test_top_k_error_by_hand_and_among_equal_scores():
    scores = [[0.1, 0.7, 0.2], [0.5, 0.3, 0.2]]
    assert metrics.top_k_error(scores, [2, 0]) == 0.5
    assert metrics.top_k_error(scores, [2, 0], k=2) == 0.0
    assert metrics.top_k_error([[0.0, 0.0]] * 2, [0, 1]) == 0.5


def test_negative_log_likelihood_by_hand():
    assert metrics.negative_log_likelihood([[np.log(3), 0.0]], [0]) == pytest.approx(0.28768207)
    assert metrics.negative_log_likelihood([[0.75, 0.25]], [0], from_logits=False) == pytest.approx(0.28768207)


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


def test_aurc_by_hand():
    # Right, wrong, right by falling confidence: risks 0, 1/2, 1/3.
    logits = as_logits([0.9, 0.8, 0.7])
    assert metrics.area_under_risk_coverage(logits, [0, 1, 0]) == pytest.approx((0 + 1 / 2 + 1 / 3) / 3)


def test_aurc_with_ties_is_the_mean_over_all_orders():
    import itertools

    confidences, wrong = np.array([0.9, 0.8, 0.8, 0.8, 0.6]), np.array([0, 1, 0, 0, 1])
    values = []
    for middle in itertools.permutations([1, 2, 3]):
        errors = np.cumsum(wrong[[0, *middle, 4]])
        values.append((errors / np.arange(1, 6)).mean())
    measured = metrics.area_under_risk_coverage(as_logits(confidences), wrong)
    assert measured == pytest.approx(np.mean(values))
    shuffled = [3, 0, 4, 1, 2]
    assert metrics.area_under_risk_coverage(as_logits(confidences[shuffled]), wrong[shuffled]) == measured


def test_summary_names_are_those_of_the_log():
    logits, labels = random_split()
    summary = metrics.summarize(logits, labels, logits)
    assert list(summary) == ["top1_error", "top5_error", "nll", "ece", "recall_at_1", "aurc"]
    assert summary["ece"] == metrics.expected_calibration_error(logits, labels, bins=20)


def test_summary_of_one_image_and_of_few_classes():
    summary = metrics.summarize([[np.log(3), 0.0]], [1], [[1.0]])
    assert math.isnan(summary.pop("recall_at_1"))
    assert summary == pytest.approx({"top1_error": 1, "top5_error": 0, "nll": np.log(4), "ece": 0.75, "aurc": 1})


def test_logits_of_a_collapsed_network_may_look_like_probabilities():
    collapsed = [[0.5, 0.5], [0.5, 0.5]]
    summary = metrics.summarize(collapsed, [0, 1], collapsed)
    assert summary["nll"] == pytest.approx(np.log(2))
    assert summary["ece"] == 0.0  # confidence .5, and half are right
    assert metrics.negative_log_likelihood([[0.9, 0.1]], [0]) == pytest.approx(np.log(1 + np.exp(-0.8)))


@pytest.mark.parametrize(
    "call",
    [
        lambda scores, labels: metrics.summarize(scores, labels, None)["nll"],
        metrics.negative_log_likelihood,
    ],
)
def test_what_looks_like_probabilities_is_warned_of_once_and_computed(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value = call([[0.9, 0.1], [0.2, 0.8]], [0, 1])
    (warning,) = caught
    assert warning.category is UserWarning
    assert "look like probabilities" in str(warning.message)
    assert "from_logits=False" in str(warning.message)
    assert warning.filename == __file__
    assert value == pytest.approx(np.log((1 + np.exp(-0.8)) * (1 + np.exp(-0.6))) / 2)


@pytest.mark.parametrize("function", [metrics.expected_calibration_error, metrics.area_under_risk_coverage])
def test_every_metric_of_confidences_warns_of_probabilities(function):
    with pytest.warns(UserWarning, match="look like probabilities"):
        assert function([[0.9, 0.1], [0.2, 0.8]], [0, 1]) == function([[0.8, 0.0], [0.0, 0.6]], [0, 1])


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "uint64"])
def test_labels_of_every_integer_type(dtype):
    labels = np.array([0, 1, 1], dtype)
    logits = [[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]]
    assert metrics.summarize(logits, labels, logits) == metrics.summarize(logits, [0, 1, 1], logits)
    assert metrics.top_k_error(logits, labels) == pytest.approx(1 / 3)


def test_a_confidence_at_an_edge_falls_below_it():
    parts = metrics.confidence_bins(np.full((3, 10), 7.0), [0, 0, 1], bins=10)
    assert parts["count"].tolist() == [3] + [0] * 9
    assert parts["confidence"][0] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.top_k_error([[0.0, 1.0]], [0, 1]), "shapes"),
        (lambda: metrics.top_k_error([[0.0, 1.0]], [2]), "labels from 0 to 1"),
        (lambda: metrics.top_k_error([[0.0, 1.0]], [0.0]), "float64"),
        (lambda: metrics.top_k_error([[0.0, np.nan]], [0]), "NaN"),
        (lambda: metrics.top_k_error([[0.0, 1.0]], [0], k=0), "k=0"),
        (lambda: metrics.top_k_error([[0.0, 1.0]], [[0]]), "shapes"),
        (lambda: metrics.expected_calibration_error([[3.0, 1.0]], [0], from_logits=False), "from_logits=True"),
        (lambda: metrics.expected_calibration_error([[3.0, 1.0]], [0], bins=0), "bins=0"),
        (lambda: metrics.negative_log_likelihood([[0.5, 0.498]], [0], from_logits=False), "from_logits=True"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_group_error_by_hand():
    scores = np.array([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.2, 0.1, 0.7]])
    labels = np.array([0, 2, 2, 1])
    assert metrics.group_error(scores, labels, groups=[0, 0, 1]) == 0.5
    assert metrics.group_error(scores, labels, groups=["bird", "bird", "bird"]) == 0
    with pytest.raises(ValueError, match=r"a group for each of 3 classes. Received: shape \(2,\)"):
        metrics.group_error(scores, labels, groups=[0, 1])


def test_an_ensemble_averages_probabilities():
    members = [np.log([[0.75, 0.25], [0.5, 0.5]]), np.log([[0.25, 0.75], [0.9, 0.1]]) + 7.0]
    np.testing.assert_allclose(np.exp(metrics.ensemble(members)), [[0.5, 0.5], [0.7, 0.3]], rtol=1e-12)
    assert np.isfinite(metrics.ensemble([[[0.0, 2000.0]]])).all()
    for wrong in ([], [np.zeros((2, 3)), np.zeros((3, 3))]):
        with pytest.raises(ValueError, match="Expected logits of one shape"):
            metrics.ensemble(wrong)
    assert "recall_at_1" not in metrics.summarize(members[0], [0, 1], None)
