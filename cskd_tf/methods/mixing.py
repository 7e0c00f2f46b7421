"""What Mixup, CutMix and Cutout share: draws of a whole batch, on the views of its images."""

import tensorflow as tf

from cskd_tf.data.batches.views import is_view


def mixed_images(batch: dict) -> dict[str, tf.Tensor]:
    """The views in a batch, `[B, H, W, C]` each: the image, its partners, other augmentations."""
    return {name: values for name, values in batch.items() if is_view(name)}


def marked(batch: dict, chosen: tf.Tensor) -> dict[str, tf.Tensor]:
    """The key `"mixed"`, float32 `[B]`: 1 for the images that are `chosen`, or that an earlier method had chosen."""
    chosen = tf.cast(chosen, tf.float32)
    return {"mixed": tf.maximum(batch["mixed"], chosen) if "mixed" in batch else chosen}


def permutation(count: tf.Tensor, *, seed: tf.Tensor) -> tf.Tensor:
    """int32 `[count]`, each of the orders of 0 to `count - 1` with the same probability."""
    return tf.argsort(tf.random.stateless_uniform([count], seed))


def beta(alpha: float, *, seed: tf.Tensor) -> tf.Tensor:
    """One number from Beta(alpha, alpha): `a / (a + b)` of two from Gamma(alpha)."""
    # In float64: for a small alpha both are so small that float32 would make them 0.
    draws = tf.random.stateless_gamma([2], seed, alpha=tf.constant(alpha, tf.float64), dtype=tf.float64)
    return tf.cast(draws[0] / tf.reduce_sum(draws), tf.float32)


def blend(one: tf.Tensor, other: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    """`share * one + (1 - share) * other`. Example: 10 and 20 at 0.7 are 13."""
    return share * one + (1 - share) * other
