"""What the pipeline asks of a source of images and labels: one that gives pixels, or one that gives encoded images."""

import abc
import hashlib
import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from cskd_tf.data.images.decode import decode
from cskd_tf.errors import UserError


class Source(abc.ABC):
    """Images by index, and their labels. Subclasses are `PixelSource` or `EncodedSource`.

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

    def __init__(
        self,
        labels: np.ndarray,
        *,
        class_names: Sequence[str],
        image_shape: tuple[int | None, int | None, int],
        class_groups: Sequence[str] | None = None,
    ):
        self.labels = labels
        self.class_names = list(class_names)
        self.class_groups = list(class_groups) if class_groups is not None else None
        self.image_shape = image_shape

    @abc.abstractmethod
    def locate(self, index: int) -> str:
        """Where one image is to be found, for messages: the path of its file, say."""

    @abc.abstractmethod
    def examples(self, count: int) -> tf.Tensor:
        """The first images as one batch, uint8 `[n, H, W, C]`: at most `count`, and one where sizes may differ."""

    @abc.abstractmethod
    def subset(self, indices: np.ndarray) -> "Source":
        """The images at `indices`, int `[n]`, numbered anew from 0 to n - 1; the classes stay."""

    def held_bytes(self) -> dict[int, int]:
        """Bytes of images held in memory, by the `id` of what holds them, which other sources may hold too."""
        return {}

    def marks(self) -> np.ndarray | None:
        """What tells each image from others without being read, `[N]`, such as its bytes; None of arrays alone."""
        return None

    def fingerprint(self) -> str:
        """SHA-256 of the classes' names, the labels in their order, and the `marks`: others for other images."""
        marks = self.marks()
        parts = ["\0".join(self.class_names).encode(), np.asarray(self.labels, "<i4").tobytes()]
        parts += [] if marks is None else [np.asarray(marks, "<i8").tobytes()]
        return hashlib.sha256(b"\0\0".join(parts)).hexdigest()


class PixelSource(Source):
    """Base of the sources whose images are pixels of one size. Subclasses implement `load` and `locate`."""

    @abc.abstractmethod
    def load(self, indices: tf.Tensor) -> tf.Tensor:
        """Inside the tf.data graph: int64 `[n]` to images `[n, H, W, C]`, pixels from 0 to 255."""

    def examples(self, count: int) -> tf.Tensor:
        return tf.cast(self.load(tf.range(min(count, len(self.labels)), dtype=tf.int64)), tf.uint8)

    def subset(self, indices: np.ndarray) -> "PixelSource":
        return _PixelSubset(self, np.asarray(indices))


class EncodedSource(Source):
    """Base of the sources whose images are JPEG or PNG, of any sizes. Subclasses implement `read` and `locate`.

    Args:
        labels: int `[N]`.
        class_names: one per class.
        channels: 3 (colour) or 1 (grey); images of the other kind are converted.
        sizes: int `[N]`, bytes of each encoded image.
        class_groups: for each class the name of its group.

    Attributes:
        sizes: as given, int64 `[N]`.

    Raises:
        UserError: labels that do not fit.
    """

    sizes: np.ndarray

    def __init__(
        self,
        labels: npt.ArrayLike,
        *,
        class_names: Sequence[str],
        channels: int,
        sizes: npt.ArrayLike,
        class_groups: Sequence[str] | None = None,
    ):
        labels = check_labels(labels, num_classes=len(class_names), complete=False)
        shape = (None, None, channels)
        super().__init__(labels, class_names=class_names, class_groups=class_groups, image_shape=shape)
        self.sizes = np.asarray(sizes, np.int64)

    @abc.abstractmethod
    def read(self, indices: tf.Tensor) -> tf.Tensor:
        """Inside the tf.data graph: int64 `[n]` to encoded images, string `[n]`."""

    def marks(self) -> np.ndarray | None:
        return self.sizes

    def decode_one(self, index: int) -> tf.Tensor:
        """The pixels of one image, uint8 `[H, W, C]`."""
        return decode(self.read(tf.constant([index], tf.int64))[0], channels=self.image_shape[2])

    def examples(self, count: int) -> tf.Tensor:
        return self.decode_one(0)[None]

    def subset(self, indices: np.ndarray) -> "EncodedSource":
        return _EncodedSubset(self, np.asarray(indices))


class _PixelSubset(PixelSource):
    """Some images of a source of pixels, which still loads them: nothing is copied but the indices."""

    def __init__(self, source: PixelSource, indices: np.ndarray):
        super().__init__(
            source.labels[indices],
            class_names=source.class_names,
            class_groups=source.class_groups,
            image_shape=source.image_shape,
        )
        self._source, self._indices = source, tf.constant(indices, tf.int64)

    def load(self, indices: tf.Tensor) -> tf.Tensor:
        return self._source.load(tf.gather(self._indices, indices))

    def held_bytes(self) -> dict[int, int]:
        return self._source.held_bytes()

    def marks(self) -> np.ndarray | None:
        marks = self._source.marks()
        return None if marks is None else marks[self._indices.numpy()]

    def locate(self, index: int) -> str:
        return self._source.locate(int(self._indices[index]))


class _EncodedSubset(EncodedSource):
    """Some images of a source of encoded images, which still reads them: nothing is copied but indices and sizes."""

    def __init__(self, source: EncodedSource, indices: np.ndarray):
        super().__init__(
            source.labels[indices],
            class_names=source.class_names,
            class_groups=source.class_groups,
            channels=source.image_shape[2],
            sizes=source.sizes[indices],
        )
        self._source, self._indices = source, tf.constant(indices, tf.int64)

    def read(self, indices: tf.Tensor) -> tf.Tensor:
        return self._source.read(tf.gather(self._indices, indices))

    def held_bytes(self) -> dict[int, int]:
        return self._source.held_bytes()

    def locate(self, index: int) -> str:
        return self._source.locate(int(self._indices[index]))


LARGEST_LABEL = int(np.iinfo(np.int32).max)


def class_numbers(labels: npt.ArrayLike) -> tuple[np.ndarray, int | None]:
    """Labels in any form that Keras has for classes, as integers `[N]`, and C where the form tells it.

    Example:
        >>> forms = [2, 0], [[2], [0]], [[2.0], [0.0]], [[0, 0, 1], [1, 0, 0]]
        >>> [class_numbers(labels)[0].tolist() for labels in forms]
        [[2, 0], [2, 0], [2, 0], [2, 0]]

    Args:
        labels: integers `[N]` or `[N, 1]`, as whole numbers of floating point too, or one-hot rows `[N, C]`.

    Raises:
        UserError: any other form, such as soft targets or several labels, of which no image has a partner.
    """
    if np.ma.isMaskedArray(labels) and np.ma.is_masked(labels):
        raise UserError(f"Expected a label for each image. Received: {np.ma.count_masked(labels)} that are masked")
    numbers = np.asarray(labels)
    if numbers.ndim == 2 and numbers.shape[1] > 1:
        are_one_hot = ((numbers == 0) | (numbers == 1)).all(axis=1) & (numbers.sum(axis=1) == 1)
        if not are_one_hot.all():
            received = numbers[~are_one_hot][0].tolist()[:10]
            raise UserError(
                f"Expected one class for each image: labels [N], or one-hot [N, C]. Received: a row {received}"
            )
        return numbers.argmax(axis=1), numbers.shape[1]
    if numbers.ndim == 2 and numbers.shape[1] == 1:
        numbers = numbers[:, 0]
    if (
        numbers.ndim == 1
        and numbers.dtype.kind == "f"
        and (np.isfinite(numbers) & (numbers == np.round(numbers))).all()
    ):
        numbers = numbers.astype(np.int64)
    if numbers.ndim != 1 or not np.issubdtype(numbers.dtype, np.integer):
        received = f"{numbers.dtype} of shape {numbers.shape}"
        if numbers.ndim == 1 and numbers.dtype.kind == "f":
            received += f" with {numbers[~(np.isfinite(numbers) & (numbers == np.round(numbers)))][0]}"
        elif numbers.dtype.kind in "OSU":
            received += "; np.unique(labels, return_inverse=True) makes numbers of names"
        raise UserError(f"Expected labels to be integers [N]. Received: {received}")
    return numbers, None


def check_labels(labels: npt.ArrayLike, *, num_classes: int | None = None, complete: bool = True) -> np.ndarray:
    """Labels in any form that `class_numbers` takes as int32 `[N]`.

    Example:
        >>> check_labels([[2], [0], [1]])
        array([2, 0, 1], dtype=int32)

    Args:
        labels: from 0 to C - 1.
        num_classes: C; that of one-hot labels, or the largest label and 1, where left out.
        complete: whether every class must have an image.

    Raises:
        UserError: of another form, a label outside the classes, or (`complete`) a class without an image.
    """
    numbers, width = class_numbers(labels)
    num_classes = width if num_classes is None else num_classes
    if not len(numbers):
        raise UserError("Expected at least one image. Received: no labels")
    classes = int(numbers.max()) + 1 if num_classes is None else num_classes
    outside = numbers[(numbers < 0) | (numbers >= classes)]
    if len(outside):
        raise UserError(f"Expected labels from 0 to {classes - 1}. Received: {sorted(set(outside.tolist()))[:10]}")
    if classes > LARGEST_LABEL + 1:
        raise UserError(f"Expected labels from 0 to {LARGEST_LABEL}. Received: {classes - 1}")
    present = set(np.unique(numbers).tolist())  # not counted by label: a stray one may be as large as an id
    if len(present) < classes and complete:
        empty = list(itertools.islice((label for label in range(classes) if label not in present), 10))
        raise UserError(f"Expected at least one image of each of the {classes} classes. Received: none of {empty}")
    return numbers.astype(np.int32)
