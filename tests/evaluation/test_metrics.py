import math

import numpy as np
import pytest
import sklearn.metrics

from cskd_tf import metrics
from tests.evaluation.cases import CASES, NAMES
from tests.helpers import random_split, softmax


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


@pytest.mark.parametrize("k", [0, 1.5, "1", None])
def test_k_that_is_no_number_of_classes_or_neighbours_is_refused(k):
    with pytest.raises(ValueError, match=f"k={k!r}"):
        metrics.top_k_error([[0.0, 1.0]], [0], k=k)
    with pytest.raises(ValueError, match=f"k={k}"):
        metrics.recall_at_k([[0.0], [1.0], [2.0]], [0, 0, 1], k=k)


def test_labels_that_are_words_are_refused():
    with pytest.raises(ValueError, match="Expected integer labels from 0 to 1. Received: <U3"):
        metrics.negative_log_likelihood([[0.0, 1.0]], ["cat"])


def test_negative_log_likelihood_by_hand():
    assert metrics.negative_log_likelihood([[np.log(3), 0.0]], [0]) == pytest.approx(0.28768207)
    assert metrics.negative_log_likelihood([[0.75, 0.25]], [0], from_logits=False) == pytest.approx(0.28768207)


def test_summary_names_are_those_of_the_log():
    logits, labels = random_split()
    summary = metrics.summarize(logits, labels, logits)
    assert list(summary) == ["top1_error", "top5_error", "nll", "ece", "recall_at_1", "aurc"]
    assert summary["ece"] == metrics.expected_calibration_error(logits, labels, bins=20)


def test_summary_of_one_image_and_of_few_classes():
    summary = metrics.summarize([[np.log(3), 0.0]], [1], [[1.0]])
    assert math.isnan(summary.pop("recall_at_1"))
    assert summary == pytest.approx({"top1_error": 1, "top5_error": 0, "nll": np.log(4), "ece": 0.75, "aurc": 1})


def test_images_of_one_class_have_no_recall():
    assert math.isnan(metrics.summarize(3 * np.eye(2)[[0, 0, 1]], [0, 0, 0], np.eye(3))["recall_at_1"])


def test_an_ensemble_averages_probabilities():
    members = [np.log([[0.75, 0.25], [0.5, 0.5]]), np.log([[0.25, 0.75], [0.9, 0.1]]) + 7.0]
    np.testing.assert_allclose(np.exp(metrics.ensemble(members)), [[0.5, 0.5], [0.7, 0.3]], rtol=1e-12)
    # Probabilities that float64 has not keep their order: with itself a network is what it is alone.
    far = np.array([[0.0, -800.0, -1900.0, 50.0]])
    np.testing.assert_allclose(metrics.ensemble([far, far]), far - 50, rtol=1e-14)
    for wrong in ([], [np.zeros((2, 3)), np.zeros((3, 3))]):
        with pytest.raises(ValueError, match="Expected logits of one shape"):
            metrics.ensemble(wrong)
    assert "recall_at_1" not in metrics.summarize(members[0], [0, 1], None)


@pytest.mark.parametrize(("name", "logits", "labels"), CASES, ids=NAMES)
def test_likelihood_and_brier_score_are_scikit_learns(name, logits, labels):
    probabilities = softmax(logits.astype(float))
    classes = np.arange(logits.shape[1])
    expected = sum(np.square(probabilities - np.eye(len(classes))[labels]).sum(axis=1)) / len(labels)
    assert metrics.brier_score(logits, labels) == pytest.approx(expected, abs=1e-12)
    assert metrics.brier_score(probabilities, labels, from_logits=False) == pytest.approx(expected, abs=1e-12)
    if len(classes) > 1:
        scikit_learns = sklearn.metrics.brier_score_loss(labels, probabilities, labels=classes, scale_by_half=False)
        assert metrics.brier_score(logits, labels) == pytest.approx(scikit_learns, abs=1e-12)
        if name != "certain":  # scikit-learn clips probabilities of 0
            of_scikit_learn = sklearn.metrics.log_loss(labels, probabilities, labels=classes)
            assert metrics.negative_log_likelihood(logits, labels) == pytest.approx(of_scikit_learn, abs=1e-9)
