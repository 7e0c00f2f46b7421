"""Transforms that change the colours of an image at random."""

import dataclasses
from typing import ClassVar

import numpy as np
import tensorflow as tf

from cskd_tf.data.images.random_draws import draws


@dataclasses.dataclass(frozen=True)
class ColorJitter:
    """Changes brightness, contrast and saturation, each by a factor from `[1 - strength, 1 + strength]`.

    Brightness pulls the pixels towards 0, contrast towards the image's mean grey, saturation towards their own grey,
    without clipping, as in the code that PS-KD's ImageNet recipe goes back to (fb.resnet.torch). So done, the order of
    the three makes no difference. It is called with colour images `[n, H, W, 3]`.

    Example:
        A grey image of pixels 100 and 200 at factors 1.2 (brightness) and 0.5 (contrast) would become
        `1.2 * (150 - 25) = 150` and `1.2 * (150 + 25) = 210`. The factors follow from the image's seed.

        >>> images = tf.constant([[[[100.0] * 3, [200.0] * 3]]])
        >>> changed = ColorJitter(strength=0.4)(images, tf.constant([[1, 2]]))
        >>> [round(float(pixel), 1) for pixel in changed[0, 0, :, 0]]
        [118.2, 191.5]

    Args:
        strength: the largest change of a factor, from 0 to 1.
    """

    strength: float

    def __call__(self, images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        factors = 1 + self.strength * (2 * draws(seeds, first=2000, count=3) - 1)
        brightness, contrast, saturation = (factors[:, column, None, None, None] for column in range(3))
        grey = tf.reduce_sum(images * (0.299, 0.587, 0.114), axis=-1, keepdims=True)
        mean = tf.reduce_mean(grey, axis=(1, 2), keepdims=True)
        images = saturation * images + (1 - saturation) * grey
        return brightness * (contrast * images + (1 - contrast) * mean)


@dataclasses.dataclass(frozen=True)
class Lighting:
    """Adds one colour to each image, drawn along the principal components of ImageNet's colours (AlexNet's noise).

    The colour is `255 * sum_i a_i l_i v_i`, `a_i` from a normal distribution of `std`, `l_i` and `v_i` the eigenvalues
    and eigenvectors of Krizhevsky et al. (2012, section 4.1) as fb.resnet.torch has them, of pixels in [0, 1].
    It is called with colour images `[n, H, W, 3]`, pixels from 0 to 255.

    Example:
        `a = (0.1, 0, 0)` changes red by `255 * .1 * .2175 * -.5675`.

        >>> round(float(255 * 0.1 * Lighting.VALUES[0] * Lighting.VECTORS[0, 0]), 3)
        -3.147

    Args:
        std: standard deviation of the amounts `a_i`.
    """

    std: float
    VALUES: ClassVar = np.array([0.2175, 0.0188, 0.0045], np.float32)
    VECTORS: ClassVar = np.array(  # one per column
        [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]], np.float32
    )

    def __call__(self, images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        # A uniform number of 24 bits through the inverse of the normal distribution, which is infinite at 0 and at 1:
        # moved to the middle of its interval, which float32 would round up to 1.
        uniform = tf.cast(draws(seeds, first=3000, count=3), tf.float64) + 2.0**-25
        normal = tf.cast(tf.math.ndtri(uniform), tf.float32)
        colours = 255 * self.std * tf.linalg.matmul(normal * self.VALUES, self.VECTORS, transpose_b=True)
        return images + colours[:, None, None]
