"""Weights of classes, worked by hand, and weights of images on their way through the pipeline."""

import numpy as np
import pytest

from cskd_tf.data import ClassWeights, Distribution, Needs, paired_dataset
from cskd_tf.methods import CutMix, Cutout, Mixup
from tests.selection import few

IMAGES = np.arange(12, dtype="float32").reshape(12, 1, 1, 1)
WEIGHTS = np.array([0, 0.5, 1, 2, 4, 0.25, 3, 1, 1, 0.125, 8, 2], "float32")


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        (ClassWeights("inverse"), [10 / (3 * 6), 10 / (3 * 3), 10 / 3]),
        # Effective numbers 1 + .5 + .25 + ... of 6, 3 and 1: 63/32, 7/4, 1. Their inverses add up to 32/63 + 4/7 + 1.
        (ClassWeights("effective", 0.5), np.array([32 / 63, 4 / 7, 1]) * 3 / (32 / 63 + 4 / 7 + 1)),
        (ClassWeights("effective", 0.0), [1, 1, 1]),
        # Towards beta 1 in proportion to 1/6, 1/3 and 1, which add up to 3/2.
        (ClassWeights("effective", 1 - 1e-9), [1 / 3, 2 / 3, 2]),
        (ClassWeights(""), [1, 1, 1]),
    ],
)
def test_weights_of_classes_by_hand(weights, expected):
    labels = np.repeat([0, 1, 2], [6, 3, 1])
    found = weights.of(labels)
    np.testing.assert_allclose([found[number] for number in range(3)], expected, rtol=1e-7)
    assert weights.of(np.random.default_rng(0).permutation(labels)) == found  # whatever their order


def test_the_inverse_weighs_an_image_1_on_average():
    labels = np.repeat([0, 1, 2], [17, 4, 9])
    weights = ClassWeights("inverse").of(labels)
    assert np.mean([weights[label] for label in labels]) == pytest.approx(1)
    assert [weights[number] * count for number, count in enumerate((17, 4, 9))] == pytest.approx([10, 10, 10])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scheme": "sqrt"}, r"Unknown scheme; expected one of \['', 'effective', 'inverse'\]. Received: .*'sqrt'"),
        ({"beta": 1.0}, "Expected beta to be at most 0.999999999. Received: beta=1.0"),
        ({"beta": -0.1}, "Expected beta to be at least 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ClassWeights(**arguments)


def test_labels_without_a_class_are_refused():
    with pytest.raises(ValueError, match=r"at least one image of each of the 3 classes. Received: none of \[1\]"):
        ClassWeights("inverse").of([0, 2, 2])


@pytest.mark.parametrize("needs", few([Needs(views=("partner",)), Needs(pairs_adjacent=True)], 1))
def test_an_image_brings_its_own_weight(needs):
    data = paired_dataset(IMAGES, np.arange(12) % 3, batch_size=4, seed=0, epochs=2, needs=needs, sample_weight=WEIGHTS)
    batches = list(data)
    assert len(batches) == 6
    for batch, _, weights in batches:
        np.testing.assert_array_equal(weights, WEIGHTS[batch["image"].numpy().astype(int)[:, 0, 0, 0]])


@pytest.mark.thorough
def test_workers_have_the_weights_of_their_parts():
    whole, *parts = (
        list(paired_dataset(IMAGES, np.arange(12) % 3, batch_size=5, seed=0, distribution=each, sample_weight=WEIGHTS))
        for each in (Distribution(), *(Distribution(worker=worker, num_workers=2) for worker in range(2)))
    )
    for (_, _, weights), (_, _, first), (_, _, second) in zip(whole, *parts, strict=True):
        np.testing.assert_array_equal(weights, np.concatenate([first, second]))


@pytest.mark.thorough
@pytest.mark.parametrize(
    "mixing",
    [
        pytest.param(Mixup(), id="Mixup"),
        pytest.param(CutMix(coin="image", probability=0.5), id="CutMix"),
        pytest.param(Cutout(size=1, probability=0.5), id="Cutout"),
    ],
)
def test_mixed_images_have_mixed_weights_and_targets_in_proportion(mixing):
    """Where each image is a class of its own, `targets` without weights say what share of which image is in each."""
    images = np.tile(IMAGES, (1, 4, 4, 1))
    options = {"batch_size": 12, "seed": 3, "needs": Needs(mixing=(mixing,))}
    ((plain, _),) = paired_dataset(images, np.arange(12), **options)
    ((batch, _, weights),) = paired_dataset(images, np.arange(12), sample_weight=WEIGHTS, **options)
    np.testing.assert_array_equal(batch["image"], plain["image"])
    contributed = plain["targets"].numpy() * WEIGHTS
    np.testing.assert_allclose(weights, contributed.sum(axis=1), rtol=1e-6)
    np.testing.assert_allclose(batch["targets"] * weights[:, None], contributed, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(batch["targets"].numpy().sum(axis=1), 1, rtol=1e-6)  # of what weighs nothing, too


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(11), r"a sample weight for each of 12 images. Received: float64 of shape \(11,\)"),
        (np.ones((12, 2)), r"Received: float64 of shape \(12, 2\)"),
        (["1"] * 12, "a sample weight for each of 12 images. Received: <U1"),
        (np.where(WEIGHTS == 8, np.nan, WEIGHTS), r"finite and not below 0. Received: \[nan\] for images \[10\]"),
        (WEIGHTS - 0.25, r"Received: \[-0.25, -0.125\] for images \[0, 9\]"),
    ],
)
def test_weights_that_are_none_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        paired_dataset(IMAGES, np.arange(12) % 3, batch_size=4, seed=0, sample_weight=weights)
