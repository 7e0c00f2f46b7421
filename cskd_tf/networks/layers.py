"""Pieces that the network families share: convolutions and how they start, fused batch norm, pooling, the head."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras import layers

from cskd_tf.networks.convolution import Convolution, is_on_cpu


def torch_default() -> keras.initializers.Initializer:
    """PyTorch's default for convolutions and dense layers, uniform within +-1 / sqrt(fan_in).

    Each layer needs a new one: an initialiser that is used twice gives the same values twice.
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
    """Whether TensorFlow's fused kernel is faster than plain operations.

    On CPUs it is 1.7 to 3.6 times as fast where 16 divides `channels`. Other numbers of channels send oneDNN to its
    reference code, which takes up to 1.6 times as long as plain operations.
    """
    return not is_on_cpu() or channels % 16 == 0


@keras.saving.register_keras_serializable("cskd_tf")
class BatchNormalization(layers.BatchNormalization):
    """Batch normalisation by TensorFlow's fused kernel, with PyTorch's momentum, epsilon and running variance.

    Keras' own layer runs unfused on TensorFlow, and keeps the biased variance. Where the fused kernel does not apply
    (`synchronized=True`, float64, inputs that are not `[B, H, W, C]`, a mask) or is slow, Keras' own layer normalises.

    Example:
        The two values 0 and 2 are normalised by their mean 1 and variance 1. The running mean goes from 0 to
        `.9 * 0 + .1 * 1`, the running variance from 1 to `.9 * 1 + .1 * 2`: the unbiased variance of 0 and 2 is 2.

        >>> layer = BatchNormalization()
        >>> layer(np.array([[[[0.0]], [[2.0]]]]), training=True).numpy().round(4).ravel().tolist()
        [-1.0, 1.0]
        >>> [round(float(running.numpy()[0]), 6) for running in (layer.moving_mean, layer.moving_variance)]
        [0.1, 1.1]
    """

    def __init__(self, *, momentum: float = 0.9, epsilon: float = 1e-5, **kwargs: Any):
        super().__init__(momentum=momentum, epsilon=epsilon, **kwargs)

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None) -> tf.Tensor:
        is_plain = not (self.synchronized or self.renorm) and self.scale and self.center and mask is None
        is_of_images = self.axis in (-1, 3) and len(inputs.shape) == 4 and self.compute_dtype != "float64"
        if isinstance(inputs, keras.KerasTensor):
            return super().call(inputs, training=training, mask=mask)
        batch_statistics = bool(training and self.trainable)
        if not (is_plain and is_of_images and _fused_is_fast(inputs.shape[-1])):
            return self._unfused(inputs, batch_statistics=batch_statistics, mask=mask)
        # The kernel takes these in float32 alone, whatever the inputs are.
        scale, offset, *before = (
            tf.cast(variable.value, tf.float32)
            for variable in (self.gamma, self.beta, self.moving_mean, self.moving_variance)
        )
        outputs, *of_batch = tf.compat.v1.nn.fused_batch_norm(
            inputs,
            scale,
            offset,
            epsilon=self.epsilon,
            is_training=batch_statistics,
            **({} if batch_statistics else dict(zip(("mean", "variance"), before, strict=True))),
        )
        if batch_statistics:
            for variable, old, new in zip((self.moving_mean, self.moving_variance), before, of_batch, strict=True):
                variable.assign(tf.cast(self.momentum * old + (1 - self.momentum) * new, variable.dtype))
        return outputs

    def _unfused(self, inputs: tf.Tensor, *, batch_statistics: bool, mask: tf.Tensor | None) -> tf.Tensor:
        """Keras' own layer, except that the unbiased variance is kept: of all replicas, where they are synchronised."""
        before = tf.convert_to_tensor(self.moving_variance.value)
        outputs = super().call(inputs, training=batch_statistics, mask=mask)
        if batch_statistics and mask is None:
            wide = before.dtype if before.dtype.size >= 4 else tf.float32  # float16 ends at 65,504
            count = tf.cast(tf.size(inputs) // tf.shape(inputs)[self.axis], wide)
            context = tf.distribute.get_replica_context()
            if self.synchronized and context is not None and context.num_replicas_in_sync > 1:
                count = context.all_reduce("SUM", count)
            added = self.moving_variance.value - self.momentum * before
            added = tf.cast(tf.cast(added, wide) * count / tf.maximum(count - 1, 1), before.dtype)
            self.moving_variance.assign(self.momentum * before + added)
        return outputs


@dataclasses.dataclass(frozen=True)
class Pieces:
    """Makes the layers of one network, which agree in how they start and in what batch norm averages over.

    All have the channels last, as this package's images do, whatever Keras' `image_data_format` says.

    Args:
        initializer: makes a new initialiser for each convolution.
        synchronized: whether batch norm averages over replicas.
        dtype: precision policy of the layers; None: Keras' global one.
    """

    initializer: Callable[[], keras.initializers.Initializer] = torch_default
    synchronized: bool = False
    dtype: keras.DTypePolicy | None = None

    def convolution(
        self,
        inputs: keras.KerasTensor,
        filters: int,
        *,
        kernel_size: int,
        stride: int = 1,
        groups: int = 1,
        name: str,
    ) -> keras.KerasTensor:
        """Convolution without bias, padded symmetrically by `kernel_size // 2`, as PyTorch pads.

        Keras' `padding="same"` at stride 2 would pad the bottom and the right only.
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

    def batch_norm(self, inputs: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
        return BatchNormalization(synchronized=self.synchronized, dtype=self.dtype, name=name)(inputs)

    def batch_norm_relu(self, inputs: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
        """Batch norm, then ReLU."""
        return layers.ReLU(dtype=self.dtype, name=f"{name}_relu")(self.batch_norm(inputs, name=name))

    def stem(self, images: keras.KerasTensor, filters: int, *, small_images: bool) -> keras.KerasTensor:
        """Convolution, batch norm and ReLU: 3 x 3 for small images; for large ones 7 x 7 at stride 2, then pooling."""
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
    features: keras.KerasTensor,
    *,
    num_classes: int,
    initializer: Callable[[], keras.initializers.Initializer] = torch_default,
    zero_bias: bool = False,
) -> keras.KerasTensor:
    """Global average pooling and a dense layer.

    Args:
        features: `[B, H, W, D]`.
        num_classes: of the logits.
        initializer: of the dense layer's kernel, as for `linear`.
        zero_bias: as for `linear`.

    Returns:
        Logits `[B, num_classes]` in float32.
    """
    embedding = layers.GlobalAveragePooling2D(data_format="channels_last", name="embedding")(features)
    head = linear(
        num_classes, inputs=embedding.shape[-1], initializer=initializer, zero_bias=zero_bias, name="classifier"
    )
    return head(embedding)


def linear(
    num_classes: int,
    *,
    inputs: int,
    initializer: Callable[[], keras.initializers.Initializer] = torch_default,
    zero_bias: bool = False,
    name: str,
) -> keras.layers.Dense:
    """A dense layer from features `[..., D]` to logits `[..., num_classes]`, which starts as PyTorch's does.

    Example:
        >>> linear(3, inputs=5, name="head")(np.ones([2, 4, 4, 5])).shape.as_list()
        [2, 4, 4, 3]

    Args:
        num_classes: of the logits.
        inputs: D.
        initializer: makes the initialiser of the kernel.
        zero_bias: whether the bias starts at 0; else it is uniform within +-1 / sqrt(D), PyTorch's default.
        name: of the layer.
    """
    limit = inputs**-0.5
    # In float32 under mixed precision too: the losses could not restore the digits that half precision has dropped.
    return layers.Dense(
        num_classes,
        kernel_initializer=initializer(),
        bias_initializer="zeros" if zero_bias else keras.initializers.RandomUniform(-limit, limit),
        dtype="float32",
        name=name,
    )
