"""Convolution by the kernels that suit it: fast ones, and none that breaks the heap."""

import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras import layers


def is_on_cpu() -> bool:
    """Whether TensorFlow has no device but CPUs."""
    return all(device.device_type == "CPU" for device in tf.config.list_logical_devices())


@functools.cache
def _has_grouped_gradient(dtype: str) -> bool:
    """Whether TensorFlow's kernels can train a grouped convolution: on accelerators, and on CPUs only by oneDNN."""
    with tf.init_scope():  # outside of the graph, and of the tape, that may be recording now
        images, gradient = tf.ones((1, 4, 4, 4), dtype), tf.ones((1, 2, 2, 4), dtype)
        try:
            tf.raw_ops.Conv2DBackpropFilter(
                input=images, filter_sizes=(3, 3, 2, 4), out_backprop=gradient, strides=(1, 1, 1, 1), padding="VALID"
            )
        except (tf.errors.UnimplementedError, tf.errors.InvalidArgumentError):
            return False
    return True


def _skips_pixels(layer: layers.Conv2D, kernel: tf.Tensor) -> bool:
    """Whether oneDNN's kernels might write past their memory in the gradient of this convolution.

    They do in the gradient by a filter of 1 x 1 pixels with a stride, over fewer than 16 channels, on CPUs with
    AVX-512: where a thread begins within an image, as on two cores with every odd batch, oneDNN 3.7 copies more pixels
    than its buffer holds. The heap then breaks ("double free") in a third of such steps.
    """
    return set(layer.kernel_size) == {1} and max(layer.strides) > 1 and kernel.shape[-2] < 16


def _visited_pixels(layer: layers.Conv2D, inputs: tf.Tensor) -> tf.Tensor:
    """The pixels that a 1 x 1 kernel reads: over them alone it has stride 1, and the same outputs.

    Example:
        >>> _visited_pixels(layers.Conv2D(8, 1, strides=2), np.arange(9).reshape(1, 3, 3, 1)).ravel().tolist()
        [0, 2, 6, 8]
    """
    row_stride, column_stride = layer.strides
    if layer.data_format == "channels_last":
        return inputs[:, ::row_stride, ::column_stride]
    return inputs[:, :, ::row_stride, ::column_stride]


def keep_memory_whole(layer: keras.layers.Layer) -> None:
    """Makes a convolution of Keras' own that might break the heap compute as `Convolution` does; others stay as is.

    Example:
        This layer then reads every other row and column at stride 1, and returns what it returned.

        >>> layer = keras.layers.Conv2D(8, 1, strides=2)
        >>> images = np.random.default_rng(0).normal(size=(2, 5, 5, 3))
        >>> before = layer(images)
        >>> keep_memory_whole(layer)
        >>> bool(np.allclose(layer(images), before, atol=1e-6))
        True
    """
    if not isinstance(layer, layers.Conv2D) or type(layer).convolution_op is not layers.Conv2D.convolution_op:
        return
    if "convolution_op" in vars(layer):
        return
    convolution_op = layer.convolution_op

    def whole_convolution_op(inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        if layer.groups > 1 or not _skips_pixels(layer, kernel):
            return convolution_op(inputs, kernel)
        return keras.ops.conv(_visited_pixels(layer, inputs), kernel, data_format=layer.data_format)

    layer.convolution_op = whole_convolution_op


def _has_slow_filter_gradient(layer: layers.Conv2D, kernel: tf.Tensor) -> bool:
    """Whether matrix products make the filter's gradient faster than oneDNN does from channels-last tensors.

    They do in bfloat16 from 256 input channels on: 1.2 times as fast at 8 x 8 pixels, 2.2 times at 4 x 4, where
    TensorFlow is slower than in float32.
    """
    is_plain = (
        layer.data_format == "channels_last" and layer.groups == 1 and {*layer.strides, *layer.dilation_rate} == {1}
    )
    is_same_3x3 = layer.padding == "same" and set(layer.kernel_size) == {3}
    is_slow = layer.compute_dtype == "bfloat16" and kernel.shape[-2] >= 256
    return is_plain and is_same_3x3 and is_slow and is_on_cpu()


@tf.custom_gradient
def _convolve_same(inputs: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], Any]]:
    """3 x 3 convolution at stride 1 of the padded image, with `_filter_gradient` for its filter."""

    def gradients(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        options = {"filter": kernel, "strides": [1, 1, 1, 1], "padding": "SAME"}
        by_inputs = tf.raw_ops.Conv2DBackpropInput(input_sizes=tf.shape(inputs), out_backprop=upstream, **options)
        return by_inputs, _filter_gradient(inputs, upstream)

    return tf.nn.conv2d(inputs, kernel, strides=1, padding="SAME"), gradients


def _filter_gradient(inputs: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
    """The gradient of a 3 x 3 filter, by one matrix product per place of the filter.

    Example:
        For an image of the single pixel 2, and 5 as the gradient by its output, the middle of the filter gets 10.

        >>> _filter_gradient(tf.fill([1, 1, 1, 1], 2.0), tf.fill([1, 1, 1, 1], 5.0))[:, :, 0, 0].numpy().tolist()
        [[0.0, 0.0, 0.0], [0.0, 10.0, 0.0], [0.0, 0.0, 0.0]]

    Args:
        inputs: `[B, H, W, I]`, not padded.
        upstream: gradient by the outputs, `[B, H, W, O]`.

    Returns:
        `[3, 3, I, O]`.
    """
    shape, channels = tf.shape(inputs), inputs.shape[-1]
    padded = tf.pad(inputs, [[0, 0], [1, 1], [1, 1], [0, 0]])
    flat = tf.reshape(upstream, [-1, upstream.shape[-1]])
    places = [
        tf.matmul(
            tf.reshape(padded[:, row : row + shape[1], column : column + shape[2]], [-1, channels]),
            flat,
            transpose_a=True,
        )
        for row in range(3)
        for column in range(3)
    ]
    return tf.reshape(tf.stack(places), [3, 3, channels, upstream.shape[-1]])


@keras.saving.register_keras_serializable("cskd_tf")
class Convolution(layers.Conv2D):
    """Convolution by TensorFlow's own kernels, grouped convolution too, and by none that breaks the heap.

    Keras compiles grouped convolutions with XLA, whose gradient takes 70 to 1,000 times as long on a CPU.

    Example:
        With ones as weights each of two groups adds up its own two channels.

        >>> layer = Convolution(2, 1, groups=2, use_bias=False, kernel_initializer="ones")
        >>> layer(np.array([[[[1.0, 2.0, 3.0, 4.0]]]])).numpy().ravel().tolist()
        [3.0, 7.0]
    """

    def convolution_op(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        channels_last = self.data_format == "channels_last"
        strides = self.strides
        if _has_slow_filter_gradient(self, kernel):
            return _convolve_same(inputs, tf.cast(tf.convert_to_tensor(kernel), inputs.dtype))
        if channels_last and _skips_pixels(self, kernel):
            inputs, strides = _visited_pixels(self, inputs), (1, 1)
        elif self.groups == 1 or not channels_last or set(self.dilation_rate) != {1}:
            return super().convolution_op(inputs, kernel)

        def convolve(inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
            return tf.nn.conv2d(inputs, kernel, strides=strides, padding=self.padding.upper())

        if self.groups == 1 or _has_grouped_gradient(self.compute_dtype):
            return convolve(inputs, kernel)
        groups = zip(tf.split(inputs, self.groups, axis=-1), tf.split(kernel, self.groups, axis=-1), strict=True)
        return tf.concat([convolve(*inputs_and_kernel) for inputs_and_kernel in groups], axis=-1)
