"""Images whose pixels are in memory."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from cskd_tf.data.sources.base import PixelSource, Source, check_labels, class_numbers
from cskd_tf.errors import UserError


class ArraySource(PixelSource):
    """Images in memory.

    Example:
        >>> source = ArraySource(np.zeros([3, 8, 8, 1], np.uint8), [1, 0, 1], class_names=["cat", "dog"])
        >>> source.image_shape, source.labels.tolist(), source.locate(2)
        ((8, 8, 1), [1, 0, 1], 'image 2')

    Args:
        images: `[N, H, W, C]`, uint8 or float, pixels from 0 to 255 where the transforms normalise them.
        labels: int `[N]`, or another form that `base.class_numbers` takes.
        class_names: one per class; the numbers of the classes where left out.
        class_groups: for each class the name of its group.
        locate: says of an index where its image is to be found, for messages; `image 2` and the like where left out.
        complete: whether every class must have an image.

    Raises:
        UserError: wrong rank or length, NaN or infinity, or labels that do not fit.
    """

    def __init__(
        self,
        images: npt.ArrayLike | tf.Tensor,
        labels: npt.ArrayLike,
        *,
        class_names: Sequence[str] | None = None,
        class_groups: Sequence[str] | None = None,
        locate: Callable[[int], str] | None = None,
        marks: np.ndarray | None = None,
        complete: bool = True,
    ):
        tensor = images if tf.is_tensor(images) else None  # not copied
        try:
            pixels = np.asarray(images)
        except ValueError as error:  # of rows that have other lengths
            raise UserError(f"Expected images of one shape, as one array. Received: {error}") from None
        numbers = np.asarray(labels)
        if pixels.ndim != 4 or pixels.dtype.kind not in "uif" or 0 in pixels.shape[1:]:
            raise UserError(
                "Expected images to be numbers of shape [N, height, width, channels]. "
                f"Received: {pixels.dtype} of shape {pixels.shape}"
            )
        if numbers.ndim == 0:
            raise UserError(f"Expected labels to be integers [N]. Received: {type(labels).__name__}")
        if len(pixels) != len(numbers):
            raise UserError(
                f"Expected as many labels as images. Received: {len(pixels)} images and {len(numbers)} labels"
            )
        if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
            broken = np.flatnonzero(~np.isfinite(pixels).all(axis=(1, 2, 3)))
            raise UserError(f"Expected finite pixels. Received: NaN or infinity in images {broken[:10].tolist()}")
        num_classes = len(class_names) if class_names is not None else class_numbers(labels)[1]
        numbers = check_labels(labels, num_classes=num_classes, complete=complete)
        super().__init__(
            numbers,
            class_names=class_names or list(map(str, range(num_classes or int(numbers.max()) + 1))),
            class_groups=class_groups,
            image_shape=pixels.shape[1:],
        )
        self._images: tf.Tensor = tf.constant(pixels) if tensor is None else tensor
        self._locate = locate or "image {}".format
        self._marks = marks

    def load(self, indices: tf.Tensor) -> tf.Tensor:
        return tf.gather(self._images, indices)

    def held_bytes(self) -> dict[int, int]:
        return {id(self._images): self._images.shape.num_elements() * self._images.dtype.size}

    def locate(self, index: int) -> str:
        return self._locate(index)

    def marks(self) -> np.ndarray | None:
        return self._marks


def as_source(images: Source | npt.ArrayLike, labels: npt.ArrayLike | None = None) -> Source:
    """A source as it is, or an array and its labels as an `ArraySource`.

    Raises:
        UserError: neither a source nor an array, labels beside a source, an array without labels, or one that cannot
            be used.
    """
    if isinstance(images, Source):
        if labels is not None:
            raise UserError("Expected no labels beside a source, which brings its own.")
        return images
    if not hasattr(images, "__array__") and not isinstance(images, (list, tuple)):
        raise UserError(
            "Expected images as an array [N, height, width, channels], as a tf.data.Dataset or PyDataset of images and "
            "labels, or as a source, such as an ImageFolder. "
            f"Received: {type(images).__name__}"
        )
    if labels is None:
        raise UserError("Expected labels beside an array of images. Received: labels=None")
    return ArraySource(images, labels)
