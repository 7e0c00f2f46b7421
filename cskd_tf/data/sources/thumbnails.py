"""Small copies of images, for figures."""

import numpy as np
import tensorflow as tf

from cskd_tf.data.images.resampling import resample_bytes
from cskd_tf.data.sources.base import EncodedSource, PixelSource, Source

WHITE = 255


def thumbnails(source: Source, indices: np.ndarray, *, size: int) -> np.ndarray:
    """Whole images, made smaller where a side is longer than `size`, in the middle of white squares of one size.

    Example:
        >>> images = np.zeros([2, 2, 4, 1], np.uint8)
        >>> source = cskd_tf.data.ArraySource(images, [0, 1])
        >>> thumbnails(source, np.array([1]), size=2)[0, :, :, 0]
        array([[  0,   0],
               [255, 255]], dtype=uint8)

    Args:
        source: of the images.
        indices: int `[n]`, which ones.
        size: pixels of the longest side, at most.

    Returns:
        uint8 `[n, S, S, C]`, S the longest side that any of them has then.
    """
    small = [_reduced(_pixels(source, int(index)), size=size) for index in indices]
    side = max((max(image.shape[:2]) for image in small), default=size)
    result = np.full([len(small), side, side, source.image_shape[2]], WHITE, np.uint8)
    for square, image in zip(result, small, strict=True):
        top, left = ((side - length) // 2 for length in image.shape[:2])
        square[top : top + image.shape[0], left : left + image.shape[1]] = image
    return result


def _pixels(source: Source, index: int) -> np.ndarray:
    """uint8 `[H, W, C]`."""
    if isinstance(source, EncodedSource):
        return source.decode_one(index).numpy()
    if not isinstance(source, PixelSource):
        raise TypeError(f"a source is one of pixels or of encoded images, not {type(source).__name__}")
    pixels = source.load(tf.constant([index], tf.int64))[0].numpy()
    return np.clip(np.round(pixels), 0, WHITE).astype(np.uint8)


def _reduced(image: np.ndarray, *, size: int) -> np.ndarray:
    height, width, channels = image.shape
    scale = size / max(height, width)
    if scale >= 1:
        return image
    target = max(1, round(scale * height)), max(1, round(scale * width))
    extents, boxes = tf.constant([[height, width]]), tf.constant([[0.0, 0.0, height, width]])
    pixels = tf.constant(image.reshape(-1))
    return resample_bytes(pixels, extents, boxes, size=target, channels=channels, confine=True)[0].numpy()
