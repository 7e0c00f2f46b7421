"""Data whose batches have no place for labels, and what stands beside data that come in batches: one clear error."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.data import paired_dataset
from cskd_tf.errors import UserError
from tests.helpers import compiled

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
    [
        lambda: paired_dataset(IMAGES, LABELS, batch_size=8, seed=0),
        lambda: SINGLE.batch(8),
        lambda: Batches(IMAGES, LABELS),
        lambda: generator(IMAGES, LABELS),
    ],
    ids=["PairedDataset", "tf.data", "PyDataset", "generator"],
)
@pytest.mark.parametrize("call", ["fit", "evaluate"])
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
