"""Every family of networks, and every method that changes inference, in each format; a matter of minutes."""

import dataclasses

import keras
import numpy as np
import pytest

import cskd_tf
from cskd_tf.methods import AdaCos, VirtualSoftmax
from cskd_tf.serving.runtimes import formats
from tests.serving.test_runtimes import EXACT, material_of, serving_around, written

pytestmark = [pytest.mark.runtimes, pytest.mark.filterwarnings("default::DeprecationWarning")]
# One of each family, and of each form of it, at a width that is quick: name, width, pixels.
FAMILIES = [
    ("preact_resnet18", 4, 16),
    ("resnet101_cifar", 2, 16),
    ("resnext29_8x64d", 8, 16),
    ("densenet121_cifar", 4, 16),
    ("pyramidnet200", 4, 16),
    ("pyramidnet200_shakedrop", 4, 16),
    ("resnet18", 4, 32),
    ("resnet50", 4, 32),
    ("resnext50_32x4d", 16, 32),
    ("densenet121", 4, 32),
]


def check(serving, tmp_path, names=EXACT):
    material = material_of(serving, count=8)
    expected = material.numbers.expected(material.images[0])
    assert np.ptp(expected["logits"], axis=0).max() > 1e-4  # so that there is something to differ
    for name in names:
        run, report = written(name, tmp_path, material)
        assert report["largest_difference"] < 1e-5
        assert set(run(material.images[0] if formats.FORMATS[name].takes_images else material.test_pixels)) == set(
            expected
        )


@pytest.mark.parametrize(("name", "width", "size"), FAMILIES)
def test_a_network_of_each_family(name, width, size, tmp_path):
    keras.utils.set_random_seed(0)
    network = cskd_tf.networks.build(name, num_classes=10, input_shape=(size, size, 3), width=width)
    check(serving_around(network, size=size), tmp_path, [each for each in EXACT if each != "web"])  # which is onnx


@pytest.mark.parametrize("method", [AdaCos(), AdaCos(scale_at_evaluation=False), VirtualSoftmax()])
def test_a_head_of_each_method_that_replaces_it(method, tmp_path):
    keras.utils.set_random_seed(0)
    network = cskd_tf.networks.build("preact_resnet10", num_classes=10, input_shape=(16, 16, 3), width=4)
    serving = serving_around(network, [method], size=16)
    if isinstance(method, AdaCos):
        method.scale.assign(7.5)  # as training moves it
    check(serving, tmp_path)


def test_a_pretrained_network_with_preprocessing_of_its_own(tmp_path):
    keras.utils.set_random_seed(0)
    network = cskd_tf.networks.build(
        "keras.applications:MobileNetV2", num_classes=10, input_shape=(32, 32, 3), weights="random",
        normalization=((0.5,) * 3, (0.25,) * 3),
    )  # fmt: skip
    for layer in network._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0  # so that statistics are this batch's, without which nothing reaches the logits
    # Of many images like those that are shown below: of few of another kind, variances are so small that dividing by
    # them carries rounding, TensorFlow's own too, into the fifth digit.
    network((np.random.default_rng(1).uniform(size=(128, 32, 32, 3)) - 0.5) / 0.25, training=True)
    check(serving_around(network, size=32), tmp_path)


@pytest.mark.parametrize("opset", [13, 18])
def test_the_oldest_and_the_newest_opset(opset, tmp_path):
    network = cskd_tf.networks.build("preact_resnet10", num_classes=10, input_shape=(16, 16, 3), width=4)
    material = dataclasses.replace(material_of(serving_around(network, size=16)), opset=opset)
    for name in ("onnx", "openvino"):
        written(name, tmp_path, material)
    onnx = pytest.importorskip("onnx")
    (main,) = [each for each in onnx.load(tmp_path / "onnx" / "model.onnx").opset_import if not each.domain]
    assert main.version == opset
