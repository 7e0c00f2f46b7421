"""Views and indices that are given by hand, as of tables, texts and several labels: what is missing or does not fit."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.data import paired_dataset, paired_stream
from cskd_tf.methods import CSKD, DDGSD, PSKD
from cskd_tf.training.distiller import SelfDistiller
from tests.helpers import compiled

ROWS = np.random.default_rng(0).normal(size=(12, 7)).astype("float32")
LABELS = np.arange(12) % 3


def table_network():
    return keras.Sequential([keras.Input((7,)), keras.layers.Dense(3)])


@pytest.mark.parametrize(("method", "missing"), [(CSKD, "partner"), (PSKD, "index")])
@pytest.mark.parametrize("several", [False, True])
def test_what_the_pipeline_does_not_make_is_to_be_given_by_hand(method, missing, several):
    """It pairs images of one class each: what sends others there would be refused there."""
    model = SelfDistiller(table_network(), [method()], num_examples=12, multi_label=several)
    model.compile("sgd")
    labels = np.eye(3)[LABELS] if several else LABELS
    with pytest.raises(ValueError, match=rf"need .*'{missing}'.*: give them yourself, .*fit\(\{{'image': x, 'partner'"):
        model.fit(ROWS, labels, verbose=0)
    given = {"image": ROWS, "partner": np.roll(ROWS, 3, axis=0), "index": np.arange(12)}
    assert np.isfinite(model.fit(given, labels, verbose=0).history["loss"]).all()


def test_images_of_one_class_are_sent_to_the_pipeline(linear_network, images_and_labels):
    with pytest.raises(ValueError, match="need the views .*: build the data with cskd_tf.data.paired_dataset"):
        compiled(linear_network(), [CSKD()]).fit(*images_and_labels, verbose=0)


def test_a_view_that_the_network_does_not_take_is_named():
    model = compiled(table_network(), [CSKD()])
    with pytest.raises(ValueError, match=r"network takes images, \(None, 7\)\. Received: 'partner' of shape .*6\)"):
        model.fit({"image": ROWS, "partner": ROWS[:, :6]}, LABELS, verbose=0)


@pytest.mark.parametrize("sizes", [(8, 6), (None, None)])
def test_views_of_any_size_are_taken_by_a_network_that_takes_them(sizes):
    network = keras.Sequential(
        [keras.Input((None, None, 3)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)]
    )
    model = compiled(network, [CSKD()])
    images = np.random.default_rng(0).normal(size=(6, 8, 8, 3)).astype("float32")

    def views(label):
        part = tf.numpy_function(lambda: images[:, : sizes[0], : sizes[1]], [], tf.float32)
        return {"image": tf.constant(images), "partner": tf.ensure_shape(part, [None, None, None, 3])}, label

    data = tf.data.Dataset.from_tensors(np.arange(6) % 3).map(views)
    assert np.isfinite(model.fit(data, verbose=0).history["loss"]).all()


@pytest.mark.parametrize("index", [np.arange(12.0), np.arange(12)[:, None]])
def test_an_index_that_is_none_is_refused(index):
    model = SelfDistiller(table_network(), [PSKD()], num_examples=12)
    model.compile("sgd")
    with pytest.raises(ValueError, match=r"index of each example as integers \[B\]. Received: \w+64 of shape \(12,"):
        model.fit({"image": ROWS, "index": index}, LABELS, verbose=0)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "int32", "uint64"])
def test_an_index_may_be_of_any_integers(kind):
    model = SelfDistiller(table_network(), [PSKD()], num_examples=12)
    model.compile("sgd")
    model.fit({"image": ROWS, "index": np.arange(12).astype(kind)}, LABELS, verbose=0)
    assert (model.methods[0].table.numpy().sum(axis=-1) > 0).all()


@pytest.mark.parametrize("augmented", [False, True])
def test_a_second_view_that_is_the_first_once_more_is_told(augmented, linear_network, images_and_labels, caplog):
    images, labels = images_and_labels
    options = compiled(linear_network(), [DDGSD()]).data_options
    options |= {"augment": keras.layers.RandomTranslation(0.1, 0.1) if augmented else None, "seed": 0}
    paired_dataset(images, labels, batch_size=4, **options)
    stream = tf.data.Dataset.from_tensors((images, labels))
    paired_stream(stream, num_classes=3, batch_size=4, **options)
    assert caplog.text.count("The second view of each image is the image once more") == (0 if augmented else 2)
