"""Image transforms on whole batches. Each is called with images and one seed per image, and keeps no state.

A transform takes `images [n, H, W, C]` float32 and `seeds` int32 `[n, 2]` and returns float32 images; the same seeds
give the same result. Anything of that form can be given to `cskd_tf.data.paired_dataset(augment=...)`. One with the
attribute `any_dtype` also takes the bytes as they are stored, which are a quarter of the memory to move.
"""

import abc
import dataclasses
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
import tensorflow as tf

from cskd_tf.data.images.random_draws import draws
from cskd_tf.data.images.resampling import resample
from cskd_tf.errors import UserError

Transform = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Compose:
    """One transform after the other.

    Args:
        transforms: in the order in which they are applied.
    """

    transforms: Sequence[Transform]
    any_dtype: ClassVar[bool] = True

    def __call__(self, images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        for transform in self.transforms:
            images = _called(transform, as_accepted(images, transform), seeds)
        return images


def as_accepted(images: tf.Tensor, transform: Transform) -> tf.Tensor:
    """Images as a transform takes them: as float32, unless it has `any_dtype`."""
    return images if getattr(transform, "any_dtype", False) else tf.cast(images, tf.float32)


def apply(transform: Transform | None, images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
    """float32 images after a transform, or as they are without one."""
    if transform is not None:
        images = _called(transform, as_accepted(images, transform), seeds)
    return tf.cast(images, tf.float32)


def _called(transform: Transform, images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
    """What a transform returns; of a user's own, Python's `if` and `for` over tensors become TensorFlow's."""
    ours = (transform.__module__ or "").startswith(f"{__package__}.")
    # The pipeline leaves AutoGraph out, which takes seconds to read all our code; tf.function brings it back in.
    return transform(images, seeds) if ours or tf.executing_eagerly() else tf.function(transform)(images, seeds)


class Resize(abc.ABC):
    """Cuts a box out of each image and resizes it to a square: the base of the transforms that change the size.

    Subclasses say which box. The pipeline asks for the boxes and resizes itself (`resampling.resample_bytes`), so that
    no pixel outside of them need be decoded; a call of the transform is a graph that can be exported.

    Attributes:
        size: height and width of the square, in pixels.
        confine: whether pixels outside the box weigh nothing, see `resampling.resample`.
    """

    size: int
    confine: ClassVar[bool]
    any_dtype: ClassVar[bool] = True

    @abc.abstractmethod
    def boxes(self, extents: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        """float32 `[n, 4]` boxes (top, left, height, width) in images of `extents` float32 `[n, 2]`."""

    def __call__(self, images: tf.Tensor, seeds: tf.Tensor | None = None) -> tf.Tensor:
        extents = tf.tile(tf.cast(tf.shape(images)[None, 1:3], tf.float32), [tf.shape(images)[0], 1])
        boxes = self.boxes(extents, seeds)
        return resample(images, boxes, size=(self.size, self.size), confine=self.confine)


@dataclasses.dataclass(frozen=True)
class CentreCrop(Resize):
    """Resizes the short side to `short_side`, then cuts out the centre, with torchvision's rounding.

    Example:
        An image of 500 x 400 becomes 320 x 256, of which the central 224 x 224 are, in pixels of the image, the box of
        height and width 224 * 500 / 320 = 350 that begins at (75, 25).

        >>> CentreCrop(size=224, short_side=256).boxes(tf.constant([[500.0, 400.0]])).numpy().tolist()
        [[75.0, 25.0, 350.0, 350.0]]

    Args:
        size: of the result, in pixels.
        short_side: of the resized image, in pixels, at least `size`.
    """

    size: int
    short_side: int
    confine = False

    def boxes(self, extents: tf.Tensor, seeds: tf.Tensor | None = None) -> tf.Tensor:
        shorts = tf.reduce_min(extents, axis=1, keepdims=True)
        resized = tf.floor(self.short_side * extents / shorts)
        # To the nearest pixel of the resized image, halves to the even one.
        corners = tf.round((resized - self.size) / 2)
        scales = extents / resized
        return tf.concat([corners * scales, self.size * scales], axis=1)

    def __call__(self, images: tf.Tensor, seeds: tf.Tensor | None = None) -> tf.Tensor:
        if images.shape[1:3] == (self.size, self.size) and self.short_side == self.size:
            return images
        return super().__call__(images, seeds)


@dataclasses.dataclass(frozen=True)
class RandomResizedCrop(Resize):
    """A crop of random area and aspect ratio, resized to `size` (Szegedy et al., 2015), as torchvision draws it.

    Ten tries at a box of area 0.08 to 1 of the image and ratio 3/4 to 4/3 (uniform in its logarithm); where none fits,
    the central crop of the nearest ratio that does.

    Args:
        size: of the result, in pixels.
        area: smallest and largest share of the image's area.
        ratio: smallest and largest width of the box in heights.
        tries: how many boxes are drawn per image; the first that fits is taken.
    """

    size: int
    area: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    tries: int = 10
    confine = True

    def boxes(self, extents: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        height, width = extents[:, :1], extents[:, 1:]
        numbers = draws(seeds, first=2, count=2 * self.tries)
        areas = height * width * (self.area[0] + (self.area[1] - self.area[0]) * numbers[:, : self.tries])
        logarithms = np.log(self.ratio[0]) + np.log(self.ratio[1] / self.ratio[0]) * numbers[:, self.tries :]
        ratios = tf.exp(logarithms)
        heights, widths = tf.round(tf.sqrt(areas / ratios)), tf.round(tf.sqrt(areas * ratios))
        fits = (heights <= height) & (widths <= width) & (heights >= 1) & (widths >= 1)
        # The fallback stands last and always fits, so that there is a first box that does.
        ratio = tf.clip_by_value(width / height, *self.ratio)
        heights = tf.concat([heights, tf.minimum(height, tf.round(width / ratio))], axis=1)
        widths = tf.concat([widths, tf.minimum(width, tf.round(height * ratio))], axis=1)
        fits = tf.concat([fits, tf.ones_like(height, tf.bool)], axis=1)
        first = tf.argmax(tf.cast(fits, tf.int32), axis=1)
        sizes = tf.gather(tf.stack([heights, widths], axis=-1), first, batch_dims=1)
        room = extents - sizes
        places = draws(seeds, first=0, count=2)
        corners = tf.where(first[:, None] == self.tries, tf.floor(room / 2), tf.floor(places * (room + 1)))
        return tf.concat([corners, sizes], axis=1)


@dataclasses.dataclass(frozen=True)
class PadCrop:
    """Pads with zeros on each side and crops the original size at a random place, as is usual for CIFAR.

    Args:
        padding: pixels of zeros on each side.
    """

    padding: int
    any_dtype: ClassVar[bool] = True

    def __call__(self, images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        count, height, width, channels = (tf.shape(images)[axis] for axis in range(4))
        offsets = tf.cast(draws(seeds, first=0, count=2) * (2 * self.padding + 1), tf.int32)
        # Rows of pixels are copied whole. First each image's rows are chosen among the padded rows of all images, then
        # a part of each row is cut out, for all images of the same horizontal shift at once.
        lines = tf.reshape(images, [count, height, width * channels])
        edges = [self.padding * channels] * 2
        lines = tf.pad(lines, [[0, 0], [self.padding, self.padding], edges])
        first = tf.range(count)[:, None] * (height + 2 * self.padding) + offsets[:, :1]
        lines = tf.gather(tf.reshape(lines, [-1, (width + 2 * self.padding) * channels]), first + tf.range(height))
        alike = tf.dynamic_partition(tf.range(count), offsets[:, 1], 2 * self.padding + 1)
        starts = [shift * channels for shift in range(2 * self.padding + 1)]
        parts = [
            tf.gather(lines, members)[:, :, start : start + width * channels]
            for members, start in zip(alike, starts, strict=True)
        ]
        back = tf.math.invert_permutation(tf.concat(alike, axis=0))
        crops = tf.gather(tf.concat(parts, axis=0), back)
        return tf.ensure_shape(tf.reshape(crops, tf.shape(images)), images.shape)


@dataclasses.dataclass(frozen=True)
class Flip:
    """Mirrors half of the images, left to right."""

    any_dtype: ClassVar[bool] = True

    def __call__(self, images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        shape = tf.shape(images)
        chosen = tf.cast(draws(seeds, first=1000, count=1)[:, 0] < 0.5, tf.int32)
        places = tf.dynamic_partition(tf.range(shape[0]), chosen, 2)
        kept, mirrored = (tf.gather(images, members) for members in places)
        # TensorFlow has a fast kernel for the middle axis of three.
        mirrored = tf.reverse(tf.reshape(mirrored, [-1, shape[2], shape[3]]), axis=[1])
        mirrored = tf.reshape(mirrored, [-1, shape[1], shape[2], shape[3]])
        return tf.ensure_shape(tf.dynamic_stitch(places, [kept, mirrored]), images.shape)


@dataclasses.dataclass(frozen=True)
class Normalize:
    """`(pixel / 255 - mean) / std` by channel.

    Example:
        >>> Normalize(mean=(0.5,), std=(0.25,))(tf.constant([[[[255.0]]]])).numpy().item()
        2.0

    Args:
        mean: one per channel, of pixels in [0, 1], or one for all.
        std: as many, standard deviation of pixels in [0, 1].

    Raises:
        UserError: images of another number of channels.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    any_dtype: ClassVar[bool] = True

    def __call__(self, images: tf.Tensor, seeds: tf.Tensor | None = None) -> tf.Tensor:
        mean, std = (np.asarray(values, np.float32) for values in (self.mean, self.std))
        if len(mean) > 1 and images.shape[-1] not in (None, len(mean)):
            raise UserError(f"Expected images of {len(mean)} channels, as mean and std. Received: {images.shape}")
        # Broadcasting over three channels is six times slower than over a whole row of pixels.
        width = images.shape[2] or 1
        rows = tf.reshape(tf.cast(images, tf.float32), [-1, width * len(mean)])
        rows = rows * np.tile(1 / (255 * std), width) - np.tile(mean / std, width)
        return tf.ensure_shape(tf.reshape(rows, tf.shape(images)), images.shape)
