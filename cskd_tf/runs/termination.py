"""SIGTERM, by which Slurm and Kubernetes end a process: answered between the steps of a run, and at once elsewhere."""

import signal
import threading
from typing import Any

import keras

from cskd_tf.training.workers import Workers

EXIT_CODE = 128 + signal.SIGTERM  # as shells have it: 143


class Terminated(SystemExit):
    """Ends the process as SIGTERM asks; whoever has something to save catches it and raises it again."""

    def __init__(self):
        super().__init__(EXIT_CODE)


class Termination(keras.callbacks.Callback):
    """Raises `Terminated` where SIGTERM came: after the training step under way, or at once at an epoch's end.

    A context in the main thread, the only one that gets signals: it answers them in place of who did before. What
    changes the model is never cut in two; put it behind `StopOnNaN`, so that no ruined weights are saved, and before
    whatever takes its time at an epoch's end. Further signals change nothing. Several workers stop at the same step,
    whichever of them got the signal.

    Args:
        workers: those that train together, which all have this callback.
    """

    def __init__(self, workers: Workers):
        super().__init__()
        self._workers = workers
        self._received = False
        self._in_steps = False
        self._before: Any = None

    def requested(self) -> bool:
        """Whether the run shall stop now; asked after every step, of all workers at once."""
        return self._workers.any(self._received)

    def __enter__(self) -> "Termination":
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._receive)
        return self

    def __exit__(self, *exception) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def on_epoch_begin(self, epoch, logs=None):
        self._in_steps = True

    def on_train_batch_end(self, batch, logs=None):
        if self.requested():
            raise Terminated

    def on_epoch_end(self, epoch, logs=None):
        if self.requested():
            raise Terminated
        self._in_steps = False

    def _receive(self, number, frame) -> None:
        first, self._received = not self._received, True
        if first and not self._in_steps and self._workers.count == 1:  # of several, the others would wait for this one
            raise Terminated
