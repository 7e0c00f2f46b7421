"""Holds the images of a source in memory while a run lasts: decoded, encoded, or not at all."""

import numpy as np
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

    What was chosen is logged. While it is filled, the memory is needed twice.

    Args:
        source: any source.
        budget: bytes.
        name: of the split, for the log.

    Returns:
        A source with the same images, and the bytes that it newly holds.

    Raises:
        ValueError: images that cannot be decoded, by name, where they are decoded at once.
    """
    if not isinstance(source, EncodedSource):
        return source, 0
    count = len(source.labels)
    labelled = {"labels": source.labels, "class_names": source.class_names, "class_groups": source.class_groups}
    shape = common_shape(source, name=name)
    decoded_bytes = count * int(np.prod(shape)) if shape else np.inf
    encoded_bytes = int(source.sizes.sum())
    channels = source.image_shape[2]
    if decoded_bytes <= budget:
        images = map_contents(source, lambda contents: _decode_all(contents, shape), name=name, verb="Decoding")
        images = tf.concat(images, axis=0)
        logging.info("%s: %s images decoded in memory, %.2f GiB", name, f"{count:,}", decoded_bytes / GIB)
        return ArraySource(images, locate=source.locate, complete=False, **labelled), decoded_bytes
    if encoded_bytes <= budget:
        contents = tf.concat(map_contents(source, lambda contents: contents, name=name, verb="Reading"), axis=0)
        logging.info("%s: %s images encoded in memory, %.2f GiB", name, f"{count:,}", encoded_bytes / GIB)
        held = Encoded(contents, locate=source.locate, channels=channels, sizes=source.sizes, **labelled)
        return held, encoded_bytes
    logging.info(
        "%s: %s images read as they are needed; they take %.2f GiB, and %.2f of data.source.memory are left",
        name, f"{count:,}", encoded_bytes / GIB, budget / GIB,
    )  # fmt: skip
    return source, 0


def _decode_all(contents: tf.Tensor, shape: tuple[int, int, int]) -> tf.Tensor:
    """uint8 `[n, *shape]` of encoded images that all have one shape."""

    def decoded(content):
        return tf.ensure_shape(decode(content, channels=shape[2]), shape)

    return tf.map_fn(decoded, contents, fn_output_signature=tf.TensorSpec(shape, tf.uint8))
