"""Weights from files: all but the classifier's, or a line that says which do not fit."""

import keras
import numpy as np
import pytest

import cskd_tf
from cskd_tf.errors import UserError
from cskd_tf.networks import build
from tests.selection import few


def network_of(classes=2, width=4, channels=3):
    return build("preact_resnet10", num_classes=classes, input_shape=(8, 8, channels), width=width)


@pytest.fixture(scope="module")
def trained():
    keras.utils.set_random_seed(5)
    network = network_of(classes=7)
    network.get_layer("stem_bn").moving_mean.assign([1.0, 2.0, 3.0, 4.0])
    return network


def whole(network, path):
    network.save(path / "trained.keras")
    return path / "trained.keras"


def folder(network, path):
    cskd_tf.SelfDistiller(network, [cskd_tf.methods.CSKD()]).classifier().save(path / "classifier.keras")
    return path


def weights(network, path):
    network.save_weights(path / "trained.weights.h5")
    return path / "trained.weights.h5"


def headless_weights(network, path):
    keras.Model(network.input, network.get_layer("embedding").output).save_weights(path / "headless.weights.h5")
    return path / "headless.weights.h5"


def old_weights(network, path):
    keras.Model(network.input, network.get_layer("embedding").output).save(path / "headless.h5")
    return path / "headless.h5"


@pytest.mark.thorough
@pytest.mark.parametrize(
    "save",
    [
        whole,
        folder,
        weights,
        headless_weights,
        old_weights,
    ],
)
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning")
def test_a_network_begins_with_the_weights_of_a_file_and_a_classifier_of_its_own(save, trained, caplog, tmp_path):
    file = str(save(trained, tmp_path))
    classes = 7 if save is weights else 2  # whole, it has the file's classes, and a new classifier all the same
    keras.utils.set_random_seed(0)
    alone = network_of(classes).get_layer("classifier").get_weights()
    keras.utils.set_random_seed(0)
    with caplog.at_level("INFO", logger="absl"):
        network = build("preact_resnet10", num_classes=classes, input_shape=(8, 8, 3), width=4, weights=file)
    for one, two in zip(network.weights[:-2], trained.weights[:-2], strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())
    for one, two in zip(network.get_layer("classifier").get_weights(), alone, strict=True):
        np.testing.assert_array_equal(one, two)
    total = len(network.weights)
    assert f": {total - 2} of {total} weights, all but the classifier's 2" in caplog.text


@pytest.mark.parametrize(
    ("save", "changes", "message"),
    few(
        [
            (
                whole,
                {"width": 5},
                r"stem_conv/kernel of shape \(3, 3, 3, 5\). Received: .*trained.keras with .*\(3, 3, 3, 4\)",
            ),
            (whole, {"channels": 1}, r"stem_conv/kernel of shape \(3, 3, 1, 4\)"),
            (whole, {"name": "preact_resnet18"}, "Expected weights of the same network"),
            (weights, {}, r"Expected weights of the same network. Received: .*trained.weights.h5 \("),  # of 7 classes
            (
                headless_weights,
                {"width": 5},
                r"Expected weights of the same network. Received: .*headless.weights.h5 \(",
            ),
            (
                headless_weights,
                {"name": "preact_resnet18"},
                r"same network, \d+ or \d+ with or without.*Received: .* with \d+",
            ),
        ],
        1,
    ),
)
def test_weights_of_another_network_are_refused(save, changes, message, trained, tmp_path):
    options = {"name": "preact_resnet10", "width": 4, "channels": 3, **changes}
    shape = (8, 8, options.pop("channels"))
    with pytest.raises(UserError, match=message):
        build(**options, num_classes=2, input_shape=shape, weights=str(save(trained, tmp_path)))


def test_what_is_no_file_of_weights_is_refused(tmp_path):
    (tmp_path / "empty.keras").write_text("nothing")
    (tmp_path / "empty.h5").write_text("nothing")
    (tmp_path / "notes.txt").write_text("mine")
    for name, message in (
        ("nowhere", "Expected network.weights as a .keras or .h5 file"),
        ("notes.txt", "folder of a finished run, or random. Received: network.weights="),
        (".", "Received: network.weights="),
        ("empty.keras", "Expected network.weights that Keras can load. Received: .*empty.keras"),
        ("empty.h5", "Expected network.weights as an HDF5 file. Received: .*empty.h5"),
    ):
        with pytest.raises(UserError, match=message):
            build("preact_resnet10", num_classes=2, input_shape=(8, 8, 3), width=4, weights=str(tmp_path / name))
