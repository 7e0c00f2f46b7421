"""From encoded images (JPEG, PNG) to pixels inside the tf.data graph, to the bit as PIL decodes them."""

import re

import tensorflow as tf

from cskd_tf.data.images.headers import REFUSED, are_jpeg_of_few_pixels, extent, extents
from cskd_tf.data.images.resampling import PIXEL_TYPES, resample_bytes
from cskd_tf.data.images.transforms import Compose, Resize, Transform, apply


def decode(contents: tf.Tensor, *, channels: int) -> tf.Tensor:
    """The pixels of one encoded image, as stored: an EXIF orientation is not applied, as in torchvision.

    TensorFlow's default for JPEG trades accuracy for speed; this is libjpeg's accurate transform. Colour and grey JPEG
    and PNG of 8 bits equal PIL's pixels. Unlike PIL, 16-bit PNG gives the high byte instead of clipping at 255; CMYK
    differs by at most 2, colour PNG in grey by at most 1; a colour JPEG in grey is its own luma, from which PIL's
    conversion of the decoded colours differs by as much as these were rounded and clipped.

    Example:
        >>> decode(tf.io.encode_png(tf.constant([[[7], [9]]], tf.uint8)), channels=3)[0].numpy().tolist()
        [[7, 7, 7], [9, 9, 9]]

    Args:
        contents: string scalar.
        channels: 3 (colour) or 1 (grey); images of the other kind are converted.

    Returns:
        uint8 `[H, W, channels]`.

    Raises:
        tf.errors.InvalidArgumentError: any other kind of file, whatever it is called, a broken one, or one of more
            pixels than `headers.extent` lets pass.
    """
    with tf.control_dependencies([extent(contents)]):  # TensorFlow would decode GIF, BMP and WebP too
        return _decode(contents, channels=channels)


def _decode(contents: tf.Tensor, *, channels: int) -> tf.Tensor:
    """`decode` of what is known to be JPEG or PNG."""
    return tf.io.decode_jpeg(contents, channels=channels, dct_method="INTEGER_ACCURATE")  # PNG as well


# How the lines begin that TensorFlow puts around a message that comes from within a graph.
_OF_GRAPHS = ("Graph execution error", "Detected at node", "File ", "<stack traces", "[[")


def reason(error: Exception) -> str:
    r"""The message of TensorFlow's error in one line, without the names of its functions.

    Example:
        >>> reason(ValueError("{{function_node __wrapped__DecodeJpeg}} Invalid JPEG data, size 3 [Op:DecodeJpeg]"))
        'Invalid JPEG data, size 3'
        >>> reason(ValueError("Graph execution error:\n\nDetected at node Decode\nInvalid JPEG data\n\t [[{{node}}]]"))
        'Invalid JPEG data'
    """
    message = str(getattr(error, "message", error)).split("[Op:")[0].strip()
    for refused in REFUSED:
        if refused in message:  # an assertion adds more to it
            return refused
    lines = [line.strip() for line in re.sub(r"^\{\{.*?\}\} *", "", message).splitlines()]
    return next((line for line in lines if line and not line.startswith(_OF_GRAPHS)), type(error).__name__)


def decode_batch(
    contents: tf.Tensor, seeds: tf.Tensor, *, transform: Transform | None, channels: int, parallel: int = 4
) -> tf.Tensor:
    """Encoded images of any sizes as one transformed batch.

    Where the transform begins by resizing (`transforms.Resize`), only what it will show is decoded; any other transform
    gets the decoded images one by one.

    Args:
        contents: string `[n]`.
        seeds: int32 `[n, 2]`.
        transform: makes all images one size.
        channels: 3 or 1.
        parallel: images decoded at a time.

    Returns:
        float32 `[n, H, W, channels]`.
    """
    resize, rest = split_resize(transform)
    if resize is None:

        def transformed(content_and_seed):
            content, seed = content_and_seed
            return apply(transform, decode(content, channels=channels)[None], seed[None])[0]

        return tf.map_fn(transformed, (contents, seeds), fn_output_signature=tf.float32, parallel_iterations=parallel)

    size, confine = (resize.size, resize.size), resize.confine

    def whole():
        pixels, sizes = _decode_whole(contents, channels=channels, parallel=parallel)
        boxes = resize.boxes(tf.cast(sizes, tf.float32), seeds)
        return resample_bytes(pixels, sizes, boxes, size=size, channels=channels, confine=confine)

    def parts():
        sizes = extents(contents)
        boxes = resize.boxes(tf.cast(sizes, tf.float32), seeds)
        windows = _windows(boxes, sizes, resize=resize)
        return _decode_boxes(contents, boxes, windows, size=size, channels=channels, confine=confine, parallel=parallel)

    # A small image is decoded whole in less time than it takes to find out which part is needed. A small file may well
    # be a large image; for JPEG that is soon known.
    are_small = tf.reduce_max(tf.strings.length(contents)) <= _SMALL_FILE
    decode_whole = tf.cond(are_small, lambda: are_jpeg_of_few_pixels(contents, most=_FEW_PIXELS), lambda: False)
    images = tf.cond(decode_whole, whole, parts)
    return apply(Compose(rest), images, seeds)


def transform_batch(images: tf.Tensor, seeds: tf.Tensor, *, transform: Transform | None) -> tf.Tensor:
    """Decoded images of one size as one transformed batch: what `decode_batch` makes of their files, to 1 of 255.

    Args:
        images: `[n, H, W, C]`.
        seeds: int32 `[n, 2]`.
        transform: as for `decode_batch`.

    Returns:
        float32 images.
    """
    resize, rest = split_resize(transform)
    channels = images.shape[3]
    # Small images cost less as one matrix product per batch (`resample`) than one after the other.
    large = None not in images.shape[1:3] and max(images.shape[1:3]) > 128
    if resize is not None and large and images.dtype == tf.uint8 and channels in PIXEL_TYPES:
        sizes = tf.tile(tf.shape(images)[None, 1:3], [tf.shape(images)[0], 1])
        boxes = resize.boxes(tf.cast(sizes, tf.float32), seeds)
        size, pixels = (resize.size, resize.size), tf.reshape(images, [-1])
        images = resample_bytes(pixels, sizes, boxes, size=size, channels=channels, confine=resize.confine)
        transform = Compose(rest)
    return apply(transform, images, seeds)


def split_resize(transform: Transform | None) -> tuple[Resize | None, list[Transform]]:
    """The resizing that a transform begins with, and what follows it; `(None, [])` if it begins with something else."""
    if isinstance(transform, Compose):
        first, *rest = transform.transforms
        return (first, rest) if isinstance(first, Resize) else (None, [])
    return (transform if isinstance(transform, Resize) else None), []


# Where a decoded part ends, libjpeg lacks the neighbours that it interpolates colours from. Two pixels more on each
# side, which are not used afterwards, and the part equals the whole to the bit.
_MARGIN = 2
_SMALL_FILE = 2**14  # bytes at most
_FEW_PIXELS = 2**26  # of all images of a batch that are decoded whole, at most
_GROUP_BYTES = 2**22  # of pixels decoded together, so few that they stay in the processor's cache


def _windows(boxes: tf.Tensor, sizes: tf.Tensor, *, resize: Resize) -> tf.Tensor:
    """int32 `[n, 4]` (top, left, height, width): the parts with all pixels that weigh in the boxes, and a margin."""
    support = 0.0 if resize.confine else tf.maximum(boxes[:, 2:] / resize.size, 1.0)
    first = tf.cast(tf.floor(boxes[:, :2] - support), tf.int32) - _MARGIN
    last = tf.cast(tf.math.ceil(boxes[:, :2] + boxes[:, 2:] + support), tf.int32) + _MARGIN
    first, last = tf.maximum(first, 0), tf.minimum(last, sizes)
    return tf.concat([first, last - first], axis=1)


def _decode_whole(contents: tf.Tensor, *, channels: int, parallel: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Whole images as uint8 pixels, one after the other, as for `resample_bytes`, and int32 `[n, 2]`, their H and W."""
    count, unroll = tf.shape(contents)[0], 8  # as in map_quickly
    groups = (count + unroll - 1) // unroll
    missing = tf.repeat(contents[-1:], groups * unroll - count, axis=0)
    contents = tf.reshape(tf.concat([contents, missing], axis=0), [-1, unroll])

    def add(number, pixels, sizes):
        images = [_decode(content, channels=channels) for content in tf.unstack(contents[number], unroll)]
        in_a_row = tf.concat([tf.reshape(image, [-1]) for image in images], axis=0)
        shapes = tf.stack([tf.shape(image)[:2] for image in images])
        return number + 1, pixels.write(number, in_a_row), sizes.write(number, shapes)

    pixels = tf.TensorArray(tf.uint8, size=groups, infer_shape=False, element_shape=[None])
    sizes = tf.TensorArray(tf.int32, size=groups, element_shape=[unroll, 2])
    more = lambda number, *_: number < groups  # noqa: E731
    _, pixels, sizes = tf.while_loop(more, add, (0, pixels, sizes), parallel_iterations=parallel)
    return pixels.concat(), sizes.concat()[:count]


def _decode_boxes(
    contents: tf.Tensor,
    boxes: tf.Tensor,
    windows: tf.Tensor,
    *,
    size: tuple[int, int],
    channels: int,
    confine: bool,
    parallel: int,
) -> tf.Tensor:
    """uint8 `[n, *size, channels]`: the boxes of encoded images, a few at a time, so that memory is bounded."""
    count = tf.shape(contents)[0]
    # float32 would round the difference, and with it, now and then, a pixel.
    boxes = tf.cast(boxes, tf.float64) - tf.pad(tf.cast(windows[:, :2], tf.float64), [[0, 0], [0, 2]])
    largest = tf.reduce_max(tf.reduce_prod(tf.cast(windows[:, 2:], tf.int64), axis=1)) * channels
    group_size = tf.cast(tf.clip_by_value(_GROUP_BYTES // largest, 1, tf.cast(count, tf.int64)), tf.int32)

    def add(number, results):
        members = slice(number * group_size, (number + 1) * group_size)
        pixels = _decode_windows(contents[members], windows[members], channels=channels, parallel=parallel)
        resized = resample_bytes(
            pixels, windows[members, 2:], boxes[members], size=size, channels=channels, confine=confine
        )
        return number + 1, results.write(number, resized)

    groups = (count + group_size - 1) // group_size
    results = tf.TensorArray(tf.uint8, size=groups, infer_shape=False, element_shape=[None, *size, channels])
    more = lambda number, _: number < groups  # noqa: E731
    _, results = tf.while_loop(more, add, (0, results), parallel_iterations=1)
    return tf.ensure_shape(results.concat(), [contents.shape[0], *size, channels])


def _decode_windows(contents: tf.Tensor, windows: tf.Tensor, *, channels: int, parallel: int) -> tf.Tensor:
    """One part of each encoded image as uint8 pixels, one part after the other, as for `resample_bytes`."""
    count = tf.shape(contents)[0]

    def add(index, parts):
        content, window = contents[index], windows[index]
        image = tf.cond(
            tf.io.is_jpeg(content),
            lambda: tf.io.decode_and_crop_jpeg(content, window, channels=channels, dct_method="INTEGER_ACCURATE"),
            lambda: _cut(decode(content, channels=channels), window),
        )
        return index + 1, parts.write(index, tf.reshape(image, [-1]))

    parts = tf.TensorArray(tf.uint8, size=count, infer_shape=False, element_shape=[None])
    more = lambda index, _: index < count  # noqa: E731
    _, parts = tf.while_loop(more, add, (0, parts), parallel_iterations=parallel)
    return parts.concat()


def _cut(image: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
    """The window int32 `[4]` (top, left, height, width) of one image `[H, W, C]`."""
    corner, size = tf.split(window, 2)
    return tf.slice(image, tf.concat([corner, [0]], axis=0), tf.concat([size, [-1]], axis=0))
