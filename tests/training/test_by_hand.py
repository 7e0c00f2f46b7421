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


def test_views_of_another_shape_are_named():
    model = compiled(table_network(), [CSKD()])
    with pytest.raises(ValueError, match=r"views of one shape .*Received: .*'image': \(7,\), 'partner': \(6,\)"):
        model.fit({"image": ROWS, "partner": ROWS[:, :6]}, LABELS, verbose=0)


def test_an_index_that_is_no_integer_is_refused():
    model = SelfDistiller(table_network(), [PSKD()], num_examples=12)
    model.compile("sgd")
    with pytest.raises(ValueError, match=r"index of each example as integers \[B\]. Received: float64"):
        model.fit({"image": ROWS, "index": np.arange(12.0)}, LABELS, verbose=0)


@pytest.mark.parametrize("augmented", [False, True])
def test_a_second_view_that_is_the_first_once_more_is_told(augmented, linear_network, images_and_labels, caplog):
    images, labels = images_and_labels
    options = compiled(linear_network(), [DDGSD()]).data_options
    options |= {"augment": keras.layers.RandomTranslation(0.1, 0.1) if augmented else None, "seed": 0}
    paired_dataset(images, labels, batch_size=4, **options)
    stream = tf.data.Dataset.from_tensors((images, labels))
    paired_stream(stream, num_classes=3, batch_size=4, **options)
    assert caplog.text.count("The second view of each image is the image once more") == (0 if augmented else 2)
