"""USKD's soft labels by hand, what each of its terms moves, and what it refuses."""

import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.methods import USKD
from tests.helpers import compiled, staged_network
from tests.selection import few


def test_soft_labels_of_two_images_by_hand():
    strong = np.array([[0.5, 0.3, 0.15, 0.05], [0.25, 0.25, 0.1, 0.4]])
    weak = np.array([[0.25, 0.05, 0.1, 0.6], [0.1, 0.05, 0.05, 0.8]])
    method = USKD(target_weight=1.0, others_weight=1.0, weak_weight=1.0)
    labels = tf.constant([0, 1])
    terms = method._terms(*(tf.constant(np.log(p), tf.float32) for p in (strong, weak)), labels)
    # The squares are 1/4 and 1/16, of mean 5/32.
    np.testing.assert_allclose(terms["soft_target"], [35 / 32 * np.log(2), 29 / 32 * np.log(4)], rtol=1e-5)
    # Image 0 ranks by (1.333, .667, .433, .9): label 0 leaves the places 3, 4 and 2, of which q is (4, 3, 6) / 13.
    # Image 1 by (.439, .386, .186, 1.375): label 1 leaves 2, 4 and 1, of which q is (2, 1, 4) / 7.
    first = -np.dot(np.array([4, 3, 6]) / 13, np.log(np.array([0.3, 0.15, 0.05]) / 0.5))
    second = -np.dot(np.array([2, 1, 4]) / 7, np.log(np.array([0.25, 0.1, 0.4]) / 0.75))
    np.testing.assert_allclose(terms["soft_others"], [first, second], rtol=1e-5)
    smoothed = 0.9 * np.eye(4)[[0, 1]] + 0.025
    np.testing.assert_allclose(terms["weak_cross_entropy"], -(smoothed * np.log(weak)).sum(axis=1), rtol=1e-5)


@pytest.mark.parametrize("weak_weight", few([0.0, 0.5], 1))
def test_the_weak_classifier_learns_by_its_own_term_alone(weak_weight, images_and_labels):
    network = staged_network((4, 4, 1), classes=3)
    model = compiled(network, [USKD(weak_weight=weak_weight)])
    owned = model.methods[0].weak_classifier.trainable_weights
    before = [weight.numpy() for weight in owned]
    model.fit(*images_and_labels, epochs=1, verbose=0)
    moved = [not np.array_equal(one, two.numpy()) for one, two in zip(before, owned, strict=True)]
    assert moved == [weak_weight > 0] * 2
    assert model.classifier().count_params() == network.count_params()


def test_an_image_alone_and_a_certain_one_give_numbers():
    method = USKD()
    logits = tf.constant([[200.0, 0.0, -200.0]])
    for label in range(3):
        terms = method._terms(logits, logits, tf.constant([label]))
        assert all(np.isfinite(term).all() for term in terms.values())


@pytest.mark.parametrize("name", ["target_weight", "others_weight", "weak_weight"])
def test_a_negative_weight_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} to be a finite number of at least 0. Received: {name}=-0.1"):
        USKD(**{name: -0.1})


def test_a_network_without_two_stages_is_refused(linear_network):
    with pytest.raises(ValueError, match="at least 2 stages for USKD.*with 0"):
        compiled(linear_network(), [USKD()])
