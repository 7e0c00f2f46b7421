"""What arithmetic alone would take: the operations of a network, and how fast this machine multiplies matrices.

A program's floating-point operations per second are compared with those of a large matrix product in the same run. A
backward pass has two products for each one of the forward pass: by the inputs and by the weights.
"""

import statistics
from collections.abc import Sequence

import tensorflow as tf

from benchmarks.turns import median_ratio

WITH_GRADIENT, FORWARD = 3, 1  # passes: forward and backward, forward alone
SIDE = 4096  # of the matrices: larger ones reach no higher rate


def forward_flops(network) -> int:
    """Floating-point operations of a network's forward pass, per image, as TensorFlow's profiler counts them.

    Example: a dense layer from 3 to 2 without bias has 2 * 3 * 2 = 12.

    Args:
        network: a Keras model of one image size.
    """
    profiler = tf.compat.v1.profiler
    images = tf.TensorSpec((1, *network.input_shape[1:]), tf.float32)
    forward = tf.function(lambda images: network(images, training=False), autograph=False)
    options = profiler.ProfileOptionBuilder(profiler.ProfileOptionBuilder.float_operation()).with_empty_output().build()
    return profiler.profile(forward.get_concrete_function(images).graph, options=options).total_float_ops


class MatrixProduct:
    """A program that multiplies two square matrices.

    Attributes:
        flops: floating-point operations of a call.
    """

    def __init__(self, precision: str):
        dtype = precision.removeprefix("mixed_")
        left, right = (tf.cast(tf.random.stateless_normal((SIDE, SIDE), [0, seed]), dtype) for seed in range(2))
        self.flops = 2 * SIDE**3
        self._multiply = tf.function(lambda: tf.reduce_sum(tf.matmul(left, right)), autograph=False)

    def __call__(self) -> None:
        float(self._multiply())

    def share(self, flops: float, seconds: Sequence[float], own_seconds: Sequence[float]) -> float:
        """A program's operations per second over those of the product, the median of rounds in turns.

        Example: of as many operations as the product has, in twice its seconds, the share is .5.

        Args:
            flops: of the program.
            seconds: of the program, in each round.
            own_seconds: of the product.
        """
        return round(flops / self.flops * median_ratio(own_seconds, seconds), 3)

    def gflop_per_second(self, own_seconds: Sequence[float]) -> float:
        """The product's rate, the median of the rounds."""
        return round(self.flops / statistics.median(own_seconds) / 1e9, 1)
