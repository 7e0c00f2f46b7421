"""Where images and labels come from: pixels in memory, encoded images in memory, files, and combinations of them."""

import os
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import tensorflow as tf

from cskd_tf.data.images.decode import decode, map_quickly
from cskd_tf.errors import UserError


class Source(Protocol):
    """What the pipeline asks of a source.

    Attributes:
        labels: int32 `[N]`; in training, every class of `class_names` at least once.
        class_names: C names.
        class_groups: for each class the name of its group, such as the data set it comes from; None without groups.
        image_shape: `(H, W, C)`, H and W None where they differ from image to image.
    """

    labels: np.ndarray
    class_names: list[str]
    class_groups: list[str] | None
    image_shape: tuple[int | None, int | None, int]

    def load(self, indices: tf.Tensor) -> tf.Tensor:
        """Inside the tf.data graph: int64 `[n]` to images `[n, H, W, C]`, pixels from 0 to 255.

        Of one index only, where sizes differ.
        """
        ...

    def describe(self, index: int) -> str:
        """How to find one image, for messages: the path of its file, say."""
        ...


def check_labels(labels, *, num_classes: int | None = None, complete: bool = True) -> np.ndarray:
    """Labels `[N]`, or `[N, 1]` as `keras.datasets` has them, as int32 `[N]`.

    Raises:
        ValueError: not integers of that shape, a label outside the classes, or (`complete`) a class without an image.
    """
    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise UserError(f"Expected labels to be integers [N]. Received: {labels.dtype} of shape {labels.shape}")
    if not len(labels):
        raise UserError("Expected at least one image. Received: no labels")
    classes = int(labels.max()) + 1 if num_classes is None else num_classes
    outside = labels[(labels < 0) | (labels >= classes)]
    if len(outside):
        raise UserError(f"Expected labels from 0 to {classes - 1}. Received: {sorted(set(outside.tolist()))[:10]}")
    empty = np.flatnonzero(np.bincount(labels, minlength=classes) == 0)
    if len(empty) and complete:
        raise UserError(
            f"Expected at least one image of each of the {classes} classes. Received: none of {empty[:10].tolist()}"
        )
    return labels.astype(np.int32)


class ArraySource:
    """Images in memory.

    Args:
        images: `[N, H, W, C]`, uint8 or float, pixels from 0 to 255 where the transforms normalise them.
        labels: int `[N]`.
        class_names: one a class; the numbers where left out.
        class_groups: for each class the name of its group.
        describe: how to find an image, for messages.
        complete: whether every class must have an image.

    Raises:
        ValueError: wrong rank or length, NaN, or labels that do not fit.
    """

    def __init__(
        self,
        images,
        labels,
        *,
        class_names: Sequence[str] | None = None,
        class_groups: Sequence[str] | None = None,
        describe: Callable[[int], str] | None = None,
        complete: bool = True,
    ):
        tensor = images if tf.is_tensor(images) else None  # not copied
        images = np.asarray(images)
        if images.ndim != 4 or images.dtype.kind not in "uif":
            raise UserError(
                "Expected images to be numbers of shape [N, height, width, channels]. "
                f"Received: {images.dtype} of shape {images.shape}"
            )
        if len(images) != len(labels):
            raise UserError(
                f"Expected as many labels as images. Received: {len(images)} images and {len(labels)} labels"
            )
        if images.dtype.kind == "f" and not np.isfinite(images).all():
            broken = np.flatnonzero(~np.isfinite(images).all(axis=(1, 2, 3)))
            raise UserError(f"Expected finite pixels. Received: NaN or infinity in images {broken[:10].tolist()}")
        classes = len(class_names) if class_names is not None else None
        self.labels = check_labels(labels, num_classes=classes, complete=complete)
        self.class_names = list(class_names or map(str, range(int(self.labels.max()) + 1)))
        self.class_groups = list(class_groups) if class_groups is not None else None
        self.image_shape = images.shape[1:]
        self._images = tf.constant(images) if tensor is None else tensor
        self._describe = describe or "image {}".format

    def load(self, indices: tf.Tensor) -> tf.Tensor:
        return tf.gather(self._images, indices)

    def describe(self, index: int) -> str:
        return self._describe(index)


class EncodedSource:
    """Base of the sources whose images are JPEG or PNG, of any sizes. Subclasses implement `read`.

    Args:
        labels: int `[N]`.
        class_names: one a class.
        class_groups: for each class the name of its group.
        channels: 3 (colour) or 1 (grey); images of the other kind are converted.
        sizes: int64 `[N]`, bytes of each encoded image.
    """

    def __init__(self, labels, *, class_names, channels: int, sizes, class_groups=None):
        self.labels = check_labels(labels, num_classes=len(class_names), complete=False)
        self.class_names = list(class_names)
        self.class_groups = list(class_groups) if class_groups is not None else None
        self.image_shape = (None, None, channels)
        self.sizes = np.asarray(sizes, np.int64)

    def read(self, indices: tf.Tensor) -> tf.Tensor:
        """Inside the tf.data graph: int64 `[n]` to encoded images, string `[n]`."""
        raise NotImplementedError

    def load(self, indices: tf.Tensor) -> tf.Tensor:
        return decode(self.read(indices)[0], channels=self.image_shape[2])[None]

    def describe(self, index: int) -> str:
        raise NotImplementedError


class Encoded(EncodedSource):
    """Encoded images in memory.

    Args:
        contents: string `[N]`.
        describe: how to find an image, for messages.
        arguments: as for `EncodedSource`.
    """

    def __init__(self, contents: tf.Tensor, labels, *, describe: Callable[[int], str], **arguments):
        super().__init__(labels, **arguments)
        self.describe = describe
        self._contents = contents

    def read(self, indices: tf.Tensor) -> tf.Tensor:
        return tf.gather(self._contents, indices)


class Files(EncodedSource):
    """Image files.

    Args:
        paths: one an image.
        arguments: as for `EncodedSource`.
    """

    def __init__(self, paths: Sequence[str], labels, **arguments):
        super().__init__(labels, **arguments)
        self._paths = tf.constant([os.fsencode(path) for path in paths])  # of whatever encoding

    def read(self, indices: tf.Tensor) -> tf.Tensor:
        return map_quickly(tf.io.read_file, tf.gather(self._paths, indices), tf.TensorSpec([], tf.string))

    def describe(self, index: int) -> str:
        return self._paths[index].numpy().decode(errors="backslashreplace")


class Subset:
    """Some images of another source, under new indices.

    Args:
        source: where the images are.
        indices: int `[n]`, which of them.
    """

    def __init__(self, source: Source, indices: np.ndarray):
        self.labels = source.labels[indices]
        self.class_names = source.class_names
        self.class_groups = source.class_groups
        self.image_shape = source.image_shape
        self._source = source
        self._indices = tf.constant(indices, tf.int64)
        if is_encoded(source):
            self.sizes = source.sizes[indices]
            self.read = lambda indices: source.read(tf.gather(self._indices, indices))

    def load(self, indices: tf.Tensor) -> tf.Tensor:
        return self._source.load(tf.gather(self._indices, indices))

    def describe(self, index: int) -> str:
        return self._source.describe(int(self._indices[index]))


class Concatenation(EncodedSource):
    """Data sets one after the other, their classes side by side, their names kept as the groups of the classes.

    Example: birds (200 classes) and dogs (120) become 320 classes `birds/...`, `dogs/...` in 2 groups.

    Args:
        sources: encoded sources by name.

    Raises:
        ValueError: sources that are not encoded, or of different channels.
    """

    def __init__(self, sources: dict[str, Source]):
        parts = list(sources.values())
        if not all(map(is_encoded, parts)) or len({part.image_shape for part in parts}) > 1:
            kinds = {name: "JPEG or PNG" if is_encoded(part) else "arrays" for name, part in sources.items()}
            raise UserError(f"Expected data sets of JPEG or PNG images to concatenate. Received: {kinds}")
        class_offsets = np.cumsum([0] + [len(part.class_names) for part in parts])
        super().__init__(
            np.concatenate([part.labels + offset for part, offset in zip(parts, class_offsets[:-1], strict=True)]),
            class_names=[f"{name}/{each}" for name, part in sources.items() for each in part.class_names],
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

    def describe(self, index: int) -> str:
        part = int(np.searchsorted(self._starts[1:], index, side="right"))
        return self._parts[part].describe(index - int(self._starts[part]))


def is_encoded(source: Source) -> bool:
    """Whether a source gives encoded images (`read`), not only pixels (`load`)."""
    return hasattr(source, "read")
