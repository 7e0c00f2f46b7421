"""From the indices of one view to its pixels, transformed."""

import tensorflow as tf

from cskd_tf.data.images.decode import decode_batch, transform_batch
from cskd_tf.data.images.transforms import Transform
from cskd_tf.data.sources.base import EncodedSource, Source


def load_images(source: Source, indices: tf.Tensor, seeds: tf.Tensor, *, transform: Transform | None) -> tf.Tensor:
    """float32 images of a source, inside the tf.data graph.

    Args:
        source: of pixels or of encoded images.
        indices: int64 `[n]`.
        seeds: int32 `[n, 2]`, of the transform's random draws.
        transform: see `cskd_tf.data.images.transforms`; without one, pixels pass unchanged.
    """
    if isinstance(source, EncodedSource):
        images = source.read(indices)
    else:
        images = tf.ensure_shape(source.load(indices), [None, *source.image_shape])
    return transformed(images, seeds, transform=transform, channels=source.image_shape[2])


def transformed(images: tf.Tensor, seeds: tf.Tensor, *, transform: Transform | None, channels: int) -> tf.Tensor:
    """float32 images from pixels `[n, H, W, C]`, or from encoded images, string `[n]`, of so many channels."""
    if images.dtype == tf.string:
        return decode_batch(images, seeds, transform=transform, channels=channels)
    return transform_batch(images, seeds, transform=transform)
