"""What `Evaluation` judges: data in every form that they can be trained in, as images and the class of each."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cskd_tf.checks import check_count
from cskd_tf.data.sources.examples import batches_of
from cskd_tf.data.sources.passes import as_it_is
from cskd_tf.errors import UserError
from cskd_tf.training.expectations import Expectations
from cskd_tf.training.forms import check_form, check_parts
from cskd_tf.training.inputs import checked

_FORM = "Expected Evaluation's data as arrays, or as a tf.data.Dataset or PyDataset of batches with an end."


def batches_to_judge(data: Any, *, batch_size: int) -> tf.data.Dataset:
    """Data as batches of `(images, labels)` or `(images, labels, weights)`, whatever they come in.

    Args:
        data: arrays as a tuple, or a `tf.data.Dataset` or `PyDataset` of batches.
        batch_size: for arrays.

    Raises:
        UserError: data of another form, or without an end.
    """
    if isinstance(data, (tuple, list)):
        return _of_arrays(data, batch_size)
    if not isinstance(data, (tf.data.Dataset, keras.utils.PyDataset)):
        raise UserError(f"{_FORM} Received: {type(data).__name__}")
    dataset = batches_of(data) if isinstance(data, keras.utils.PyDataset) else data
    if (count := int(dataset.cardinality())) in (0, tf.data.INFINITE_CARDINALITY):
        raise UserError(f"{_FORM} Received: data without {'an end' if count else 'a batch'}")
    check_form(dataset, None, None)
    if isinstance(dataset.element_spec[1], dict):
        raise UserError(f"{_FORM} Received: labels by name, {sorted(dataset.element_spec[1])}")
    return dataset


def _of_arrays(data, batch_size: int) -> tf.data.Dataset:
    check_count("batch_size", batch_size)
    check_parts(data)
    arrays = tuple(np.asarray(part) for part in data if part is not None)
    counts = [len(array) if array.ndim else 0 for array in arrays]
    if len(set(counts)) != 1 or counts[0] < 2:
        received = ", ".join(
            f"{count} {name}" for count, name in zip(counts, ("images", "labels", "weights"), strict=False)
        )
        raise UserError(f"Expected as many labels as images, of at least two images. Received: {received}")
    if arrays[0].dtype.kind == "f" and not np.isfinite(arrays[0]).all():
        raise UserError("Expected images of finite numbers. Received: NaN or infinity in the data of Evaluation")
    return as_it_is(tf.data.Dataset.from_tensor_slices(arrays).batch(batch_size))


def with_classes(dataset: tf.data.Dataset, *, num_classes: int) -> tf.data.Dataset:
    """Batches of images and the class of each, read as `fit` reads labels, and checked as they flow by.

    Example: of shares the largest is the class, and weights are left out:
        >>> dataset = tf.data.Dataset.from_tensors(([[[[0.0]]], [[[1.0]]]], [[0.0, 1.0], [0.75, 0.25]], [1.0, 2.0]))
        >>> [labels.numpy().tolist() for _, labels in with_classes(dataset, num_classes=2)]
        [[1, 0]]

    Args:
        dataset: as `batches_to_judge` returns it.
        num_classes: C of the network.

    Raises:
        UserError: labels of a form that they cannot have. Iterating raises `tf.errors.InvalidArgumentError` for values.
    """
    expected = Expectations(num_classes=num_classes)
    expected.labels.check_form(dataset.element_spec[1], num_classes=num_classes)

    def read(images, labels, *_):
        classes = expected.labels.classes(labels, num_classes=num_classes, namespace=tf.experimental.numpy)
        return images, tf.cast(classes, tf.int32)  # as sources have them, so that a collector traces one function

    # AutoGraph would make other errors of ours.
    return checked(dataset, None, expected=expected).map(tf.autograph.experimental.do_not_convert(read))
