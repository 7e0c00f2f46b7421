"""Holds the images of a source in memory while a run lasts: decoded, encoded, or not at all."""

import functools
import math

import tensorflow as tf
from absl import logging

from cskd_tf.data.images.decode import decode
from cskd_tf.data.sources.arrays import ArraySource
from cskd_tf.data.sources.base import EncodedSource, Source
from cskd_tf.data.sources.encoded import Encoded
from cskd_tf.data.sources.reading import common_shape, map_contents

GIB = 2**30


def in_memory(source: Source, *, budget: int, name: str) -> tuple[Source, int]:
    """The same images, held in memory as far as `budget` allows: decoded, if all have one size, else encoded.

    What was chosen is logged. While the memory is filled, twice as much of it is taken.

    Example:
        300 images of 32 x 32 pixels in three channels, 0.9 MB decoded, are held decoded within a budget of 1 MB. Within
        0.5 MB they stay encoded, if their files are smaller than that. What is in memory already takes nothing more.

        >>> source = cskd_tf.data.ArraySource(np.zeros([2, 4, 4, 3], np.uint8), [0, 1])
        >>> held, new_bytes = in_memory(source, budget=2**20, name="train")
        >>> held is source, new_bytes
        (True, 0)

    Args:
        source: any source.
        budget: bytes.
        name: of the split, for the log.

    Returns:
        A source with the same images, and the bytes that it newly holds.

    Raises:
        UserError: images that cannot be decoded, by name, where they are decoded at once.
    """
    if not isinstance(source, EncodedSource):
        return source, 0
    count = len(source.labels)
    shape = common_shape(source, name=name)
    if shape and (decoded_bytes := count * math.prod(shape)) <= budget:
        decode_all = functools.partial(_decode_all, shape=shape)
        images = tf.concat(map_contents(source, decode_all, name=name, verb="Decoding"), axis=0)
        logging.info("%s: %s images decoded in memory, %.2f GiB", name, f"{count:,}", decoded_bytes / GIB)
        decoded = ArraySource(
            images,
            source.labels,
            class_names=source.class_names,
            class_groups=source.class_groups,
            locate=source.locate,
            marks=source.marks(),
            complete=False,
        )
        return decoded, decoded_bytes
    encoded_bytes = int(source.sizes.sum())
    if encoded_bytes <= budget:
        contents = tf.concat(map_contents(source, lambda contents: contents, name=name, verb="Reading"), axis=0)
        logging.info("%s: %s images encoded in memory, %.2f GiB", name, f"{count:,}", encoded_bytes / GIB)
        encoded = Encoded(
            contents,
            source.labels,
            class_names=source.class_names,
            class_groups=source.class_groups,
            locate=source.locate,
            channels=source.image_shape[2],
            sizes=source.sizes,
        )
        return encoded, encoded_bytes
    logging.info(
        "%s: %s images read as they are needed; they take %.2f GiB, and %.2f of data.source.memory are left",
        name, f"{count:,}", encoded_bytes / GIB, budget / GIB,
    )  # fmt: skip
    return source, 0


def _decode_all(contents: tf.Tensor, *, shape: tuple[int, int, int]) -> tf.Tensor:
    """uint8 `[n, *shape]` of encoded images that all have one shape."""

    def decoded(content):
        return tf.ensure_shape(decode(content, channels=shape[2]), shape)

    return tf.map_fn(decoded, contents, fn_output_signature=tf.TensorSpec(shape, tf.uint8))
