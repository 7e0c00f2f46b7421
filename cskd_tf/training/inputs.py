"""What `SelfDistiller` reads: its form is checked when a step is traced, its values where XLA cannot drop the check.

Keras compiles the step with XLA on a GPU, which leaves out every assertion inside. So labels, weights, pairs and
indices are checked before they get there: of arrays and of a `PairedDataset` when `fit` begins, of other data as they
flow by. What reaches a compiled step all the same, in a loop of the user's own, makes its loss NaN and its gradients 0:
by momentum and weight decay the weights still move, until the loop looks at the loss.
"""

import math
import types
from typing import Any

import keras
import tensorflow as tf

from cskd_tf.data.batches.views import IMAGE
from cskd_tf.errors import UserError
from cskd_tf.methods.composition import Composition
from cskd_tf.training.expectations import BUILD, Expectations
from cskd_tf.training.forms import check_parts, is_iterable
from cskd_tf.training.labels import LabelKind

KERAS_BATCH = 32  # images, where nobody says how many
BY_HAND = (
    "give them yourself, as arrays of one row per example: fit({'image': x, 'partner': another x of the same class, "
    "'index': np.arange(len(x))}, y), with num_examples=len(x) of the SelfDistiller"
)


def check_for_training(batch: dict, composition: Composition, kind: LabelKind, *, image_shape: tuple) -> None:
    """Raises UserError where the batch lacks what the methods need, of the pipeline or, beyond images, by hand."""
    received = f"Received: a batch with {sorted(batch)}"
    if IMAGE not in batch:
        raise UserError(f"Expected what the network takes as {IMAGE!r}, whatever its input is called. {received}")
    for view in composition.views:
        if view.name in batch and not tf.TensorShape(batch[view.name].shape).is_compatible_with(image_shape):
            shape = f"{view.name!r} of shape {tuple(batch[view.name].shape)}"
            raise UserError(f"Expected every view as the network takes images, {image_shape}. Received: {shape}")
    how = BUILD if kind.takes_classes and tf.TensorShape(batch[IMAGE].shape).rank in (None, 4) else BY_HAND
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
            raise UserError(f"{expected.wrong_pair} Received: arrays, which fit() shuffles")
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
