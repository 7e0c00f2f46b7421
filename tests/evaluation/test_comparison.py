import math

import numpy as np
import pytest

from cskd_tf import metrics
from cskd_tf.evaluation.comparison import mcnemar
from tests.evaluation.cases import ORDINARY
from tests.helpers import softmax


def predictions(logits, labels):
    return metrics.Predictions(np.asarray(logits), np.asarray(labels), np.asarray(logits))


def test_a_network_does_not_differ_from_itself():
    compared = metrics.compare(predictions(*ORDINARY), predictions(*ORDINARY), resamples=50)
    assert set(compared["differences"].values()) == {0.0}
    assert all(ends == [0.0, 0.0] for ends in compared["intervals"].values())
    assert compared["mcnemar"] == {"one_alone_right": 0, "other_alone_right": 0, "p": 1.0}


def test_differences_are_those_of_the_metrics():
    logits, labels = ORDINARY
    other = logits + np.random.default_rng(5).normal(size=logits.shape)
    compared = metrics.compare(predictions(logits, labels), predictions(other, labels), resamples=200)
    for name, measure in (("nll", metrics.negative_log_likelihood), ("aurc", metrics.area_under_risk_coverage)):
        difference = measure(logits, labels) - measure(other, labels)
        assert compared["differences"][name] == pytest.approx(difference, abs=1e-12)
        low, high = compared["intervals"][name]
        assert low < difference < high < 0  # noise makes it worse, and 500 images show it


def test_the_seed_decides_which_images_are_drawn():
    logits, labels = ORDINARY
    one, other = predictions(logits, labels), predictions(logits / 2, labels)
    intervals = [metrics.compare(one, other, resamples=50, seed=seed)["intervals"]["nll"] for seed in (0, 0, 1)]
    assert intervals[0] == intervals[1] != intervals[2]


def test_pairs_are_compared_and_not_two_samples():
    """Every image a little better, by less than images differ from each other: only pairs show it."""
    logits, labels = ORDINARY
    better = logits + 0.01 * np.eye(4)[labels]
    compared = metrics.compare(predictions(better, labels), predictions(logits, labels), resamples=200)
    low, high = compared["intervals"]["nll"]
    assert low < compared["differences"]["nll"] < high < 0
    alone = metrics.assess(predictions(better, labels), resamples=200)
    low, high = alone["intervals"]["nll"]
    assert low < metrics.negative_log_likelihood(logits, labels) < high


@pytest.mark.thorough
def test_a_difference_of_calibration_errors_is_within_its_interval():
    """Draws are biased for a calibrated network, and not for one that is far too sure: so is their difference."""
    generator = np.random.default_rng(6)
    for _ in range(5):
        logits = generator.normal(size=(400, 10))
        labels = (softmax(logits).cumsum(axis=1) < generator.uniform(size=(400, 1))).sum(axis=1)
        compared = metrics.compare(predictions(logits, labels), predictions(4 * logits, labels), resamples=200)
        for name in ("ece_10", "ece_15", "ece_20", "adaptive_ece"):
            (low, high), difference = compared["intervals"][name], compared["differences"][name]
            assert low < difference < high < 0
            assert difference - low < 2 * (high - difference) < 4 * (difference - low)


@pytest.mark.parametrize(("one", "other"), [(0, 0), (1, 0), (3, 9), (10, 10), (0, 12)])
def test_mcnemar_by_counting_coins(one, other):
    coins = one + other
    chances = [math.comb(coins, heads) / 2**coins for heads in range(coins + 1)]
    expected = sum(chance for chance in chances if chance <= chances[one] * (1 + 1e-9))
    assert mcnemar(one, other) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("labels", "message"),
    [([0, 1], "Received: 2 and 3 images"), ([0, 1, 0], "Received: 3 and 3 images, of which 1 labels differ")],
)
def test_predictions_of_different_images_are_refused(labels, message):
    with pytest.raises(ValueError, match=f"predictions of the same images. {message}"):
        metrics.compare(predictions(np.eye(2)[labels] * 3, labels), predictions(np.eye(2)[[0, 1, 1]] * 3, [0, 1, 1]))


def test_recall_is_left_out_where_one_has_no_embeddings():
    logits, labels = ORDINARY
    without = metrics.Predictions(logits, labels)
    for one, other in ((without, without), (predictions(logits, labels), without)):
        compared = metrics.compare(one, other, resamples=5)
        assert compared["differences"]["nll"] == 0
        for part in ("differences", "intervals"):
            assert not [name for name in compared[part] if name.startswith("recall")]


def test_predictions_of_a_single_class_are_refused():
    one = predictions(np.ones((3, 1)), [0, 0, 0])
    with pytest.raises(ValueError, match=r"at least two classes\. Received: one, which is always right"):
        metrics.compare(one, one)


def test_predictions_of_other_classes_are_refused():
    labels = [0, 1, 1]
    with pytest.raises(ValueError, match="of the same classes. Received: one with 2, other with 3"):
        metrics.compare(predictions(3 * np.eye(2)[labels], labels), predictions(3 * np.eye(3)[labels], labels))
