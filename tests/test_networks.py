import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf import networks
from cskd_tf.networks import NetworkOutputs
from cskd_tf.networks import layers as shared_layers
from cskd_tf.networks.layers import BatchNormalization, Pieces
from cskd_tf.networks.pyramidnet import ShakeDrop


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
# One network a family: width, image, channels and sizes of the stages.
STAGES = {
    "preact_resnet10": (4, 16, [(16, 4), (8, 8), (4, 16), (2, 32)]),
    "resnet10": (4, 33, [(9, 4), (5, 8), (3, 16), (2, 32)]),
    "resnet50": (4, 64, [(16, 16), (8, 32), (4, 64), (2, 128)]),
    "resnext29_8x64d": (4, 15, [(15, 16), (8, 32), (4, 64)]),
    "resnext50_32x4d": (16, 32, [(8, 64), (4, 128), (2, 256), (1, 512)]),
    # Blocks of 6, 12, 24 and 16 layers add half the width each; a transition halves channels, and drops an odd pixel.
    "densenet121_cifar": (4, 17, [(17, 16), (8, 32), (4, 64), (2, 64)]),
    "densenet121": (4, 35, [(9, 16), (4, 32), (2, 64), (1, 64)]),
    # After 22, 44 and 66 of 66 blocks 6, 11 and 16 times the width, times 4.
    "pyramidnet200": (2, 9, [(9, 48), (5, 88), (3, 128)]),
}


@pytest.mark.parametrize("name", STAGES)
def test_embedding_and_stages_come_from_one_pass(name):
    width, size, expected = STAGES[name]
    network = networks.build(name, num_classes=3, input_shape=(size, size, 1), width=width)
    outputs = NetworkOutputs(network)(np.random.default_rng(0).normal(size=(2, size, size, 1)).astype("float32"))
    assert [tuple(stage.shape) for stage in outputs["stages"]] == [(2, side, side, depth) for side, depth in expected]
    np.testing.assert_allclose(outputs["embedding"], tf.reduce_mean(outputs["stages"][-1], axis=(1, 2)), rtol=1e-5)
    kernel, bias = network.get_layer("classifier").weights
    np.testing.assert_allclose(outputs["logits"], outputs["embedding"] @ kernel.value + bias.value, atol=1e-4)


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


def test_strided_convolution_pads_symmetrically():
    images = keras.Input((6, 6, 1))
    network = keras.Model(images, Pieces().convolution(images, 1, kernel_size=3, stride=2, name="conv"))
    network.get_layer("conv").set_weights([np.ones((3, 3, 1, 1))])
    corner = network(np.ones((1, 6, 6, 1)))[0, 0, 0, 0]
    assert float(corner) == 4.0  # padding on the top left; with padding="same" it would be 9


@pytest.mark.parametrize("has_kernel", [True, False])
def test_grouped_convolution_is_one_convolution_a_group(has_kernel, monkeypatch):
    monkeypatch.setattr(shared_layers, "_has_grouped_gradient", lambda dtype: has_kernel)
    generator = np.random.default_rng(0)
    images = tf.constant(generator.normal(size=(2, 5, 5, 6)), tf.float32)
    layer = shared_layers.Convolution(12, 3, groups=3, use_bias=False)
    layer.build(images.shape)
    with tf.GradientTape() as tape:
        outputs = layer(images)
        loss = tf.reduce_sum(outputs**2)
    gradient = tape.gradient(loss, layer.kernel.value)
    for group in range(3):
        part, kernel = images[..., 2 * group : 2 * group + 2], layer.kernel[..., 4 * group : 4 * group + 4]
        with tf.GradientTape() as tape:
            tape.watch(kernel)
            alone = tf.nn.conv2d(part, kernel, 1, "VALID")
            loss = tf.reduce_sum(alone**2)
        np.testing.assert_allclose(outputs[..., 4 * group : 4 * group + 4], alone, rtol=1e-4, atol=1e-5)
        expected = tape.gradient(loss, kernel)
        np.testing.assert_allclose(gradient[..., 4 * group : 4 * group + 4], expected, rtol=1e-4, atol=1e-3)


def test_a_split_convolution_stands_in_where_tensorflow_cannot_train_a_grouped_one():
    assert not shared_layers._has_grouped_gradient("float64")
    keras.config.set_dtype_policy("float64")
    network = networks.build("resnext29_8x64d", num_classes=2, input_shape=(8, 8, 3), width=1)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(network(np.ones((2, 8, 8, 3)), training=True))
    assert all(gradient is not None for gradient in tape.gradient(loss, [w.value for w in network.trainable_weights]))


def test_shake_drop_lets_through_or_shakes_each_image():
    layer = ShakeDrop(0.5)
    branch = tf.ones((4, 2, 2, 3))
    np.testing.assert_allclose(layer(branch, training=False), 0.5)
    shut, forward, backward = 0, [], []
    for _ in range(200):
        with tf.GradientTape() as tape:
            tape.watch(branch)
            outputs = layer(branch, training=True)
        gradient = tape.gradient(outputs, branch).numpy().reshape(4, -1)
        outputs = outputs.numpy().reshape(4, -1)
        assert (outputs == outputs[:, :1]).all()  # one number an image
        assert (gradient == gradient[:, :1]).all()
        if (outputs == 1).all():
            assert (gradient == 1).all()
        else:
            shut += 1
            forward.extend(outputs[:, 0])
            backward.extend(gradient[:, 0])
    assert 70 < shut < 130  # 100 expected, deviation 7
    for values, low, high in ((forward, -1, 1), (backward, 0, 1)):
        assert low <= min(values) < low + 0.1
        assert high - 0.1 < max(values) < high
        assert np.mean(values) == pytest.approx((low + high) / 2, abs=0.1)
    assert abs(np.corrcoef(forward, backward)[0, 1]) < 0.2


def test_shake_drop_rates_rise_linearly_to_a_half():
    network = networks.build("pyramidnet200_shakedrop", num_classes=2, input_shape=(8, 8, 1), width=1)
    rates = [layer.rate for layer in network.layers if isinstance(layer, ShakeDrop)]
    np.testing.assert_allclose(rates, 0.5 * np.arange(1, 67) / 66)
    plain = networks.build("pyramidnet200", num_classes=2, input_shape=(8, 8, 1), width=1)
    assert not any(isinstance(layer, ShakeDrop) for layer in plain.layers)
    with pytest.raises(ValueError, match="0 <= rate < 1. Received: rate=1"):
        ShakeDrop(1)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_fused_batch_norm_against_numpy(training, policy):
    generator = np.random.default_rng(0)
    images = generator.normal(3.0, 2.0, (4, 5, 5, 3)).astype("float32")
    layer = BatchNormalization(dtype=policy)
    layer.build(images.shape)
    gamma, beta, mean, variance = generator.uniform(0.5, 2.0, (4, 3))
    layer.set_weights([gamma, beta, mean, variance])
    outputs = layer(images, training=training)
    seen = tf.cast(tf.cast(images, layer.compute_dtype), tf.float32).numpy()
    center, spread = (seen.mean((0, 1, 2)), seen.var((0, 1, 2))) if training else (mean, variance)
    expected = gamma * (seen - center) / np.sqrt(spread + 1e-5) + beta
    assert outputs.dtype == layer.compute_dtype
    rounding = 0 if policy == "float32" else 2**-8
    np.testing.assert_allclose(tf.cast(outputs, tf.float32), expected, rtol=rounding, atol=1e-5)
    if training:  # PyTorch's running variance is of the unbiased batch variance
        mean, variance = 0.9 * mean + 0.1 * center, 0.9 * variance + 0.1 * spread * 100 / 99
    np.testing.assert_allclose(layer.moving_mean.numpy(), mean, rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance.numpy(), variance, rtol=1e-5)


def test_a_frozen_batch_norm_uses_and_keeps_its_statistics():
    layer = BatchNormalization()
    layer.build((None, 2, 2, 1))
    layer.trainable = False
    outputs = layer(np.full((1, 2, 2, 1), 5.0, "float32"), training=True)
    np.testing.assert_allclose(outputs, 5.0, rtol=1e-4)
    assert layer.moving_mean.numpy() == [0.0]


def test_synchronized_batch_norm_sees_all_replicas(images_and_labels, two_replicas):
    images, _ = images_and_labels
    images = images[:8]
    with two_replicas.scope():
        layer = BatchNormalization(synchronized=True)
        layer.build((None, 4, 4, 1))
    data = two_replicas.experimental_distribute_dataset(tf.data.Dataset.from_tensor_slices(images).batch(8))

    @tf.function
    def step(batch):
        return two_replicas.run(lambda x: layer(x, training=True), args=(batch,))

    for batch in data:
        step(batch)
    np.testing.assert_allclose(layer.moving_mean.numpy(), 0.1 * images.mean(), rtol=1e-5)


def test_two_readers_of_one_network_do_not_disturb_each_other():
    inputs = keras.Input((7,))
    network = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Dense(5, name="hidden")(inputs)))
    images = np.ones((2, 7), "float32")
    first = NetworkOutputs(network)
    second = NetworkOutputs(network, embedding_layer="hidden")
    shapes = [reader(images)["embedding"].shape for reader in (first, second, first)]
    assert shapes == [(2, 5), (2, 7), (2, 5)]


def test_the_embedding_layer_can_be_named():
    inputs = keras.Input((4, 4, 1))
    hidden = keras.layers.Conv2D(3, 4, name="as_convolution")(keras.layers.ReLU()(inputs))
    network = keras.Model(inputs, keras.layers.Flatten()(hidden))
    images = np.ones((2, 4, 4, 1), "float32")
    assert "embedding" not in NetworkOutputs(network)(images)
    assert NetworkOutputs(network, embedding_layer="as_convolution")(images)["embedding"].shape == (2, 16)
    with pytest.raises(ValueError, match="Unknown layer; expected one of .*'as_convolution'.*'head'"):
        NetworkOutputs(network, embedding_layer="head")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "preact_resnet99"}, r"Unknown network; expected one of \['densenet121', .*package.module:function"),
        ({"name": "no_such_module:network"}, "can be imported. Received: name='no_such_module:network'"),
        ({"num_classes": 0}, "at least two classes. Received: num_classes=0"),
        ({"width": 0}, "width=0"),
        ({"name": "densenet121", "width": 1}, "width of at least 2.*Received: width=1"),
        ({"name": "resnext50_32x4d", "width": 15}, "width of at least 16.*each of 32 groups.*Received: width=15"),
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


# The classifier is a dense layer, one after dropout or layer normalisation, or a convolution on one pixel.
@pytest.mark.parametrize(
    ("name", "features"),
    [("MobileNetV2", 1280), ("MobileNetV3Small", 1024), ("MobileNet", 1024), ("ConvNeXtTiny", 768)],
)
def test_keras_applications_show_their_embedding(name, features):
    network = getattr(keras.applications, name)(
        weights=None, input_shape=(32, 32, 3), classes=7, classifier_activation=None
    )
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    outputs = NetworkOutputs(network)(images)
    np.testing.assert_allclose(outputs["logits"], network(images), rtol=1e-5)
    heads = [layer for layer in network.layers if isinstance(layer, (keras.layers.Dense, keras.layers.Conv2D))]
    kernel, bias = heads[-1].weights
    assert outputs["embedding"].shape == (2, features)
    logits = outputs["embedding"] @ tf.reshape(kernel.value, (features, 7)) + bias.value
    np.testing.assert_allclose(outputs["logits"], logits, rtol=1e-3, atol=1e-5)
