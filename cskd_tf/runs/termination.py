"""SIGTERM, by which Slurm and Kubernetes end a process, and Ctrl-C: answered between the steps of a run.

Elsewhere both end a process at once.
"""

import os
import signal
import threading
from typing import Any

import keras
import numpy as np

from cskd_tf.training.workers import Workers

_HEARD = (signal.SIGTERM, signal.SIGINT)
_AFTER_CTRL_C = b"\nInterrupted: saving after this step. Ctrl-C once more stops at once.\n"


class Terminated(SystemExit):
    """Ends the process as a signal asks; whoever has something to save catches it and raises it again.

    Args:
        number: of the signal; the exit code is 128 more, as shells have it: 143 of SIGTERM, 130 of Ctrl-C.
    """

    def __init__(self, number: int):
        super().__init__(128 + number)
        self.how = "interrupted" if number == signal.SIGINT else "terminated"


class Termination(keras.callbacks.Callback):
    """Raises `Terminated` where SIGTERM or SIGINT came: after the step under way, or at once at an epoch's end.

    A context in the main thread, the only one that gets signals: it answers them in place of who did before. What
    changes the model is never cut in two; put it behind `StopOnNaN`, so that no ruined weights are saved, and before
    whatever takes its time at an epoch's end. Of further signals a second SIGINT is `KeyboardInterrupt`, at once and
    whatever is under way; others change nothing. Several workers stop at the same step, whichever of them got the
    signal. Signals that this process ignores, as SIGINT under `nohup`, stay ignored.

    Args:
        workers: those that train together, which all have this callback.
    """

    def __init__(self, workers: Workers):
        super().__init__()
        self._workers = workers
        self._received = 0  # number of the first signal
        self._interrupted = False  # whether Ctrl-C was among them
        self._in_steps = False
        self._before: dict[int, Any] = {}

    def leave_if_asked(self) -> None:
        """Raises `Terminated` if the run shall stop now; called after every step, by all workers at once."""
        number = int(self._workers.gather(np.array([self._received], np.int32)).max())
        if number:
            raise Terminated(number)

    def __enter__(self) -> "Termination":
        if threading.current_thread() is threading.main_thread():
            for number in _HEARD:
                if signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *exception) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def on_epoch_begin(self, epoch, logs=None):
        self._in_steps = True

    def on_train_batch_end(self, batch, logs=None):
        self.leave_if_asked()

    def on_epoch_end(self, epoch, logs=None):
        self.leave_if_asked()
        self._in_steps = False

    def _receive(self, number, frame) -> None:
        if number == signal.SIGINT and self._interrupted:
            raise KeyboardInterrupt
        self._interrupted |= number == signal.SIGINT
        first, self._received = not self._received, self._received or number
        if first and not self._in_steps and self._workers.count == 1:  # of several, the others would wait for this one
            raise Terminated(number)
        if first and number == signal.SIGINT:
            os.write(2, _AFTER_CTRL_C)  # what else writes to the screen may be just writing
