"""Encoded images in memory and in files, and several such sources as one."""

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from cskd_tf.data.images.headers import map_quickly
from cskd_tf.data.sources.base import EncodedSource, Source
from cskd_tf.errors import UserError


class Encoded(EncodedSource):
    """Encoded images in memory.

    Args:
        contents: string `[N]`.
        labels: int `[N]`.
        locate: says of an index where its image is to be found, for messages.
        arguments: as for `EncodedSource`.
    """

    def __init__(self, contents: tf.Tensor, labels: npt.ArrayLike, *, locate: Callable[[int], str], **arguments: Any):
        super().__init__(labels, **arguments)
        self._contents, self._locate = contents, locate

    def read(self, indices: tf.Tensor) -> tf.Tensor:
        return tf.gather(self._contents, indices)

    def held_bytes(self) -> dict[int, int]:
        return {id(self._contents): int(self.sizes.sum())}

    def locate(self, index: int) -> str:
        return self._locate(index)


class Files(EncodedSource):
    """Image files.

    Args:
        paths: one per image.
        labels: int `[N]`.
        arguments: as for `EncodedSource`.
    """

    def __init__(self, paths: Sequence[str], labels: npt.ArrayLike, **arguments: Any):
        super().__init__(labels, **arguments)
        self._paths = tf.constant([os.fsencode(path) for path in paths])  # bytes, for a name may be no Unicode

    def read(self, indices: tf.Tensor) -> tf.Tensor:
        return _reader()(tf.gather(self._paths, indices))

    def locate(self, index: int) -> str:
        return self._paths[index].numpy().decode(errors="backslashreplace")


@functools.cache  # traced once for all data sets; a tf.function would be again in each, and warn of it
def _reader() -> Callable[[tf.Tensor], tf.Tensor]:
    """Reads files, `[n]` names to `[n]` contents."""
    with tf.init_scope():
        read = tf.function(
            lambda paths: map_quickly(tf.io.read_file, paths, tf.TensorSpec([], tf.string)), autograph=False
        )
        return read.get_concrete_function(tf.TensorSpec([None], tf.string))


class Concatenation(EncodedSource):
    """Data sets one after the other, their classes side by side, their names kept as the groups of the classes.

    Example:
        Two classes of birds and one of dogs become three classes in two groups.

        >>> arguments = {"channels": 3, "locate": str}
        >>> birds = Encoded(["a", "bc"], [0, 1], class_names=["crow", "wren"], sizes=[1, 2], **arguments)
        >>> dogs = Encoded(["def"], [0], class_names=["pug"], sizes=[3], **arguments)
        >>> joined = Concatenation({"birds": birds, "dogs": dogs})
        >>> joined.class_names, joined.class_groups
        (['birds/crow', 'birds/wren', 'dogs/pug'], ['birds', 'birds', 'dogs'])
        >>> joined.labels.tolist(), joined.read(tf.constant([2, 0], tf.int64)).numpy().tolist()
        ([0, 1, 2], [b'def', b'a'])

    Args:
        sources: encoded sources by name.

    Raises:
        UserError: sources that are not encoded, or of different channels.
    """

    def __init__(self, sources: Mapping[str, Source]):
        parts = [source for source in sources.values() if isinstance(source, EncodedSource)]
        if len(parts) < len(sources) or len({part.image_shape for part in parts}) > 1:
            kinds = {
                name: "JPEG or PNG" if isinstance(source, EncodedSource) else "arrays"
                for name, source in sources.items()
            }
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

    def held_bytes(self) -> dict[int, int]:
        return {holder: count for part in self._parts for holder, count in part.held_bytes().items()}

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
