import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf import networks
from cskd_tf.networks import NetworkOutputs
from cskd_tf.networks.layers import BatchNormalization, convolution


@pytest.mark.parametrize(("classes", "parameters"), [(100, 11_217_444), (200, 11_268_744)])
def test_preact_resnet18_has_the_published_size(classes, parameters):
    network = networks.build("preact_resnet18", num_classes=classes, input_shape=(32, 32, 3))
    assert sum(int(np.prod(weight.shape)) for weight in network.trainable_weights) == parameters


def test_preact_resnet10_has_the_size_of_its_architecture():
    def block(inputs, outputs):
        shortcut = inputs * outputs if inputs != outputs else 0
        return 2 * inputs + 9 * inputs * outputs + 2 * outputs + 9 * outputs * outputs + shortcut

    widths = [8, 8, 16, 32, 64]
    expected = 9 * 1 * 8 + 2 * 8 + sum(block(*pair) for pair in itertools.pairwise(widths)) + 64 * 10 + 10
    network = networks.build("preact_resnet10", num_classes=10, input_shape=(None, None, 1), width=8)
    assert sum(int(np.prod(weight.shape)) for weight in network.trainable_weights) == expected


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
        layer = network.get_layer(f"{name}_bn")
        gamma, beta, mean, variance = (weight.numpy() for weight in layer.weights)
        return np.maximum(gamma * (inputs - mean) / np.sqrt(variance + 1e-5) + beta, 0)

    outputs = activate(conv(images, "stem_conv"), "stem")
    stages = []
    for stage in range(1, 5):
        name, stride = f"stage{stage}_block1", 1 if stage == 1 else 2
        activated = activate(outputs, f"{name}_1")
        shortcut = activated if stage == 1 else conv(activated, f"{name}_shortcut", stride)
        hidden = activate(conv(activated, f"{name}_1_conv", stride), f"{name}_2")
        outputs = conv(hidden, f"{name}_2_conv") + shortcut
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


def test_initial_weights_are_pytorchs():
    network = networks.build("preact_resnet10", num_classes=50, input_shape=(8, 8, 3), width=32)
    for name in ("stem_conv", "stage2_block1_1_conv", "classifier"):
        layer = network.get_layer(name)
        limit = np.prod(layer.kernel.shape[:-1]) ** -0.5
        for weight in layer.weights:
            values = weight.numpy()
            assert 0.9 * limit < np.abs(values).max() <= limit
            assert np.std(values) == pytest.approx(limit / np.sqrt(3), rel=0.2)
    first, second = (network.get_layer(f"stage4_block1_{number}_conv").kernel.numpy() for number in (1, 2))
    assert not np.array_equal(first[:, :, : 4 * 32], second[:, :, : 4 * 32])


def test_strided_convolution_pads_symmetrically():
    images = keras.Input((6, 6, 1))
    network = keras.Model(images, convolution(images, 1, kernel_size=3, stride=2, name="conv"))
    network.get_layer("conv").set_weights([np.ones((3, 3, 1, 1))])
    corner = network(np.ones((1, 6, 6, 1)))[0, 0, 0, 0]
    assert float(corner) == 4.0  # padding on the top left; with padding="same" it would be 9


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


def test_embedding_and_stages_come_from_one_pass():
    network = networks.build("preact_resnet10", num_classes=3, input_shape=(16, 16, 1), width=4)
    outputs = NetworkOutputs(network)(np.ones((2, 16, 16, 1), "float32"))
    assert [stage.shape for stage in outputs["stages"]] == [(2, 16, 16, 4), (2, 8, 8, 8), (2, 4, 4, 16), (2, 2, 2, 32)]
    np.testing.assert_allclose(outputs["embedding"], tf.reduce_mean(outputs["stages"][-1], axis=(1, 2)), rtol=1e-5)
    kernel, bias = network.get_layer("classifier").weights
    np.testing.assert_allclose(outputs["logits"], outputs["embedding"] @ kernel.value + bias.value, atol=1e-5)


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
        ({"name": "preact_resnet99"}, r"Unknown network; expected one of \['preact_resnet10', 'preact_resnet18'\]"),
        ({"num_classes": 1}, "at least two classes. Received: num_classes=1"),
        ({"width": 0}, "width=0"),
        ({"input_shape": (32, 32)}, "height, width, channels"),
    ],
)
def test_bad_sizes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        networks.build(**{"name": "preact_resnet10", "num_classes": 3, "input_shape": (32, 32, 3), **arguments})
