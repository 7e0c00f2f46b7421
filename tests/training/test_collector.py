"""Predictions of every image once, in the data's order, whatever replicas there are."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.data import ArraySource, evaluation_dataset
from cskd_tf.training.collector import Collector, ProbabilityCollector, Shares
from tests.helpers import softmax, trainable_model
from tests.selection import few, quick


@pytest.mark.parametrize("batch_size", quick([1, 7, 8, 11, 22, 40], 7, 40))
def test_two_replicas_collect_every_image_once(linear_network, images_and_labels, two_replicas, batch_size):
    images, labels = images_and_labels
    with two_replicas.scope():
        network = linear_network()
    data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(batch_size)
    for batches in (data, data.filter(lambda *_: True)):  # of which the number is known, or not
        predictions = Collector(network).collect(batches)
        np.testing.assert_array_equal(predictions.labels, labels)
        np.testing.assert_allclose(predictions.logits, network(images), atol=1e-6)


def test_a_data_set_is_traced_once_however_often_it_is_collected(linear_network, images_and_labels):
    traced = []

    def transform(images, seeds):
        traced.append(images.shape)
        return images

    images, labels = images_and_labels
    source = ArraySource((100 + 10 * images).astype("uint8"), labels)
    collector = Collector(linear_network())
    data, others = (evaluation_dataset(source, batch_size=7, transform=transform) for _ in range(2))
    logits = collector.collect(data).logits
    so_far = len(traced)
    for _ in range(3):
        np.testing.assert_array_equal(collector.collect(data).logits, logits)
    assert len(traced) == so_far > 0
    collector.collect(others)
    assert len(traced) > so_far


@pytest.mark.parametrize("workers", few([1, 2, 3, 5], 2))
@pytest.mark.parametrize("replicas", [1, 2])
def test_shares_hold_every_batch_once_and_as_many_on_each_replica(workers, replicas):
    data = tf.data.Dataset.range(22)
    shares = Shares(tf.data.Dataset.zip(data, data).batch(5), static_shapes=True)
    found, sizes, counts = [], set(), set()
    for worker in range(workers):
        own = list(shares(tf.distribute.InputContext(workers, worker, workers * replicas)))
        counts.add(len(own))
        for batch in own:
            sizes.add(len(batch["image"]))
            found += batch["label"][batch["number"] >= 0].numpy().tolist()
    assert sorted(found) == list(range(22))
    assert sizes == {5}
    assert len(counts) == 1
    assert counts.pop() % replicas == 0


def test_predictions_are_the_same_on_two_replicas(linear_network, images_and_labels, two_replicas):
    images, labels = images_and_labels
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(7)  # the last batch has one image
    with two_replicas.scope():
        model = trainable_model(linear_network())
    predictions = Collector(model).collect(batches)
    np.testing.assert_array_equal(predictions.labels, labels)
    np.testing.assert_allclose(predictions.logits, model.network(images), atol=1e-6)
    np.testing.assert_allclose(predictions.embeddings, images.reshape(22, -1), atol=1e-6)


def test_probabilities_of_label_and_prediction(linear_network, images_and_labels, two_replicas):
    images, labels = images_and_labels
    with two_replicas.scope():
        network = linear_network()
    rows = ProbabilityCollector(network).rows(tf.data.Dataset.from_tensor_slices((images, labels)).batch(7))
    probabilities = softmax(network(images).numpy())
    assert set(rows) == {"target", "maximum", "correct"}
    np.testing.assert_allclose(rows["target"], probabilities[np.arange(22), labels], atol=1e-6)
    np.testing.assert_allclose(rows["maximum"], probabilities.max(axis=1), atol=1e-6)
    np.testing.assert_array_equal(rows["correct"], probabilities.argmax(axis=1) == labels)
    assert 0 < rows["correct"].sum() < 22


def test_evaluation_needs_an_embedding(images_and_labels):
    images, labels = images_and_labels
    network = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(3, 4), keras.layers.Flatten()])
    with pytest.raises(ValueError, match=r"embedding_layer=.*has no dense layer"):
        Collector(network).collect(tf.data.Dataset.from_tensors((images, labels)))
