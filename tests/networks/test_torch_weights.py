"""Checkpoints of the public PyTorch code: names, shapes, refusals, and the mode that makes a run of one."""

import sys
import zipfile

import keras
import numpy as np
import pytest

from cskd_tf import networks
from cskd_tf.networks.torch_weights import (
    _layer_name,
    _reason,
    count_classes,
    load_torch_weights,
    read_torch_checkpoint,
)
from tests.helpers import preact_resnet10_weights
from tests.networks.deep import deep_ones_later

CLASSES, WIDTH = 10, 4


@pytest.fixture
def weights():
    return preact_resnet10_weights(width=WIDTH, low=0.5, high=1.5)


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


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod.", "_orig_mod.module."])
def test_names_of_compiled_and_parallel_networks_are_those_of_the_network(prefix, network, weights):
    load_torch_weights(network, weights)
    expected = network.get_weights()
    wrapped = {prefix + name: array for name, array in weights.items()}
    assert count_classes(wrapped) == CLASSES
    network.set_weights([0 * each for each in expected])
    load_torch_weights(network, wrapped)
    for one, two in zip(network.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(one, two)
    with pytest.raises(ValueError, match=r"each weight once. Received: \['linear.bias'\] with and without"):
        load_torch_weights(network, {**wrapped, "linear.bias": weights["linear.bias"]})


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
    assert "2 left over: teacher_1.weight, layer1.1.bn1.bias (stage1_block2_bn1)" in message
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


def resnet_modules(blocks, convolutions, *, shortcut, head, first_projects):
    """`layerN.M.convK` and so on, of the CS-KD code and of torchvision."""
    yield from ("conv1", "bn1", head)
    for stage, count in enumerate(blocks, start=1):
        for block in range(count):
            for number in range(1, convolutions + 1):
                yield from (f"layer{stage}.{block}.{kind}{number}" for kind in ("conv", "bn"))
            if block == 0 and (stage > 1 or first_projects):
                yield from (f"layer{stage}.0.{shortcut}.{number}" for number in (0, 1))


def resnext_modules():
    yield from ("conv_1_3x3", "bn_1", "classifier")
    for stage in (1, 2, 3):
        for block in range(3):
            name = f"stage_{stage}.stage_{stage}_bottleneck_{block}"
            parts = ("conv_reduce", "bn_reduce", "conv_conv", "bn", "conv_expand", "bn_expand")
            shortcut = ("shortcut.shortcut_conv", "shortcut.shortcut_bn") if block == 0 else ()
            yield from (f"{name}.{part}" for part in (*parts, *shortcut))


def densenet_modules(*, torchvision):
    yield from ("features.conv0", "features.norm0", "features.norm5", "classifier") if torchvision else (
        "conv1", "bn", "linear"
    )  # fmt: skip
    for stage, count in enumerate((6, 12, 24, 16), start=1):
        for block in range(count):
            layer = f"features.denseblock{stage}.denselayer{block + 1}" if torchvision else f"dense{stage}.{block}"
            norm = "norm" if torchvision else "bn"
            yield from (f"{layer}.{kind}{number}" for kind in (norm, "conv") for number in (1, 2))
        if stage < 4:
            name = f"features.transition{stage}" if torchvision else f"trans{stage}"
            yield from (f"{name}.{norm}", f"{name}.conv")


def pyramidnet_modules():
    yield from ("conv1", "bn1", "bn_final", "fc")
    for stage in (1, 2, 3):
        for block in range(22):
            yield from (f"layer{stage}.{block}.conv{number}" for number in (1, 2, 3))
            yield from (f"layer{stage}.{block}.bn{number}" for number in (1, 2, 3, 4))


TORCHVISION = {"shortcut": "downsample", "head": "fc"}
SMALL = {"shortcut": "shortcut", "head": "linear"}
MODULES = {
    "resnet34": resnet_modules((3, 4, 6, 3), 2, **TORCHVISION, first_projects=False),
    "resnet50": resnet_modules((3, 4, 6, 3), 3, **TORCHVISION, first_projects=True),
    "resnext101_32x4d": resnet_modules((3, 4, 23, 3), 3, **TORCHVISION, first_projects=True),
    "resnet101_cifar": resnet_modules((3, 4, 23, 3), 3, **SMALL, first_projects=True),
    "resnext29_8x64d": resnext_modules(),
    "densenet121_cifar": densenet_modules(torchvision=False),
    "densenet121": densenet_modules(torchvision=True),
    "pyramidnet200": pyramidnet_modules(),
}


@pytest.mark.parametrize("name", deep_ones_later(MODULES))
def test_every_module_of_the_public_code_is_a_layer_here(name):
    network = networks.build(name, num_classes=2, input_shape=(None, None, 3), width=16)
    modules = list(MODULES[name])
    layers = [_layer_name(module) for module in modules]
    assert len(set(layers)) == len(modules)
    assert set(layers) == {layer.name for layer in network.layers if layer.weights}


def test_classes_are_counted_before_the_network_is_built(weights):
    assert count_classes(weights) == CLASSES
    assert count_classes({"conv1.weight": np.zeros((3, 3, 1, 1))}) is None


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_named_and_change_nothing(value):
    images = keras.Input((3,))
    network = keras.Model(images, keras.layers.Dense(2, name="classifier")(images))
    before = network.get_weights()
    weights = {"fc.weight": np.zeros((2, 3)), "fc.bias": np.array([0.0, value])}
    with pytest.raises(ValueError, match=r"Received: 1 not finite: fc\.bias"):
        load_torch_weights(network, weights)
    for one, other in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_file_that_broke_off_is_said_to(tmp_path):
    with zipfile.ZipFile(tmp_path / "whole.pth", "w") as file:
        file.writestr("archive/data.pkl", bytes(1000))
    whole = (tmp_path / "whole.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    error = OSError(22, "Invalid argument")
    assert _reason(error, tmp_path / "cut.pth") == "its end is missing, as of a download that broke off"
    assert _reason(error, tmp_path / "whole.pth") == "[Errno 22] Invalid argument"


@pytest.mark.parametrize("kind", ["norm", "conv"])
def test_modules_of_older_torchvisions_have_a_dot_before_their_number(kind):
    old, new = (f"features.denseblock2.denselayer3.{kind}{number}" for number in (".1", "1"))
    assert _layer_name(old) == _layer_name(new) == f"stage2_block3_{kind.replace('norm', 'bn')}1"
