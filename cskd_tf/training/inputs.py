"""What `SelfDistiller` reads: its form is checked when a step is traced, its values where XLA cannot drop the check.

Keras compiles the step with XLA on a GPU, which leaves out every assertion inside. So labels, weights, pairs and
indices are checked before they get there: of arrays and of a `PairedDataset` when `fit` begins, of other data as they
flow by. What reaches a compiled step all the same, in a loop of the user's own, makes its loss NaN and its gradients 0:
by momentum and weight decay the weights still move, until the loop looks at the loss.
"""

import dataclasses
import math
import types
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cskd_tf.data.batches.dataset import PairedDataset
from cskd_tf.data.batches.views import IMAGE
from cskd_tf.errors import UserError
from cskd_tf.methods.composition import Composition
from cskd_tf.training.forms import check_parts, is_iterable
from cskd_tf.training.label_kinds import OneClass
from cskd_tf.training.labels import LabelKind, kind_of, type_of

KERAS_BATCH = 32  # images, where nobody says how many
BUILD = "build the data with cskd_tf.data.paired_dataset(..., **model.data_options)"


BY_HAND = (
    "give them yourself, as arrays of one row per example: fit({'image': x, 'partner': another x of the same class, "
    "'index': np.arange(len(x))}, y), with num_examples=len(x) of the SelfDistiller"
)


def check_for_training(batch: dict, composition: Composition, kind: LabelKind) -> None:
    """Raises UserError where the batch lacks what the methods need, of the pipeline or, beyond images, by hand."""
    received = f"Received: a batch with {sorted(batch)}"
    if IMAGE not in batch:
        raise UserError(f"Expected what the network takes as {IMAGE!r}, whatever its input is called. {received}")
    shapes = {view.name: tuple(batch[view.name].shape[1:]) for view in composition.views if view.name in batch}
    if len({*shapes.values()}) > 1:
        raise UserError(f"Expected all views of one shape but for how many they are. Received: {shapes}")
    how = BUILD if kind.takes_classes and len(shapes[IMAGE]) == 3 else BY_HAND
    if missing := [extra for extra in composition.needs.extras if extra not in batch]:
        raise UserError(f"The methods need {missing}, which a stream without indices cannot give: {how}. {received}")
    if missing := [view.name for view in composition.views if view.name not in batch]:
        raise UserError(f"The methods need the views {missing}: {how}. {received}")
    if composition.mixing and "targets" not in batch:
        raise UserError(f"{composition.mixing_names} work in the pipeline: {BUILD}. {received}")


def check_weighable(composition: Composition) -> None:
    """Raises UserError for methods that images or classes with weights cannot be trained with."""
    if names := composition.unable("weighable"):
        raise UserError(
            "Expected no weights of examples or classes beside methods whose terms are of other images than the "
            f"batch's own (Method.weighable). Received: {names}"
        )


@dataclasses.dataclass(frozen=True)
class Expectations:
    """What the network and the methods take for granted of each batch.

    Attributes:
        num_classes: C of the network.
        labels: what they are.
        reading_class: names of methods that read the class of each image, which may then not have shares of several.
        pairs_adjacent: rows 0 and 1, 2 and 3 and so on are of one class (`CSKD(in_batch=True)`).
        parts: in which a replica computes its rows, each of at least one row, or pair.
        num_examples: of methods that keep something for each image: indices are below it; None: no method does.
        replicas: among which each batch will be dealt out.
        needing_images: names of the layers that go wrong on a replica without an image.
    """

    num_classes: int
    labels: LabelKind = dataclasses.field(default_factory=OneClass)
    reading_class: tuple[str, ...] = ()
    pairs_adjacent: bool = False
    parts: int = 1
    num_examples: int | None = None
    replicas: int = 1
    needing_images: tuple[str, ...] = ()

    @property
    def _without_images(self) -> str:
        layers = ", ".join(self.needing_images[:3]) + (", ..." if len(self.needing_images) > 3 else "")
        return (
            f"Expected batches that leave none of {self.replicas} replicas without an image, the last of an epoch too: "
            f"choose another batch size, as layers such as {layers} go wrong there. Data of "
            "cskd_tf.data.paired_dataset are dealt out evenly."
        )

    def reaches_all(self, count):
        """Whether a batch of so many images leaves no replica without one: tf.distribute fills the first ones up.

        Example:
            >>> [Expectations(num_classes=2, replicas=4).reaches_all(count) for count in (4, 5, 6, 7)]
            [True, False, False, True]
        """
        return -(-count // self.replicas) * (self.replicas - 1) < count

    def check_batches(self, size: int, *, batch_size: int, batches: float = math.inf) -> None:
        """Raises UserError where arrays of `size` images make a batch that cannot be dealt out among the replicas.

        Of no more than `batches`: the last one may never come.
        """
        last = size % batch_size if batches > size // batch_size else 0
        for count in {min(size, batch_size), last} - {0}:
            received = f"Received: a batch of {count} of {size} images, {batch_size=}"
            if self.needing_images and not self.reaches_all(count):
                raise UserError(f"{self._without_images} {received}")
            share = -(-count // self.replicas)  # of the first replicas; the last ones get what is left
            if self.parts > 1 and count - share * (self.replicas - 1) < self._least_rows:
                raise UserError(f"{self._too_few_rows} {received}")
            if self.pairs_adjacent and (count % 2 or (share < count and share % 2)):
                raise UserError(f"{self._wrong_pair} {received}")

    @property
    def _least_rows(self) -> int:
        return self.parts * (2 if self.pairs_adjacent else 1)

    @property
    def _too_few_rows(self) -> str:
        return f"Expected batches of at least {self._least_rows} images on each replica: {self.parts} parts of each."

    @property
    def _wrong_pair(self) -> str:
        return f"Expected batches of pairs of one class, image, partner, image, partner: {BUILD}."

    @property
    def _wrong_index(self) -> str:
        return (
            f"Expected indices from 0 and below num_examples={self.num_examples}, which SelfDistiller was told is the "
            "size of the training set."
        )

    def check(self, labels, *, index=None, weights=None) -> None:
        """Raises UserError for labels, indices `[n]` and weights that are not as expected."""
        labels = np.asarray(labels)
        weights = None if weights is None else np.asarray(weights)
        count = labels.shape[0] if labels.ndim else 0
        for message, sound, received in self._required(labels, index, weights, count=count, namespace=np):
            if not sound:
                raise UserError(f"{message} Received: {received()}")

    def check_data(self, data: PairedDataset) -> None:
        """Raises UserError for a data set that says of itself that it is not as expected."""
        if not (self.labels.takes_classes or data.relabelled):
            raise UserError(
                f"Expected data whose labels are {self.labels.called}. Received: a PairedDataset, of one class each"
            )
        if data.num_classes > self.num_classes and not data.relabelled:
            expected = self.labels.expected(None, num_classes=self.num_classes)
            raise UserError(f"{expected} Received: data of {data.num_classes} classes")
        if self.pairs_adjacent and not data.pairs_adjacent:
            raise UserError(f"{self._wrong_pair} Received: a data set with pairs_adjacent=False")
        if self.num_examples is not None and data.num_examples > self.num_examples:
            raise UserError(f"{self._wrong_index} Received: {data.num_examples} training images")

    def conditions(self, labels: tf.Tensor, *, index=None, weights=None) -> dict[str, tf.Tensor]:
        """The same inside a graph: for each message whether all is well, bool.

        Raises:
            UserError: labels or weights of another form.
        """
        count, namespace = tf.shape(labels)[0], tf.experimental.numpy
        required = self._required(labels, index, weights, count=count, namespace=namespace)
        conditions = {message: sound for message, sound, _ in required}
        if self.needing_images:
            conditions[self._without_images] = self.reaches_all(count)
        if self.parts > 1:
            conditions[self._too_few_rows] = count >= self._least_rows
        return conditions

    def _required(
        self, labels, index, weights, *, count, namespace: Any
    ) -> Iterator[tuple[str, Any, Callable[[], object]]]:
        """For each requirement its message, whether it is met, and what is shown of what came where it is not.

        `namespace` is `numpy`, or `tf.experimental.numpy` inside of a graph.
        """
        classes, kind = {"num_classes": self.num_classes, "namespace": namespace}, self.labels
        kind.check_form(labels, num_classes=self.num_classes)
        wrong = kind.wrong(labels, **classes)
        yield (
            kind.expected(labels, num_classes=self.num_classes),
            ~namespace.any(wrong),
            lambda: _some_of(labels, wrong),
        )
        several = kind.of_several(labels, **classes)
        if self.reading_class and several is not None:
            names = ", ".join(self.reading_class)
            message = f"Expected one-hot rows, of images of one class, beside {names}, which reads it."
            yield message, ~namespace.any(several), lambda: _some_of(labels, several)
        if self.pairs_adjacent:
            of_images, even = kind.classes(labels, **classes), count // 2 * 2
            sound = namespace.all(of_images[:even:2] == of_images[1:even:2]) & (count == even)
            yield self._wrong_pair, sound, lambda: f"labels {of_images[:10].tolist()}"
        if self.num_examples is not None and index is not None:
            if kind_of(index) != "int":
                raise UserError(f"Expected the index of each example as integers [B]. Received: {type_of(index)}")
            numbers = namespace.asarray(index, namespace.int64)
            wrong_index = (numbers < 0) | (numbers >= self.num_examples)
            yield self._wrong_index, ~namespace.any(wrong_index), lambda: f"index {_some_of(index, wrong_index)}"
        if weights is not None:
            if kind_of(weights) not in ("int", "float", "bool"):
                raise UserError(f"Expected sample weights that are numbers. Received: {type_of(weights)}")
            kind.check_weights(weights, labels)
            numbers = namespace.asarray(weights, namespace.float32)
            wrong_weight = ~(namespace.isfinite(numbers) & (numbers >= 0))
            message = "Expected sample weights that are finite and not below 0."
            yield message, ~namespace.any(wrong_weight), lambda: _some_of(weights, wrong_weight)


def _some_of(values: np.ndarray, wrong: np.ndarray) -> list:
    """Some of the values that are wrong: numbers once each, or a row of several."""
    found = values[wrong] if values.ndim == wrong.ndim or values.shape[-1] > 1 else values[wrong, 0]
    return found[:1].tolist() if found.ndim > 1 else np.unique(found)[:10].tolist()


def assert_all(conditions: dict[str, tf.Tensor]) -> list[tf.Operation]:
    """An operation for each condition, which raises `tf.errors.InvalidArgumentError` with its message."""
    checks = [tf.debugging.Assert(condition, [message]) for message, condition in conditions.items()]
    return [check for check in checks if check is not None]  # eagerly there is nothing to return


def checked(
    data, labels, *,
    weights=None, expected: Expectations, shuffle: bool = False, batch_size: int | None = None, share: float = 1.0,
    batches: float = math.inf,
) -> Any:  # fmt: skip
    """The same data for Keras, checked now or, batch by batch, on their way to the step.

    Args:
        data: what `fit` or `evaluate` takes as `x`.
        labels: as `y`.
        weights: as `sample_weight`.
        expected: of every batch.
        shuffle: whether Keras will reorder arrays.
        batch_size: of the batches that Keras makes of arrays; None: as many as Keras does.
        share: of arrays that are trained on; Keras keeps the last ones as validation data.
        batches: how many of arrays are read.

    Raises:
        UserError: arrays or a `PairedDataset` that are not as expected. What flows by raises it then, tf.data
            `tf.errors.InvalidArgumentError`.
    """
    if isinstance(data, tf.data.Dataset):
        # AutoGraph would make other errors of ours.
        return data.map(tf.autograph.experimental.do_not_convert(lambda *parts: _asserted(parts, expected)))
    if isinstance(data, keras.utils.PyDataset):
        return _CheckedBatches(data, expected)
    if isinstance(data, types.GeneratorType):
        return _passed_on(data, expected)
    if labels is None and is_iterable(data):
        check_batch(next(iter(data)), expected)  # PyTorch's loader or Grain's: of others than the first, the step
    if labels is not None and not isinstance(labels, dict):  # which the step refuses
        if expected.pairs_adjacent and shuffle:
            raise UserError(f"{expected._wrong_pair} Received: arrays, which fit() shuffles")
        expected.check(labels, index=_index(data), weights=weights)
        size = math.floor(len(labels) * share)
        expected.check_batches(size, batch_size=batch_size or KERAS_BATCH, batches=batches)
    return data


def _index(inputs):
    return inputs.get("index") if isinstance(inputs, dict) else None


def check_batch(batch, expected: Expectations) -> None:
    """As `Expectations.check`, of `(inputs, labels)` or `(inputs, labels, weights)` on the host."""
    check_parts(batch)
    if batch[1] is not None:
        expected.check(batch[1], index=_index(batch[0]), weights=batch[2] if len(batch) > 2 else None)
        if count := len(batch[1]):
            expected.check_batches(count, batch_size=count)


def _asserted(parts: tuple, expected: Expectations):
    """A batch of tf.data, which is handed on once its labels and weights have been looked at."""
    element = parts if len(parts) > 1 else parts[0]
    if len(parts) < 2 or not tf.is_tensor(parts[1]):
        return element
    weights = parts[2] if len(parts) > 2 else None
    conditions = expected.conditions(parts[1], index=_index(parts[0]), weights=weights)
    with tf.control_dependencies(assert_all(conditions)):
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
