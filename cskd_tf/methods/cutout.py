"""Cutout (DeVries and Taylor, 2017, https://arxiv.org/abs/1708.04552)."""

import dataclasses

import tensorflow as tf

from cskd_tf.checks import check_count, check_fraction
from cskd_tf.data.batches.views import CLEAN
from cskd_tf.methods.mixing import Mixing, marked, mixed_images


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cutout(Mixing):
    """Sets a square of each image to 0, the mean of the training pixels; the targets stay.

    The square's centre is uniform over the pixels, and what lies outside the image is cut off (section 3.2 of the
    paper). Every view `[B, H, W, C]` gets a hole of its own, but the un-augmented one.

    Example: a hole of 8 pixels covers an image of 4 x 4 wherever its centre lies:
        >>> batch, _ = Cutout(size=8).mix({"image": tf.ones((1, 4, 4, 3))}, tf.ones((1, 2)), seed=tf.constant([1, 2]))
        >>> float(tf.reduce_sum(batch["image"]))
        0.0

    Args:
        size: side of the square, in pixels; 8 on CIFAR in the PS-KD paper.
        probability: of each image to get a hole; all of them in its paper. PS-KD + Cutout cuts half of them and refines
            the targets of the others.

    Raises:
        UserError: an argument out of range.
    """

    size: int = 8
    probability: float = 1.0

    def __post_init__(self):
        check_count("size", self.size)
        check_fraction("probability", self.probability, one=True)

    @property
    def mixes_all(self) -> bool:
        return self.probability == 1

    def others(self, count, *, seed):
        return tf.range(count)

    def mix(self, batch, targets, *, seed):
        views = {name: images for name, images in mixed_images(batch).items() if name != CLEAN}
        seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 1 + len(views)))
        chosen = tf.random.stateless_uniform([tf.shape(targets)[0]], seeds[0]) < self.probability
        cut = {
            name: tf.where(chosen[:, None, None, None] & _holes(images, self.size, seed=view_seed), 0.0, images)
            for (name, images), view_seed in zip(views.items(), seeds[1:], strict=True)
        }
        return {**batch, **cut, **marked(batch, chosen)}, targets


def _holes(images: tf.Tensor, size: int, *, seed: tf.Tensor) -> tf.Tensor:
    """Bool `[B, H, W, 1]`, a square of `size` pixels in each image."""
    shape = tf.shape(images)
    extents = tf.cast(shape[1:3], tf.float32)
    centres = tf.cast(tf.random.stateless_uniform([shape[0], 2], seed) * extents, tf.int32)
    rows, columns = (
        (places[None] >= centres[:, axis, None] - size // 2)
        & (places[None] < centres[:, axis, None] - size // 2 + size)
        for axis, places in enumerate((tf.range(shape[1]), tf.range(shape[2])))
    )
    return (rows[:, :, None] & columns[:, None, :])[..., None]
