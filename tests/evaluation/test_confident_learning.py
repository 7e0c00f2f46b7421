"""Wrong labels by confident learning: worked out by hand, and as cleanlab, its authors' package, counts them."""

import numpy as np
import pytest
from cleanlab.count import compute_confident_joint
from cleanlab.rank import get_label_quality_scores

from cskd_tf.evaluation.confident_learning import LabelNoise

# Thresholds: class 0 (.8 + .6 + .1 + .5) / 4 = .5, class 1 (.9 + .7 + .2) / 3 = .6, class 2 (.4 + .6) / 2 = .5.
BY_HAND = [
    ([0.8, 0.1, 0.1], 0, 0),
    ([0.6, 0.3, 0.1], 0, 0),
    ([0.1, 0.7, 0.2], 0, 1),  # margin .1 - .7
    ([0.5, 0.3, 0.2], 0, 0),  # just at the threshold
    ([0.1, 0.9, 0.0], 1, 1),
    ([0.0, 0.7, 0.3], 1, 1),
    ([0.8, 0.2, 0.0], 1, 0),  # margin .2 - .8, level with the one above
    ([0.2, 0.4, 0.4], 2, -1),  # below every threshold
    ([0.1, 0.3, 0.6], 2, 2),
]


def test_counts_and_share_by_hand():
    probabilities, labels, likely = zip(*BY_HAND, strict=True)
    noise = LabelNoise.of(probabilities, labels)
    np.testing.assert_array_equal(noise.likely, likely)
    assert set(noise.suspects.tolist()) == {2, 6}
    # Of four labels 0 a quarter, of three labels 1 a third, of two labels 2, of which one counts, none.
    assert noise.share == pytest.approx((4 * 1 / 4 + 3 * 1 / 3 + 0) / 9)


def test_the_least_likely_label_is_the_first_suspect():
    probabilities, labels, _ = zip(*BY_HAND, strict=True)
    probabilities = np.array(probabilities)
    probabilities[6] = [0.9, 0.1, 0.0]
    assert LabelNoise.of(probabilities, labels).suspects.tolist() == [6, 2]


def test_an_uncounted_image_does_not_thin_out_wrong_labels():
    """Of three labels 0 one counts as 1, one as 0, and one not at all: half of the three are wrong."""
    # Thresholds (.95 + .3 + .55) / 3 = .6, and .8; .55 and .45 reach neither.
    probabilities = [[0.95, 0.05], [0.3, 0.9], [0.55, 0.45], [0.2, 0.8]]
    noise = LabelNoise.of(probabilities, [0, 0, 0, 1])
    assert noise.likely.tolist() == [0, 1, -1, 1]
    assert noise.share == pytest.approx(3 * (1 / 2) / 4)


@pytest.mark.parametrize("seed", range(4))
def test_against_cleanlab(seed):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 5, 400)
    true = np.where(generator.random(400) < 0.3, generator.integers(0, 5, 400), labels)
    logits = 4 * np.eye(5)[true] * generator.random((400, 1)) + generator.normal(size=(400, 5))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    noise = LabelNoise.of(probabilities, labels)
    joint, suspects = compute_confident_joint(
        labels, probabilities, calibrate=False, return_indices_of_off_diagonals=True
    )
    counted = noise.likely >= 0
    mine = np.zeros((5, 5), int)
    np.add.at(mine, (labels[counted], noise.likely[counted]), 1)
    np.testing.assert_array_equal(mine, joint)
    assert sorted(noise.suspects.tolist()) == sorted(suspects)
    scores = get_label_quality_scores(labels, probabilities, method="normalized_margin")
    assert (np.diff(scores[noise.suspects]) >= -1e-12).all()
    rows = joint / joint.sum(axis=1, keepdims=True) * np.bincount(labels)[:, None]
    assert noise.share == pytest.approx(1 - np.trace(rows) / 400)


def test_the_interval_is_about_the_share_and_narrows_with_more_images():
    probabilities, labels, _ = zip(*BY_HAND, strict=True)
    few, many = (LabelNoise.of(np.tile(probabilities, (times, 1)), np.tile(labels, times)) for times in (10, 160))
    (low, high), (closer_low, closer_high) = few.interval(), many.interval()
    assert few.share == pytest.approx(many.share)
    assert low < closer_low < many.share < closer_high < high
    # 16 times the images: a quarter of the width.
    assert (closer_high - closer_low) / (high - low) == pytest.approx(1 / 4, rel=0.15)
    assert many.interval(seed=0) == many.interval(seed=0) != many.interval(seed=1)


@pytest.mark.parametrize(
    ("probabilities", "labels"),
    [
        ([[0.5, 0.5]] * 2, [0, 0]),  # a class without a label has no threshold
        ([[0.5, 0.5]] * 2, [0, 2]),
        ([[0.5, 0.5]] * 3, [0, 1]),
        ([[0.5, np.nan]] * 2, [0, 1]),
        ([0.5, 0.5], [0, 1]),
        ([[0.5, 0.5]] * 2, [0.0, 1.0]),
    ],
)
def test_what_is_refused(probabilities, labels):
    with pytest.raises(ValueError, match=r"Expected finite probabilities \[N, C\].*Received: probabilities \("):
        LabelNoise.of(probabilities, labels)


@pytest.mark.parametrize("count", range(1, 20))
def test_images_of_one_prediction_reach_the_mean_of_it(count):
    """Sums of equal numbers round, up or down, by how many there are."""
    noise = LabelNoise.of(np.tile([0.7, 0.3], (2 * count, 1)), np.repeat([0, 1], count))
    assert set(noise.likely) == {0}
    assert noise.share == pytest.approx(0.5)


def test_a_class_found_in_none_of_its_images_is_reached_by_none():
    """Thresholds .85, .8 and 0: the second image, which reaches neither of the first two, does not count as class 2."""
    probabilities = [[1.0, 0.0, 0.0], [0.7, 0.3, 0.0], [0.2, 0.8, 0.0], [1.0, 0.0, 0.0], [0.5, 0.5, 0.0]]
    noise = LabelNoise.of(probabilities, [0, 0, 1, 2, 2])
    assert noise.likely.tolist() == [0, -1, 1, 0, -1]
    assert noise.suspects.tolist() == [3]
    assert noise.share == pytest.approx(2 * 1 / 5)  # of two labels 2 one counts, as class 0
