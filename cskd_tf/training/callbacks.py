"""Evaluation every epoch, and a stop at the first loss that is not finite.

Keras' callbacks share one `logs` dictionary, so `Evaluation`, which adds to it, stands before whatever reads it.
"""

import math

import keras
import numpy as np
import tensorflow as tf

from cskd_tf.data.sources.passes import as_it_is
from cskd_tf.errors import UserError
from cskd_tf.evaluation.calibration import DEFAULT_ECE_BINS
from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.training.collector import Collector, count_classes
from cskd_tf.training.inputs import Expectations


class Evaluation(keras.callbacks.Callback):
    """One pass over validation data at the end of each epoch; all six metrics go to `logs`, named `val_...`.

    They are `val_top1_error`, `val_top5_error`, `val_nll`, `val_ece`, `val_recall_at_1` and `val_aurc`, as fractions
    (NLL in nats). `SelfDistiller.fit` puts it before those of Keras' callbacks that read the logs, such as
    `ModelCheckpoint(monitor="val_ece", mode="min")`; with a plain Keras model, or before your own callbacks, you do.
    Keras cannot know the direction of these metrics: lower is better for all of them but `val_recall_at_1`.

    Example: of two classes, one image each, nothing is right or wrong by more than the network's first weights say:
        >>> images, labels = np.zeros((4, 2), "float32"), np.array([0, 0, 1, 1])
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, kernel_initializer="zeros")])
        >>> model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        >>> history = model.fit(images, labels, verbose=0, callbacks=[Evaluation((images, labels))]).history
        >>> round(history["val_nll"][0], 4), history["val_top1_error"]
        (0.6931, [0.5])

    Weights are those that Keras' own validation would see: with `SwapEMAWeights` beside it, in any order, the averaged
    ones. (`SelfDistiller.fit` tells which callbacks there are; with a plain Keras model, put
    `SwapEMAWeights(swap_on_epoch=True)` before this.)

    Args:
        data: a `tf.data.Dataset` of `(images, labels)` batches, or the two arrays as a tuple; labels int `[N]` or
            `[N, 1]`, at least two images.
        ece_bins: confidence bins of the ECE.
        batch_size: for arrays.
        collector: of the model, where one is there already; it keeps the traced function.
        split: what the data are, which the names in `logs` begin with: `"test"` makes `test_top1_error` of it.

    Attributes:
        predictions: of the last pass; before the first epoch has ended there are none.

    Raises:
        UserError: data of another form; when training begins, labels of arrays that are none of the model's classes.
    """

    def __init__(
        self,
        data,
        *,
        ece_bins: int = DEFAULT_ECE_BINS,
        batch_size: int = 256,
        collector: Collector | None = None,
        split: str = "val",
    ):
        super().__init__()
        self._labels: np.ndarray | None = None  # of arrays
        self.data = data if isinstance(data, tf.data.Dataset) else self._batches(data, batch_size)
        _check_form(self.data.element_spec)
        self.split = split
        self.ece_bins = ece_bins
        self.predictions: Predictions
        self._collector = collector

    @property
    def adds_to_logs(self) -> str:
        """What the names in the logs begin with."""
        return f"{self.split}_"

    def _batches(self, data, batch_size: int) -> tf.data.Dataset:
        if not isinstance(data, (tuple, list)) or len(data) != 2:
            received = f"{len(data)} parts" if isinstance(data, (tuple, list)) else type(data).__name__
            raise UserError(f"{_FORM} Received: {received}")
        images, labels = np.asarray(data[0]), np.asarray(data[1])
        if labels.ndim == 0 or len(images) != len(labels) or len(labels) < 2:
            count = len(labels) if labels.ndim else "no"
            raise UserError(
                "Expected as many labels as images, of at least two images. "
                f"Received: {len(images)} images and {count} labels"
            )
        self._labels = labels
        return as_it_is(tf.data.Dataset.from_tensor_slices((images, labels)).batch(batch_size))

    def on_train_begin(self, logs=None):
        if self._labels is not None:
            Expectations(num_classes=count_classes(self.model, self.data)).check(self._labels)

    def on_epoch_end(self, epoch, logs=None):
        swaps = self._swaps()
        for swap in swaps:
            swap.on_test_begin()
        if self._collector is None or not self._collector.is_of(self.model):
            self._collector = Collector(self.model)
        self.predictions = self._collector.collect(self.data)
        for swap in swaps:
            swap.on_test_end()
        if not np.isfinite(self.predictions.logits).all():
            name = {"val": "validation"}.get(self.split, self.split)
            raise FloatingPointError(_advice(f"The {name} logits are not finite after epoch {epoch + 1}"))
        for name, value in self.predictions.metrics(ece_bins=self.ece_bins).items():
            logs[f"{self.split}_{name}"] = value

    def _swaps(self) -> list[keras.callbacks.SwapEMAWeights]:
        """The callbacks that have averaged weights, but have not put them into the model yet."""
        callbacks = list(getattr(self.model, "fit_callbacks", ()))
        before = callbacks[: callbacks.index(self)] if self in callbacks else []
        return [
            callback
            for callback in callbacks
            if isinstance(callback, keras.callbacks.SwapEMAWeights)
            and not (callback.swap_on_epoch and callback in before)
        ]


_FORM = "Expected Evaluation's data as (images, labels): two arrays, or a tf.data.Dataset of two such parts per batch."


def _check_form(element_spec) -> None:
    """Raises UserError unless batches are of images and integer labels."""
    if not isinstance(element_spec, tuple) or len(element_spec) != 2:
        parts = len(element_spec) if isinstance(element_spec, tuple) else 1
        raise UserError(f"{_FORM} Received: {parts} parts, of which sample weights would be one")
    labels = element_spec[1]
    if not (labels.dtype.is_integer and (labels.shape.rank == 1 or labels.shape[1:] == [1])):
        raise UserError(f"{_FORM} Expected integer labels [B]. Received: {labels.dtype.name} of shape {labels.shape}")


def _advice(problem: str) -> str:
    return (
        f"{problem}. Set optimizer.clip_norm=1, or lower schedule.learning_rate or the methods' weight (a weight of 3 "
        "at a learning rate of 0.1 is known to diverge on small data), and train in a new workdir; the checkpoints of "
        "finished epochs are kept."
    )


class StopOnNaN(keras.callbacks.Callback):
    """Raises `FloatingPointError` at the first step whose loss is not finite, before anything of it is saved."""

    def __init__(self):
        super().__init__()
        self._epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        loss = float(logs["loss"])
        if not math.isfinite(loss):
            steps, last = self.model.steps_per_execution, getattr(self.model, "batches_before", 0) + batch + 1
            where = f"step {last}" if steps == 1 else f"steps {last + 1 - steps} to {last}"
            raise FloatingPointError(_advice(f"The loss became {loss} in epoch {self._epoch + 1}, {where}"))
