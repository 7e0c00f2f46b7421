"""Data whose batches have no place for labels, and what stands beside data that come in batches: one clear error."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.data import paired_dataset
from cskd_tf.errors import UserError
from cskd_tf.methods import CSKD
from cskd_tf.training.distiller import SelfDistiller
from tests.helpers import compiled
from tests.selection import few, quick

LABELS = np.arange(24) % 3
IMAGES = np.zeros((24, 4, 4, 1), np.float32)
SINGLE = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS))
BESIDE = "Labels and weights are parts of the data: paired_dataset.images, labels, sample_weight=.*Received: "


class Batches(keras.utils.PyDataset):
    def __init__(self, *parts):
        super().__init__()
        self.parts = parts

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return self.parts


def generator(*parts):
    while True:
        yield parts


@pytest.fixture(params=[True, False], ids=["built", "not built"])
def model(request):
    layers = [keras.Input((4, 4, 1))] if request.param else []
    return compiled(keras.Sequential([*layers, keras.layers.Flatten(), keras.layers.Dense(3)]))


@pytest.mark.parametrize(
    "data",
    few(
        [
            lambda: paired_dataset(IMAGES, LABELS, batch_size=8, seed=0),
            lambda: SINGLE.batch(8),
            lambda: Batches(IMAGES, LABELS),
            lambda: generator(IMAGES, LABELS),
        ],
        2,
    ),
    ids=["PairedDataset", "tf.data", "PyDataset", "generator"],
)
@pytest.mark.parametrize("call", quick(["fit", "evaluate"], "fit"))
def test_weights_and_labels_beside_batches_are_told_where_they_go(call, data, model):
    run = getattr(model, call)
    with pytest.raises(UserError, match=BESIDE + "sample_weight beside a "):
        run(data(), sample_weight=np.ones(24), verbose=0)
    with pytest.raises(UserError, match=BESIDE + "y beside a "):
        run(data(), LABELS, verbose=0)


@pytest.mark.parametrize(
    ("data", "received"),
    [
        (SINGLE.map(lambda image, label: image).batch(8), "one part, and no labels"),
        (SINGLE.map(lambda image, label: (image,)).batch(8), "1 parts"),
        (SINGLE.map(lambda image, label: (image, label, 1.0, image)).batch(8), "4 parts"),
        (
            SINGLE.map(lambda image, label: {"image": image, "label": label}).batch(8),
            r"a dictionary with \['image', 'label'\]; data.map",
        ),
        (Batches(IMAGES), "1 parts"),
        (generator(IMAGES, LABELS, LABELS, LABELS), "4 parts"),
        (IMAGES, "one part, and no labels"),
    ],
)
def test_batches_without_a_place_for_labels_are_refused(data, received, model):
    message = f"Expected batches .images, labels. or .images, labels, weights.. Received: {received}"
    with pytest.raises(UserError, match=message):
        model.fit(data, verbose=0, shuffle=False)
    with pytest.raises(UserError, match=message):
        model.evaluate(data, verbose=0)
    if isinstance(data, tf.data.Dataset):
        with pytest.raises(UserError, match=message):
            model.fit(SINGLE.batch(8), validation_data=data, verbose=0)


def test_labels_by_name_are_refused(model):
    with pytest.raises(UserError, match=r"Received: labels by name, \['label'\]"):
        model.fit(SINGLE.map(lambda image, label: (image, {"label": label})).batch(8), verbose=0)


UNKNOWN = tf.data.Dataset.from_generator(lambda: iter([(IMAGES, LABELS)]), output_types=("float32", "int32"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (SINGLE, r"Expected batches .* data.batch\(32\).*Received: elements of .*shape=\(4, 4, 1\)"),
        (SINGLE.map(lambda image, label: (image, tf.one_hot(label, 3))), r"Expected batches .* data.batch\(32\)"),
        (UNKNOWN, r"from_generator\(..., output_signature=...\).*Received: .*unknown"),
        (SINGLE.take(0).batch(8), "Expected at least one batch. Received: a data set of none"),
        ((batch for batch in []), "Expected at least one batch. Received: none"),
    ],
    ids=["single images", "single one-hot", "unknown shapes", "no batch", "an empty generator"],
)
def test_data_that_hold_no_batches_are_refused(data, message, model):
    with pytest.raises(UserError, match=message):
        model.fit(data, verbose=0)


def test_arrays_that_keras_would_misread_are_refused(model):
    masked = np.ma.masked_array(LABELS, mask=LABELS == 2)
    for labels, message in ((list(LABELS), "Expected y as an array.*a list"), (masked, "without masked entries")):
        with pytest.raises(UserError, match=message):
            model.fit(IMAGES, labels, verbose=0)
    with pytest.raises(UserError, match="Expected sample_weight as an array.*a list"):
        model.fit(IMAGES, LABELS, sample_weight=[1.0] * 24, verbose=0)
    with pytest.raises(UserError, match="Expected sample weights that are numbers. Received: str"):
        model.fit(IMAGES, LABELS, sample_weight=np.full(24, "heavy"), verbose=0)
    with pytest.raises(UserError, match="at least one example. Received: none"):
        model.fit(IMAGES[:0], LABELS[:0], verbose=0)
    model.fit(IMAGES, np.ma.masked_array(LABELS), verbose=0)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((IMAGES, LABELS[:20]), "Received: 24 images, 20 labels"),
        ((IMAGES, LABELS, np.ones(20)), "Received: 24 images, 24 labels, 20 weights"),
        (({"image": IMAGES, "partner": IMAGES[:3]}, LABELS), "Received: 24 image, 3 partner, 24 labels"),
    ],
)
def test_arrays_of_different_lengths_are_refused_before_the_first_step(parts, message, model):
    for named in (dict(zip(("x", "y", "sample_weight"), parts, strict=False)), {"validation_data": parts}):
        with pytest.raises(UserError, match=message):
            model.fit(**{"x": IMAGES, "y": LABELS, "verbose": 0, **named})
    assert model.step == 0


@pytest.mark.parametrize(
    "data",
    [
        IMAGES,
        tf.data.Dataset.from_tensor_slices(IMAGES).batch(8),
        SINGLE.batch(8),
        Batches(IMAGES[:8], LABELS[:8]),
        Batches(IMAGES[:8]),
        ((IMAGES[:8],) for _ in range(3)),
    ],
    ids=["arrays", "tf.data", "tf.data with labels", "PyDataset", "PyDataset of images", "generator"],
)
def test_a_network_that_is_not_built_yet_predicts(data):
    model = SelfDistiller(keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3)]))
    steps = 3 if isinstance(data, types.GeneratorType) else None  # Keras cannot tell when one ends, and warns
    assert model.predict(data, verbose=0, steps=steps).shape == (24, 3)
    assert model.built


def test_a_network_that_is_not_built_yet_predicts_a_batch_and_on_replicas():
    network = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3)])
    assert SelfDistiller(network).predict_on_batch(IMAGES).shape == (24, 3)
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        model = SelfDistiller(keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3)]))
    assert model.predict(IMAGES, verbose=0).shape == (24, 3)


def test_a_network_is_built_within_a_step_that_is_being_traced():
    network = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3)])
    model = compiled(network, [CSKD()])
    step = tf.function(model.train_step, autograph=False)
    batch = ({"image": tf.constant(IMAGES), "partner": tf.constant(IMAGES)}, tf.constant(LABELS))
    assert float(step(batch)["loss"]) == pytest.approx(np.log(3))  # of zeros
    assert int(model.step) == 1
    assert model(IMAGES).shape == (24, 3)
    with pytest.raises(UserError, match="images of a known rank"):
        compiled(keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3)])).build(tf.TensorShape(None))
