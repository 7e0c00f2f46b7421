"""Evaluation every epoch, and a stop at the first loss that is not finite.

Keras' callbacks share one `logs` dictionary, so `Evaluation`, which adds to it, stands before whatever reads it.
"""

import inspect
import math
import types
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from cskd_tf.errors import UserError
from cskd_tf.evaluation.calibration import DEFAULT_ECE_BINS
from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.training.collector import Collector, count_classes
from cskd_tf.training.expectations import Expectations
from cskd_tf.training.judged import batches_to_judge, with_classes
from cskd_tf.training.label_kinds import check_one_class
from cskd_tf.training.order import READERS, warn_of_readers


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
    ones.

    Args:
        data: `(images, labels)`, or with sample weights as third: arrays, or a `tf.data.Dataset` or `PyDataset` of
            such batches, of at least two images. Labels are what `fit` takes, and read as it reads them: int `[N]` or
            `[N, 1]`, whole floats, or rows `[N, C]` that sum to 1, of which the largest entry is the class. Sample
            weights change nothing here, as they do not change Keras' `metrics`: of calibration and retrieval none of
            these metrics is defined with weights.
        ece_bins: confidence bins of the ECE.
        batch_size: for arrays.
        collector: of the model, where one is there already; it keeps the traced function.
        split: what the data are, which the names in `logs` begin with: `"test"` makes `test_top1_error` of it.

    Attributes:
        predictions: of the last pass; before the first epoch has ended there are none.

    Raises:
        UserError: data of another form, without a batch, or arrays of images that are not finite; when training begins,
            another `Evaluation` of the same split, a network without embeddings, a model whose labels are several
            classes of an image, images of another shape than it takes, labels of a form that they cannot have, and
            labels of arrays that are none of the model's classes, which of other data `tf.errors.InvalidArgumentError`
            says once they flow by.
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
        self.data = batches_to_judge(data, batch_size=batch_size)
        self._labels_and_weights = data[1:] if isinstance(data, (tuple, list)) else None  # of arrays
        self._with_classes: dict[int, tf.data.Dataset] = {}  # by how many classes there are
        self._beside: Sequence[keras.callbacks.Callback] = ()
        self.split = split
        self.ece_bins = ece_bins
        self.predictions: Predictions
        self._collector = collector

    @property
    def adds_to_logs(self) -> str:
        """What the names in the logs begin with."""
        return f"{self.split}_"

    def on_train_begin(self, logs=None):
        self._beside = _callbacks_of(inspect.currentframe())
        warn_of_readers(self, [callback for callback in self._before() if isinstance(callback, READERS)])
        alike = [each for each in self._beside if isinstance(each, Evaluation) and each.split == self.split]
        if len(alike) > 1:
            raise UserError(
                "Expected one Evaluation of each split, or their metrics would have the same names in the logs. "
                f"Received: {len(alike)} with split={self.split!r}"
            )
        num_classes = self._count_classes()
        self._judged(num_classes)
        self._own_collector().check()
        if self._labels_and_weights is not None:
            labels, *weights = self._labels_and_weights
            Expectations(num_classes=num_classes).check(labels, weights=weights[0] if weights else None)

    def on_epoch_end(self, epoch, logs=None):
        swaps = self._swaps()
        for swap in swaps:
            swap.on_test_begin()
        self.predictions = self._own_collector().collect(self._judged(self._count_classes()))
        for swap in swaps:
            swap.on_test_end()
        if not np.isfinite(self.predictions.logits).all():
            name = {"val": "validation"}.get(self.split, self.split)
            raise FloatingPointError(_advice(f"The {name} logits are not finite after epoch {epoch + 1}"))
        for name, value in self.predictions.metrics(ece_bins=self.ece_bins).items():
            logs[f"{self.split}_{name}"] = value

    def _own_collector(self) -> Collector:
        if self._collector is None or not self._collector.is_of(self.model):
            self._collector = Collector(self.model)
        return self._collector

    def _count_classes(self) -> int:
        expected = "Expected a model whose images have one class each, as the metrics of Evaluation have them"
        check_one_class(self.model, expected=f"{expected}; pass validation_data to fit instead.")
        return count_classes(self.model, self.data)

    def _judged(self, num_classes: int) -> tf.data.Dataset:
        """The data with the class of each image; the same object each time, as the collector keeps what it traced."""
        if num_classes not in self._with_classes:
            self._with_classes = {num_classes: with_classes(self.data, num_classes=num_classes)}
        return self._with_classes[num_classes]

    def _before(self) -> list[keras.callbacks.Callback]:
        """The callbacks that stand before this one."""
        callbacks = list(self._beside)
        return callbacks[: callbacks.index(self)] if self in callbacks else []

    def _swaps(self) -> list[keras.callbacks.SwapEMAWeights]:
        """The callbacks that have averaged weights, but have not put them into the model yet."""
        before = self._before()
        return [
            callback
            for callback in self._beside
            if isinstance(callback, keras.callbacks.SwapEMAWeights)
            and not (callback.swap_on_epoch and callback in before)
        ]


def _callbacks_of(frame: types.FrameType | None) -> Sequence[keras.callbacks.Callback]:
    """The callbacks of a `fit`, in their order, one of which runs in this frame.

    Keras' list of them has called it, and nothing else leads from a callback, or from a plain model, to that list.
    """
    while frame is not None:
        if isinstance(caller := frame.f_locals.get("self"), keras.callbacks.CallbackList):
            return caller.callbacks
        frame = frame.f_back
    return ()


def _advice(problem: str) -> str:
    return (
        f"{problem}. Set optimizer.clip_norm=1, or lower schedule.learning_rate or the methods' weight, and train in a "
        "new workdir; the checkpoints of finished epochs are kept."
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
