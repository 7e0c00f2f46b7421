"""Where the data go on on replicas, for which Keras deals them out anew."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.data import paired_dataset
from cskd_tf.methods import CSKD
from cskd_tf.training.course import Course
from tests.helpers import compiled


@pytest.mark.thorough
def test_replicas_go_on_where_they_were(linear_network, images_and_labels, two_replicas):
    weights = []
    for strategy, loop in ((tf.distribute.get_strategy(), [(0, 3)]), (two_replicas, [(0, 1)] * 3)):
        keras.utils.set_random_seed(3)
        with strategy.scope():
            model = compiled(linear_network(), [CSKD()])
        for first, last in loop:
            data = paired_dataset(*images_and_labels, batch_size=8, seed=5)
            model.fit(data, initial_epoch=first, epochs=last, verbose=0)
        assert int(model.step.numpy()) == 3 * 3  # of 22 images in batches of 8
        weights.append(model.network.get_weights())
    for one, two in zip(*weights, strict=True):
        np.testing.assert_allclose(two, one, atol=1e-6)


@pytest.mark.thorough
def test_data_on_replicas_are_opened_once(linear_network, images_and_labels, two_replicas, monkeypatch):
    opened, position = [], Course.position
    monkeypatch.setattr(Course, "position", lambda course: opened.append(course) or position(course))
    with two_replicas.scope():
        model = compiled(linear_network(), [CSKD()])
    model.fit(paired_dataset(*images_and_labels, batch_size=8, seed=5), epochs=2, verbose=0)
    assert len(opened) == 1  # twice, Keras would drop an iterator that has just begun
