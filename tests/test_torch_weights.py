"""Checkpoints of the public PyTorch code: names, shapes, refusals, and the mode that makes a run of one."""

import sys

import numpy as np
import pytest

from cskd_tf import networks
from cskd_tf.networks.torch_weights import load_torch_weights, read_torch_checkpoint

CLASSES, WIDTH = 10, 4


def batch_norm(name, channels):
    return {f"{name}.{kind}": (channels,) for kind in ("weight", "bias", "running_mean", "running_var")}


def preact_resnet10_shapes(prefix=""):
    """What the CS-KD code saves of a `CIFAR_ResNet10`, by hand; O, I, H, W."""
    shapes = {"conv1.weight": (WIDTH, 1, 3, 3), **batch_norm("bn1", WIDTH)}
    inputs = WIDTH
    for stage in range(1, 5):
        outputs, block = WIDTH * 2 ** (stage - 1), f"layer{stage}.0"
        shapes |= batch_norm(f"{block}.bn1", inputs) | batch_norm(f"{block}.bn2", outputs)
        shapes[f"{block}.conv1.weight"] = (outputs, inputs, 3, 3)
        shapes[f"{block}.conv2.weight"] = (outputs, outputs, 3, 3)
        if stage > 1:
            shapes[f"{block}.shortcut.0.weight"] = (outputs, inputs, 1, 1)
        inputs = outputs
    shapes |= {"linear.weight": (CLASSES, inputs), "linear.bias": (CLASSES,)}
    return {prefix + name: shape for name, shape in shapes.items()}


@pytest.fixture
def weights():
    generator = np.random.default_rng(0)
    return {
        name: generator.uniform(0.5, 1.5, shape).astype("float32") for name, shape in preact_resnet10_shapes().items()
    }


@pytest.fixture
def network():
    return networks.build("preact_resnet10", num_classes=CLASSES, input_shape=(16, 16, 1), width=WIDTH)


def test_every_weight_finds_its_layer_turned_the_keras_way(network, weights):
    load_torch_weights(network, weights)
    for name, layer, index in (
        ("conv1.weight", "stem_conv", 0),
        ("layer3.0.conv1.weight", "stage3_block1_conv1", 0),
        ("layer2.0.shortcut.0.weight", "stage2_block1_shortcut_conv", 0),
    ):
        kernel = network.get_layer(layer).get_weights()[index]
        assert kernel[0, 0, 0, 1] == weights[name][1, 0, 0, 0]
        np.testing.assert_array_equal(kernel, weights[name].transpose(2, 3, 1, 0))
    for kind, value in zip(
        ("weight", "bias", "running_mean", "running_var"),
        network.get_layer("stage4_block1_bn2").get_weights(),
        strict=True,
    ):
        np.testing.assert_array_equal(value, weights[f"layer4.0.bn2.{kind}"])
    np.testing.assert_array_equal(network.get_layer("classifier").get_weights()[0], weights["linear.weight"].T)


def test_weights_that_do_not_fit_are_all_listed_and_nothing_changes(network, weights):
    before = network.get_weights()
    del weights["layer1.0.conv2.weight"]
    weights["layer2.0.conv1.weight"] = np.zeros((8, 4, 1, 1), "float32")
    weights["linear.weight"] = np.zeros((100, 32), "float32")
    weights["teacher_1.weight"] = np.zeros((3, 3), "float32")
    weights["layer1.1.bn1.bias"] = np.zeros(4, "float32")
    with pytest.raises(ValueError) as error:
        load_torch_weights(network, weights)
    message = str(error.value)
    assert "1 missing: stage1_block1_conv2/kernel" in message
    assert "2 left over: teacher_1.weight, layer1.1.bn1.bias" in message
    assert "layer2.0.conv1.weight: (8, 4, 1, 1) in the file, (8, 4, 3, 3) in the network" in message
    assert "linear.weight: (100, 32) in the file, (10, 32) in the network" in message
    for one, two in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_another_architecture_is_refused(weights):
    network = networks.build("resnet10", num_classes=CLASSES, input_shape=(32, 32, 1), width=WIDTH)
    with pytest.raises(ValueError, match=r"stage2_block1_shortcut_bn/gamma.*conv1.weight: \(4, 1, 3, 3\) in the file"):
        load_torch_weights(network, weights)


def test_without_pytorch_the_message_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ValueError, match="pip install torch"):
        read_torch_checkpoint(tmp_path / "ckpt.t7")
