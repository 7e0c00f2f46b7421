"""Image transforms on whole batches. Each is called with images and one seed an image, and keeps no state.

A transform takes `images [n, H, W, C]` float32 and `seeds` int32 `[n, 2]` and returns float32 images; the same seeds
give the same result. Anything of that form can be given to `cskd_tf.data.paired_dataset(augment=...)`.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from cskd_tf.data.pairing import uniform

Transform = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def resample(images: tf.Tensor, boxes: tf.Tensor, *, size: tuple[int, int], confine: bool = True) -> tf.Tensor:
    """Cuts a box out of each image and resizes it, bilinear with antialiasing, as PIL does.

    Resampling is separable: two small matrix products an image do crop and resize of a whole batch. PIL rounds to
    whole numbers in between, so on uint8 images the two differ by at most 1 of 255.

    Example: the row of pixels `[0, 4]` resized to width 4 is `[0, 1, 3, 4]`.

    Args:
        images: float32 `[n, H, W, C]`.
        boxes: float32 `[n, 4]`: top, left, height, width in pixels, within the image.
        size: height and width of the result.
        confine: whether pixels outside the box weigh nothing, as if the image had been cropped before it was resized;
            else they take part at the edges, as if it was resized first.

    Returns:
        float32 `[n, *size, C]`.
    """
    shape = tf.shape(images)
    rows = _triangle_weights(boxes[:, 0], boxes[:, 2], source=shape[1], target=size[0], confine=confine)
    columns = _triangle_weights(boxes[:, 1], boxes[:, 3], source=shape[2], target=size[1], confine=confine)
    return tf.einsum("nah,nhwc,nbw->nabc", rows, images, columns, optimize="optimal")


def _triangle_weights(start: tf.Tensor, length: tf.Tensor, *, source, target: int, confine: bool) -> tf.Tensor:
    """`[n, target, source]` weights of a triangle filter, as wide as the scale but at least one pixel."""
    start, length = start[:, None, None], length[:, None, None]
    scale = length / target
    support = tf.maximum(scale, 1.0)
    centres = start + (tf.range(target, dtype=tf.float32)[None, :, None] + 0.5) * scale
    pixels = tf.cast(tf.range(source), tf.float32)[None, None, :] + 0.5
    weights = tf.maximum(0.0, 1.0 - tf.abs(pixels - centres) / support)
    if confine:
        weights = tf.where((pixels > start) & (pixels < start + length), weights, 0.0)
    return weights / tf.reduce_sum(weights, axis=-1, keepdims=True)


def _draw(seeds: tf.Tensor, number: int) -> tf.Tensor:
    """Draw `number` of each image, float32 `[n]` from [0, 1)."""
    streams = tf.fill([tf.shape(seeds)[0]], tf.constant(number, tf.int64))
    keys = tf.concat([seeds, tf.zeros_like(seeds[:, :1])], axis=1)
    # Rounding to float32 must not reach 1.
    return tf.minimum(tf.cast(uniform(streams, draw_key=keys), tf.float32), np.float32(1 - 2**-24))


@dataclasses.dataclass(frozen=True)
class Compose:
    """One transform after the other."""

    transforms: Sequence[Transform]

    def __call__(self, images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        for transform in self.transforms:
            images = transform(images, seeds)
        return images


@dataclasses.dataclass(frozen=True)
class CentreCrop:
    """Resizes the short side to `short_side`, then cuts out the centre, with torchvision's rounding.

    Example: a 500 x 400 image with `size=224, short_side=256` becomes 320 x 256, then its central 224 x 224.
    """

    size: int
    short_side: int

    def __call__(self, images: tf.Tensor, seeds: tf.Tensor | None = None) -> tf.Tensor:
        if images.shape[1:3] == (self.size, self.size) and self.short_side == self.size:
            return images
        extent = tf.shape(images)[1:3]
        resized = self.short_side * extent // tf.reduce_min(extent)
        # To the nearest pixel of the resized image, halves to the even one.
        corner = tf.round(tf.cast(resized - self.size, tf.float32) / 2)
        scale = tf.cast(extent, tf.float32) / tf.cast(resized, tf.float32)
        box = tf.concat([corner * scale, self.size * scale], axis=0)
        boxes = tf.tile(box[None], [tf.shape(images)[0], 1])
        return resample(images, boxes, size=(self.size, self.size), confine=False)


@dataclasses.dataclass(frozen=True)
class PadCrop:
    """Pads with `padding` zeros on each side and crops the original size at a random place (CIFAR)."""

    padding: int

    def __call__(self, images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        shape = tf.shape(images)
        edge = [self.padding, self.padding]
        padded = tf.pad(images, [[0, 0], edge, edge, [0, 0]])
        offsets = 2 * self.padding + 1
        tops, lefts = (tf.cast(_draw(seeds, number) * offsets, tf.int32) for number in (0, 1))
        rows = tf.gather(padded, tops[:, None] + tf.range(shape[1]), axis=1, batch_dims=1)
        crops = tf.gather(rows, lefts[:, None] + tf.range(shape[2]), axis=2, batch_dims=1)
        return tf.ensure_shape(crops, images.shape)


@dataclasses.dataclass(frozen=True)
class RandomResizedCrop:
    """A crop of random area and aspect ratio, resized to `size` (Szegedy et al., 2015), as torchvision draws it.

    Ten tries at a box of area 0.08 to 1 of the image and ratio 3/4 to 4/3 (uniform in its logarithm); where none fits,
    the central crop of the nearest ratio that does.
    """

    size: int
    area: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    tries: int = 10

    def __call__(self, images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        return resample(images, self.boxes(tf.shape(images)[1:3], seeds), size=(self.size, self.size))

    def boxes(self, extent: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        """float32 `[n, 4]` boxes (top, left, height, width) in images of `extent` (height, width)."""
        height, width = tf.unstack(tf.cast(extent, tf.float32))
        draws = tf.stack([_draw(seeds, 2 + number) for number in range(2 * self.tries)], axis=1)
        areas = height * width * (self.area[0] + (self.area[1] - self.area[0]) * draws[:, : self.tries])
        logarithms = np.log(self.ratio[0]) + np.log(self.ratio[1] / self.ratio[0]) * draws[:, self.tries :]
        ratios = tf.exp(logarithms)
        heights, widths = tf.round(tf.sqrt(areas / ratios)), tf.round(tf.sqrt(areas * ratios))
        fits = (heights <= height) & (widths <= width) & (heights >= 1) & (widths >= 1)
        # The fallback stands last, so that the first that fits is always found.
        ratio = tf.clip_by_value(width / height, *self.ratio)
        last_height = tf.minimum(height, tf.round(width / ratio))
        last_width = tf.minimum(width, tf.round(height * ratio))
        one = tf.ones_like(heights[:, :1])
        heights = tf.concat([heights, last_height * one], axis=1)
        widths = tf.concat([widths, last_width * one], axis=1)
        fits = tf.concat([fits, one > 0], axis=1)
        first = tf.argmax(tf.cast(fits, tf.int32), axis=1)
        box_height = tf.gather(heights, first, batch_dims=1)
        box_width = tf.gather(widths, first, batch_dims=1)
        tops = tf.floor(_draw(seeds, 0) * (height - box_height + 1))
        lefts = tf.floor(_draw(seeds, 1) * (width - box_width + 1))
        fallback = first == self.tries
        tops = tf.where(fallback, tf.floor((height - box_height) / 2), tops)
        lefts = tf.where(fallback, tf.floor((width - box_width) / 2), lefts)
        return tf.stack([tops, lefts, box_height, box_width], axis=1)


@dataclasses.dataclass(frozen=True)
class Flip:
    """Mirrors half of the images, left to right."""

    def __call__(self, images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        mirrored = _draw(seeds, 1000) < 0.5
        return tf.where(mirrored[:, None, None, None], images[:, :, ::-1], images)


@dataclasses.dataclass(frozen=True)
class Normalize:
    """`(pixel / 255 - mean) / std` by channel. Example: pixel 255 at mean .5, std .25 becomes 2."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: tf.Tensor, seeds: tf.Tensor | None = None) -> tf.Tensor:
        mean, std = (np.asarray(values, np.float32) for values in (self.mean, self.std))
        return (images / 255.0 - mean) / std


def build_transforms(
    *,
    crop: str,
    image_size: int,
    short_side: int,
    padding: int,
    flip: bool,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> tuple[Transform, Transform]:
    """The transforms of a config: one for training, one for evaluation and serving. Arguments as in configs/base.py.

    Raises:
        ValueError: an unknown crop, or a size out of range.
    """
    if image_size < 1 or padding < 0:
        raise ValueError(
            "Expected image_size of at least 1 and padding of at least 0. "
            f"Received: image_size={image_size}, padding={padding}"
        )
    short_side = short_side or image_size
    if short_side < image_size:
        raise ValueError(
            f"Expected short_side to be at least image_size ({image_size}). Received: short_side={short_side}"
        )
    if len(mean) != len(std) or not mean or any(value <= 0 for value in std):
        raise ValueError(
            f"Expected as many means as stds, the stds above 0. Received: mean={tuple(mean)}, std={tuple(std)}"
        )
    centre = CentreCrop(size=image_size, short_side=short_side)
    whole = CentreCrop(size=image_size, short_side=image_size)
    crops = {
        "none": (centre,),
        "pad_crop": (whole, PadCrop(padding)),
        "random_resized_crop": (RandomResizedCrop(image_size),),
    }
    if crop not in crops:
        raise ValueError(f"Unknown crop; expected one of {sorted(crops)}. Received: crop={crop!r}")
    normalize = Normalize(tuple(mean), tuple(std))
    training = Compose((*crops[crop], *([Flip()] if flip else []), normalize))
    return training, Compose((centre, normalize))
