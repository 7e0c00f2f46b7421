"""The papers' networks: sizes by formula, values by numpy, initial weights, and what is refused."""

import keras
import numpy as np
import pytest

from cskd_tf import networks
from cskd_tf.networks import NetworkOutputs


def batch_norm(channels):
    return 2 * channels


def basic_block(inputs, outputs):
    """Two 3 x 3 convolutions, and a projection where the channels change (only there, or in the stride, it stands)."""
    projection = inputs * outputs + batch_norm(outputs) if inputs != outputs else 0
    return 9 * inputs * outputs + 9 * outputs**2 + 2 * batch_norm(outputs) + projection


def bottleneck_block(inputs, outputs, hidden, groups=1):
    convolutions = inputs * hidden + 9 * hidden * hidden // groups + hidden * outputs
    projection = inputs * outputs + batch_norm(outputs) if inputs != outputs else 0
    return convolutions + 2 * batch_norm(hidden) + batch_norm(outputs) + projection


def preact_block(inputs, outputs):
    projection = inputs * outputs if inputs != outputs else 0
    return batch_norm(inputs) + 9 * inputs * outputs + batch_norm(outputs) + 9 * outputs**2 + projection


def stages(blocks, block, *, width, expansion=1):
    """Parameters of all blocks of `block(inputs, outputs, channels of the stage)`, and the channels at their end."""
    total, inputs = 0, width
    for stage, count in enumerate(blocks):
        for _ in range(count):
            total += block(inputs, expansion * width * 2**stage, width * 2**stage)
            inputs = expansion * width * 2**stage
    return total, inputs


def stem_and_head(kernel, width, features, classes, channels=3):
    return kernel**2 * channels * width + batch_norm(width) + features * classes + classes


def preact_size(blocks, classes, width=64):
    total, features = stages(blocks, lambda inputs, outputs, _: preact_block(inputs, outputs), width=width)
    return total + stem_and_head(3, width, features, classes)


def basic_size(blocks, classes, width=64):
    total, features = stages(blocks, lambda inputs, outputs, _: basic_block(inputs, outputs), width=width)
    return total + stem_and_head(7, width, features, classes)


def bottleneck_size(blocks, classes, kernel=7, width=64, groups=1, hidden_ratio=1):
    def block(inputs, outputs, planes):
        return bottleneck_block(inputs, outputs, hidden_ratio * planes, groups)

    total, features = stages(blocks, block, width=width, expansion=4)
    return total + stem_and_head(kernel, width, features, classes)


def densenet_size(blocks, classes, small, growth=32):
    channels = 2 * growth
    total = 9 * 3 * channels if small else 49 * 3 * channels + batch_norm(channels)
    for number, layers in enumerate(blocks):
        for _ in range(layers):
            total += batch_norm(channels) + channels * 4 * growth + batch_norm(4 * growth) + 9 * 4 * growth * growth
            channels += growth
        if number < len(blocks) - 1:
            total += batch_norm(channels) + channels * (channels // 2)
            channels //= 2
    return total + batch_norm(channels) + channels * classes + classes


def pyramidnet_size(depth, classes, alpha=240, width=16):
    count = (depth - 2) // 9
    total, inputs, size = 9 * 3 * width + batch_norm(width), width, float(width)
    for _ in range(3 * count):
        size += alpha / (3 * count)
        hidden = round(size)
        total += batch_norm(inputs) + inputs * hidden + batch_norm(hidden) + 9 * hidden**2 + batch_norm(hidden)
        total += 4 * hidden**2 + batch_norm(4 * hidden)
        inputs = 4 * hidden
    return total + batch_norm(inputs) + inputs * classes + classes


# Block by block from the papers. ResNeXt's inner channels are groups x width of a group, over those of its stage.
SIZES = {
    "preact_resnet10": preact_size((1, 1, 1, 1), 100),
    "preact_resnet18": preact_size((2, 2, 2, 2), 100),
    "preact_resnet34": preact_size((3, 4, 6, 3), 100),
    "resnet101_cifar": bottleneck_size((3, 4, 23, 3), 100, kernel=3),
    "resnext29_8x64d": bottleneck_size((3, 3, 3), 100, kernel=3, groups=8, hidden_ratio=8 * 64 // 64),
    "densenet121_cifar": densenet_size((6, 12, 24, 16), 100, small=True),
    "pyramidnet200": pyramidnet_size(200, 100),
    "pyramidnet200_shakedrop": pyramidnet_size(200, 100),
    "resnet10": basic_size((1, 1, 1, 1), 200),
    "resnet18": basic_size((2, 2, 2, 2), 200),
    "resnet34": basic_size((3, 4, 6, 3), 200),
    "resnet50": bottleneck_size((3, 4, 6, 3), 200),
    "resnet101": bottleneck_size((3, 4, 23, 3), 200),
    "resnet152": bottleneck_size((3, 8, 36, 3), 200),
    "resnext50_32x4d": bottleneck_size((3, 4, 6, 3), 200, groups=32, hidden_ratio=32 * 4 // 64),
    "resnext101_32x4d": bottleneck_size((3, 4, 23, 3), 200, groups=32, hidden_ratio=32 * 4 // 64),
    "densenet121": densenet_size((6, 12, 24, 16), 200, small=False),
}
PUBLISHED = {
    "preact_resnet18": 11_217_444,
    "densenet121_cifar": 7_048_548,
    "resnet18": 11_279_112,
    "densenet121": 7_158_856,
}


def parameters(network):
    return sum(int(np.prod(weight.shape)) for weight in network.trainable_weights)


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_a_network_has_the_size_of_its_architecture(name):
    assert SIZES[name] == PUBLISHED.get(name, SIZES[name])
    classes, size = (100, 32) if name in FOR_SMALL_IMAGES else (200, 224)
    network = networks.build(name, num_classes=classes, input_shape=(size, size, 3))
    assert parameters(network) == SIZES[name]


def test_preact_resnet18_has_the_published_size_for_tiny_imagenet():
    network = networks.build("preact_resnet18", num_classes=200, input_shape=(None, None, 3))
    assert parameters(network) == 11_268_744


# As torchvision's documentation has them, for ImageNet's 1,000 classes.
TORCHVISION = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "resnext50_32x4d": 25_028_904,
    "densenet121": 7_978_856,
}


@pytest.mark.parametrize("name", TORCHVISION)
def test_a_network_has_the_size_of_torchvisions(name):
    features = {"resnet18": 512, "resnet34": 512, "densenet121": 1024}.get(name, 2048)
    assert SIZES[name] + (1000 - 200) * (features + 1) == TORCHVISION[name]


FOR_SMALL_IMAGES = (
    "preact_resnet10",
    "preact_resnet18",
    "preact_resnet34",
    "resnet101_cifar",
    "resnext29_8x64d",
    "densenet121_cifar",
    "pyramidnet200",
    "pyramidnet200_shakedrop",
)


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


# Of a 3 x 3 convolution: what its deviation comes from; then how the classifier starts.
INITIAL = {
    "preact_resnet10": ("stage2_block1_conv1", "torch", "torch"),
    "resnet101_cifar": ("stage2_block1_conv2", "torch", "torch"),
    "densenet121_cifar": ("stage1_block2_conv2", "torch", "torch"),
    "resnet10": ("stage2_block1_conv1", "fan_out", "torch"),
    "resnext50_32x4d": ("stage2_block1_conv2", "fan_out", "torch"),
    "resnext29_8x64d": ("stage2_block1_conv2", "fan_out", "fan_in"),
    "densenet121": ("stage1_block2_conv2", "fan_in", "zero_bias"),
    "pyramidnet200": ("stage2_block1_conv2", "fan_out", "torch"),
}


@pytest.mark.parametrize("name", INITIAL)
def test_initial_weights_are_the_papers(name):
    convolution_name, convolution_start, head_start = INITIAL[name]
    network = networks.build(name, num_classes=50, input_shape=(None, None, 3), width=32)
    kernel = network.get_layer(convolution_name).kernel.numpy()
    fans = {"fan_in": 9 * kernel.shape[2], "fan_out": 9 * kernel.shape[3]}
    if convolution_start == "torch":
        check_uniform(kernel, fans["fan_in"] ** -0.5)
    else:
        check_normal(kernel, np.sqrt(2 / fans[convolution_start]))
    kernel, bias = (weight.numpy() for weight in network.get_layer("classifier").weights)
    if head_start == "fan_in":
        check_normal(kernel, np.sqrt(2 / len(kernel)))
    else:
        check_uniform(kernel, len(kernel) ** -0.5)
    if head_start == "torch":
        check_uniform(bias, len(kernel) ** -0.5)
    else:
        assert not bias.any()


def test_no_two_layers_start_alike():
    network = networks.build("preact_resnet10", num_classes=50, input_shape=(8, 8, 3), width=32)
    first, second = (network.get_layer(f"stage4_block1_conv{number}").kernel.numpy() for number in (1, 2))
    assert not np.array_equal(first[:, :, : 4 * 32], second[:, :, : 4 * 32])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "preact_resnet99"}, r"Unknown network; expected one of \['densenet121', .*package.module:function"),
        ({"name": "no_such_module:network"}, "can be imported. Received: name='no_such_module:network'"),
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
    [("preact_resnet10", 5), ("resnet10", 17), ("resnext29_8x64d", 3), ("densenet121_cifar", 8), ("densenet121", 29)],
)
def test_the_least_size_leaves_a_pixel(name, least):
    network = networks.build(name, num_classes=2, input_shape=(least, least, 3), width=2)
    stages = NetworkOutputs(network)(np.ones((2, least, least, 3), "float32"))["stages"]
    assert tuple(stages[-1].shape[1:3]) == (1, 1)
    assert tuple(stages[-2].shape[1:3]) != (1, 1)


def least_pixels(halvings, pools=0):
    """Halvings are padded layers of stride 2, of n pixels (n + 1) // 2; behind them pools make n // 2."""
    least = 2**pools
    for _ in range(halvings):
        least = max(2, 2 * least - 1)
    return least


def test_the_table_of_least_sizes_follows_from_the_strides():
    small = {"resnext29_8x64d": least_pixels(2), "densenet121_cifar": least_pixels(0, pools=3)}
    small |= dict.fromkeys(("pyramidnet200", "pyramidnet200_shakedrop"), least_pixels(2))
    for name in networks.NETWORKS:
        large = least_pixels(2, pools=3) if name == "densenet121" else least_pixels(5)
        least = small.get(name, least_pixels(3)) if name in FOR_SMALL_IMAGES else large
        networks.check(name, num_classes=2, input_shape=(least, least, 3))
        for shape in ((least - 1, least, 3), (least, least - 1, 3)):
            with pytest.raises(ValueError, match=f"at least {least} x {least} pixels for {name}"):
                networks.check(name, num_classes=2, input_shape=shape)


@pytest.mark.parametrize("name", ["densenet121", "resnext50_32x4d", "resnext29_8x64d"])
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
