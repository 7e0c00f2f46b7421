"""What the first bytes of an encoded image say: its kind and its size, before anything of it is decoded."""

from collections.abc import Callable

import tensorflow as tf

MOST_PIXELS = 2**28  # of one image; the largest cameras have 2e8, and a pixel takes up to 12 bytes while it is read
_PIXELS_PER_BYTE = 512  # of a JPEG at most: its first scan has at least a bit for each block of 8 x 8
REFUSED = (_KIND, _SIZE) = (
    "Expected JPEG or PNG.",
    f"Expected at most {MOST_PIXELS:,} pixels, and of a JPEG {_PIXELS_PER_BYTE} per byte; its size may be wrong, or "
    "its end missing.",
)


def map_quickly(
    function: Callable[[tf.Tensor], tf.Tensor], elements: tf.Tensor, spec: tf.TensorSpec, *, unroll: int = 8
) -> tf.Tensor:
    """`tf.map_fn` for functions so small that its loop costs more than they do: several elements in one iteration.

    Example:
        >>> map_quickly(tf.strings.length, tf.constant(["a", "bcd"]), tf.TensorSpec([], tf.int32)).numpy().tolist()
        [1, 3]

    Args:
        function: of a single element.
        elements: `[n, ...]`, n at least 1.
        spec: of a single result.
        unroll: elements per iteration; the last is repeated where they are not enough.

    Returns:
        `[n, *spec.shape]`.
    """
    count = tf.shape(elements)[0]
    missing = -count % unroll
    elements = tf.concat([elements, tf.repeat(elements[-1:], missing, axis=0)], axis=0)
    groups = tf.reshape(elements, [-1, unroll, *elements.shape[1:]])
    group_spec = tf.TensorSpec([unroll, *spec.shape], spec.dtype)
    results = tf.map_fn(lambda group: tf.stack([function(element) for element in tf.unstack(group, unroll)]), groups,
                        fn_output_signature=group_spec)  # fmt: skip
    return tf.reshape(results, [-1, *spec.shape])[:count]


def extent(contents: tf.Tensor) -> tf.Tensor:
    """Height and width of one JPEG or PNG, int32 `[2]`, from its header.

    Example:
        >>> extent(tf.io.encode_png(tf.zeros([3, 5, 1], tf.uint8))).numpy().tolist()
        [3, 5]

    Raises:
        tf.errors.InvalidArgumentError: any other kind of file, or more pixels than `MOST_PIXELS`, or than so many bytes
            of a JPEG can hold.
    """

    def of_jpeg():
        size = _jpeg_extent(contents)
        return size, tf.minimum(_most_jpeg_pixels(contents), MOST_PIXELS)

    def of_png():
        # The signature and the chunk that comes first; a file may be shorter.
        header = tf.strings.join([tf.strings.substr(contents, 0, 24), bytes(24)])
        signature_and_kind = tf.strings.substr(header, [0, 12], [8, 4])
        is_png = tf.reduce_all(signature_and_kind == [b"\x89PNG\r\n\x1a\n", b"IHDR"])
        with tf.control_dependencies([_refuse_unless(is_png, _KIND)]):
            fields = tf.io.decode_raw(tf.strings.substr(header, 16, 8), tf.int32, little_endian=False)
        return tf.reverse(tf.ensure_shape(fields, [2]), axis=[0]), tf.constant(MOST_PIXELS, tf.int64)

    size, most = tf.cond(tf.io.is_jpeg(contents), of_jpeg, of_png)
    with tf.control_dependencies([_refuse_unless(_pixels(size) <= most, _SIZE)]):
        return tf.identity(size)


@tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
def extents(contents: tf.Tensor) -> tf.Tensor:
    """`extent` of several images, int32 `[n, 2]`, n at least 1; traced once for all data sets, which takes a while.

    Example:
        >>> extents(tf.stack([tf.io.encode_png(tf.zeros([3, 5, 1], tf.uint8))] * 2)).numpy().tolist()
        [[3, 5], [3, 5]]
    """
    return map_quickly(extent, contents, tf.TensorSpec([2], tf.int32))


def are_jpeg_of_few_pixels(contents: tf.Tensor, *, most: int) -> tf.Tensor:
    """Whether all images are JPEG, and `most` is not exceeded by their pixels together; a bool scalar.

    Example:
        >>> jpeg = tf.io.encode_jpeg(tf.zeros([20, 30, 3], tf.uint8))
        >>> [bool(are_jpeg_of_few_pixels(jpeg[None], most=most)) for most in (599, 600)]
        [False, True]

    Args:
        contents: string `[n]`.
        most: pixels.
    """

    def are_few():
        pixels = _pixels(map_quickly(_jpeg_extent, contents, tf.TensorSpec([2], tf.int32)))
        return (tf.reduce_sum(pixels) <= most) & tf.reduce_all(pixels <= _most_jpeg_pixels(contents))

    are_jpeg = tf.strings.substr(contents, 0, 3) == b"\xff\xd8\xff"
    return tf.cond(tf.reduce_all(are_jpeg), are_few, lambda: False)


def _jpeg_extent(contents: tf.Tensor) -> tf.Tensor:
    """Height and width of one JPEG, int32 `[2]`, whatever they are."""
    return tf.io.extract_jpeg_shape(contents)[:2]


def _most_jpeg_pixels(contents: tf.Tensor) -> tf.Tensor:
    """int64 of any shape, how many pixels a JPEG of so many bytes can have."""
    return _PIXELS_PER_BYTE * tf.cast(tf.strings.length(contents), tf.int64)


def _pixels(extents: tf.Tensor) -> tf.Tensor:
    """int64 `[...]` of heights and widths `[..., 2]`."""
    return tf.reduce_prod(tf.cast(extents, tf.int64), axis=-1)


def _refuse_unless(condition: tf.Tensor, message: str) -> tf.Operation | None:
    """An assertion; TensorFlow's public one puts a conditional around it, which costs more than the assertion."""
    return tf.raw_ops.Assert(condition=condition, data=[tf.constant(message)])
