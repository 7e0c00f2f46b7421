import numpy as np
import pytest

from cskd_tf.errors import UserError
from cskd_tf.evaluation.normalization import NORMS, LogitNormalization, normalized_maximum_logit
from tests.helpers import random_split


@pytest.mark.parametrize("norm", [1, 2, 3, 10])
def test_the_largest_logit_over_the_length_of_all(norm):
    logits = random_split()[0].astype("float64")
    centred = logits - logits.mean(axis=1, keepdims=True)
    lengths = (np.abs(centred) ** norm).sum(axis=1) ** (1 / norm)
    found = normalized_maximum_logit(logits, norm=norm)
    np.testing.assert_allclose(found, centred.max(axis=1) / lengths, rtol=1e-11)
    # Neither a shift nor a temperature changes it.
    np.testing.assert_allclose(normalized_maximum_logit(3 * logits + 7, norm=norm), found, rtol=1e-9)


def test_degenerate_logits():
    assert normalized_maximum_logit([[2.0, 2.0], [0.0, 0.0]], norm=2).tolist() == [0, 0]
    assert normalized_maximum_logit([[1e38, 0.0]], norm=10).tolist() == pytest.approx([0.5 / (2 * 0.5**10) ** 0.1])
    assert normalized_maximum_logit(np.eye(3, dtype="float16"), norm=1) == pytest.approx([0.5] * 3, rel=1e-12)
    # Rounded, or these would be ordered by their last digit: with p = 1 one logit above the mean has half of all.
    halves = np.concatenate([3 * np.eye(7)[:1], 0.7 * np.eye(7)[2:3], np.eye(7)[4:5] + 0.1])
    assert normalized_maximum_logit(halves, norm=1).tolist() == [0.5] * 3
    for norm in (0, float("nan")):
        with pytest.raises(UserError, match=f"Received: norm={norm}"):
            normalized_maximum_logit([[1.0, 0.0]], norm=norm)


def aurc(confidence, correct):
    """The mean over 200 orders of the images, tied ones at random."""
    generator, areas = np.random.default_rng(0), []
    for _ in range(200):
        order = generator.permutation(len(correct))
        wrong = ~correct[order][np.argsort(-confidence[order], kind="stable")]
        areas.append(np.mean(np.cumsum(wrong) / np.arange(1, len(wrong) + 1)))
    return np.mean(areas)


def test_what_is_chosen_has_the_smallest_area():
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 5, 400)
    # Every image has a scale of its own, which tells nothing of whether it is right.
    logits = (np.eye(5)[labels] + generator.normal(size=(400, 5))) * np.exp(generator.normal(size=(400, 1)))
    correct = logits.argmax(axis=1) == labels
    fitted = LogitNormalization.fit(logits, labels)
    areas = [aurc(normalized_maximum_logit(logits, norm=norm), correct) for norm in NORMS]
    assert fitted.norm == NORMS[int(np.argmin(areas))]
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    largest = 1 / exponents.sum(axis=1)
    assert min(areas) < 0.9 * aurc(largest, correct)
    np.testing.assert_array_equal(fitted.confidence(logits), normalized_maximum_logit(logits, norm=fitted.norm))


def test_the_largest_probability_stays_where_it_is_the_best():
    # The length is what tells: wrong images are short.
    logits, labels = [[9.0, 4.0, 0.0], [1.0, 0.0, 0.0]], [0, 1]
    fitted = LogitNormalization.fit(logits, labels)
    assert fitted.norm is None
    np.testing.assert_allclose(fitted.confidence(logits), [0.9932, 0.5761], atol=1e-4)
