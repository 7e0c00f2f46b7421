"""What arithmetic alone would take: the operations of a network, and how fast this machine multiplies matrices.

A program's floating-point operations per second are compared with those of a large matrix product in the same run. A
backward pass has two products for each one of the forward pass: by the inputs and by the weights.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence

import tensorflow as tf

from benchmarks.turns import median_ratio

WITH_GRADIENT, FORWARD = 3, 1  # passes: forward and backward, forward alone
# Rows, columns of the first and columns of the second matrix: a large square product, and one as a convolution has it.
# Which is faster depends on precision and machine; larger ones, or others, were no faster.
SHAPES = ((4000, 4000, 4000), (57600, 2304, 256))
ROUNDS = 3  # in which the faster is found


def forward_flops(network) -> int:
    """Floating-point operations of a network's forward pass, per image.

    As TensorFlow's profiler counts them, but for what convolutions multiply by the zeros beyond an image's border.
    Kernels leave that out; in a ResNet-18 on 32 x 32 pixels it is an eighth of all. Dilated convolutions are counted
    whole.

    Example: a dense layer from 3 to 2 without bias has 2 * 3 * 2 = 12.

    Args:
        network: a Keras model of one image size.
    """
    profiler = tf.compat.v1.profiler
    images = tf.TensorSpec((1, *network.input_shape[1:]), tf.float32)
    forward = tf.function(lambda images: network(images, training=False), autograph=False)
    options = profiler.ProfileOptionBuilder(profiler.ProfileOptionBuilder.float_operation()).with_empty_output().build()
    graph = forward.get_concrete_function(images).graph
    counted = profiler.profile(graph, options=options).total_float_ops
    return counted - sum(map(_beyond_the_border, graph.get_operations()))


def _beyond_the_border(operation: tf.Operation) -> int:
    """What the profiler counts of a convolution for the zeros around its image."""
    if operation.type not in ("Conv2D", "DepthwiseConv2dNative"):
        return 0
    images, kernel = (each.shape.as_list() for each in operation.inputs)
    outputs = operation.outputs[0].shape.as_list()
    strides, explicit = operation.get_attr("strides"), operation.get_attr("explicit_paddings")
    padding = operation.get_attr("padding").decode()
    within = 1.0
    for axis in (1, 2):  # of images with the channels last
        taps = range(kernel[axis - 1])
        places = range(0, outputs[axis] * strides[axis], strides[axis])
        same = max(places[-1] + taps[-1] + 1 - images[axis], 0) // 2
        before = explicit[2 * axis] if padding == "EXPLICIT" else {"VALID": 0, "SAME": same}[padding]
        within *= share_within(images[axis], [place - before for place in places], taps=taps)
    channels = kernel[2] if operation.type == "Conv2D" else 1
    return round((1 - within) * 2 * math.prod(outputs) * kernel[0] * kernel[1] * channels)


def share_within(size: int, places: Sequence[int], *, taps: Sequence[int]) -> float:
    """Of what a kernel multiplies over a row of pixels, the share that lies on pixels.

    Example: 3 taps over 4 pixels, with a zero at either end, at 4 places: 10 of 12.
        >>> round(12 * share_within(4, places=[-1, 0, 1, 2], taps=[0, 1, 2]), 6)
        10.0
    """
    found = [0 <= place + tap < size for place in places for tap in taps]
    return sum(found) / len(found)


def _product(rows: int, inner: int, columns: int, *, dtype: str) -> Callable[[], float]:
    left = tf.cast(tf.random.stateless_normal((rows, inner), [0, 0]), dtype)
    right = tf.cast(tf.random.stateless_normal((inner, columns), [0, 1]), dtype)
    multiply = tf.function(lambda: tf.reduce_sum(tf.matmul(left, right)), autograph=False)
    return lambda: float(multiply())


class MatrixProduct:
    """A program that multiplies two matrices, the fastest of `SHAPES` here.

    Attributes:
        flops: floating-point operations of a call.
    """

    def __init__(self, precision: str):
        dtype = precision.removeprefix("mixed_")
        programs = {shape: _product(*shape, dtype=dtype) for shape in SHAPES}
        seconds = dict.fromkeys(SHAPES, math.inf)
        for number in range(1 + ROUNDS):
            for shape, program in programs.items():
                started = time.perf_counter()
                program()
                if number:  # the first traces
                    seconds[shape] = min(seconds[shape], time.perf_counter() - started)
        fastest = min(SHAPES, key=lambda shape: seconds[shape] / math.prod(shape))
        self.flops = 2 * math.prod(fastest)
        self._multiply = programs[fastest]

    def __call__(self) -> None:
        self._multiply()

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
