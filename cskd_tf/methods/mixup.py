"""Mixup (Zhang et al., ICLR 2018, https://arxiv.org/abs/1710.09412)."""

import dataclasses
from typing import ClassVar

import tensorflow as tf

from cskd_tf.checks import check_number
from cskd_tf.methods.mixing import Mixing, beta, blend, marked, mixed_images, permutation


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mixup(Mixing):
    """Trains on sums of two images: `l * x_i + (1 - l) * x_j`, and of their targets (section 2 of the paper).

    One `l` from Beta(alpha, alpha) per batch, and one permutation; every view of an image is mixed alike, so that an
    image and its partner, in Mixup + CS-KD, carry the same mixed target. Images are `[B, H, W, C]`, targets `[B, C]`.

    Example: `l = 0.7` makes of pixels 10 and 20, of classes 0 and 1 of two, the pixel 13 with the target (.7, .3):
        >>> float(blend(tf.constant(10.0), tf.constant(20.0), tf.constant(0.7)))
        13.0

    Args:
        alpha: of the Beta distribution, above 0; 1.0 is usual on CIFAR, 0.2 to 0.4 on ImageNet. The CS-KD paper states
            none.

    Raises:
        UserError: an argument out of range.
    """

    alpha: float = 1.0
    mixes_labels: ClassVar[bool] = True

    def __post_init__(self):
        check_number("alpha", self.alpha, positive=True)

    @property
    def mixes_all(self) -> bool:
        return True

    def others(self, count, *, seed):
        return permutation(count, seed=tf.random.experimental.stateless_split(seed, 2)[1])

    def mix(self, batch, targets, *, seed):
        share = beta(self.alpha, seed=tf.random.experimental.stateless_split(seed, 2)[0])
        other = self.others(tf.shape(targets)[0], seed=seed)
        views = {name: blend(images, tf.gather(images, other), share) for name, images in mixed_images(batch).items()}
        chosen = tf.fill(tf.shape(targets)[:1], True)
        return {**batch, **views, **marked(batch, chosen)}, blend(targets, tf.gather(targets, other), share)
