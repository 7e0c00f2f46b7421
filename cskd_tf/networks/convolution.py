"""Convolution by the kernels that suit it: fast ones, none that breaks the heap, and none that rounds sums away."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import keras
import tensorflow as tf
from absl import logging
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


@functools.cache
def _rounds_sums_away() -> bool:
    """Whether TensorFlow's kernels here add up in bfloat16, by a trial: each of 64 x 64 pixels is worth 1."""
    with tf.init_scope():  # as above
        ones = tf.ones((1, 64, 64, 4), tf.bfloat16)
        total = tf.raw_ops.Conv2DBackpropFilter(
            input=ones, filter_sizes=(3, 3, 4, 4), out_backprop=ones, strides=(1, 1, 1, 1), padding="SAME"
        )
        return bool(tf.reduce_any(tf.cast(total[1, 1], tf.float32) != 64 * 64))


def adds_in_half(dtype: str | None) -> bool:
    """Whether TensorFlow adds up gradients in `dtype`: in bfloat16 on CPUs, unless by oneDNN's kernels.

    Those are for CPUs with AVX-512. Elsewhere a filter's gradient that is 1 at each of 1,024 pixels comes to between
    512 and 1,016, as 1 is rounded away where it is added to 256; so do gradients by a convolution's inputs and biases.
    """
    if dtype != "bfloat16":
        return False
    with tf.init_scope():
        can_be_tried = tf.executing_eagerly()  # not in a `tf.Graph` of TensorFlow 1
    return not can_be_tried or _rounds_sums_away()


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


def _has_slow_filter_gradient(layer: layers.Conv2D, kernel: tf.Tensor) -> bool:
    """Whether matrix products make the filter's gradient faster than oneDNN does from channels-last tensors.

    They do in bfloat16 from 256 input channels on: 1.2 times as fast at 8 x 8 pixels, 2.2 times at 4 x 4, where
    TensorFlow is slower than in float32.
    """
    is_same_3x3 = layer.padding == "same" and set(layer.kernel_size) == {3}
    is_slow = layer.compute_dtype == "bfloat16" and kernel.shape[-2] >= 256
    return is_same_3x3 and is_slow and layer.groups == 1 and set(layer.strides) == {1} and is_on_cpu()


def _by_products(inputs: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
    """The gradient of a 3 x 3 filter at stride 1 over the padded image, by one matrix product per place of the filter.

    Example:
        For an image of the single pixel 2, and 5 as the gradient by its output, the middle of the filter gets 10.

        >>> _by_products(tf.fill([1, 1, 1, 1], 2.0), tf.fill([1, 1, 1, 1], 5.0))[:, :, 0, 0].numpy().tolist()
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


def _convolve(inputs: tf.Tensor, kernel: tf.Tensor, *, layer: layers.Conv2D, strides: tuple[int, int]) -> tf.Tensor:
    """`tf.nn.conv2d` of channels-last tensors, with its gradients by what is right and fast on this machine."""
    kernel = tf.cast(tf.convert_to_tensor(kernel), inputs.dtype)
    options = {"strides": [1, *strides, 1], "padding": layer.padding.upper()}
    in_float32 = adds_in_half(layer.compute_dtype)
    by_products = not in_float32 and _has_slow_filter_gradient(layer, kernel)
    if not in_float32 and not by_products:
        return tf.nn.conv2d(inputs, kernel, **options)

    @tf.custom_gradient
    def convolve(inputs: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], Any]]:
        def gradients(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            dtype = tf.float32 if in_float32 else inputs.dtype
            pixels, weights, by_outputs = (tf.cast(each, dtype) for each in (inputs, kernel, upstream))
            by_inputs = tf.raw_ops.Conv2DBackpropInput(
                input_sizes=tf.shape(pixels), filter=weights, out_backprop=by_outputs, **options
            )
            if by_products:
                return by_inputs, _by_products(pixels, by_outputs)
            by_kernel = tf.raw_ops.Conv2DBackpropFilter(
                input=pixels, filter_sizes=weights.shape, out_backprop=by_outputs, **options
            )
            return tf.cast(by_inputs, inputs.dtype), tf.cast(by_kernel, kernel.dtype)

        return tf.nn.conv2d(inputs, kernel, **options), gradients

    return convolve(inputs, kernel)


def _convolve_as(layer: layers.Conv2D, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """What a layer of channels-last tensors without dilation computes, by `_convolve`."""
    strides = layer.strides
    if _skips_pixels(layer, kernel):
        inputs, strides = _visited_pixels(layer, inputs), (1, 1)
    convolve = functools.partial(_convolve, layer=layer, strides=strides)
    if layer.groups == 1 or _has_grouped_gradient(layer.compute_dtype):
        return convolve(inputs, kernel)
    groups = zip(tf.split(inputs, layer.groups, axis=-1), tf.split(kernel, layer.groups, axis=-1), strict=True)
    return tf.concat([convolve(*inputs_and_kernel) for inputs_and_kernel in groups], axis=-1)


def _is_plain(layer: layers.Conv2D) -> bool:
    """Whether `_convolve_as` knows the layer's options."""
    return layer.data_format == "channels_last" and set(layer.dilation_rate) == {1}


@keras.saving.register_keras_serializable("cskd_tf")
class Convolution(layers.Conv2D):
    """Convolution by TensorFlow's own kernels, grouped convolution too, and by none that computes wrong.

    Keras compiles grouped convolutions with XLA, whose gradient takes 70 to 1,000 times as long on a CPU. Layers with
    dilation or channels first stay Keras' own.

    Example:
        With ones as weights each of two groups adds up its own two channels.

        >>> layer = Convolution(2, 1, groups=2, use_bias=False, kernel_initializer="ones")
        >>> layer(np.array([[[[1.0, 2.0, 3.0, 4.0]]]])).numpy().ravel().tolist()
        [3.0, 7.0]
    """

    def convolution_op(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return _convolve_as(self, inputs, kernel) if _is_plain(self) else super().convolution_op(inputs, kernel)


def compute_right(layer: keras.layers.Layer) -> None:
    """Makes a convolution of Keras' own compute as `Convolution` does where TensorFlow's kernels would compute wrong.

    They do where they break the heap (`_skips_pixels`), and where they round sums away (`adds_in_half`). Grouped
    convolutions, others than Conv2D, and layers with a `convolution_op` of their own stay as they are.

    Example:
        This layer then reads every other row and column at stride 1, and returns what it returned.

        >>> layer = keras.layers.Conv2D(8, 1, strides=2)
        >>> images = np.random.default_rng(0).normal(size=(2, 5, 5, 3))
        >>> before = layer(images)
        >>> compute_right(layer)
        >>> bool(np.allclose(layer(images), before, atol=1e-6))
        True
    """
    if not isinstance(layer, layers.Conv2D) or type(layer).convolution_op is not layers.Conv2D.convolution_op:
        return
    if "convolution_op" in vars(layer) or layer.groups > 1:
        return
    convolution_op = layer.convolution_op

    def right_convolution_op(inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        skips_pixels = _skips_pixels(layer, kernel)
        if _is_plain(layer) and (skips_pixels or adds_in_half(layer.compute_dtype)):
            return _convolve_as(layer, inputs, kernel)
        if skips_pixels:
            return keras.ops.conv(_visited_pixels(layer, inputs), kernel, data_format=layer.data_format)
        return convolution_op(inputs, kernel)

    layer.convolution_op = right_convolution_op


def warn_of_lost_sums(network: Iterable[keras.layers.Layer]) -> None:
    """Says once of a network's layers that TensorFlow rounds their sums away, where `adds_in_half`."""
    if any(adds_in_half(getattr(layer, "compute_dtype", None)) for layer in network):
        logging.warning(
            "bfloat16 on this CPU: TensorFlow's kernels add up in bfloat16, where 256 + 1 is 256. Conv2D is computed "
            "another way; gradients of biases and of other convolutions, and AveragePooling2D over large windows, come "
            "out too small or wrong. float32 is right."
        )
