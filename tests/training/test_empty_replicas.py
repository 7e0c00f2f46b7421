"""Batches of which the last replicas get no image, as Keras deals out own arrays and data sets."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.errors import UserError
from cskd_tf.training.distiller import SelfDistiller
from cskd_tf.training.optimizers import SGD


def two_convolutions(*layers):
    convolve = keras.layers.Conv2D
    flat = keras.layers.GlobalAveragePooling2D()
    return keras.Sequential(
        [keras.Input((4, 4, 1)), convolve(4, 2, strides=2), convolve(6, 2), *layers, flat, keras.layers.Dense(4)]
    )


def dense(*layers):
    return keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), *layers, keras.layers.Dense(4)])


@pytest.mark.thorough
@pytest.mark.parametrize("count", [2, 4])
def test_a_replica_without_an_image_evaluates_as_the_others(count, images_and_labels, replicas):
    images, labels = (values[:13] for values in images_and_labels)
    found = []
    for strategy in (replicas(1), replicas(count)):
        keras.utils.set_random_seed(1)
        with strategy.scope():
            model = SelfDistiller(two_convolutions())
            model.compile(SGD(0.01), metrics=["accuracy"])
        data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(4)
        of_arrays = model.evaluate(images, labels, batch_size=4, verbose=0, return_dict=True)
        found.append([of_arrays, model.evaluate(data, verbose=0, return_dict=True)])
        found[-1].append(dict(enumerate(model.predict(images, batch_size=4, verbose=0).ravel())))
    for many, one in zip(*found, strict=True):
        assert many == pytest.approx(one, abs=1e-6)


@pytest.mark.parametrize(
    "network",
    [two_convolutions, lambda: dense(keras.layers.BatchNormalization())],
    ids=["convolutions", "batch norm"],
)
@pytest.mark.thorough
def test_a_replica_without_an_image_is_refused_where_it_cannot_train(network, images_and_labels, two_replicas):
    images, labels = (values[:17] for values in images_and_labels)
    with two_replicas.scope():
        model = SelfDistiller(network())
        model.compile(SGD(0.01))
    words = "Expected batches that leave none of 2 replicas without an image, the last of an epoch too: choose another"
    with pytest.raises(UserError, match=words + r".* Received: a batch of 1 of 17 images, batch_size=8"):
        model.fit(images, labels, batch_size=8, verbose=0)
    before = model.get_weights()
    with pytest.raises(tf.errors.InvalidArgumentError, match=words):
        model.fit(tf.data.Dataset.from_tensor_slices((images[:1], labels[:1])).batch(8), verbose=0)
    with pytest.raises((UserError, tf.errors.OpError), match=words):
        model.fit((batch for batch in [(images[:8], labels[:8]), (images[:1], labels[:1])]), shuffle=False, verbose=0)
    model.set_weights(before)  # a batch has been trained
    for weights, mine in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, weights)
    model.fit(images, labels, batch_size=8, validation_split=0.05, verbose=0)  # which leaves 16
    model.fit(images, labels, batch_size=9, verbose=0)
    assert all(np.isfinite(weights).all() for weights in model.get_weights())


@pytest.mark.thorough
@pytest.mark.parametrize("synchronized", [True, None])
def test_a_replica_without_an_image_trains_where_it_does_no_harm(synchronized, images_and_labels, replicas):
    images, labels = (values[:17] for values in images_and_labels)
    found = []
    for strategy in (replicas(1), replicas(4)):
        keras.utils.set_random_seed(1)
        with strategy.scope():
            model = SelfDistiller(dense(*[keras.layers.BatchNormalization(synchronized=True)] * bool(synchronized)))
            model.compile(SGD(0.01))
        model.fit(images, labels, batch_size=8, shuffle=False, verbose=0)
        found.append(model.get_weights())
    for many, one in zip(*found, strict=True):
        np.testing.assert_allclose(many, one, atol=2e-6)
