"""The precision of a run whose config leaves it to the hardware: bfloat16 where that multiplies it faster."""

import math
import time
from collections.abc import Callable
from typing import Literal

import tensorflow as tf
from absl import logging

WORTH = 1.5  # times as fast: batch norm, sums and casts, which are no products, gain nothing or lose
ROUNDS, SECONDS = 20, 0.5  # of measuring, whichever ends first


def chosen(strategy: tf.distribute.Strategy) -> Literal["float32", "mixed_bfloat16"]:
    """`"mixed_bfloat16"` or `"float32"`, whichever the devices of a strategy are faster with; all agree on one."""
    ratio = measured(strategy)
    precision: Literal["float32", "mixed_bfloat16"] = "mixed_bfloat16" if ratio >= WORTH else "float32"
    logging.info(
        "precision=auto: %s, as products in bfloat16 take 1/%.2f of the time of those in float32 here, and from 1/%.1f "
        "on it is worth it", precision, ratio, WORTH,
    )  # fmt: skip
    return precision


def measured(strategy: tf.distribute.Strategy) -> float:
    """How many times as fast as in float32 a product of matrices and a convolution with its gradients are in bfloat16.

    The mean over all replicas, of the fastest of many short turns of each, which other programs disturb least.
    """
    programs = {(kind, dtype): _program(strategy, kind, dtype) for kind in KINDS for dtype in (tf.float32, tf.bfloat16)}
    for run in programs.values():
        run()  # which traces
    seconds = dict.fromkeys(programs, math.inf)
    end = time.perf_counter() + SECONDS
    for _ in range(ROUNDS):
        for name, run in programs.items():
            start = time.perf_counter()
            run()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
        if time.perf_counter() > end:
            break
    single, half = (sum(seconds[kind, dtype] for kind in KINDS) for dtype in (tf.float32, tf.bfloat16))
    return _agreed(strategy, single / half)


def _matrices(matrix: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.cast((matrix @ matrix)[0], tf.float32))


def _convolution(images: tf.Tensor, filters: tf.Tensor) -> tf.Tensor:
    with tf.GradientTape() as tape:
        tape.watch([images, filters])
        loss = tf.reduce_sum(tf.nn.conv2d(images, filters, strides=1, padding="SAME"))
    gradients = tape.gradient(loss, [images, filters])
    return tf.add_n([tf.reduce_sum(tf.cast(gradient[0], tf.float32)) for gradient in gradients])


KINDS = (_matrices, _convolution)


def _program(strategy: tf.distribute.Strategy, kind: Callable[..., tf.Tensor], dtype: tf.DType) -> Callable[[], None]:
    """Runs one kind of products, about 2 GFLOP on a CPU and 100 on what is faster, and waits for them."""
    large = any(device.device_type != "CPU" for device in tf.config.list_logical_devices())
    size, batch = (4096, 512) if large else (1024, 8)
    # Values are beside the point, but for those that are slow because they are tiny.
    shapes = {_matrices: [[size, size]], _convolution: [[batch, 32, 32, 64], [3, 3, 64, 64]]}[kind]
    arguments = [tf.ones(shape, dtype) for shape in shapes]
    function = tf.function(lambda *values: strategy.run(kind, args=values), autograph=False)

    def run() -> None:
        for result in strategy.experimental_local_results(function(*arguments)):
            result.numpy()

    return run


def _agreed(strategy: tf.distribute.Strategy, ratio: float) -> float:
    """The mean over all replicas, those of other processes too, which must not choose differently."""

    def mean(ratio):
        # An argument is on no device yet, which all_reduce refuses.
        return tf.distribute.get_replica_context().all_reduce("MEAN", tf.identity(ratio))

    run = tf.function(lambda ratio: strategy.run(mean, args=(ratio,)), autograph=False)
    return float(strategy.experimental_local_results(run(tf.constant(ratio)))[0])
