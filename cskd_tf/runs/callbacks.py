"""What a run keeps of its training: the log, TensorBoard's files, and checkpoints."""

import math
import pathlib
import shutil
import time

import keras
import tensorflow as tf
from absl import logging

from cskd_tf.errors import UserError
from cskd_tf.evaluation import figures
from cskd_tf.runs.events import keep_epochs
from cskd_tf.runs.workdir import Workdir
from cskd_tf.training.callbacks import Evaluation


class RunLog(keras.callbacks.Callback):
    """Writes all logs of an epoch as one line of `log.jsonl`, with the learning rate, the replicas and the time."""

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
        self.workdir.append_log(
            {
                "epoch": epoch + 1,
                **{name: float(value) for name, value in logs.items()},
                "replicas": self.model.distribute_strategy.num_replicas_in_sync,
                "seconds": round(time.perf_counter() - self._start, 3),
            }
        )


class TensorBoard(keras.callbacks.Callback):
    """Every scalar of the logs under its own name, and the reliability diagram of the evaluated split, each epoch.

    Keras' TensorBoard callback would rename `val_ece` to `validation/epoch_ece`; here names are the same everywhere.

    Args:
        folder: for the event files.
        evaluation: whose predictions the diagram shows; it has to come first.
        done: epochs that this run trained before; what the folder has of later ones is removed, as it will be written
            again. None: the folder's files stay as they are.
    """

    def __init__(self, folder: pathlib.Path, *, evaluation: Evaluation, done: int | None = None):
        super().__init__()
        self.folder = folder
        self.evaluation = evaluation
        self.done = done

    def on_train_begin(self, logs=None):
        if self.done is not None:
            keep_epochs(self.folder, epochs=self.done)
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
    epoch and not the run. A process that is killed while it writes leaves no more than that.

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
            UserError: there are checkpoints, and none is whole.
        """
        for unfinished in self.workdir.checkpoints.glob("*/ckpt-*_temp"):  # of a process that was killed
            shutil.rmtree(unfinished)
        return self._restore_newest(self._last)

    def restore_classifier(self) -> int:
        """As `restore_last`, what inference needs: the model may lack the methods that training alone needs."""
        return self._restore_newest(self._classifier)

    def restore_best(self) -> int:
        """Restores the classifier of the best validation epoch; returns which one it was, 0 where there is none."""
        return self._restore(self._classifier, "best")

    def _restore_newest(self, checkpoint: tf.train.Checkpoint) -> int:
        epoch = self._restore(checkpoint, "last")
        paths = self._paths("last")
        # The very first one is damaged where a process was killed as it wrote it: to start anew costs that epoch alone.
        if not epoch and any(not path.endswith("ckpt-1") for path in paths):
            raise UserError(f"Expected a whole checkpoint to resume from. Received: {paths}, all damaged")
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
