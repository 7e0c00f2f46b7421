"""From the indices of one view to its pixels, transformed."""

from typing import cast

import tensorflow as tf

from cskd_tf.data.images.decode import decode_batch, transform_batch
from cskd_tf.data.images.transforms import Transform
from cskd_tf.data.sources.base import EncodedSource, PixelSource, Source


def load_images(source: Source, indices: tf.Tensor, seeds: tf.Tensor, *, transform: Transform | None) -> tf.Tensor:
    """The images of a source, transformed, inside the tf.data graph.

    Example:
        >>> source = cskd_tf.data.ArraySource(np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1), [0, 1, 1])
        >>> images = load_images(source, tf.constant([2, 0], tf.int64), tf.zeros([2, 2], tf.int32), transform=None)
        >>> images.numpy().ravel().tolist()
        [2.0, 0.0]

    Args:
        source: of pixels or of encoded images.
        indices: int64 `[n]`.
        seeds: int32 `[n, 2]`, of the transform's random draws.
        transform: see `cskd_tf.data.images.transforms`; without one, pixels pass unchanged.

    Returns:
        float32 `[n, H, W, C]`.
    """
    if isinstance(source, EncodedSource):
        images = source.read(indices)
    else:
        pixels = cast(PixelSource, source).load(indices)  # every source is of one kind or the other
        images = tf.ensure_shape(pixels, [None, *source.image_shape])
    return transformed(images, seeds, transform=transform, channels=source.image_shape[2])


def transformed(images: tf.Tensor, seeds: tf.Tensor, *, transform: Transform | None, channels: int) -> tf.Tensor:
    """Images after a transform, whichever form they come in.

    Args:
        images: pixels `[n, H, W, C]`, or encoded images, string `[n]`.
        seeds: int32 `[n, 2]`, of the transform's random draws.
        transform: see `cskd_tf.data.images.transforms`; without one, pixels pass unchanged.
        channels: 3 (colour) or 1 (grey), of encoded images.

    Returns:
        float32 `[n, H, W, C]`.
    """
    if images.dtype == tf.string:
        return decode_batch(images, seeds, transform=transform, channels=channels)
    return transform_batch(images, seeds, transform=transform)
