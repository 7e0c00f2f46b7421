import keras
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


def test_keras_metric_equals_the_function_over_uneven_batches():
    logits, labels = random_split(size=23)
    metric = metrics.ExpectedCalibrationError(bins=15, from_logits=True)
    for start in range(0, 23, 8):
        metric.update_state(labels[start : start + 8], logits[start : start + 8].astype("float32"))
    expected = metrics.expected_calibration_error(logits, labels, bins=15)
    assert float(metric.result()) == pytest.approx(expected, abs=1e-6)
    metric.reset_state()
    assert float(metric.result()) == 0.0


def test_keras_metric_in_compile_and_config(images_and_labels):
    images, labels = images_and_labels
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")])
    metric = metrics.ExpectedCalibrationError(bins=10)
    model.compile(loss="sparse_categorical_crossentropy", metrics=[metric])
    measured = model.evaluate(images, labels, verbose=0, return_dict=True)["ece"]
    expected = metrics.expected_calibration_error(model.predict(images, verbose=0), labels, bins=10, from_logits=False)
    assert measured == pytest.approx(expected, abs=1e-6)
    assert metrics.ExpectedCalibrationError.from_config(metric.get_config()).bins == 10


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


@pytest.mark.parametrize("k", [1, 4])
def test_recall_against_brute_force(k):
    generator = np.random.default_rng(0)
    embeddings, labels = generator.normal(size=(60, 3)), generator.integers(0, 5, 60)
    hits = []
    for index in range(60):
        distances = np.linalg.norm(embeddings - embeddings[index], axis=1)
        distances[index] = np.inf
        hits.append((labels[np.argsort(distances)[:k]] == labels[index]).any())
    assert metrics.recall_at_k(embeddings, labels, k=k) == pytest.approx(np.mean(hits))


def test_recall_by_hand_and_of_copies():
    assert metrics.recall_at_k([[0.0], [1.0], [3.0]], [0, 0, 1]) == pytest.approx(2 / 3)
    assert metrics.recall_at_k([[5.0]] * 4, [0, 0, 0, 0]) == 1.0
    assert metrics.recall_at_k([[5.0], [5.0], [9.0], [9.0]], [0, 1, 2, 2]) == 0.5


def test_summary_names_are_those_of_the_log():
    logits, labels = random_split()
    summary = metrics.summarize(logits, labels, logits)
    assert list(summary) == ["top1_error", "top5_error", "nll", "ece", "recall_at_1", "aurc"]
    assert summary["ece"] == metrics.expected_calibration_error(logits, labels, bins=20)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.top_k_error([[0.0, 1.0]], [0, 1]), "shapes"),
        (lambda: metrics.top_k_error([[0.0, 1.0]], [2]), "labels from 0 to 1"),
        (lambda: metrics.top_k_error([[0.0, 1.0]], [0.0]), "float64"),
        (lambda: metrics.top_k_error([[0.0, np.nan]], [0]), "NaN"),
        (lambda: metrics.top_k_error([[0.0, 1.0]], [0], k=0), "k=0"),
        (lambda: metrics.expected_calibration_error([[0.9, 0.1]], [0]), "from_logits=False"),
        (lambda: metrics.expected_calibration_error([[3.0, 1.0]], [0], from_logits=False), "from_logits=True"),
        (lambda: metrics.expected_calibration_error([[3.0, 1.0]], [0], bins=0), "bins=0"),
        (lambda: metrics.recall_at_k([[0.0], [1.0]], [0, 1], k=2), "k from 1 to 1"),
        (lambda: metrics.recall_at_k([0.0, 1.0], [0, 1]), "shapes"),
        (lambda: metrics.ExpectedCalibrationError(bins=0), "bins=0"),
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
