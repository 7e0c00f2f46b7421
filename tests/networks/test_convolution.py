"""Convolutions that skip pixels: the same numbers, without the gradient of TensorFlow's that breaks the heap."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf import networks
from cskd_tf.networks import features
from cskd_tf.networks.convolution import Convolution, _visited_pixels, compute_right


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


@pytest.mark.parametrize("name", ["preact_resnet10", "resnet10", "resnext29_8x64d"])
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
