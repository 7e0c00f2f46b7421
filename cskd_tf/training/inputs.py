"""What `SelfDistiller` reads: its form is checked when a step is traced, its values where XLA cannot drop the check.

Keras compiles the step with XLA on a GPU, which leaves out every assertion inside. So labels, pairs and indices are
checked before they get there: of arrays and of a `PairedDataset` when `fit` begins, of other data as they flow by. What
reaches a compiled step all the same, in a loop of the user's own, makes its loss NaN and moves no weight.
"""

import dataclasses
import itertools
import types
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cskd_tf import losses
from cskd_tf.data.batches.dataset import PairedDataset
from cskd_tf.errors import UserError
from cskd_tf.methods.composition import Composition
from cskd_tf.training.labels import NO_LABEL

BUILD = "build the data with cskd_tf.data.paired_dataset(..., **model.data_options)"


def unpack(data, *, sequences: bool = False) -> tuple[dict[str, Any], tf.Tensor]:
    """The batch as a dictionary with the labels in it, and the labels, int64 `[B]`, or `[B, L]` of sequences."""
    inputs, labels, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    if labels is None or sample_weight is not None:
        received = "no labels" if labels is None else "weights"
        raise UserError(f"Expected batches (images, labels) without sample or class weights. Received: {received}")
    labels = tf.convert_to_tensor(labels)
    if sequences:
        form, as_expected = "[B, L]", labels.shape.rank in (None, 2)
    else:
        form, as_expected = "[B]", labels.shape.rank in (None, 1) or labels.shape[1:] == [1]
    if not (labels.dtype.is_integer and as_expected):
        raise UserError(f"Expected integer labels {form}. Received: {labels.dtype.name} of shape {labels.shape}")
    # A byte cannot hold the number of 256 classes.
    labels = tf.cast(labels if sequences else tf.reshape(labels, [-1]), tf.int64)
    return {**(inputs if isinstance(inputs, dict) else {"image": inputs}), "label": labels}, labels


def check_for_sequences(composition: Composition) -> None:
    """Raises UserError for methods that take images alone."""
    if composition.of_images_alone:
        raise UserError(
            "Expected methods that work on every position of a sequence (Method.per_position). "
            f"Received: {composition.of_images_alone}"
        )


def check_for_training(batch: dict, composition: Composition) -> None:
    """Raises UserError where the batch lacks what the methods need of the pipeline."""
    received = f"Received: a batch with {sorted(batch)}"
    if missing := [extra for extra in composition.needs.extras if extra not in batch]:
        raise UserError(f"The methods need {missing}, which a stream without indices cannot give: {BUILD}. {received}")
    if missing := [view.name for view in composition.views if view.name not in batch]:
        raise UserError(f"The methods need the views {missing}: {BUILD}. {received}")
    if composition.mixing and "targets" not in batch:
        raise UserError(f"{composition.mixing_names} work in the pipeline: {BUILD}. {received}")


def one_hot_targets(batch: dict, *, classes: int) -> tf.Tensor:
    """float32 `[B, C]`: what the pipeline has mixed, or the labels as one-hot rows; C are the network's classes."""
    if "targets" in batch:
        targets = batch["targets"]
        if (given := targets.shape[-1]) > classes:
            raise UserError(f"Expected targets of the network's {classes} classes. Received: {given} classes")
        return tf.pad(targets, [(0, 0), (0, classes - given)])
    return losses.one_hot(batch["label"], num_classes=classes)


def image_shape(data) -> tuple[int | None, ...] | None:
    """`[None, H, W, C]` of the images in what `fit` takes; None where nothing tells it before the first step."""
    images: Any = data
    if isinstance(data, tf.data.Dataset):
        images = data.element_spec[0] if isinstance(data.element_spec, tuple) else data.element_spec
    elif isinstance(data, keras.utils.PyDataset):
        first: Any = data[0]
        images = first[0]
    elif not (isinstance(data, dict) or hasattr(data, "shape")) and _is_iterable(data):
        images = next(iter(data))[0]
    images = images.get("image") if isinstance(images, dict) else images
    return (None, *images.shape[1:]) if hasattr(images, "shape") else None


def peeked(data):
    """The same data, and for `image_shape` one batch of it: of a generator its first, which is then put back."""
    if not isinstance(data, types.GeneratorType):
        return data, data
    first = next(data)
    return (batch for batch in itertools.chain([first], data)), [first]


def _is_iterable(data) -> bool:
    return hasattr(data, "__iter__") and not isinstance(data, tf.distribute.DistributedDataset)


@dataclasses.dataclass(frozen=True)
class Expectations:
    """What the network and the methods take for granted of each batch.

    Attributes:
        num_classes: C of the network: labels are from 0 to C - 1.
        sequences: labels are `[n, L]`, and -1 where there is none.
        pairs_adjacent: rows 0 and 1, 2 and 3 and so on are of one class (`CSKD(in_batch=True)`).
        parts: in which a replica computes its rows, each of at least one row, or pair.
        num_examples: of methods that keep something for each image: indices are below it; None: no method does.
    """

    num_classes: int
    sequences: bool = False
    pairs_adjacent: bool = False
    parts: int = 1
    num_examples: int | None = None

    @property
    def _messages(self) -> tuple[str, str, str]:
        return (
            f"Expected labels from 0 to {self.num_classes - 1}, one of the classes of the network"
            f"{f', or {NO_LABEL} for none' if self.sequences else ''}.",
            f"Expected batches of pairs of one class, image, partner, image, partner: {BUILD}.",
            f"Expected indices below num_examples={self.num_examples}, which SelfDistiller was told is the size of the "
            "training set.",
        )

    @property
    def _least_label(self) -> int:
        return NO_LABEL if self.sequences else 0

    def check(self, labels, index=None) -> None:
        """Raises UserError for labels `[n]`, `[n, 1]` or `[n, L]`, and indices `[n]`, that are not as expected."""
        labels = np.asarray(labels)
        if labels.dtype.kind not in "ui" or not (self.sequences or labels.size == len(labels)):
            return  # of another form, which the step refuses when it is traced
        labels = labels.reshape(-1)
        wrong_label, wrong_pair, wrong_index = self._messages
        if len(outside := np.unique(labels[(labels < self._least_label) | (labels >= self.num_classes)])):
            raise UserError(f"{wrong_label} Received: {outside[:10].tolist()}")
        if self.pairs_adjacent and (len(labels) % 2 or (labels[::2] != labels[1::2]).any()):
            raise UserError(f"{wrong_pair} Received: labels {labels[:10].tolist()}")
        if self.num_examples is not None and index is not None and np.max(index) >= self.num_examples:
            raise UserError(f"{wrong_index} Received: index {np.max(index)}")

    def check_data(self, data: PairedDataset) -> None:
        """Raises UserError for a data set that says of itself that it is not as expected."""
        wrong_label, wrong_pair, wrong_index = self._messages
        if data.num_classes > self.num_classes and not data.relabelled:
            raise UserError(f"{wrong_label} Received: data of {data.num_classes} classes")
        if self.pairs_adjacent and not data.pairs_adjacent:
            raise UserError(f"{wrong_pair} Received: a data set with pairs_adjacent=False")
        if self.num_examples is not None and data.num_examples > self.num_examples:
            images = f"{data.num_examples} training images"
            raise UserError(f"{wrong_index} Received: {images}")

    def conditions(self, labels: tf.Tensor, index: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """The same inside a graph, labels int `[n]` or `[n, L]`: for each message whether all is well, bool."""
        wrong_label, wrong_pair, wrong_index = self._messages
        labels = tf.cast(labels, tf.int64)
        conditions = {wrong_label: tf.reduce_all((labels >= self._least_label) & (labels < self.num_classes))}
        if self.pairs_adjacent:
            even = tf.shape(labels)[0] // 2 * 2
            equal = tf.reduce_all(labels[:even:2] == labels[1:even:2])
            conditions[wrong_pair] = equal & (tf.shape(labels)[0] == even)
        if self.parts > 1:
            rows = self.parts * (2 if self.pairs_adjacent else 1)
            enough = f"Expected batches of at least {rows} images on each replica: {self.parts} parts of each."
            conditions[enough] = tf.shape(labels)[0] >= rows
        if self.num_examples is not None and index is not None:
            conditions[wrong_index] = tf.reduce_all(tf.cast(index, tf.int64) < self.num_examples)
        return conditions


def assert_all(conditions: dict[str, tf.Tensor]) -> list[tf.Operation]:
    """An operation for each condition, which raises `tf.errors.InvalidArgumentError` with its message."""
    checks = [tf.debugging.Assert(condition, [message]) for message, condition in conditions.items()]
    return [check for check in checks if check is not None]  # eagerly there is nothing to return


def checked(data, labels, *, expected: Expectations, shuffle: bool = False) -> Any:
    """The same data for Keras, checked now or, batch by batch, on their way to the step.

    Args:
        data: what `fit` or `evaluate` takes as `x`.
        labels: as `y`.
        expected: of every batch.
        shuffle: whether Keras will reorder arrays.

    Raises:
        UserError: arrays or a `PairedDataset` that are not as expected. What flows by raises it then, tf.data
            `tf.errors.InvalidArgumentError`.
    """
    if isinstance(data, tf.data.Dataset):
        return data.map(lambda *parts: _asserted(parts, expected))
    if isinstance(data, keras.utils.PyDataset):
        return _CheckedBatches(data, expected)
    if isinstance(data, types.GeneratorType):
        return _passed_on(data, expected)
    if labels is None and _is_iterable(data):
        check_batch(next(iter(data)), expected)  # PyTorch's loader or Grain's: of others than the first, the step
    if labels is not None:
        if expected.pairs_adjacent and shuffle:
            raise UserError(f"{expected._messages[1]} Received: arrays, which fit() shuffles")
        expected.check(labels, _index(data))
    return data


def _index(inputs):
    return inputs.get("index") if isinstance(inputs, dict) else None


def check_batch(batch, expected: Expectations) -> None:
    """As `Expectations.check`, of `(inputs, labels, ...)` on the host."""
    if isinstance(batch, (tuple, list)) and len(batch) > 1 and batch[1] is not None:
        expected.check(batch[1], _index(batch[0]))


def _asserted(parts: tuple, expected: Expectations):
    """A batch of tf.data, which is handed on once its labels have been looked at."""
    element = parts if len(parts) > 1 else parts[0]
    if len(parts) < 2 or not tf.is_tensor(parts[1]) or not parts[1].dtype.is_integer:
        return element
    labels = parts[1] if expected.sequences else tf.reshape(parts[1], [-1])
    with tf.control_dependencies(assert_all(expected.conditions(labels, _index(parts[0])))):
        return tf.nest.map_structure(lambda part: tf.identity(part) if tf.is_tensor(part) else part, element)


def _passed_on(batches, expected: Expectations):
    for batch in batches:
        check_batch(batch, expected)
        yield batch


class _CheckedBatches(keras.utils.PyDataset):
    """A user's `PyDataset` whose batches are looked at."""

    def __init__(self, batches: keras.utils.PyDataset, expected: Expectations):
        super().__init__(
            workers=batches.workers,
            use_multiprocessing=batches.use_multiprocessing,
            max_queue_size=batches.max_queue_size,
        )
        self._batches, self._expected = batches, expected

    @property
    def num_batches(self):
        return self._batches.num_batches

    def __getitem__(self, index: int):
        batch = self._batches[index]
        check_batch(batch, self._expected)
        return batch

    def on_epoch_begin(self) -> None:
        self._batches.on_epoch_begin()

    def on_epoch_end(self) -> None:
        self._batches.on_epoch_end()
