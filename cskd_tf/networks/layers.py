"""Pieces that the network families share: convolutions and how they start, fused batch norm, pooling, the head."""

import dataclasses
import functools
from collections.abc import Callable

import keras
import tensorflow as tf
from keras import layers

from cskd_tf.networks.convolution import Convolution, is_on_cpu


def torch_default() -> keras.initializers.Initializer:
    """PyTorch's default for convolutions and dense layers, uniform(+-1 / sqrt(fan_in)); a new one for every layer.

    An initialiser that is used twice gives the same values twice.
    """
    return keras.initializers.VarianceScaling(scale=1 / 3, mode="fan_in", distribution="uniform")


def he_normal_fan_in() -> keras.initializers.Initializer:
    """Normal with variance 2 / fan_in (He et al., 2015), not truncated, as PyTorch draws it."""
    return keras.initializers.VarianceScaling(scale=2.0, mode="fan_in", distribution="untruncated_normal")


def he_normal_fan_out() -> keras.initializers.Initializer:
    """Normal with variance 2 / fan_out, where grouped convolutions count all their output channels, as in PyTorch."""
    return keras.initializers.VarianceScaling(scale=2.0, mode="fan_out", distribution="untruncated_normal")


@functools.cache
def _fused_is_fast(channels: int) -> bool:
    """Whether TensorFlow's fused kernel beats plain operations: on CPUs where 16 divides `channels`, 1.7 to 3.6 times.

    Other numbers of channels send oneDNN to its reference code, up to 1.6 times as slow as plain operations.
    """
    return not is_on_cpu() or channels % 16 == 0


@keras.saving.register_keras_serializable("cskd_tf")
class BatchNormalization(layers.BatchNormalization):
    """Batch normalisation by TensorFlow's fused kernel, with PyTorch's momentum, epsilon and running variance.

    Keras' own layer runs unfused on TensorFlow, and keeps the biased variance. Where the fused kernel does not apply
    (`synchronized=True`, float64, inputs that are not `[B, H, W, C]`, a mask) or is slow, the stock layer normalises.

    Example: a batch of the two values 0 and 2 in one channel is normalised by mean 1 and variance 1 to -1 and 1; from
    running statistics (0, 1) it leaves mean `.9 * 0 + .1 * 1 = .1` and variance `.9 * 1 + .1 * 2 = 1.1`, because the
    unbiased variance of 0 and 2 is 2.
    """

    def __init__(self, *, momentum=0.9, epsilon=1e-5, **kwargs):
        super().__init__(momentum=momentum, epsilon=epsilon, **kwargs)

    def call(self, inputs, training=None, mask=None):
        plain = not (self.synchronized or self.renorm) and self.scale and self.center and mask is None
        images = self.axis in (-1, 3) and len(inputs.shape) == 4 and self.compute_dtype != "float64"
        if isinstance(inputs, keras.KerasTensor):
            return super().call(inputs, training=training, mask=mask)
        batch_statistics = bool(training and self.trainable)
        if not (plain and images and _fused_is_fast(inputs.shape[-1])):
            return self._unfused(inputs, batch_statistics=batch_statistics, mask=mask)
        statistics = (
            {} if batch_statistics else {"mean": self.moving_mean.value, "variance": self.moving_variance.value}
        )
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs,
            self.gamma.value,
            self.beta.value,
            epsilon=self.epsilon,
            is_training=batch_statistics,
            **statistics,
        )
        if batch_statistics:
            self.moving_mean.assign(self.momentum * self.moving_mean + (1 - self.momentum) * mean)
            self.moving_variance.assign(self.momentum * self.moving_variance + (1 - self.momentum) * variance)
        return outputs

    def _unfused(self, inputs, *, batch_statistics: bool, mask):
        """The stock layer, but with the unbiased variance kept; that of all replicas, where it is theirs."""
        before = tf.convert_to_tensor(self.moving_variance.value)
        outputs = super().call(inputs, training=batch_statistics, mask=mask)
        if batch_statistics and mask is None:
            count = tf.cast(tf.size(inputs) // tf.shape(inputs)[self.axis], before.dtype)
            context = tf.distribute.get_replica_context()
            if self.synchronized and context is not None and context.num_replicas_in_sync > 1:
                count = context.all_reduce("SUM", count)
            added = self.moving_variance.value - self.momentum * before
            self.moving_variance.assign(self.momentum * before + added * count / tf.maximum(count - 1, 1))
        return outputs


@dataclasses.dataclass(frozen=True)
class Pieces:
    """Makes the layers of one network, which agree in how they start and in how they average.

    All have the channels last, whatever Keras' `image_data_format` says: so do this package's images.

    Args:
        initializer: makes a new initialiser for each convolution.
        synchronized: whether batch norm averages over replicas.
        dtype: policy of the layers; None: Keras' global one.
    """

    initializer: Callable[[], keras.initializers.Initializer] = torch_default
    synchronized: bool = False
    dtype: keras.DTypePolicy | None = None

    def convolution(self, inputs, filters: int, *, kernel_size: int, stride: int = 1, groups: int = 1, name: str):
        """Convolution without bias, padded symmetrically by `kernel_size // 2`, as PyTorch pads.

        `padding="same"` at stride 2 would pad the bottom and the right only.
        """
        if stride > 1 and kernel_size > 1:
            padding = layers.ZeroPadding2D(
                kernel_size // 2, data_format="channels_last", dtype=self.dtype, name=f"{name}_padding"
            )
            inputs = padding(inputs)
        return Convolution(
            filters,
            kernel_size,
            strides=stride,
            padding="same" if stride == 1 else "valid",
            groups=groups,
            data_format="channels_last",
            use_bias=False,
            kernel_initializer=self.initializer(),
            dtype=self.dtype,
            name=name,
        )(inputs)

    def batch_norm(self, inputs, *, name: str):
        return BatchNormalization(synchronized=self.synchronized, dtype=self.dtype, name=name)(inputs)

    def batch_norm_relu(self, inputs, *, name: str):
        """Batch norm, then ReLU."""
        return layers.ReLU(dtype=self.dtype, name=f"{name}_relu")(self.batch_norm(inputs, name=name))

    def stem(self, images, filters: int, *, small_images: bool):
        """Convolution, batch norm and ReLU: of 3 x 3 pixels, or of 7 x 7 at stride 2 with pooling for large images."""
        kernel_size, stride = (3, 1) if small_images else (7, 2)
        outputs = self.convolution(images, filters, kernel_size=kernel_size, stride=stride, name="stem_conv")
        outputs = self.batch_norm_relu(outputs, name="stem_bn")
        if small_images:
            return outputs
        options = {"data_format": "channels_last", "dtype": self.dtype}
        # PyTorch pads with -inf; after a ReLU no padded zero exceeds what it stands beside.
        outputs = layers.ZeroPadding2D(1, **options, name="stem_pool_padding")(outputs)
        return layers.MaxPooling2D(3, strides=2, **options, name="stem_pool")(outputs)


def classifier(
    features,
    *,
    num_classes: int,
    initializer: Callable[[], keras.initializers.Initializer] = torch_default,
    zero_bias: bool = False,
):
    """Global average pooling and a dense layer: `[B, H, W, D]` to logits `[B, num_classes]` in float32."""
    embedding = layers.GlobalAveragePooling2D(data_format="channels_last", name="embedding")(features)
    limit = embedding.shape[-1] ** -0.5
    # In float32 under mixed precision too: the losses would not get back the digits that a half-precision logit drops.
    return layers.Dense(
        num_classes,
        kernel_initializer=initializer(),
        bias_initializer="zeros" if zero_bias else keras.initializers.RandomUniform(-limit, limit),
        dtype="float32",
        name="classifier",
    )(embedding)
