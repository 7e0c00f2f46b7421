"""Cutting out and resizing, with PIL's antialiasing, a whole batch at a time."""

import tensorflow as tf


def resample(
    images: tf.Tensor,
    boxes: tf.Tensor,
    *,
    size: tuple[int, int],
    confine: bool = True,
    extents: tf.Tensor | None = None,
) -> tf.Tensor:
    """Cuts a box out of each image and resizes it, bilinear with antialiasing, as PIL does.

    Resampling is separable: two small matrix products an image do crop and resize of a whole batch. PIL rounds to
    whole numbers in between, so on uint8 images the two differ by at most 1 of 255.

    Example: the row of pixels `[0, 4]` resized to width 4 is `[0, 1, 3, 4]`.

    Args:
        images: `[n, H, W, C]`.
        boxes: float32 `[n, 4]`: top, left, height, width in pixels, within the image.
        size: height and width of the result.
        confine: whether pixels outside the box weigh nothing, as if the image had been cropped before it was resized;
            else they take part at the edges, as if it was resized first.
        extents: float32 `[n, 2]`, height and width of each image where they have been padded, below and to the right,
            to the batch's.

    Returns:
        float32 `[n, *size, C]`.
    """
    weights = []
    for axis, target in enumerate(size):
        start, length = boxes[:, axis], boxes[:, axis + 2]
        # The pixels that take part.
        first, last = (start, start + length) if confine else (None, None if extents is None else extents[:, axis])
        weights.append(_triangle_weights(start, length, first, last, source=tf.shape(images)[axis + 1], target=target))
    images = tf.cast(images, tf.float32)
    return tf.einsum("nah,nhwc,nbw->nabc", weights[0], images, weights[1], optimize="optimal")


def _triangle_weights(start, length, first, last, *, source, target: int) -> tf.Tensor:
    """`[n, target, source]` weights of a triangle filter, as wide as the scale but at least one pixel."""
    start, length = start[:, None, None], length[:, None, None]
    scale = length / target
    support = tf.maximum(scale, 1.0)
    centres = start + (tf.range(target, dtype=tf.float32)[None, :, None] + 0.5) * scale
    pixels = tf.cast(tf.range(source), tf.float32)[None, None, :] + 0.5
    weights = tf.maximum(0.0, 1.0 - tf.abs(pixels - centres) / support)
    if first is not None:
        weights = tf.where(pixels > first[:, None, None], weights, 0.0)
    if last is not None:
        weights = tf.where(pixels < last[:, None, None], weights, 0.0)
    return weights / tf.reduce_sum(weights, axis=-1, keepdims=True)
