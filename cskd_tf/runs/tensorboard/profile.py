"""A profile of some training steps, for TensorBoard's plugin of that name."""

import pathlib

import keras
import tensorflow as tf

SKIPPED = 5  # calls of the training step before: the first one traces, and the next ones warm up


class Profile(keras.callbacks.Callback):
    """Profiles some steps soon after the training starts, once per process.

    Args:
        folder: of a run that TensorBoard knows.
        steps: how many, at least 1; with `steps_per_execution` above 1, at least so many.
    """

    def __init__(self, folder: pathlib.Path, *, steps: int):
        super().__init__()
        self._folder, self._steps = folder, steps
        self._calls = 0
        self._first: int | None = None  # step, while it is under way
        self._mark: tf.profiler.experimental.Trace | None = None  # of the call under way, by which the plugin counts

    def on_train_batch_begin(self, batch, logs=None):
        self._calls += 1
        if self._calls == SKIPPED + 1:
            tf.profiler.experimental.start(str(self._folder))
            self._first = int(self.model.step.numpy())
        if self._first is not None:
            self._mark = tf.profiler.experimental.Trace("train", step_num=int(self.model.step.numpy()), _r=1)
            self._mark.__enter__()

    def on_train_batch_end(self, batch, logs=None):
        if self._mark is not None:
            self._mark.__exit__(None, None, None)
            self._mark = None
        if self._first is not None and int(self.model.step.numpy()) - self._first >= self._steps:
            self._stop()

    def on_train_end(self, logs=None):
        if self._first is not None:  # fewer steps than it was to see
            self._stop()

    def _stop(self) -> None:
        tf.profiler.experimental.stop()
        self._first = None
