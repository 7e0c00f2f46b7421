"""Data of somebody else's loop, (image, label) one by one or in batches, as a `tf.data.Dataset` of a known form."""

import dataclasses
import itertools
import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cskd_tf.errors import UserError

DATA_SETS = (tf.data.Dataset, keras.utils.PyDataset)


@dataclasses.dataclass(frozen=True)
class Examples:
    """A data set of `(image, label)` or `(image, label, weight)`, and what its form says.

    Attributes:
        dataset: of single examples or of batches.
        batched: which of the two.
        class_names: as `keras.utils.image_dataset_from_directory` leaves them; None where nobody did.
    """

    dataset: tf.data.Dataset
    batched: bool
    class_names: list[str] | None

    @property
    def image_spec(self) -> tf.TensorSpec:
        """Of one image: encoded if it is a string, else pixels `[H, W, C]`."""
        spec = self.dataset.element_spec[0]
        return tf.TensorSpec(spec.shape[1:] if self.batched else spec.shape, spec.dtype)

    @property
    def image_bytes(self) -> int | None:
        """What one image takes in memory; None where that differs, as of encoded images, or is not known."""
        spec = self.image_spec
        fixed = spec.dtype != tf.string and spec.shape.is_fully_defined()
        return math.prod(spec.shape) * spec.dtype.size if fixed else None

    @property
    def num_classes(self) -> int | None:
        """C, where names or one-hot labels tell it."""
        if self.class_names is not None:
            return len(self.class_names)
        shape = self.dataset.element_spec[1].shape
        one_hot = shape.rank == 1 + self.batched and shape[-1] is not None and shape[-1] > 1
        return shape[-1] if one_hot else None

    def batches(self, size: int | None, *, drop_remainder: bool = False) -> tf.data.Dataset:
        """The same in batches of `size`; None: in those that it has."""
        if size is None:
            return self.dataset
        change = self.dataset.rebatch if self.batched else self.dataset.batch
        return change(size, drop_remainder=drop_remainder)


def examples_of(data: Any) -> Examples:
    """What a `tf.data.Dataset` or a `PyDataset` holds; which form it has is seen from its element spec, or first batch.

    Example:
        >>> data = tf.data.Dataset.from_tensor_slices((np.zeros([4, 8, 8, 3]), [0, 1, 0, 1]))
        >>> [(each.batched, each.image_bytes) for each in map(examples_of, (data, data.batch(2)))]
        [(False, 1536), (True, 1536)]

    Args:
        data: of `(image, label)`, or with a weight as third.

    Raises:
        UserError: elements of any other form.
    """
    if not isinstance(data, DATA_SETS):
        raise UserError(
            "Expected a tf.data.Dataset or PyDataset of (image, label); arrays are for cskd_tf.data.paired_dataset. "
            f"Received: {type(data).__name__}"
        )
    dataset = batches_of(data) if isinstance(data, keras.utils.PyDataset) else data
    spec = dataset.element_spec
    parts = spec if isinstance(spec, tuple) else (spec,)
    if len(parts) not in (2, 3) or not all(isinstance(part, tf.TensorSpec) for part in parts):
        raise UserError(
            "Expected data of (image, label) or (image, label, weight), not paired yet, each a tensor. "
            f"Received: elements {spec}"
        )
    if not (parts[1].dtype.is_integer or parts[1].dtype.is_floating or parts[1].dtype.is_bool):
        raise UserError(f"Expected labels that are integers, or one-hot. Received: {parts[1].dtype.name}")
    of_one = 0 if parts[0].dtype == tf.string else 3
    if parts[0].shape.rank not in (of_one, of_one + 1):
        raise UserError(
            "Expected images [height, width, channels] or encoded ones [], or batches of them. "
            f"Received: {parts[0].dtype.name} of shape {parts[0].shape}"
        )
    names = getattr(data, "class_names", None)
    return Examples(dataset, parts[0].shape.rank == of_one + 1, None if names is None else list(names))


def batches_of(data: keras.utils.PyDataset) -> tf.data.Dataset:
    """The batches of a `PyDataset`, which is told where its epochs begin and end.

    Raises:
        UserError: batches of something else than arrays.
    """
    first = data[0]
    if not isinstance(first, (tuple, list)) or not all(hasattr(part, "shape") for part in first):
        kinds = [type(part).__name__ for part in first] if isinstance(first, (tuple, list)) else type(first).__name__
        raise UserError(f"Expected a PyDataset of (images, labels), each an array. Received: {kinds}")
    signature = tuple(tf.TensorSpec([None, *part.shape[1:]], np.asarray(part).dtype) for part in first)
    count = data.num_batches

    def batches():
        data.on_epoch_begin()
        for index in itertools.count() if count is None else range(count):
            yield tuple(data[index])
        data.on_epoch_end()

    dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
    cardinality = tf.data.INFINITE_CARDINALITY if count is None else count
    return dataset.apply(tf.data.experimental.assert_cardinality(cardinality))
