"""A classifier that is small enough to be computed by hand, as a SavedModel."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import cskd_tf
from cskd_tf.serving import saved_model
from cskd_tf.serving.calibration import Calibration
from cskd_tf.serving.functions import Serving

NAMES = ["ape", "bee", "cat", "Dachs", "émeu", "fox", "大象"]
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


@pytest.fixture(scope="package")
def model():
    """Seven classes of colour images of 6 x 6 pixels, an embedding of 4."""
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Flatten(), keras.layers.Dense(4, activation="tanh"), keras.layers.Dense(len(NAMES))]
    return cskd_tf.SelfDistiller(keras.Sequential([keras.Input((6, 6, 3)), *layers]))


@pytest.fixture(scope="package")
def serving(model):
    """Of the central 6 x 6 pixels of images that are resized to 8 x 8."""
    options = {"image_size": 6, "short_side": 8, "crop": "none", "flip": False, "mean": MEAN, "std": STD}
    _, transform = cskd_tf.data.build_transforms(cskd_tf.data.Augmentation(**options))
    calibration = Calibration(temperature=1.7, threshold=0.12, coverage=0.9)
    return Serving(model, transform, class_names=NAMES, calibration=calibration)


@pytest.fixture(scope="package")
def folder(serving, tmp_path_factory):
    """Its SavedModel, where TensorFlow Serving looks for version 3 of the model `zoo`."""
    folder = tmp_path_factory.mktemp("models") / "zoo" / "3"
    saved_model.write(serving, folder)
    return folder


@pytest.fixture(scope="package")
def loaded(folder):
    return tf.saved_model.load(str(folder))


@pytest.fixture
def images():
    """Five images of 8 x 8 pixels."""
    return np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8)


@pytest.fixture
def files(images):
    """Contents of files of several sizes and kinds."""
    wide = np.random.default_rng(1).integers(0, 256, (9, 20, 3), np.uint8)
    encoded = [tf.io.encode_png(images[0]), tf.io.encode_jpeg(wide, quality=90), tf.io.encode_png(wide[..., :1])]
    return [content.numpy() for content in encoded]
