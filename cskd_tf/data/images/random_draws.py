"""Random numbers for each image, a function of its seed alone."""

import numpy as np
import tensorflow as tf


def draws(seeds: tf.Tensor, *, first: int, count: int) -> tf.Tensor:
    """Random numbers `first` to `first + count - 1` of each image's sequence, uniform, of 24 bits each.

    A counter is hashed with the image's seed (two rounds of MurmurHash3's finalizer, Appleby 2011): 22 numbers per
    image cost what one call of `pairing.uniform` does.

    Example:
        >>> numbers = draws(tf.constant([[1, 2]]), first=0, count=3).numpy()
        >>> bool((draws(tf.constant([[1, 2]]), first=1, count=2).numpy() == numbers[:, 1:]).all())
        True

    Args:
        seeds: int32 `[n, 2]`, one per image.
        first: number in the sequence, from 0.
        count: how many numbers per image.

    Returns:
        float32 `[n, count]` from [0, 1).
    """
    seeds = tf.bitcast(seeds, tf.uint32)
    counters = np.arange(first + 1, first + 1 + count, dtype=np.uint64) * np.uint64(0x9E3779B9) % np.uint64(2**32)
    hashed = _finalize(_finalize(seeds[:, :1] + counters.astype(np.uint32)) + seeds[:, 1:])
    return tf.cast(tf.bitwise.right_shift(hashed, np.uint32(8)), tf.float32) * np.float32(2**-24)


def _finalize(numbers: tf.Tensor) -> tf.Tensor:
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        shifted = tf.bitwise.right_shift(numbers, np.uint32(shift))
        numbers = tf.bitwise.bitwise_xor(numbers, shifted) * np.uint32(factor)
    return tf.bitwise.bitwise_xor(numbers, tf.bitwise.right_shift(numbers, np.uint32(16)))
