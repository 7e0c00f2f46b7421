"""Convolution by the kernels that suit it: fast ones, and none that breaks the heap."""

import functools

import keras
import tensorflow as tf
from keras import layers


def is_on_cpu() -> bool:
    """Whether TensorFlow has nothing faster."""
    return all(device.device_type == "CPU" for device in tf.config.list_logical_devices())


@functools.cache
def _has_grouped_gradient(dtype: str) -> bool:
    """Whether TensorFlow's kernels can train a grouped convolution: on accelerators, and on CPUs by oneDNN alone."""
    with tf.init_scope():  # where a tape does not record
        images, gradient = tf.ones((1, 4, 4, 4), dtype), tf.ones((1, 2, 2, 4), dtype)
        try:
            tf.raw_ops.Conv2DBackpropFilter(
                input=images, filter_sizes=(3, 3, 2, 4), out_backprop=gradient, strides=(1, 1, 1, 1), padding="VALID"
            )
        except (tf.errors.UnimplementedError, tf.errors.InvalidArgumentError):
            return False
    return True


def _skips_pixels(layer: layers.Conv2D, kernel) -> bool:
    """Whether oneDNN's kernels would write past their memory in the gradient of this convolution.

    That of the filter, of 1 x 1 pixels at a stride over fewer than 16 channels, on CPUs with AVX-512: where a thread
    begins within an image, as on two cores with every odd batch, oneDNN 3.7's copy of the pixels between the strides is
    longer than the buffer for it. The heap then breaks ("double free") in a third of such steps.
    """
    return set(layer.kernel_size) == {1} and max(layer.strides) > 1 and kernel.shape[-2] < 16


def _visited_pixels(layer: layers.Conv2D, inputs):
    """Those that a 1 x 1 kernel reads; on them alone it has stride 1, and the same outputs."""
    rows, columns = layer.strides
    last = layer.data_format == "channels_last"
    return inputs[:, ::rows, ::columns] if last else inputs[:, :, ::rows, ::columns]


def keep_memory_whole(layer: keras.layers.Layer) -> None:
    """Makes a convolution of Keras' own that would break the heap compute as `Convolution` does.

    Example: `Conv2D(8, 1, strides=2)` on an image of 3 channels reads every other row and column at stride 1 instead.
    """
    if not isinstance(layer, layers.Conv2D) or type(layer).convolution_op is not layers.Conv2D.convolution_op:
        return
    if "convolution_op" in vars(layer):
        return
    convolution_op = layer.convolution_op

    def whole_convolution_op(inputs, kernel):
        if layer.groups > 1 or not _skips_pixels(layer, kernel):
            return convolution_op(inputs, kernel)
        return keras.ops.conv(_visited_pixels(layer, inputs), kernel, data_format=layer.data_format)

    layer.convolution_op = whole_convolution_op


def _has_slow_filter_gradient(layer: layers.Conv2D, kernel) -> bool:
    """Whether matrix products make the filter's gradient faster than oneDNN does from channels-last tensors.

    They do in bfloat16 from 256 input channels on: 1.2 times at 8 x 8 pixels, 2.2 times at 4 x 4, where TensorFlow is
    slower than in float32.
    """
    plain = layer.data_format == "channels_last" and layer.groups == 1 and {*layer.strides, *layer.dilation_rate} == {1}
    same = layer.padding == "same" and set(layer.kernel_size) == {3}
    return plain and same and layer.compute_dtype == "bfloat16" and kernel.shape[-2] >= 256 and is_on_cpu()


@tf.custom_gradient
def _convolve_same(inputs, kernel):
    """3 x 3 convolution at stride 1 of the padded image."""

    def gradients(upstream):
        options = {"filter": kernel, "strides": [1, 1, 1, 1], "padding": "SAME"}
        by_inputs = tf.raw_ops.Conv2DBackpropInput(input_sizes=tf.shape(inputs), out_backprop=upstream, **options)
        return by_inputs, _filter_gradient(inputs, upstream)

    return tf.nn.conv2d(inputs, kernel, strides=1, padding="SAME"), gradients


def _filter_gradient(inputs, upstream):
    """`[3, 3, I, O]` from `[B, H, W, I]` and `[B, H, W, O]`: a matrix product a place of the filter.

    Example: of one pixel 2 with the gradient 5 the middle of the filter gets 10, and the places around it 0.
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
    """Convolution by TensorFlow's own kernels, where it is grouped too, and by none that breaks the heap.

    Keras compiles grouped convolutions with XLA, whose gradient takes 70 to 1,000 times as long on a CPU.
    """

    def convolution_op(self, inputs, kernel):
        last = self.data_format == "channels_last"
        strides = self.strides
        if _has_slow_filter_gradient(self, kernel):
            return _convolve_same(inputs, tf.cast(tf.convert_to_tensor(kernel), inputs.dtype))
        if last and _skips_pixels(self, kernel):
            inputs, strides = _visited_pixels(self, inputs), (1, 1)
        elif self.groups == 1 or not last or set(self.dilation_rate) != {1}:
            return super().convolution_op(inputs, kernel)

        def convolve(inputs, kernel):
            return tf.nn.conv2d(inputs, kernel, strides=strides, padding=self.padding.upper())

        if self.groups == 1:
            return convolve(inputs, kernel)

        if _has_grouped_gradient(self.compute_dtype):
            return convolve(inputs, kernel)
        parts = zip(tf.split(inputs, self.groups, axis=-1), tf.split(kernel, self.groups, axis=-1), strict=True)
        return tf.concat([convolve(*part) for part in parts], axis=-1)
