"""Which image comes when, beside which partner: decided on indices, stateless in (seed, epoch, index)."""

import numpy as np
import tensorflow as tf

# TensorFlow's default of 4 rounds leaves neighbouring indices correlated (0.34 where 16 rounds leave 0.001).
_ROUNDS = 16
_LARGEST = 2**31 - 2


def key(seed: int, *counters) -> tf.Tensor:
    """A well-mixed uint32 `[3]` key from a seed and integer counters, such as the epoch and a stream number.

    `index_shuffle` under consecutive keys gives orders that resemble each other, so keys are drawn, not counted.
    """
    mixed = tf.stack([tf.cast(seed, tf.int64), tf.constant(0, tf.int64)])
    for counter in counters:
        mixed = tf.random.experimental.stateless_fold_in(mixed, tf.cast(counter, tf.int64), alg="philox")
    return tf.random.stateless_uniform([3], mixed, minval=None, maxval=None, dtype=tf.uint32, alg="philox")


def shuffled(positions: tf.Tensor, *, size: int, order_key: tf.Tensor) -> tf.Tensor:
    """The images at `positions` of a shuffled order of `size` images: a permutation that is never stored.

    Args:
        positions: int64 `[n]`, from 0 to `size - 1`.
        size: number of images.
        order_key: from `key(seed, epoch)`.

    Returns:
        int64 `[n]`.
    """
    return tf.raw_ops.RandomIndexShuffle(index=positions, seed=order_key, max_index=np.int64(size - 1), rounds=_ROUNDS)


def uniform(indices: tf.Tensor, *, draw_key: tf.Tensor) -> tf.Tensor:
    """One float64 from [0, 1) for each int64 index `[n]`, a function of the index and the key alone."""
    draws = tf.raw_ops.RandomIndexShuffle(index=indices, seed=draw_key, max_index=np.int64(_LARGEST), rounds=_ROUNDS)
    return tf.cast(draws, tf.float64) / (_LARGEST + 1)


def image_seeds(indices: tf.Tensor, *, draw_key: tf.Tensor) -> tf.Tensor:
    """An int32 `[n, 2]` seed for each index, for `tf.random.stateless_*` and the transforms of `augment`."""
    columns = [
        tf.raw_ops.RandomIndexShuffle(
            index=indices + column * tf.constant(2**30, tf.int64),
            seed=draw_key,
            max_index=np.int64(_LARGEST),
            rounds=_ROUNDS,
        )
        for column in (0, 1)
    ]
    return tf.cast(tf.stack(columns, axis=-1), tf.int32)


class ClassBuckets:
    """The images sorted by class, so that a partner is one look-up whatever the size of the data.

    Example: labels `[1, 0, 1]` are stored as order `[1, 0, 2]`, offsets `[0, 1]`, counts `[1, 2]`; image 2 with the
    draw .7 gets partner `order[1 + floor(.7 * 2)] = 2`, itself, which the paper allows.

    Args:
        labels: int `[N]`, each class of `range(num_classes)` at least once.
        num_classes: C.
    """

    def __init__(self, labels: np.ndarray, *, num_classes: int):
        counts = np.bincount(labels, minlength=num_classes)
        self.counts = tf.constant(counts, tf.int64)
        self.offsets = tf.constant(np.concatenate([[0], np.cumsum(counts)[:-1]]), tf.int64)
        self.order = tf.constant(np.argsort(labels, kind="stable"), tf.int64)
        self.labels = tf.constant(labels, tf.int32)

    def partners(self, indices: tf.Tensor, *, draw_key: tf.Tensor) -> tf.Tensor:
        """For each image a partner, uniform over the images of its class (itself included); int64 `[n]` both."""
        labels = tf.gather(self.labels, indices)
        counts = tf.gather(self.counts, labels)
        ranks = tf.cast(uniform(indices, draw_key=draw_key) * tf.cast(counts, tf.float64), tf.int64)
        return tf.gather(self.order, tf.gather(self.offsets, labels) + ranks)
