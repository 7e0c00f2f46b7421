"""The pieces that networks are made of, against numpy and by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf import SelfDistiller, methods, networks
from cskd_tf.networks import convolution
from cskd_tf.networks import layers as shared_layers
from cskd_tf.networks.densenet import densenet
from cskd_tf.networks.layers import BatchNormalization, Pieces
from cskd_tf.networks.preact_resnet import preact_resnet
from cskd_tf.networks.pyramidnet import ShakeDrop, pyramidnet
from cskd_tf.networks.resnet import bottleneck, resnet
from cskd_tf.networks.resnext import resnext
from cskd_tf.training.optimizers import SGD


def test_strided_convolution_pads_symmetrically():
    images = keras.Input((6, 6, 1))
    network = keras.Model(images, Pieces().convolution(images, 1, kernel_size=3, stride=2, name="conv"))
    network.get_layer("conv").set_weights([np.ones((3, 3, 1, 1))])
    corner = network(np.ones((1, 6, 6, 1)))[0, 0, 0, 0]
    assert float(corner) == 4.0  # padding on the top left; with padding="same" it would be 9


@pytest.mark.parametrize("split", [False, True])
def test_grouped_convolution_is_one_convolution_a_group(split, monkeypatch):
    if split:  # as where TensorFlow has no kernel; else what is right for this process, which may be the same
        monkeypatch.setattr(convolution, "_has_grouped_gradient", lambda dtype: False)
    generator = np.random.default_rng(0)
    images = tf.constant(generator.normal(size=(2, 5, 5, 6)), tf.float32)
    layer = convolution.Convolution(12, 3, groups=3, use_bias=False)
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


def test_a_grouped_convolution_is_whole_where_tensorflow_can_train_it():
    traced = tf.function(convolution.Convolution(12, 3, groups=3)).get_concrete_function(tf.TensorSpec((2, 5, 5, 6)))
    kinds = [operation.type for operation in traced.graph.get_operations()]
    assert kinds.count("Conv2D") == (1 if convolution._has_grouped_gradient("float32") else 3)


def outputs_and_gradients(layer, images):
    """Of a layer's outputs, weighted at random, by images and kernel."""
    images = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(images)
        outputs = tf.cast(layer(images), tf.float32)
        weighted = tf.reduce_sum(outputs * np.random.default_rng(1).normal(size=outputs.shape).astype("float32"))
    return [outputs, *tape.gradient(weighted, [images, layer.kernel.value])]


@pytest.mark.parametrize("size", [(4, 4), (3, 5)])
def test_the_filters_gradient_by_matrix_products_is_the_convolutions(size, monkeypatch):
    images = np.random.default_rng(0).normal(size=(3, *size, 6)).astype("float32")
    layer = convolution.Convolution(4, 3, padding="same", use_bias=False)
    expected = outputs_and_gradients(layer, images)
    monkeypatch.setattr(convolution, "_has_slow_filter_gradient", lambda layer, kernel: True)
    monkeypatch.setattr(tf.raw_ops, "Conv2DBackpropFilter", lambda **options: pytest.fail("not by products"))
    for one, two in zip(outputs_and_gradients(layer, images), expected, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [convolution.Convolution, keras.layers.Conv2D])
@pytest.mark.parametrize("options", [
    {"kernel_size": 3, "padding": "same"}, {"kernel_size": (2, 3), "strides": (2, 1)}, {"kernel_size": 1, "strides": 2},
    {"kernel_size": 3, "groups": 2}, {"kernel_size": 3, "dilation_rate": 2},
], ids=str)  # fmt: skip
def test_the_filters_gradient_in_float32_is_the_convolutions(kind, options, monkeypatch):
    images = np.random.default_rng(0).normal(size=(3, 6, 7, 4)).astype("float32")
    layer = kind(6, **options)
    expected = outputs_and_gradients(layer, images)
    monkeypatch.setattr(convolution, "adds_in_half", lambda dtype: True)  # as in bfloat16 on some CPUs
    convolution.compute_right(layer)
    for one, two in zip(outputs_and_gradients(layer, images), expected, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "bfloat16"])
@pytest.mark.parametrize(("kind", "channels", "options"), [
    (convolution.Convolution, 4, {"kernel_size": 3}), (convolution.Convolution, 4, {"kernel_size": 3, "groups": 2}),
    (convolution.Convolution, 3, {"kernel_size": 1, "strides": 2}),
    (keras.layers.Conv2D, 4, {"kernel_size": 3}), (keras.layers.Conv2D, 64, {"kernel_size": 1}),
], ids=str)  # fmt: skip
def test_half_precision_adds_up_a_filters_gradient_whole(policy, kind, channels, options):
    layer = kind(4, padding="same", use_bias=False, dtype=policy, **options)
    convolution.compute_right(layer)
    with tf.GradientTape() as tape:
        outputs = layer(tf.ones((2, 64, 64, channels), layer.compute_dtype))
    total = tape.gradient(outputs, layer.kernel.value).numpy()
    middle = total[layer.kernel_size[0] // 2, layer.kernel_size[1] // 2]
    # Of 1 at each of 8,192 pixels, or 2,048. Added up in bfloat16, 256 + 1 is 256.
    np.testing.assert_array_equal(middle.astype("float32"), np.size(outputs) / 4)


@pytest.mark.parametrize("kind", [convolution.Convolution, keras.layers.Conv2D])
def test_half_precision_adds_up_the_gradient_by_images_whole(kind):
    layer = kind(512, 3, padding="same", use_bias=False, kernel_initializer="ones", dtype="mixed_bfloat16")
    convolution.compute_right(layer)
    images = tf.ones((1, 4, 4, 4))
    with tf.GradientTape() as tape:
        tape.watch(images)
        outputs = layer(images)
    gradient = tape.gradient(outputs, images)
    np.testing.assert_array_equal(gradient[0, 1:3, 1:3], 9 * 512)  # of each of 3 x 3 pixels that see one


def test_a_convolution_in_bfloat16_can_be_first_called_in_a_graph_of_tensorflow_1():
    convolution._rounds_sums_away.cache_clear()
    with tf.Graph().as_default():
        outputs = convolution.Convolution(8, 3, dtype="mixed_bfloat16")(tf.ones((2, 16, 16, 3)))
    assert outputs.shape == (2, 14, 14, 8)


def test_what_is_lost_in_bfloat16_is_said_where_it_is(monkeypatch, caplog):
    monkeypatch.setattr(convolution.logging.get_absl_logger(), "propagate", True)

    def warned(policy, lost):
        caplog.clear()
        monkeypatch.setattr(convolution, "_rounds_sums_away", lambda: lost)
        layers = [keras.Input((8, 8, 1)), convolution.Convolution(2, 3, dtype=policy), keras.layers.Flatten()]
        SelfDistiller(keras.Sequential([*layers, keras.layers.Dense(2, dtype="float32")])).compile(SGD(0.1))
        return ["256 + 1 is 256" in record.getMessage() for record in caplog.records]

    assert warned("mixed_bfloat16", True) == [True]
    assert warned("mixed_bfloat16", False) == warned("float32", True) == warned("mixed_float16", True) == []


@pytest.mark.parametrize("policy", ["bfloat16", "float16"])
@pytest.mark.parametrize("synchronized", [False, True])
def test_batch_norm_keeps_its_statistics_in_half_precision_alone(policy, synchronized):
    layer = BatchNormalization(synchronized=synchronized, dtype=policy)
    images = np.random.default_rng(0).normal(1, 2, size=(5, 128, 128, 16))
    outputs = layer(images, training=True)
    assert outputs.dtype == layer.moving_variance.dtype == policy
    np.testing.assert_allclose(tf.cast(outputs, tf.float32)[0], (images[0] - 1) / 2, atol=0.05)
    np.testing.assert_allclose(tf.cast(layer.moving_mean.value, tf.float32), 0.1, atol=0.01)
    np.testing.assert_allclose(tf.cast(layer.moving_variance.value, tf.float32), 0.9 + 0.4, atol=0.02)


@pytest.mark.parametrize(("channels", "policy", "products"), [
    (256, "mixed_bfloat16", True), (255, "mixed_bfloat16", False), (256, "float32", False),
])  # fmt: skip
def test_half_precision_of_many_channels_trains_by_matrix_products(channels, policy, products, monkeypatch):
    monkeypatch.setattr(convolution, "adds_in_half", lambda dtype: False)
    layer = convolution.Convolution(4, 3, padding="same", use_bias=False, dtype=policy)
    layer.build((None, 4, 4, channels))

    @tf.function
    def gradient(images):
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(layer(images))
        return tape.gradient(total, layer.kernel.value)

    images = tf.constant(np.random.default_rng(0).normal(size=(2, 4, 4, channels)), tf.float32)
    assert layer(np.zeros((1, 4, 4, channels), "float32")).shape == (1, 4, 4, 4)  # outside of a graph, too
    kinds = {each.type for each in gradient.get_concrete_function(images).graph.get_operations()}
    assert ("Conv2DBackpropFilter" in kinds) != products
    if not products:  # TensorFlow's own, which on some CPUs does add up in half precision
        return
    # With a gradient of 1 everywhere the middle of the filter gets the sum of all pixels.
    rounded = tf.cast(images, layer.compute_dtype)
    expected = tf.reduce_sum(tf.cast(rounded, tf.float32), axis=(0, 1, 2))
    np.testing.assert_allclose(gradient(images)[1, 1, :, 0], expected, rtol=1e-2, atol=5e-2)


def test_other_options_of_a_convolution_stay_keras_own():
    layer = convolution.Convolution(4, 3, groups=2, dilation_rate=2, use_bias=False)
    assert layer(tf.ones((1, 9, 9, 4))).shape == (1, 5, 5, 4)


@pytest.mark.parametrize("options", [{"synchronized": True}, {"dtype": "float64"}])
def test_unfused_batch_norm_keeps_the_unbiased_variance_too(options):
    images = np.random.default_rng(0).normal(size=(2, 3, 3, 2)).astype("float32")
    layer = BatchNormalization(**options)
    layer(images, training=True)
    expected = 0.9 + 0.1 * images.var(axis=(0, 1, 2), ddof=1)
    np.testing.assert_allclose(layer.moving_variance.numpy(), expected, rtol=1e-5)
    layer(images, training=False)
    np.testing.assert_allclose(layer.moving_variance.numpy(), expected, rtol=1e-5)


def test_a_split_convolution_stands_in_where_tensorflow_cannot_train_a_grouped_one():
    assert not convolution._has_grouped_gradient("float64")
    keras.config.set_dtype_policy("float64")
    network = networks.build("resnext29_8x64d", num_classes=2, input_shape=(8, 8, 3), width=1)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(network(np.ones((2, 8, 8, 3)), training=True))
    assert all(gradient is not None for gradient in tape.gradient(loss, [w.value for w in network.trainable_weights]))


@pytest.fixture
def _channels_first():
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    yield
    keras.config.set_image_data_format(before)


@pytest.mark.usefixtures("_channels_first")
@pytest.mark.parametrize(
    ("family", "size", "options"),
    [
        (preact_resnet, (1, 1), {}),
        (resnet, (1, 1), {}),
        (resnet, (1, 1), {"hidden": bottleneck, "small_images": True}),
        (resnext, (1, 1), {"cardinality": 2, "group_width": 64}),
        (densenet, (1, 1), {}),
        (densenet, (1, 1), {"small_images": True}),
        (pyramidnet, 11, {"shake_drop": 0.5}),
    ],
)
def test_channels_are_last_whatever_keras_says(family, size, options):
    def build():
        keras.utils.set_random_seed(0)
        return family(size, num_classes=3, input_shape=(32, 31, 3), width=4, name="network", **options)

    network = build()
    assert {layer.data_format for layer in network.layers if hasattr(layer, "data_format")} == {"channels_last"}
    keras.config.set_image_data_format("channels_last")
    expected = build()
    images = np.random.default_rng(0).normal(size=(2, 32, 31, 3)).astype("float32")
    for ours, theirs in zip(network.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_allclose(network(images), expected(images), rtol=1e-6)


@pytest.mark.usefixtures("_channels_first")
def test_training_under_channels_first_keeps_channels_last():
    model = SelfDistiller(
        networks.build("preact_resnet10", num_classes=3, input_shape=(8, 8, 3), width=16), [methods.BYOT()]
    )
    model.compile(SGD(0.01))
    images = np.random.default_rng(0).normal(size=(12, 8, 8, 3)).astype("float32")
    history = model.fit(images, np.arange(12) % 3, batch_size=4, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert model.outputs(images[:2])["embedding"].shape == (2, 128)
    for exit_network in model.methods[0].exits:
        said = {layer.data_format for layer in exit_network.layers if hasattr(layer, "data_format")}
        assert said == {"channels_last"}


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
        assert (outputs == outputs[:, :1]).all()  # one number per image
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


@pytest.mark.slow
def test_shake_drop_rates_rise_linearly_to_a_half():
    network = networks.build("pyramidnet200_shakedrop", num_classes=2, input_shape=(8, 8, 1), width=1)
    rates = [layer.rate for layer in network.layers if isinstance(layer, ShakeDrop)]
    np.testing.assert_allclose(rates, 0.5 * np.arange(1, 67) / 66)
    plain = networks.build("pyramidnet200", num_classes=2, input_shape=(8, 8, 1), width=1)
    assert not any(isinstance(layer, ShakeDrop) for layer in plain.layers)
    with pytest.raises(ValueError, match="0 <= rate < 1. Received: rate=1"):
        ShakeDrop(1)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_batch_norm_against_numpy(training, policy, fused, monkeypatch):
    assert shared_layers._fused_is_fast(32)
    assert not shared_layers._fused_is_fast(33)
    monkeypatch.setattr(shared_layers, "_fused_is_fast", lambda channels: fused)
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
    np.testing.assert_allclose(layer.moving_variance.numpy(), 0.9 + 0.1 * images.var(ddof=1), rtol=1e-5)
