"""What a run keeps of its training: the log, and checkpoints."""

import math
import pathlib
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf
from absl import logging

from cskd_tf.data.images.decode import reason
from cskd_tf.errors import UserError
from cskd_tf.files import remove_leftovers
from cskd_tf.runs import markers
from cskd_tf.runs.workdir import REMEDY, Workdir


class RunLog(keras.callbacks.Callback):
    """Writes all logs of an epoch as one line of `log.jsonl`, with the learning rate, the replicas and the time.

    When the training begins it notes by which code.

    Args:
        workdir: of the run.
        begun: what `begun` returned where the first epoch is gone on with.
    """

    def __init__(self, workdir: Workdir, *, begun: Mapping[str, float] | None = None):
        super().__init__()
        self.workdir = workdir
        self._begun = begun
        self._start = 0.0
        self._learning_rate = math.nan

    def on_train_begin(self, logs=None):
        self.workdir.note_code()

    def on_epoch_begin(self, epoch, logs=None):
        # Now, because at the epoch's end the optimiser already has the rate of the next.
        begun = self._begun or {"learning_rate": float(self.model.optimizer.learning_rate), "seconds": 0.0}
        self._begun = None
        self._start, self._learning_rate = time.perf_counter() - begun["seconds"], begun["learning_rate"]

    def begun(self) -> dict[str, float]:
        """What this has noted of the epoch under way: its learning rate, and the seconds so far."""
        return {"learning_rate": self._learning_rate, "seconds": time.perf_counter() - self._start}

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


class Checkpoint(keras.callbacks.Callback):
    """Saves everything that training needs after each epoch, and the weights of the best one apart.

    Resuming from it is bit-exact: weights, running statistics, momentum, step and the states of random generators are
    all restored, and the data follow from the step. The last two checkpoints are kept, so that a damaged one costs an
    epoch and not the run. A process that is killed while it writes leaves no more than that.

    A checkpoint within an epoch is `ckpt-2-13`, after 2 epochs and 13 steps of the third. It also has what the metrics
    have added up and what methods noted when that epoch began, and goes when the epoch has its own.

    Args:
        workdir: of the run.
        model: built and compiled.
        monitor: log of which the lowest value is the best; None: no epoch is, because there is nothing to choose by.
        writes: whether to tidy up before restoring; of several workers one does, and is alone in having the callback.

    Attributes:
        under_way: of the checkpoint that `restore_last` restored, where it is one within an epoch: its `steps` so far,
            those of `all` epochs, the `metrics` as of `metric_values`, and the `log` as of `RunLog.begun`.
    """

    def __init__(self, workdir: Workdir, model: keras.Model, *, monitor: str | None, writes: bool = True):
        super().__init__()
        self.workdir = workdir
        self.monitor = monitor
        self.writes = writes
        self.under_way: dict[str, Any] | None = None
        self._running: int | None = None  # epoch
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
        if model.average is not None:  # checkpoints of before have none
            state["average"] = [variable.value for variable in model.average.variables]
        methods = [variable.value for method in model.composition.terms for variable in method.epoch_state]
        self._last = tf.train.Checkpoint(epoch=self._epoch, **weights, **state)
        self._within = tf.train.Checkpoint(epoch=self._epoch, **weights, **state, methods=methods)
        self._classifier = tf.train.Checkpoint(epoch=self._epoch, **weights)
        self._model = model

    def on_epoch_begin(self, epoch, logs=None):
        self._running = epoch

    def on_epoch_end(self, epoch, logs=None):
        if self.monitor is not None:
            # A best epoch is one that no earlier epoch equals, so an interrupted run finds the same one.
            earlier = [entry[self.monitor] for entry in self.workdir.log() if entry["epoch"] <= epoch]
            if not earlier or logs[self.monitor] < min(earlier):
                self._write(self._classifier, "best", (epoch + 1,))
        self.save(epoch + 1)

    def save(self, epochs: int) -> None:
        """Saves the model as it is after `epochs` epochs."""
        self._write(self._last, "last", (epochs,))
        self._running = None

    def save_within_epoch(self, log: Mapping[str, float], metrics: Sequence[Sequence]) -> str | None:
        """Saves the model within its epoch; returns where it is.

        Such as "within epoch 3, after 13 of 40 steps"; None where that epoch has not begun, or has its own checkpoint.

        Args:
            log: what `RunLog.begun` says.
            metrics: the model's `metric_values`.
        """
        if self._running is None:
            return None
        trained, whole = int(self._model.step.numpy()), self.params["steps"]
        if not (steps := trained - self._running * whole):
            return None
        self.workdir.check_there()
        under_way = {"steps": steps, "all": trained, "metrics": metrics, "log": dict(log)}
        self._write(self._within, "last", (self._running, steps), under_way=under_way)
        return f"within epoch {self._running + 1}, after {steps} of {whole} steps"

    def restore_last(self, *, logged: float = math.inf) -> int:
        """Restores the newest whole checkpoint; returns how many epochs it had finished, 0 if there is none.

        Args:
            logged: a checkpoint of more epochs than these, which the log has, is not gone on from: by the log the best
                epoch is found.

        Raises:
            UserError: there are checkpoints, and none is whole and of epochs that the log has.
        """
        if self.writes:
            for folder in self.workdir.checkpoints.glob("*"):
                remove_leftovers(folder)
                for unfinished in folder.glob("ckpt-*_temp"):  # of a process that was killed
                    shutil.rmtree(unfinished)
        self.under_way = None
        if (number := self._restore_newest(self._last, logged=logged)) is None:
            return 0
        if self.writes:
            self._remove_older("last", number)
        if len(number) > 1:
            self.under_way = markers.read(self._prefix("last", number))["under_way"]
            self._model.step.assign(self.under_way["all"])
        return number[0]

    def restore_classifier(self) -> int:
        """As `restore_last`, what inference needs: the model may lack the methods that training alone needs."""
        number = self._restore_newest(self._classifier)
        return number[0] if number else 0

    def restore_best(self) -> int:
        """Restores the classifier of the best validation epoch; returns which one it was, 0 where there is none.

        A warning says so where there should be one. No other epoch's takes its place, which would not be the best.
        """
        number = max(self._numbers("best"), default=None)
        if number is None and self.monitor is None:
            return 0
        damage = markers.damage(self._prefix("best", number)) if number else None
        if number and not damage:
            self._read(self._classifier, self._prefix("best", number))
            return number[0]
        logging.warning(
            "%s: metrics.json gets no best_epoch, because the checkpoint of the best validation epoch is %s",
            self.workdir.path, f"damaged ({damage})" if damage else "not there",
        )  # fmt: skip
        return 0

    def _restore_newest(self, checkpoint: tf.train.Checkpoint, *, logged: float = math.inf) -> tuple[int, ...] | None:
        number = self._restore(checkpoint, logged=logged)
        # The very first one is damaged where a process was killed as it wrote it: to start anew costs that epoch alone.
        if number is None and any(each > (1,) for each in self._numbers("last")):
            paths = [str(self._prefix("last", each)) for each in self._numbers("last")]
            lost = f", or of more epochs than the {logged} that the log has" if logged < math.inf else ""
            raise UserError(f"Expected a whole checkpoint to resume from{REMEDY}. Received: {paths}, all damaged{lost}")
        return number

    def _prefix(self, name: str, number: tuple[int, ...]) -> pathlib.Path:
        return self.workdir.checkpoints / name / f"ckpt-{'-'.join(map(str, number))}"

    def _numbers(self, name: str) -> list[tuple[int, ...]]:
        """Those of what lies in the folder, oldest first; also where one of its parts has been lost.

        Data alone are what a process was writing when it was killed.
        """
        return sorted({number for number, file in self._files(name) if file.suffix in (".index", ".json")})

    def _files(self, name: str) -> Iterator[tuple[tuple[int, ...], pathlib.Path]]:
        for file in list((self.workdir.checkpoints / name).glob("ckpt-*.*")):
            if match := re.match(r"ckpt-(\d+)(?:-(\d+))?\.", file.name):
                yield tuple(int(part) for part in match.groups() if part), file

    def _write(self, checkpoint: tf.train.Checkpoint, name: str, number: tuple[int, ...], **more: Any) -> None:
        self._epoch.assign(number[0])
        prefix = self._prefix(name, number)
        markers.unmark(prefix)
        try:
            checkpoint.write(str(prefix))
            markers.mark(prefix, **more)
        except (OSError, tf.errors.OpError) as error:
            shutil.rmtree(f"{prefix}_temp", ignore_errors=True)
            self._remove(name, lambda each: each == number)
            reason = str(error).splitlines()[0].split("; ")[-1].split(" [Op:")[0]  # of TensorFlow's "op path; reason"
            raise OSError(
                f"The checkpoint {prefix} could not be written ({reason}). Those before it are whole, and the same "
                "command goes on from them"
            ) from error
        self._remove_older(name, number)

    def _remove_older(self, name: str, number: tuple[int, ...]) -> None:
        """Removes what was before a checkpoint, but for the end of the last epoch before it."""
        ends = [each for each in self._numbers(name) if len(each) == 1 and each < number]
        kept = ends[-1] if ends and name == "last" else None
        self._remove(name, lambda each: each < number and each != kept)

    def _remove(self, name: str, chosen: Callable[[tuple[int, ...]], bool]) -> None:
        for number, file in self._files(name):
            if chosen(number):
                file.unlink(missing_ok=True)

    def _restore(self, checkpoint: tf.train.Checkpoint, *, logged: float) -> tuple[int, ...] | None:
        for number in reversed(self._numbers("last")):
            prefix = self._prefix("last", number)
            problem = f"log.jsonl has {logged} of its epochs" if number[0] > logged else markers.damage(prefix)
            if problem:
                logging.warning(
                    "Checkpoint %s cannot be gone on from (%s); falling back to the one before it.", prefix, problem
                )
                continue
            if checkpoint is self._last:
                of_number = self._last if len(number) == 1 else self._within
                try:
                    of_number.read(str(prefix)).assert_consumed()
                except (tf.errors.OpError, AssertionError, ValueError) as error:
                    raise UserError(
                        "Expected a checkpoint of a model and an optimizer as this version makes them; the version "
                        f"that has begun the run goes on with it, or another --workdir begins anew. Received: {prefix} "
                        f"({reason(error)})"
                    ) from error
            else:
                self._read(checkpoint, prefix)
            return number
        return None

    def _read(self, checkpoint: tf.train.Checkpoint, prefix: pathlib.Path) -> None:
        checkpoint.read(str(prefix)).assert_existing_objects_matched().expect_partial()  # no word of the rest
