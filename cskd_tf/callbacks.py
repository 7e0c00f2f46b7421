"""Evaluation every epoch, the run log, checkpoints, and TensorBoard.

Keras' callbacks share one `logs` dictionary, so `Evaluation`, which adds to it, stands before whatever reads it.
"""

import math
import pathlib
import time

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from cskd_tf import figures
from cskd_tf.inputs import Expectations, image_shape
from cskd_tf.metrics import DEFAULT_ECE_BINS
from cskd_tf.networks.logits import check_logits
from cskd_tf.predictions import Collector, Predictions
from cskd_tf.workdir import Workdir


class Evaluation(keras.callbacks.Callback):
    """One pass over validation data at the end of each epoch; all six metrics go to `logs`, named `val_...`.

    They are `val_top1_error`, `val_top5_error`, `val_nll`, `val_ece`, `val_recall_at_1` and `val_aurc`, as fractions
    (NLL in nats). Put it before callbacks that read the logs, such as `ModelCheckpoint(monitor="val_ece")`. Lower is
    better for all of them but `val_recall_at_1`; `SelfDistiller.fit` tells such callbacks, a plain Keras model needs
    their `mode="min"` or `"max"`.

    Example: `model.fit(data, callbacks=[Evaluation((images, labels)), keras.callbacks.CSVLogger("log.csv")])`.

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
        predictions: of the last pass.

    Raises:
        ValueError: data of another form; when training begins, labels of arrays that are none of the model's classes.
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
        self.predictions: Predictions | None = None
        self._collector = collector

    def _batches(self, data, batch_size: int) -> tf.data.Dataset:
        if not isinstance(data, (tuple, list)) or len(data) != 2:
            received = f"{len(data)} parts" if isinstance(data, (tuple, list)) else type(data).__name__
            raise ValueError(f"{_FORM} Received: {received}")
        images, labels = np.asarray(data[0]), np.asarray(data[1])
        if labels.ndim == 0 or len(images) != len(labels) or len(labels) < 2:
            count = len(labels) if labels.ndim else "no"
            raise ValueError(
                "Expected as many labels as images, of at least two images. "
                f"Received: {len(images)} images and {count} labels"
            )
        self._labels = labels
        return tf.data.Dataset.from_tensor_slices((images, labels)).batch(batch_size)

    def on_train_begin(self, logs=None):
        if self._collector is None or not self._collector.is_of(self.model):
            self._collector = Collector.of(self.model)
        if self._labels is not None:
            images = image_shape(self.data)
            network = getattr(self.model, "network", self.model)
            Expectations(num_classes=check_logits(network, input_shape=images)).check(self._labels)

    def on_epoch_end(self, epoch, logs=None):
        swaps = self._swaps()
        for swap in swaps:
            swap.on_test_begin()
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


_FORM = "Expected Evaluation's data as (images, labels): two arrays, or a tf.data.Dataset of two such parts a batch."


def _check_form(element_spec) -> None:
    """Raises ValueError unless batches are of images and integer labels."""
    if not isinstance(element_spec, tuple) or len(element_spec) != 2:
        parts = len(element_spec) if isinstance(element_spec, tuple) else 1
        raise ValueError(f"{_FORM} Received: {parts} parts, of which sample weights would be one")
    labels = element_spec[1]
    if not (labels.dtype.is_integer and (labels.shape.rank == 1 or labels.shape[1:] == [1])):
        raise ValueError(f"{_FORM} Expected integer labels [B]. Received: {labels.dtype.name} of shape {labels.shape}")


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
            raise FloatingPointError(_advice(f"The loss became {loss} in epoch {self._epoch + 1}, step {batch + 1}"))


class RunLog(keras.callbacks.Callback):
    """Writes all logs of an epoch as one line of `log.jsonl`, with the learning rate and the time."""

    def __init__(self, workdir: Workdir):
        super().__init__()
        self.workdir = workdir
        self._start = 0.0
        self._learning_rate = math.nan

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.perf_counter()
        # Now, because at the epoch's end the optimiser already has the rate of the next.
        self._learning_rate = float(self.model.optimizer.learning_rate)

    def on_epoch_end(self, epoch, logs=None):
        logs["learning_rate"] = self._learning_rate
        seconds = time.perf_counter() - self._start
        self.workdir.append_log(
            {"epoch": epoch + 1, **{name: float(value) for name, value in logs.items()}, "seconds": round(seconds, 3)}
        )


class TensorBoard(keras.callbacks.Callback):
    """Every scalar of the logs under its own name, and the reliability diagram of the evaluated split, each epoch.

    Keras' TensorBoard callback would rename `val_ece` to `validation/epoch_ece`; here names are the same everywhere.

    Args:
        folder: for the event files.
        evaluation: whose predictions the diagram shows; it has to come first.
    """

    def __init__(self, folder: pathlib.Path, *, evaluation: Evaluation):
        super().__init__()
        self.folder = folder
        self.evaluation = evaluation

    def on_train_begin(self, logs=None):
        self._writer = tf.summary.create_file_writer(str(self.folder))

    def on_epoch_end(self, epoch, logs=None):
        bins = self.evaluation.ece_bins
        diagram = figures.reliability_diagram(self.evaluation.predictions, bins=bins, title=f"epoch {epoch + 1}")
        with self._writer.as_default(step=epoch + 1):
            for name, value in logs.items():
                tf.summary.scalar(name, float(value))
            tf.summary.image(f"{self.evaluation.split}_reliability", figures.as_image(diagram))
        self._writer.flush()

    def on_train_end(self, logs=None):
        self._writer.close()


class Checkpoint(keras.callbacks.Callback):
    """Saves everything that training needs after each epoch, and the weights of the best one apart.

    Resuming from it is bit-exact: weights, running statistics, momentum, step and the states of random generators are
    all restored, and the data follow from the epoch. The last two checkpoints are kept, so that a damaged one costs an
    epoch and not the run.

    Args:
        workdir: of the run.
        model: built and compiled.
        monitor: log of which the lowest value is the best; None: no epoch is, because there is nothing to choose by.
    """

    def __init__(self, workdir: Workdir, model: keras.Model, *, monitor: str | None):
        super().__init__()
        self.workdir = workdir
        self.monitor = monitor
        self._epoch = tf.Variable(0, dtype=tf.int64)
        inference = model.classifier().weights
        only_training = {id(variable): variable for variable in model.variables}
        for variable in inference:
            only_training.pop(id(variable))
        weights = {"classifier": [variable.value for variable in inference]}
        state = {
            "optimizer": [variable.value for variable in model.optimizer.variables],
            "training": [variable.value for variable in only_training.values()],
        }
        self._last = tf.train.Checkpoint(epoch=self._epoch, **weights, **state)
        self._classifier = tf.train.Checkpoint(epoch=self._epoch, **weights)

    def on_epoch_end(self, epoch, logs=None):
        self._epoch.assign(epoch + 1)
        if self.monitor is not None:
            # A best epoch is one that no earlier epoch equals, so an interrupted run finds the same one.
            earlier = [entry[self.monitor] for entry in self.workdir.log() if entry["epoch"] <= epoch]
            if not earlier or logs[self.monitor] < min(earlier):
                self._write(self._classifier, "best", keep=1)
        self.save(epoch + 1)

    def save(self, epochs: int) -> None:
        """Saves the model as it is after `epochs` epochs."""
        self._epoch.assign(epochs)
        self._write(self._last, "last", keep=2)

    def restore_last(self) -> int:
        """Restores the newest whole checkpoint; returns how many epochs it had finished, 0 if there is none.

        Raises:
            ValueError: there are checkpoints, and none is whole.
        """
        return self._restore_newest(self._last)

    def restore_classifier(self) -> int:
        """As `restore_last`, what inference needs: the model may lack the methods that training alone needs."""
        return self._restore_newest(self._classifier)

    def restore_best(self) -> int:
        """Restores the classifier of the best validation epoch; returns which one it was, 0 where there is none."""
        return self._restore(self._classifier, "best")

    def _restore_newest(self, checkpoint: tf.train.Checkpoint) -> int:
        epoch = self._restore(checkpoint, "last")
        if not epoch and (paths := self._paths("last")):
            raise ValueError(f"Expected a whole checkpoint to resume from. Received: {paths}, all damaged")
        return epoch

    def _paths(self, name: str) -> list[str]:
        """What lies in the folder, oldest first; an index beside the checkpoints could be damaged itself."""
        found = (path.with_suffix("") for path in (self.workdir.checkpoints / name).glob("ckpt-*.index"))
        return [str(path) for path in sorted(found, key=lambda path: int(path.name.removeprefix("ckpt-")))]

    def _write(self, checkpoint: tf.train.Checkpoint, name: str, *, keep: int) -> None:
        folder = self.workdir.checkpoints / name
        checkpoint.write(str(folder / f"ckpt-{int(self._epoch.numpy())}"))
        for old in self._paths(name)[:-keep]:
            for file in folder.glob(f"{pathlib.Path(old).name}.*"):
                file.unlink()

    def _restore(self, checkpoint: tf.train.Checkpoint, name: str) -> int:
        for path in reversed(self._paths(name)):
            if problem := _damage(path):
                logging.warning("Checkpoint %s is damaged (%s); falling back to the one before it.", path, problem)
                continue
            status = checkpoint.read(path)
            if checkpoint is self._last:
                status.assert_consumed()
            else:
                status.assert_existing_objects_matched()
            return int(self._epoch.numpy())
        return 0


def _damage(path: str) -> str | None:
    """What is wrong with a checkpoint, or None. Everything is read, and the format's checksums are compared."""
    try:
        reader = tf.train.load_checkpoint(path)
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
    except (tf.errors.OpError, ValueError, RuntimeError, IndexError) as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"
    return None
