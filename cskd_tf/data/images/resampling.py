"""Cutting out and resizing, with PIL's antialiasing, a whole batch at a time.

`resample` is made of TensorFlow's operations alone, for models that are exported; `resample_bytes` calls a library,
several times as fast, for the pipeline. The two differ by at most 1 of 255.
"""

import cykooz_resizer
import numpy as np
import tensorflow as tf

# By the number of channels; more than four are left to `resample`.
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

    Resampling is separable: two small matrix products per image crop and resize a whole batch. PIL rounds to whole
    numbers in between, so on uint8 images the two differ by at most 1 of 255.

    Example:
        A row of two pixels, resized to width 4.

        >>> image = tf.constant([0.0, 4.0])[None, None, :, None]
        >>> pixels = resample(image, tf.constant([[0.0, 0.0, 1.0, 2.0]]), size=(1, 4))
        >>> [round(float(pixel), 4) for pixel in pixels[0, 0, :, 0]]
        [0.0, 1.0, 3.0, 4.0]

    Args:
        images: `[n, H, W, C]`.
        boxes: float32 `[n, 4]`: top, left, height, width in pixels, within the image.
        size: height and width of the result.
        confine: whether pixels outside the box weigh nothing, as if the image had been cropped before it was resized;
            else they take part at the edges, as if it had been resized first.
        extents: float32 `[n, 2]`, height and width of each image, where the images have been padded to one size, below
            and to the right.

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


def _triangle_weights(
    start: tf.Tensor,
    length: tf.Tensor,
    first: tf.Tensor | None,
    last: tf.Tensor | None,
    *,
    source: tf.Tensor,
    target: int,
) -> tf.Tensor:
    """Along one axis, what each pixel of the image weighs in each pixel of the result: a triangle filter.

    Args:
        start: float32 `[n]`, where the box begins, in pixels.
        length: float32 `[n]`, of the box, in pixels.
        first: float32 `[n]`, where the pixels begin that may take part; None: with the image.
        last: float32 `[n]`, where they end; None: with the image.
        source: pixels of the image.
        target: pixels of the result.

    Returns:
        float32 `[n, target, source]`, of sum 1 over the last axis. The filter reaches as far to either side as a pixel
        of the result is long, but at least one pixel of the image.
    """
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

    The library gives the same bits with AVX2, with SSE4.1 and with neither, so that every machine makes the same
    batches. It lets go of the interpreter's lock while it works.

    Example:
        >>> pixels = tf.constant([0, 4], tf.uint8)
        >>> boxes = tf.constant([[0.0, 0.0, 1.0, 2.0]])
        >>> resample_bytes(pixels, tf.constant([[1, 2]]), boxes, size=(1, 4), channels=1, confine=True).numpy().ravel()
        array([0, 1, 3, 4], dtype=uint8)

    Args:
        pixels: uint8, one axis: the images one after the other, each `[H, W, channels]` row by row.
        extents: int32 `[n, 2]`, height and width of each image.
        boxes: float32 or float64 `[n, 4]`, as for `resample`; whole numbers with `confine`.
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

    # tf.data makes batches in parallel only of what is declared stateless, which this is.
    results = tf.numpy_function(resized, [pixels, extents, boxes], tf.uint8, stateful=False)
    return tf.ensure_shape(results, [boxes.shape[0], *size, channels])


def _resized(
    image: np.ndarray, box: list[float], *, size: tuple[int, int], confine: bool, resizer: cykooz_resizer.Resizer
) -> np.ndarray:
    """uint8 `[*size, C]`: the box of one image uint8 `[H, W, C]`."""
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
