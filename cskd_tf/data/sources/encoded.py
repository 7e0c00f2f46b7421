"""Encoded images in memory and in files, and several such sources as one."""

import os
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from cskd_tf.data.images.decode import map_quickly
from cskd_tf.data.sources.base import EncodedSource, Source
from cskd_tf.errors import UserError


class Encoded(EncodedSource):
    """Encoded images in memory.

    Args:
        contents: string `[N]`.
        locate: where an image is to be found, for messages.
        arguments: as for `EncodedSource`.
    """

    def __init__(self, contents: tf.Tensor, labels, *, locate: Callable[[int], str], **arguments):
        super().__init__(labels, **arguments)
        self._contents, self._locate = contents, locate

    def read(self, indices: tf.Tensor) -> tf.Tensor:
        return tf.gather(self._contents, indices)

    def locate(self, index: int) -> str:
        return self._locate(index)


class Files(EncodedSource):
    """Image files.

    Args:
        paths: one per image.
        arguments: as for `EncodedSource`.
    """

    def __init__(self, paths: Sequence[str], labels, **arguments):
        super().__init__(labels, **arguments)
        self._paths = tf.constant([os.fsencode(path) for path in paths])  # of whatever encoding

    def read(self, indices: tf.Tensor) -> tf.Tensor:
        return map_quickly(tf.io.read_file, tf.gather(self._paths, indices), tf.TensorSpec([], tf.string))

    def locate(self, index: int) -> str:
        return self._paths[index].numpy().decode(errors="backslashreplace")


class Concatenation(EncodedSource):
    """Data sets one after the other, their classes side by side, their names kept as the groups of the classes.

    Example: birds (200 classes) and dogs (120) become 320 classes `birds/...`, `dogs/...` in 2 groups.

    Args:
        sources: encoded sources by name.

    Raises:
        ValueError: sources that are not encoded, or of different channels.
    """

    def __init__(self, sources: Mapping[str, Source]):
        parts = list(sources.values())
        encoded = {name: isinstance(part, EncodedSource) for name, part in sources.items()}
        if not all(encoded.values()) or len({part.image_shape for part in parts}) > 1:
            kinds = {name: "JPEG or PNG" if is_encoded else "arrays" for name, is_encoded in encoded.items()}
            raise UserError(f"Expected data sets of JPEG or PNG images to concatenate. Received: {kinds}")
        class_offsets = np.cumsum([0] + [len(part.class_names) for part in parts])
        super().__init__(
            np.concatenate([part.labels + offset for part, offset in zip(parts, class_offsets[:-1], strict=True)]),
            class_names=[f"{name}/{class_name}" for name, part in sources.items() for class_name in part.class_names],
            class_groups=[name for name, part in sources.items() for _ in part.class_names],
            channels=parts[0].image_shape[2],
            sizes=np.concatenate([part.sizes for part in parts]),
        )
        self._parts = parts
        self._starts = np.cumsum([0] + [len(part.labels) for part in parts])

    def read(self, indices: tf.Tensor) -> tf.Tensor:
        owners = tf.searchsorted(tf.constant(self._starts[1:]), indices, side="right")
        places = tf.dynamic_partition(tf.range(tf.shape(indices)[0]), owners, len(self._parts))
        contents = [
            part.read(tf.gather(indices, place) - start)
            for part, place, start in zip(self._parts, places, self._starts[:-1], strict=True)
        ]
        return tf.ensure_shape(tf.dynamic_stitch(places, contents), indices.shape)

    def locate(self, index: int) -> str:
        part = int(np.searchsorted(self._starts[1:], index, side="right"))
        return self._parts[part].locate(index - int(self._starts[part]))
