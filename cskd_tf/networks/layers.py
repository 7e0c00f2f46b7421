"""Pieces that the network families share: convolution, fused batch norm, classifier head."""

import keras
import tensorflow as tf
from keras import layers


def torch_default() -> keras.initializers.Initializer:
    """PyTorch's default for convolutions and dense layers, uniform(+-1 / sqrt(fan_in)); a new one for every layer.

    An initialiser that is used twice gives the same values twice.
    """
    return keras.initializers.VarianceScaling(scale=1 / 3, mode="fan_in", distribution="uniform")


@keras.saving.register_keras_serializable("cskd_tf")
class BatchNormalization(layers.BatchNormalization):
    """Batch normalisation by TensorFlow's fused kernel, with PyTorch's momentum, epsilon and running variance.

    Keras' own layer runs unfused on TensorFlow, and keeps the biased variance. Where the fused kernel does not apply
    (`synchronized=True`, inputs that are not `[B, H, W, C]`, a mask) the stock layer computes.

    Example: a batch of the two values 0 and 2 in one channel is normalised by mean 1 and variance 1 to -1 and 1; from
    running statistics (0, 1) it leaves mean `.9 * 0 + .1 * 1 = .1` and variance `.9 * 1 + .1 * 2 = 1.1`, because the
    unbiased variance of 0 and 2 is 2.
    """

    def __init__(self, *, momentum=0.9, epsilon=1e-5, **kwargs):
        super().__init__(momentum=momentum, epsilon=epsilon, **kwargs)

    def call(self, inputs, training=None, mask=None):
        plain = not (self.synchronized or self.renorm) and self.scale and self.center and mask is None
        channels_last = self.axis in (-1, 3)
        if not (plain and channels_last and len(inputs.shape) == 4) or isinstance(inputs, keras.KerasTensor):
            return super().call(inputs, training=training, mask=mask)
        batch_statistics = bool(training and self.trainable)
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


def convolution(inputs, filters: int, *, kernel_size: int, stride: int = 1, name: str):
    """Convolution without bias, padded symmetrically by `kernel_size // 2`, as PyTorch pads.

    `padding="same"` at stride 2 would pad the bottom and the right only.
    """
    padding = "same" if stride == 1 else "valid"
    if stride > 1 and kernel_size > 1:
        inputs = layers.ZeroPadding2D(kernel_size // 2, name=f"{name}_padding")(inputs)
    return layers.Conv2D(
        filters,
        kernel_size,
        strides=stride,
        padding=padding,
        use_bias=False,
        kernel_initializer=torch_default(),
        name=name,
    )(inputs)


def batch_norm_relu(inputs, *, name: str, synchronized: bool = False):
    """Batch norm, then ReLU."""
    outputs = BatchNormalization(synchronized=synchronized, name=f"{name}_bn")(inputs)
    return layers.ReLU(name=f"{name}_relu")(outputs)


def classifier(features, *, num_classes: int):
    """Global average pooling and a dense layer: `[B, H, W, D]` to logits `[B, num_classes]` in float32."""
    embedding = layers.GlobalAveragePooling2D(name="embedding")(features)
    limit = embedding.shape[-1] ** -0.5
    bias = keras.initializers.RandomUniform(-limit, limit)
    # In float32 under mixed precision too: the losses would not get back the digits that a half-precision logit drops.
    return layers.Dense(
        num_classes,
        kernel_initializer=torch_default(),
        bias_initializer=bias,
        dtype="float32",
        name="classifier",
    )(embedding)
