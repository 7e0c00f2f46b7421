"""What comes as data: of which parts their batches are, and what shape their images have."""

import itertools
import types
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cskd_tf.errors import UserError

_PARTS = "Expected batches (images, labels) or (images, labels, weights)."


def unpack(data) -> tuple[dict[str, Any], tf.Tensor, tf.Tensor | None]:
    """The inputs of a batch as a dictionary, its labels, and the weights of its examples, where it has some."""
    check_parts(data)
    inputs, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
    if labels is None or isinstance(labels, dict):
        received = "no labels" if labels is None else f"labels by name, {sorted(labels)}"
        raise UserError(f"{_PARTS} Received: {received}")
    inputs = dict(inputs) if isinstance(inputs, dict) else {"image": inputs}
    return inputs, tf.convert_to_tensor(labels), None if weights is None else tf.convert_to_tensor(weights)


def check_form(data, labels, weights) -> None:
    """Raises UserError for what stands beside data that come in batches, or batches without a place for labels.

    Args:
        data: what `fit` or `evaluate` takes as `x`.
        labels: as `y`.
        weights: as `sample_weight`.
    """
    if not _comes_in_batches(data):
        _check_arrays(data, labels, weights)
        return
    beside = {name: value for name, value in (("y", labels), ("sample_weight", weights)) if value is not None}
    if beside:
        raise UserError(
            f"{_PARTS} Labels and weights are parts of the data: paired_dataset(images, labels, sample_weight=...), or "
            f"tf.data.Dataset.zip(...). Received: {' and '.join(beside)} beside a {type(data).__name__}"
        )
    if isinstance(data, tf.data.Dataset):
        check_parts(data.element_spec)
        _check_batched(data)


def _check_arrays(data, labels, weights) -> None:
    for name, value in (("y", labels), ("sample_weight", weights)):
        if isinstance(value, (list, tuple)):
            raise UserError(f"Expected {name} as an array: numpy.asarray({name}). Received: a {type(value).__name__}")
        if isinstance(value, np.ma.MaskedArray) and np.ma.getmaskarray(value).any():
            raise UserError(f"Expected {name} without masked entries, which Keras would train with. Received: some")
    images = data.get("image") if isinstance(data, dict) else data
    if 0 in tuple(getattr(images, "shape", ()))[:1]:
        raise UserError("Expected at least one example. Received: none")
    named = [
        *(data.items() if isinstance(data, dict) else [("images", data)]),
        ("labels", labels),
        ("weights", weights),
    ]
    shapes = [(name, tuple(getattr(value, "shape", ()))) for name, value in named]
    counts = [(shape[0], name) for name, shape in shapes if shape and isinstance(shape[0], int)]
    if len({count for count, _ in counts}) > 1:
        received = ", ".join(f"{count} {name}" for count, name in counts)
        raise UserError(f"Expected arrays of as many labels and weights as images. Received: {received}")


def _check_batched(data: tf.data.Dataset) -> None:
    """Raises UserError for a data set of single examples, of none, or one that does not tell its shapes."""
    inputs, labels = data.element_spec[:2]
    images = inputs.get("image") if isinstance(inputs, dict) else inputs
    of_images, of_labels = (getattr(spec, "shape", tf.TensorShape([None])) for spec in (images, labels))
    received = f"Received: elements of {data.element_spec}"
    if None in (of_images.rank, of_labels.rank):
        raise UserError(
            "Expected data that tell how many axes images and labels have, as by "
            f"tf.data.Dataset.from_generator(..., output_signature=...). {received}"
        )
    if 0 in (of_images.rank, of_labels.rank) or not of_images[:1].is_compatible_with(of_labels[:1]):
        raise UserError(f"Expected batches of images and their labels, as data.batch(32) makes them. {received}")
    if int(data.cardinality()) == 0:
        raise UserError("Expected at least one batch. Received: a data set of none")


def _comes_in_batches(data) -> bool:
    is_array = isinstance(data, (dict, list, tuple)) or hasattr(data, "shape")
    return isinstance(data, keras.utils.PyDataset) or (hasattr(data, "__iter__") and not is_array)


def check_parts(batch) -> None:
    """Raises UserError for a batch, or the description of one, that has no place for labels."""
    if isinstance(batch, (tuple, list)) and len(batch) in (2, 3):
        return
    received = f"{len(batch)} parts" if isinstance(batch, (tuple, list)) else "one part, and no labels"
    if isinstance(batch, dict):
        received = f"a dictionary with {sorted(batch)}; data.map(lambda batch: (batch[...], batch[...])) makes pairs"
    raise UserError(f"{_PARTS} Received: {received}")


def shape_of(images) -> tuple[int | None, ...] | None:
    """`[None, H, W, C]` of a batch's images, or of their description; None where nothing tells it."""
    images = images.get("image") if isinstance(images, dict) else images
    shape = tf.TensorShape(getattr(images, "shape", None))
    return (None, *shape[1:]) if shape.rank else None


def peeked(data, labels):
    """The same data, and images and labels of a batch, or descriptions of them; None for what nothing tells.

    Of a generator it is the first batch, which is then put back.

    Args:
        data: what `fit` or `evaluate` takes as `x`.
        labels: as `y`.
    """
    if not _comes_in_batches(data):
        return data, (data, labels)
    data, batch = _peeked_batch(data)
    if batch is not None and not isinstance(data, tf.data.Dataset):
        check_parts(batch)
    parts = batch if isinstance(batch, (tuple, list)) else (batch,)
    return data, (*parts, None)[:2]


def peeked_images(data):
    """As `peeked`, of what `predict` takes as `x`, with labels or without: the same data, and their images."""
    if not _comes_in_batches(data):
        return data, data
    data, batch = _peeked_batch(data)
    return data, batch[0] if isinstance(batch, (tuple, list)) else batch


def _peeked_batch(data):
    """Data that come in batches, and the first of these, or their description; None where nothing tells it."""
    if isinstance(data, tf.data.Dataset):
        return data, data.element_spec
    if isinstance(data, keras.utils.PyDataset):
        return data, data[0]
    if not is_iterable(data):
        return data, None
    if (first := next(iter(data), None)) is None:
        raise UserError("Expected at least one batch. Received: none")
    is_used_up = isinstance(data, types.GeneratorType)
    return (batch for batch in itertools.chain([first], data)) if is_used_up else data, first


def is_iterable(data) -> bool:
    """Whether Python can go through the data, which it cannot where they are dealt out among replicas."""
    return hasattr(data, "__iter__") and not isinstance(data, tf.distribute.DistributedDataset)
