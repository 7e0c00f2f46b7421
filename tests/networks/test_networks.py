"""The papers' networks: values by numpy, initial weights, and what is refused; test_sizes.py counts parameters."""

import keras
import numpy as np
import pytest

from cskd_tf import networks
from cskd_tf.networks import NetworkOutputs
from tests.networks.deep import deep_ones_later
from tests.selection import few, quick


def numpy_preact_resnet10(network, images):
    """The network in inference mode, from its weights, with explicit sums."""

    def conv(inputs, name, stride=1):
        kernel = network.get_layer(name).kernel.numpy()
        size, edge = kernel.shape[0], kernel.shape[0] // 2
        padded = np.pad(inputs, [(0, 0), (edge, edge), (edge, edge), (0, 0)])
        rows, columns = ((extent - 1) // stride + 1 for extent in inputs.shape[1:3])
        result = np.zeros((len(inputs), rows, columns, kernel.shape[3]))
        for top in range(size):
            for left in range(size):
                part = padded[:, top : top + stride * rows : stride, left : left + stride * columns : stride]
                result += part[:, :rows, :columns] @ kernel[top, left]
        return result

    def activate(inputs, name):
        layer = network.get_layer(name)
        gamma, beta, mean, variance = (weight.numpy() for weight in layer.weights)
        return np.maximum(gamma * (inputs - mean) / np.sqrt(variance + 1e-5) + beta, 0)

    outputs = activate(conv(images, "stem_conv"), "stem_bn")
    stages = []
    for stage in range(1, 5):
        name, stride = f"stage{stage}_block1", 1 if stage == 1 else 2
        activated = activate(outputs, f"{name}_bn1")
        shortcut = activated if stage == 1 else conv(activated, f"{name}_shortcut_conv", stride)
        hidden = activate(conv(activated, f"{name}_conv1", stride), f"{name}_bn2")
        outputs = conv(hidden, f"{name}_conv2") + shortcut
        stages.append(outputs)
    embedding = outputs.mean(axis=(1, 2))
    kernel, bias = (weight.numpy() for weight in network.get_layer("classifier").weights)
    return {"logits": embedding @ kernel + bias, "embedding": embedding, "stages": stages}


@pytest.mark.parametrize("size", [16, 13])
def test_preact_resnet_computes_what_the_papers_code_computes(size):
    generator = np.random.default_rng(0)
    network = networks.build("preact_resnet10", num_classes=5, input_shape=(size, size, 2), width=4)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([generator.uniform(0.5, 1.5, weight.shape) for weight in layer.weights])
    images = generator.normal(size=(2, size, size, 2)).astype("float32")
    expected = numpy_preact_resnet10(network, images)
    measured = NetworkOutputs(network)(images)
    for name in ("logits", "embedding"):
        np.testing.assert_allclose(measured[name], expected[name], rtol=1e-4, atol=1e-5)
    for one, two in zip(measured["stages"], expected["stages"], strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-4)


def check_uniform(values, limit):
    assert 0.9 * limit < np.abs(values).max() <= limit
    assert np.std(values) == pytest.approx(limit / np.sqrt(3), rel=0.2)


def check_normal(values, deviation):
    assert np.std(values) == pytest.approx(deviation, rel=0.1)
    assert np.abs(values).max() > 2.5 * deviation  # Keras' own He normal is cut off at 2.3


def as_pytorchs(kernel):
    check_uniform(kernel, np.prod(kernel.shape[:-1]) ** -0.5)


def as_he_by_inputs(kernel):
    check_normal(kernel, np.sqrt(2 / np.prod(kernel.shape[:-1])))


def as_he_by_outputs(kernel):
    check_normal(kernel, np.sqrt(2 / (np.prod(kernel.shape[:-2]) * kernel.shape[-1])))


# A 3 x 3 convolution and how it starts; how the classifier's kernel does, and whether its bias is zero.
INITIAL = {
    "preact_resnet10": ("stage2_block1_conv1", as_pytorchs, as_pytorchs, False),
    "resnet101_cifar": ("stage2_block1_conv2", as_pytorchs, as_pytorchs, False),
    "densenet121_cifar": ("stage1_block2_conv2", as_pytorchs, as_pytorchs, False),
    "resnet10": ("stage2_block1_conv1", as_he_by_outputs, as_pytorchs, False),
    "resnext50_32x4d": ("stage2_block1_conv2", as_he_by_outputs, as_pytorchs, False),
    "resnext29_8x64d": ("stage2_block1_conv2", as_he_by_outputs, as_he_by_inputs, True),
    "densenet121": ("stage1_block2_conv2", as_he_by_inputs, as_pytorchs, True),
    "pyramidnet200": ("stage2_block1_conv2", as_he_by_outputs, as_pytorchs, False),
}


@pytest.mark.parametrize("name", deep_ones_later(INITIAL))
def test_initial_weights_are_the_papers(name):
    convolution, convolution_starts, head_starts, zero_bias = INITIAL[name]
    network = networks.build(name, num_classes=50, input_shape=(None, None, 3), width=32)
    convolution_starts(network.get_layer(convolution).kernel.numpy())
    kernel, bias = (weight.numpy() for weight in network.get_layer("classifier").weights)
    head_starts(kernel)
    if zero_bias:
        assert not bias.any()
    else:
        check_uniform(bias, len(kernel) ** -0.5)


def test_no_two_layers_start_alike():
    network = networks.build("preact_resnet10", num_classes=50, input_shape=(8, 8, 3), width=32)
    first, second = (network.get_layer(f"stage4_block1_conv{number}").kernel.numpy() for number in (1, 2))
    assert not np.array_equal(first[:, :, : 4 * 32], second[:, :, : 4 * 32])


def needs_more(num_classes, input_shape, depth):
    raise AssertionError


def makes_none(num_classes, input_shape):
    return None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "preact_resnet99"}, r"Unknown network; expected one of \['densenet121', .*package.module:function"),
        ({"name": "no_such_module:network"}, "can be imported. Received: name='no_such_module:network'"),
        ({"name": f"{__name__}:needs_more"}, "needs_more to make a network of .* Received: .*missing.*'depth'"),
        ({"name": f"{__name__}:makes_none"}, "makes_none to return a Keras model. Received: NoneType"),
        ({"name": "builtins:dict"}, "Expected builtins:dict to be a function of num_classes and input_shape. Received"),
        ({"name": "math:pi"}, "Expected math:pi to be a function of num_classes and input_shape. Received"),
        ({"name": ":network"}, "Unknown network.*Received: name=':network'"),
        (
            {"name": f"{__name__}:no_options", "width": 4},
            r"none of \['width'\], which .*no_options does not take",
        ),
        ({"num_classes": 0}, "at least two classes. Received: num_classes=0"),
        ({"width": 0}, "width=0"),
        ({"name": "densenet121", "width": 1}, "width of at least 2.*Received: width=1"),
        (
            {"name": "resnext50_32x4d", "width": 15},
            "width of at least 16 for resnext50_32x4d, .*each layer and group.*Received: width=15",
        ),
        ({"input_shape": (32, 32)}, "height, width, channels"),
        ({"input_shape": (32, 0, 3)}, r"Received: input_shape=\(32, 0, 3\)"),
        ({"input_shape": (32, 4, 3)}, r"at least 5 x 5 pixels.*Received: input_shape=\(32, 4, 3\)"),
        ({"name": "resnet50", "input_shape": (16, 32, 3)}, "at least 17 x 17 pixels"),
        ({"name": "resnext29_8x64d", "input_shape": (2, 2, 3)}, "at least 3 x 3 pixels"),
        ({"name": "densenet121_cifar", "input_shape": (7, 7, 3)}, "at least 8 x 8 pixels"),
        ({"name": "densenet121", "input_shape": (28, 28, 3)}, "at least 29 x 29 pixels"),
        ({"name": "pyramidnet200", "input_shape": (2, 8, 3)}, "at least 3 x 3 pixels"),
    ],
)
def test_bad_sizes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        networks.build(**{"name": "preact_resnet10", "num_classes": 3, "input_shape": (32, 32, 3), **arguments})


@pytest.mark.parametrize(
    ("name", "least"),
    few(
        [
            ("preact_resnet10", 5),
            ("resnet10", 17),
            ("resnext29_8x64d", 3),
            pytest.param("densenet121_cifar", 8, marks=pytest.mark.thorough),
            pytest.param("densenet121", 29, marks=pytest.mark.thorough),
        ],
        1,
    ),
)
def test_the_least_size_leaves_a_pixel(name, least):
    network = networks.build(name, num_classes=2, input_shape=(least, least, 3), width=2)
    stages = NetworkOutputs(network)(np.ones((2, least, least, 3), "float32"))["stages"]
    assert tuple(stages[-1].shape[1:3]) == (1, 1)
    assert tuple(stages[-2].shape[1:3]) != (1, 1)


def least_pixels(halvings, pools):
    """Halvings are padded layers of stride 2, of n pixels (n + 1) // 2; behind them pools make n // 2."""
    least = 2**pools
    for _ in range(halvings):
        least = max(2, 2 * least - 1)
    return least


def test_the_table_of_least_sizes_follows_from_the_strides():
    strides = {"densenet121": (2, 3), "densenet121_cifar": (0, 3)}
    strides |= dict.fromkeys(("resnext29_8x64d", "pyramidnet200", "pyramidnet200_shakedrop"), (2, 0))
    strides |= dict.fromkeys(("preact_resnet10", "preact_resnet18", "preact_resnet34", "resnet101_cifar"), (3, 0))
    for name in networks.NETWORKS:
        halvings, pools = strides.get(name, (5, 0))
        least = least_pixels(halvings, pools)
        networks.check(name, num_classes=2, input_shape=(least, least, 3))
        for shape in ((least - 1, least, 3), (least, least - 1, 3)):
            with pytest.raises(ValueError, match=f"at least {least} x {least} pixels for {name}"):
                networks.check(name, num_classes=2, input_shape=shape)


@pytest.mark.parametrize("name", quick(["densenet121", "resnext50_32x4d", "resnext29_8x64d"], "resnext29_8x64d"))
def test_the_least_width_leaves_a_channel_for_each_layer_and_group(name):
    least = {"densenet121": 2, "resnext50_32x4d": 16}.get(name, 1)
    network = networks.build(name, num_classes=2, input_shape=(32, 32, 3), width=least)
    kernels = [layer.kernel.shape for layer in network.layers if isinstance(layer, keras.layers.Conv2D)]
    assert min(min(inputs, outputs) for _, _, inputs, outputs in kernels) == 1
    with pytest.raises(ValueError, match=f"width of at least {least}"):
        networks.check(name, num_classes=2, input_shape=(32, 32, 3), width=least - 1)


def test_a_check_builds_nothing(monkeypatch):
    monkeypatch.setattr(keras.layers.Layer, "__init__", lambda *args, **kwargs: pytest.fail("a layer was made"))
    networks.check("resnet18", num_classes=2, input_shape=(32, 32, 3), width=4, synchronized=True)


def no_options(*, num_classes, input_shape):
    return own_network(num_classes=num_classes, input_shape=input_shape)


def own_network(*, num_classes, input_shape, width=7):
    inputs = keras.Input(input_shape)
    hidden = keras.layers.Dense(width)(keras.layers.Flatten()(inputs))
    return keras.Model(inputs, keras.layers.Dense(num_classes)(hidden))


@pytest.mark.parametrize("width", [None, 9])
def test_a_function_of_the_users_is_found_by_its_path(width):
    network = networks.build(f"{__name__}:own_network", num_classes=4, input_shape=(2, 2, 1), width=width)
    outputs = NetworkOutputs(network)(np.ones((3, 2, 2, 1), "float32"))
    assert outputs["logits"].shape == (3, 4)
    assert outputs["embedding"].shape == (3, width or 7)
