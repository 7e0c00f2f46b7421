"""CutMix (Yun et al., ICCV 2019, https://arxiv.org/abs/1905.04899)."""

import dataclasses
from typing import ClassVar

import tensorflow as tf

from cskd_tf.checks import check_fraction, check_number, check_option
from cskd_tf.methods.mixing import Mixing, beta, blend, marked, mixed_images, permutation


@dataclasses.dataclass(frozen=True, kw_only=True)
class CutMix(Mixing):
    """Pastes a box of another image into each image, and mixes the targets by area (section 3.1 of the paper).

    One box and one permutation per batch. The box has the image's proportions and `sqrt(1 - l)` of its sides, `l` from
    Beta(alpha, alpha), its centre anywhere; what lies outside the image is cut off, and the targets are mixed by what
    is left. Every view of an image is mixed alike. Images are `[B, H, W, C]`, targets `[B, C]`.

    Which images are mixed is one throw of a coin per batch, all or none, as in the authors' code; with `coin="image"`
    one per image, as PS-KD beside CutMix has it (section 4.1 of its paper: half of a batch is mixed, the other
    refined).

    Example: at `l = 3/4` the box has 16 x 16 of 32 x 32 pixels where it fits, and leaves 3/4 of the target:
        >>> inside = _box(tf.constant([32, 32]), tf.constant(0.75), seed=tf.constant([6, 0]))
        >>> int(tf.reduce_sum(tf.cast(inside, tf.int32)))
        256

    Args:
        alpha: of the Beta distribution, above 0.
        probability: of the coin: 1 on ImageNet and 0.5 on CIFAR in the authors' recipes.
        coin: `"batch"` or `"image"`, what it is thrown for.

    Raises:
        UserError: an argument out of range.
    """

    alpha: float = 1.0
    probability: float = 1.0
    coin: str = "batch"
    mixes_labels: ClassVar[bool] = True

    def __post_init__(self):
        check_number("alpha", self.alpha, positive=True)
        check_fraction("probability", self.probability, one=True)
        check_option("coin", self.coin, ("batch", "image"))

    @property
    def mixes_all(self) -> bool:
        return self.probability == 1

    def others(self, count, *, seed):
        order = permutation(count, seed=tf.random.experimental.stateless_split(seed, 4)[0])
        return tf.where(self._chosen(count, seed=seed), order, tf.range(count))

    def _chosen(self, count, *, seed):
        """Bool `[count]`, which images get a box of another."""
        shape = [1 if self.coin == "batch" else count]
        coins = tf.random.stateless_uniform(shape, tf.random.experimental.stateless_split(seed, 4)[1])
        return tf.broadcast_to(coins < self.probability, [count])

    def mix(self, batch, targets, *, seed):
        seeds = tf.random.experimental.stateless_split(seed, 4)
        count = tf.shape(targets)[0]
        other, chosen = self.others(count, seed=seed), self._chosen(count, seed=seed)
        inside = _box(tf.shape(batch["image"])[1:3], beta(self.alpha, seed=seeds[2]), seed=seeds[3])
        share = 1 - tf.reduce_mean(tf.cast(inside, tf.float32))
        where = chosen[:, None, None, None] & inside[None, :, :, None]
        views = {
            name: tf.where(where, tf.gather(images, other), images) for name, images in mixed_images(batch).items()
        }
        targets = tf.where(chosen[:, None], blend(targets, tf.gather(targets, other), share), targets)
        return {**batch, **views, **marked(batch, chosen)}, targets


def _box(size: tf.Tensor, share: tf.Tensor, *, seed: tf.Tensor) -> tf.Tensor:
    """Bool `[H, W]`, a box of `1 - share` of the area around a point of uniform distribution, as far as it fits."""
    sides = tf.cast(tf.cast(size, tf.float32) * tf.sqrt(1 - share), tf.int32)
    centre = tf.cast(tf.random.stateless_uniform([2], seed) * tf.cast(size, tf.float32), tf.int32)
    rows, columns = (
        (places >= centre[axis] - sides[axis] // 2) & (places < centre[axis] + sides[axis] // 2)
        for axis, places in enumerate((tf.range(size[0]), tf.range(size[1])))
    )
    return rows[:, None] & columns[None, :]
