"""From encoded images (JPEG, PNG) to pixels inside the tf.data graph, bit by bit as PIL decodes them."""

from collections.abc import Callable

import tensorflow as tf

from cskd_tf.data.augment import Compose, Resize, Transform, as_accepted
from cskd_tf.data.resampling import resample


def map_quickly(function: Callable, elements: tf.Tensor, spec: tf.TensorSpec, *, unroll: int = 8) -> tf.Tensor:
    """`tf.map_fn` for functions so small that its loop costs more than they do: several elements in one iteration.

    Args:
        function: of one element.
        elements: `[n, ...]`, n at least 1.
        spec: of one result.
        unroll: elements an iteration; the last is repeated where they are not enough.

    Returns:
        `[n, *spec.shape]`.
    """
    count = tf.shape(elements)[0]
    missing = -count % unroll
    elements = tf.concat([elements, tf.repeat(elements[-1:], missing, axis=0)], axis=0)
    groups = tf.reshape(elements, [-1, unroll, *elements.shape[1:]])
    several = tf.TensorSpec([unroll, *spec.shape], spec.dtype)
    results = tf.map_fn(lambda group: tf.stack([function(each) for each in tf.unstack(group, unroll)]), groups,
                        fn_output_signature=several)  # fmt: skip
    return tf.reshape(results, [-1, *spec.shape])[:count]


def decode(contents: tf.Tensor, *, channels: int) -> tf.Tensor:
    """uint8 `[H, W, channels]` of one encoded image, as stored: an EXIF orientation is not applied, as in torchvision.

    TensorFlow's default for JPEG trades accuracy for speed; this is libjpeg's accurate transform. Colour and grey JPEG
    and PNG of 8 bits equal PIL's pixels. Other than PIL, 16-bit PNG gives the high byte instead of clipping at 255;
    CMYK differs by at most 1, colour converted to grey by at most 3 (JPEG) or 1 (PNG).
    """
    return tf.io.decode_jpeg(contents, channels=channels, dct_method="INTEGER_ACCURATE")  # it decodes PNG as well


def decode_batch(
    contents: tf.Tensor, seeds: tf.Tensor, *, transform: Transform | None, channels: int, parallel: int = 4
) -> tf.Tensor:
    """Encoded images of any sizes as one transformed batch.

    Where the transform begins by resizing (`augment.Resize`), only what it will show is decoded; any other transform
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
    transforms = list(transform.transforms) if isinstance(transform, Compose) else [transform]
    if not isinstance(transforms[0], Resize):

        def transformed(pair):
            image = decode(pair[0], channels=channels)[None]
            if transform is not None:
                image = transform(as_accepted(image, transform), pair[1][None])
            return tf.cast(image[0], tf.float32)

        return tf.map_fn(transformed, (contents, seeds), fn_output_signature=tf.float32, parallel_iterations=parallel)

    resize, *rest = transforms
    extents = map_quickly(extent, contents, tf.TensorSpec([2], tf.int32))
    boxes = resize.boxes(tf.cast(extents, tf.float32), seeds)

    def one_by_one():
        return tf.map_fn(
            lambda parts: _decode_box(*parts, resize=resize, channels=channels),
            (contents, extents, boxes),
            fn_output_signature=tf.TensorSpec([resize.size, resize.size, channels], tf.float32),
            parallel_iterations=parallel,
        )

    def together():
        largest = tf.reduce_max(extents, axis=0)

        def padded(pair):
            edges = tf.stack([tf.zeros([2], tf.int32), largest - pair[1]], axis=1)
            return tf.pad(decode(pair[0], channels=channels), tf.concat([edges, [[0, 0]]], axis=0))

        spec = tf.TensorSpec([None, None, channels], tf.uint8)
        images = tf.map_fn(padded, (contents, extents), fn_output_signature=spec, parallel_iterations=parallel)
        size = (resize.size, resize.size)
        heights_and_widths = tf.cast(extents, tf.float32)
        return resample(images, boxes, size=size, confine=resize.confine, extents=heights_and_widths)

    # Small images cost less in a batch, whole, than what it takes to start one operation each.
    images = tf.cond(tf.reduce_max(extents) <= _SMALL, together, one_by_one)
    return Compose(rest)(tf.ensure_shape(images, [None, resize.size, resize.size, channels]), seeds)


# Where a decoded part ends, libjpeg lacks the neighbours that it interpolates colours from. With two pixels more on
# each side, cut off afterwards, the part equals the whole to the bit.
_MARGIN = 2
_SMALL = 128  # pixels of the longer side


def extent(contents: tf.Tensor) -> tf.Tensor:
    """Height and width of one encoded image, int32 `[2]`, from its header."""

    def of_png():
        signature = tf.strings.substr(contents, 1, 3)
        tf.debugging.Assert(signature == "PNG", ["Expected JPEG or PNG."])
        fields = tf.io.decode_raw(tf.strings.substr(contents, 16, 8), tf.int32, little_endian=False)
        return tf.reverse(fields, axis=[0])

    return tf.cond(tf.io.is_jpeg(contents), lambda: tf.io.extract_jpeg_shape(contents)[:2], of_png)


def _decode_box(contents: tf.Tensor, extent: tf.Tensor, box: tf.Tensor, *, resize: Resize, channels: int) -> tf.Tensor:
    """The box of one encoded image at the size that `resize` asks for: `resampling.resample` before decoding."""
    if resize.confine:  # the boxes are whole pixels
        corner, size = tf.split(tf.cast(box, tf.int32), 2)

        def decode_part():
            first = tf.maximum(corner - _MARGIN, 0)
            last = tf.minimum(corner + size + _MARGIN, extent)
            window = tf.concat([first, last - first], axis=0)
            part = tf.io.decode_and_crop_jpeg(contents, window, channels=channels, dct_method="INTEGER_ACCURATE")
            return _cut(part, corner - first, size)

        image = tf.cond(
            tf.io.is_jpeg(contents), decode_part, lambda: _cut(decode(contents, channels=channels), corner, size)
        )
        start = tf.zeros([2])
    else:
        image, start = decode(contents, channels=channels), box[:2]
    scale = resize.size / box[2:]
    if resize.size < _SMALL:
        resized = _scale(image, scale, -start * scale, size=[resize.size, resize.size])
    else:
        # The kernel works along channels; a row at a time is nearly twice as fast, and gives the same bits.
        rows, columns = ((tf.stack([scale[axis], 1.0]), tf.stack([-start[axis] * scale[axis], 0.0])) for axis in (0, 1))
        shape = tf.shape(image)
        image = tf.reshape(image, [shape[0], 1, shape[1] * channels])
        image = tf.reshape(_scale(image, *rows, size=[resize.size, 1]), [resize.size, shape[1], channels])
        image = tf.reshape(tf.transpose(image, [1, 0, 2]), [shape[1], 1, resize.size * channels])
        resized = tf.reshape(_scale(image, *columns, size=[resize.size, 1]), [resize.size, resize.size, channels])
        resized = tf.transpose(resized, [1, 0, 2])
    return tf.ensure_shape(resized, [resize.size, resize.size, channels])


def _scale(image: tf.Tensor, scale: tf.Tensor, translation: tf.Tensor, *, size: list[int]) -> tf.Tensor:
    """float32 `[*size, C]`: bilinear with antialiasing."""
    resized = tf.raw_ops.ScaleAndTranslate(
        images=image[None],
        size=size,
        scale=scale,
        translation=translation,
        kernel_type="triangle",
        antialias=True,
    )
    return resized[0]


def _cut(image: tf.Tensor, corner: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    return tf.slice(image, tf.concat([corner, [0]], axis=0), tf.concat([size, [-1]], axis=0))
