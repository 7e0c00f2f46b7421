"""What comes as data: of which parts their batches are, and what shape their images have."""

import itertools
import types
from typing import Any

import keras
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
        return
    beside = {name: value for name, value in (("y", labels), ("sample_weight", weights)) if value is not None}
    if beside:
        raise UserError(
            f"{_PARTS} Labels and weights are parts of the data: paired_dataset(images, labels, sample_weight=...), or "
            f"tf.data.Dataset.zip(...). Received: {' and '.join(beside)} beside a {type(data).__name__}"
        )
    if isinstance(data, tf.data.Dataset):
        check_parts(data.element_spec)


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


def image_shape(data) -> tuple[int | None, ...] | None:
    """`[None, H, W, C]` of the images in what `fit` takes; None where nothing tells it before the first step."""
    return shape_of(_example(data, None)[0])


def shape_of(images) -> tuple[int | None, ...] | None:
    """`image_shape` of a batch's images, or of their description."""
    images = images.get("image") if isinstance(images, dict) else images
    return (None, *images.shape[1:]) if hasattr(images, "shape") else None


def peeked(data, labels):
    """The same data, and images and labels of a batch, or descriptions of them; None for what nothing tells.

    Of a generator it is the first batch, which is then put back.

    Args:
        data: what `fit` or `evaluate` takes as `x`.
        labels: as `y`.
    """
    if not isinstance(data, types.GeneratorType):
        return data, _example(data, labels)
    first = next(data)
    check_parts(first)
    return (batch for batch in itertools.chain([first], data)), first[:2]


def _example(data, labels):
    if isinstance(data, tf.data.Dataset):
        spec = data.element_spec if isinstance(data.element_spec, tuple) else (data.element_spec,)
        return (*spec, None)[:2]
    if isinstance(data, keras.utils.PyDataset):
        batch = data[0]
    elif _comes_in_batches(data):
        if not is_iterable(data):
            return None, None
        batch = next(iter(data))
    else:
        return data, labels
    check_parts(batch)
    return batch[:2]


def is_iterable(data) -> bool:
    """Whether Python can go through the data, which it cannot where they are dealt out among replicas."""
    return hasattr(data, "__iter__") and not isinstance(data, tf.distribute.DistributedDataset)
