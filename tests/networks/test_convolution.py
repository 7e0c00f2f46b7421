"""Convolutions by other kernels: the same numbers, without those of TensorFlow's that break the heap or lose sums."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf import SelfDistiller, networks
from cskd_tf.networks import convolution, features
from cskd_tf.networks.convolution import Convolution, _visited_pixels, compute_right
from cskd_tf.training.optimizers import SGD
from tests.selection import quick


@pytest.mark.parametrize("kind", [Convolution, keras.layers.Conv2D])
@pytest.mark.parametrize("strides", [2, 3, (1, 2)])
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_pixels_between_strides_are_left_out_and_nothing_else(kind, strides, padding):
    generator = np.random.default_rng(0)
    images = tf.constant(generator.normal(size=(3, 9, 8, 4)), tf.float32)
    layer = kind(5, 1, strides=strides, padding=padding, bias_initializer="ones")
    compute_right(layer)
    rows, columns = layer.strides
    with tf.GradientTape() as tape:
        tape.watch(images)
        outputs = layer(images)
        loss = tf.reduce_sum(outputs**2)
    kernel = layer.kernel.numpy()[0, 0]
    visited = images.numpy()[:, ::rows, ::columns]
    expected = visited @ kernel + 1
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)
    of_images, of_kernel = tape.gradient(loss, [images, layer.kernel.value])
    np.testing.assert_allclose(of_kernel[0, 0], np.einsum("nhwi,nhwo->io", visited, 2 * expected), rtol=1e-4)
    np.testing.assert_allclose(of_images[:, ::rows, ::columns], 2 * expected @ kernel.T, rtol=1e-4, atol=1e-4)
    assert np.count_nonzero(of_images) == visited.size


def test_channels_first_and_layers_of_the_users_own_are_right_too():
    class Own(keras.layers.Conv2D):
        def convolution_op(self, inputs, kernel):
            return keras.ops.zeros((1,))

    own = Own(2, 1, strides=2, use_bias=False)
    compute_right(own)
    assert own(tf.ones((1, 4, 4, 3))).shape == (1,)
    layer = keras.layers.Conv2D(2, 1, strides=(1, 3), data_format="channels_first")
    images = np.arange(3 * 4 * 7).reshape(1, 3, 4, 7)  # the convolution itself needs oneDNN or an accelerator
    np.testing.assert_array_equal(_visited_pixels(layer, images), images[:, :, :, ::3])


def dangerous(function) -> list:
    """Convolutions of 1 x 1 pixels at a stride over fewer than 16 channels in a traced training step."""
    found = []
    for operation in function.graph.get_operations():
        if operation.type == "Conv2D" and max(operation.get_attr("strides")) > 1:
            rows, columns, channels, _ = operation.inputs[1].shape
            if rows == columns == 1 and channels < 16:
                found.append(operation.name)
    return found


def gradients(network):
    def compute(images):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(network(images, training=True))
        return tape.gradient(loss, [weight.value for weight in network.trainable_weights])

    return tf.function(compute, autograph=False).get_concrete_function(tf.TensorSpec(network.input_shape))


@pytest.mark.parametrize("name", quick(["preact_resnet10", "resnet10", "resnext29_8x64d"], "preact_resnet10"))
def test_no_network_takes_the_gradient_that_breaks_the_heap(name, monkeypatch):
    network = networks.build(name, num_classes=2, input_shape=(33, 33, 3), width=2)
    assert not dangerous(gradients(network))
    monkeypatch.setattr("cskd_tf.networks.convolution._skips_pixels", lambda layer, kernel: False)
    assert dangerous(gradients(network))


def test_nor_does_a_network_of_keras_layers_once_it_is_wrapped():
    layers = keras.layers
    network = keras.Sequential(
        [keras.Input((16, 16, 3)), layers.Conv2D(4, 1, 2), layers.GlobalAveragePooling2D(), layers.Dense(2)]
    )
    assert len(dangerous(gradients(network))) == 1
    features.NetworkOutputs(network)
    features.NetworkOutputs(network)
    assert not dangerous(gradients(network))


@pytest.mark.parametrize("split", [False, True])
def test_grouped_convolution_is_one_convolution_a_group(split, monkeypatch):
    if split:  # as where TensorFlow has no kernel; else what is right for this process, which may be the same
        monkeypatch.setattr(convolution, "_has_grouped_gradient", lambda dtype: False)
    generator = np.random.default_rng(0)
    images = tf.constant(generator.normal(size=(2, 5, 5, 6)), tf.float32)
    layer = Convolution(12, 3, groups=3, use_bias=False)
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
    traced = tf.function(Convolution(12, 3, groups=3)).get_concrete_function(tf.TensorSpec((2, 5, 5, 6)))
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
    layer = Convolution(4, 3, padding="same", use_bias=False)
    expected = outputs_and_gradients(layer, images)
    monkeypatch.setattr(convolution, "_has_slow_filter_gradient", lambda layer, kernel: True)
    monkeypatch.setattr(tf.raw_ops, "Conv2DBackpropFilter", lambda **options: pytest.fail("not by products"))
    for one, two in zip(outputs_and_gradients(layer, images), expected, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [Convolution, keras.layers.Conv2D])
@pytest.mark.parametrize("options", [
    {"kernel_size": 3, "padding": "same"}, {"kernel_size": (2, 3), "strides": (2, 1)}, {"kernel_size": 1, "strides": 2},
    {"kernel_size": 3, "groups": 2}, {"kernel_size": 3, "dilation_rate": 2},
], ids=str)  # fmt: skip
def test_the_filters_gradient_in_float32_is_the_convolutions(kind, options, monkeypatch):
    images = np.random.default_rng(0).normal(size=(3, 6, 7, 4)).astype("float32")
    layer = kind(6, **options)
    expected = outputs_and_gradients(layer, images)
    monkeypatch.setattr(convolution, "adds_in_half", lambda dtype: True)  # as in bfloat16 on some CPUs
    compute_right(layer)
    for one, two in zip(outputs_and_gradients(layer, images), expected, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "bfloat16"])
@pytest.mark.parametrize(("kind", "channels", "options"), [
    (Convolution, 4, {"kernel_size": 3}), (Convolution, 4, {"kernel_size": 3, "groups": 2}),
    (Convolution, 3, {"kernel_size": 1, "strides": 2}),
    (keras.layers.Conv2D, 4, {"kernel_size": 3}), (keras.layers.Conv2D, 64, {"kernel_size": 1}),
], ids=str)  # fmt: skip
def test_half_precision_adds_up_a_filters_gradient_whole(policy, kind, channels, options):
    layer = kind(4, padding="same", use_bias=False, dtype=policy, **options)
    compute_right(layer)
    with tf.GradientTape() as tape:
        outputs = layer(tf.ones((2, 64, 64, channels), layer.compute_dtype))
    total = tape.gradient(outputs, layer.kernel.value).numpy()
    middle = total[layer.kernel_size[0] // 2, layer.kernel_size[1] // 2]
    # Of 1 at each of 8,192 pixels, or 2,048. Added up in bfloat16, 256 + 1 is 256.
    np.testing.assert_array_equal(middle.astype("float32"), np.size(outputs) / 4)


@pytest.mark.parametrize("kind", [Convolution, keras.layers.Conv2D])
def test_half_precision_adds_up_the_gradient_by_images_whole(kind):
    layer = kind(512, 3, padding="same", use_bias=False, kernel_initializer="ones", dtype="mixed_bfloat16")
    compute_right(layer)
    images = tf.ones((1, 4, 4, 4))
    with tf.GradientTape() as tape:
        tape.watch(images)
        outputs = layer(images)
    gradient = tape.gradient(outputs, images)
    np.testing.assert_array_equal(gradient[0, 1:3, 1:3], 9 * 512)  # of each of 3 x 3 pixels that see one


def test_a_convolution_in_bfloat16_can_be_first_called_in_a_graph_of_tensorflow_1():
    convolution._rounds_sums_away.cache_clear()
    with tf.Graph().as_default():
        outputs = Convolution(8, 3, dtype="mixed_bfloat16")(tf.ones((2, 16, 16, 3)))
    assert outputs.shape == (2, 14, 14, 8)


def test_what_is_lost_in_bfloat16_is_said_where_it_is(monkeypatch, caplog):
    monkeypatch.setattr(convolution.logging.get_absl_logger(), "propagate", True)

    def warned(policy, lost):
        caplog.clear()
        monkeypatch.setattr(convolution, "_rounds_sums_away", lambda: lost)
        layers = [keras.Input((8, 8, 1)), Convolution(2, 3, dtype=policy), keras.layers.Flatten()]
        SelfDistiller(keras.Sequential([*layers, keras.layers.Dense(2, dtype="float32")])).compile(SGD(0.1))
        return ["256 + 1 is 256" in record.getMessage() for record in caplog.records]

    assert warned("mixed_bfloat16", True) == [True]
    assert warned("mixed_bfloat16", False) == warned("float32", True) == warned("mixed_float16", True) == []


@pytest.mark.parametrize(("channels", "policy", "products"), [
    (256, "mixed_bfloat16", True), (255, "mixed_bfloat16", False), (256, "float32", False),
])  # fmt: skip
def test_half_precision_of_many_channels_trains_by_matrix_products(channels, policy, products, monkeypatch):
    monkeypatch.setattr(convolution, "adds_in_half", lambda dtype: False)
    layer = Convolution(4, 3, padding="same", use_bias=False, dtype=policy)
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
    layer = Convolution(4, 3, groups=2, dilation_rate=2, use_bias=False)
    assert layer(tf.ones((1, 9, 9, 4))).shape == (1, 5, 5, 4)


def test_a_split_convolution_stands_in_where_tensorflow_cannot_train_a_grouped_one():
    assert not convolution._has_grouped_gradient("float64")
    keras.config.set_dtype_policy("float64")
    network = networks.build("resnext29_8x64d", num_classes=2, input_shape=(8, 8, 3), width=1)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(network(np.ones((2, 8, 8, 3)), training=True))
    assert all(gradient is not None for gradient in tape.gradient(loss, [w.value for w in network.trainable_weights]))
