"""PyramidNets for small images (Han et al., 2017, https://arxiv.org/abs/1610.02915), with ShakeDrop where wanted.

As the authors' code builds them: no ReLU behind the stem nor before a block's first convolution, batch norm at a
block's end, and shortcuts without weights: the average of 2 x 2 pixels where the image is halved, and zeros for the
channels that each block adds.
"""

from typing import Any

import keras
import tensorflow as tf
from keras import layers

from cskd_tf.errors import UserError
from cskd_tf.networks.layers import Pieces, classifier, he_normal_fan_out

STAGES = 3


@keras.saving.register_keras_serializable("cskd_tf")
class ShakeDrop(layers.Layer):
    """ShakeDrop regularisation of a residual branch (Yamada et al., 2018, https://arxiv.org/abs/1802.02375, eq. 6).

    In training there is one gate per batch, open with probability `1 - rate`. Where it is open, the branch passes as it
    is; where it is shut, the branch is multiplied by one number per image from uniform(-1, 1), and its gradient by
    another one per image from uniform(0, 1). At inference the branch is multiplied by the mean factor, `1 - rate`.

    Example:
        In training a branch of ones stays as it is in 3 of 4 steps at this rate; in the fourth it might be -0.3 for one
        image and 0.8 for the next.

        >>> ShakeDrop(0.25)(tf.ones((1, 2)), training=False).numpy().tolist()
        [[0.75, 0.75]]

    Args:
        rate: probability that the gate is shut, in [0, 1).

    Raises:
        UserError: a rate outside [0, 1).
    """

    def __init__(self, rate: float, **kwargs: Any):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise UserError(f"Expected 0 <= rate < 1. Received: rate={rate}")
        self.rate = rate
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        if not training:
            return inputs * (1 - self.rate)
        per_image = (tf.shape(inputs)[0], *[1] * (len(inputs.shape) - 1))
        is_open = keras.random.uniform((), seed=self.seed_generator) >= self.rate
        forward = keras.random.uniform(per_image, minval=-1.0, maxval=1.0, seed=self.seed_generator)
        backward = keras.random.uniform(per_image, seed=self.seed_generator)
        # Drawn in float32, whatever the branch is in.
        forward, backward = (tf.cast(tf.where(is_open, 1.0, factor), inputs.dtype) for factor in (forward, backward))

        @tf.custom_gradient
        def shake(branch: tf.Tensor) -> tuple[tf.Tensor, Any]:
            return forward * branch, lambda gradient: backward * gradient

        return shake(inputs)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate}


def _block(
    pieces: Pieces, inputs: keras.KerasTensor, hidden: int, *, stride: int, drop_rate: float, name: str
) -> keras.KerasTensor:
    """A bottleneck of 1 x 1, 3 x 3 and 1 x 1 convolutions, from any number of channels to 4 times `hidden`."""
    outputs = pieces.batch_norm(inputs, name=f"{name}_bn1")
    outputs = pieces.convolution(outputs, hidden, kernel_size=1, name=f"{name}_conv1")
    outputs = pieces.batch_norm_relu(outputs, name=f"{name}_bn2")
    outputs = pieces.convolution(outputs, hidden, kernel_size=3, stride=stride, name=f"{name}_conv2")
    outputs = pieces.batch_norm_relu(outputs, name=f"{name}_bn3")
    outputs = pieces.convolution(outputs, 4 * hidden, kernel_size=1, name=f"{name}_conv3")
    outputs = pieces.batch_norm(outputs, name=f"{name}_bn4")
    if drop_rate:
        outputs = ShakeDrop(drop_rate, name=f"{name}_shake_drop")(outputs)
    shortcut = inputs
    if stride > 1:  # a last row or column without a partner is averaged alone
        shortcut = layers.AveragePooling2D(2, padding="same", data_format="channels_last", name=f"{name}_pool")(
            shortcut
        )
    if added := outputs.shape[-1] - inputs.shape[-1]:
        shortcut = keras.ops.pad(shortcut, [(0, 0), (0, 0), (0, 0), (0, added)])
    return layers.Add(name=f"{name}_add")([outputs, shortcut])


def pyramidnet(
    depth: int,
    *,
    num_classes: int,
    input_shape: tuple[int | None, int | None, int],
    width: int = 16,
    widening: float = 15.0,
    shake_drop: float = 0.0,
    synchronized: bool = False,
    name: str,
) -> keras.Model:
    """Functional model, images `[B, H, W, C]` (normalised) to logits `[B, num_classes]`.

    Every block adds the same number of channels, rounded. Each stage but the first halves the image, and the last one
    ends behind the final batch norm and ReLU.

    Args:
        depth: layers, 2 more than a multiple of 9.
        num_classes: of the classifier.
        input_shape: `(H, W, C)`; H and W may be None.
        width: channels of the stem.
        widening: channels that all blocks together add to the stem's, in multiples of `width`: 15 in the papers, whose
            240 channels are added to 16.
        shake_drop: rate of ShakeDrop in the last block, to which it rises linearly from the first; 0: no ShakeDrop.
        synchronized: whether batch norm averages over replicas.
        name: of the model.
    """
    pieces = Pieces(initializer=he_normal_fan_out, synchronized=synchronized)
    blocks_per_stage = (depth - 2) // (3 * STAGES)
    blocks = STAGES * blocks_per_stage
    images = keras.Input(input_shape, name="image")
    outputs = pieces.convolution(images, width, kernel_size=3, name="stem_conv")
    outputs = pieces.batch_norm(outputs, name="stem_bn")
    for number in range(1, blocks + 1):
        stage, block = (number - 1) // blocks_per_stage + 1, (number - 1) % blocks_per_stage + 1
        if stage > 1 and block == 1:
            outputs = layers.Identity(name=f"stage{stage - 1}")(outputs)
        outputs = _block(
            pieces,
            outputs,
            round(width * (1 + widening * number / blocks)),
            stride=2 if stage > 1 and block == 1 else 1,
            drop_rate=shake_drop * number / blocks,
            name=f"stage{stage}_block{block}",
        )
    outputs = pieces.batch_norm_relu(outputs, name="final_bn")
    outputs = layers.Identity(name=f"stage{STAGES}")(outputs)
    return keras.Model(images, classifier(outputs, num_classes=num_classes), name=name)
