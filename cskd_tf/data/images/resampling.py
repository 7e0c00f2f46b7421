"""Cutting out and resizing, with PIL's antialiasing, a whole batch at a time.

`resample` is TensorFlow alone, for models that are exported; `resample_bytes` is a library's, several times as fast,
for the pipeline. The two differ by at most 1 of 255.
"""

import cykooz_resizer
import numpy as np
import tensorflow as tf

# By channels; more than four are left to `resample`.
PIXEL_TYPES = {
    1: cykooz_resizer.PixelType.U8,
    2: cykooz_resizer.PixelType.U8x2,
    3: cykooz_resizer.PixelType.U8x3,
    4: cykooz_resizer.PixelType.U8x4,
}
_BILINEAR = cykooz_resizer.ResizeAlg.convolution(cykooz_resizer.FilterType.bilinear)


def resample(
    images: tf.Tensor,
    boxes: tf.Tensor,
    *,
    size: tuple[int, int],
    confine: bool = True,
    extents: tf.Tensor | None = None,
) -> tf.Tensor:
    """Cuts a box out of each image and resizes it, bilinear with antialiasing, as PIL does.

    Resampling is separable: two small matrix products per image do crop and resize of a whole batch. PIL rounds to
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


def resample_bytes(
    pixels: tf.Tensor, extents: tf.Tensor, boxes: tf.Tensor, *, size: tuple[int, int], channels: int, confine: bool
) -> tf.Tensor:
    """`resample` of uint8 images of any sizes, rounded to whole numbers after each axis, as PIL rounds.

    The library's instructions for AVX2, for SSE4.1 and for neither give the same bits, so that every machine makes the
    same batches. It lets go of the interpreter's lock while it works.

    Args:
        pixels: uint8, the images one after the other, each `[H, W, channels]` in a row.
        extents: int32 `[n, 2]`, height and width of each image.
        boxes: float32 or float64 `[n, 4]`, as for `resample`; whole numbers where they confine.
        size: height and width of the result.
        channels: from 1 to 4.
        confine: as for `resample`.

    Returns:
        uint8 `[n, *size, channels]`.
    """

    def resized(pixels, extents, boxes):
        results = np.empty([len(boxes), *size, channels], np.uint8)
        resizer = cykooz_resizer.Resizer()
        end = 0
        for result, (height, width), box in zip(results, extents.tolist(), boxes.tolist(), strict=True):
            start, end = end, end + height * width * channels
            image = pixels[start:end].reshape(height, width, channels)
            result[...] = _resized(image, box, size=size, confine=confine, resizer=resizer)
        return results

    # Declared stateless, which it is, so that batches are made in parallel.
    results = tf.numpy_function(resized, [pixels, extents, boxes], tf.uint8, stateful=False)
    return tf.ensure_shape(results, [boxes.shape[0], *size, channels])


def _resized(
    image: np.ndarray, box: list[float], *, size: tuple[int, int], confine: bool, resizer: cykooz_resizer.Resizer
) -> np.ndarray:
    options = cykooz_resizer.ResizeOptions(resize_alg=_BILINEAR, use_alpha=False)
    top, left, height, width = box
    if confine:
        top, left = int(top), int(left)
        image = image[top : top + int(height), left : left + int(width)]
    else:
        # In float32 a box can end a little outside of its image, which the library refuses.
        top, left = max(top, 0.0), max(left, 0.0)
        height, width = min(height, image.shape[0] - top), min(width, image.shape[1] - left)
        options.crop_box = cykooz_resizer.CropBox(left=left, top=top, width=width, height=height)
    kind = PIXEL_TYPES[image.shape[2]]
    source = cykooz_resizer.ImageData(image.shape[1], image.shape[0], kind, image.tobytes())
    target = cykooz_resizer.ImageData(size[1], size[0], kind)
    resizer.resize(source, target, options)
    return np.frombuffer(target.get_buffer(), np.uint8).reshape(*size, -1)
