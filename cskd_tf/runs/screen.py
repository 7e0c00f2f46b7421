"""What is seen of training: a line per epoch, and where somebody watches one bar with the time left for all of it."""

import math
import sys
import time
from collections.abc import Mapping
from typing import Any

import keras
import rich.console
import rich.progress
from absl import logging

from cskd_tf.runs import printing

# What each metric is called in a line, those first that matter most where there is no room for all.
SHORT = {
    "top1_error": "error", "nll": "nll", "ece": "ece", "recall_at_1": "r@1", "aurc": "aurc", "top5_error": "error@5",
}  # fmt: skip
PIPE = 100  # columns of a line in a pipe or a file
SPLITS = ("val", "test")
BETWEEN = 0.1  # seconds between two movements of the bar
REMEMBERED = 600.0  # seconds of the past by which the future is estimated
NAME = 20  # characters of the run's name beside the bar, at most


def number(value: float) -> str:
    """A value in six characters, where that is enough.

    Example:
        >>> [number(value) for value in (0.03125, 12.34567, -0.5, 1234567.0, math.nan)]
        ['0.0312', '12.346', '-0.500', '1.2e+06', 'undefined']
    """
    if not math.isfinite(value):
        return "undefined"
    digits = 5 - len(f"{value:.0f}") if abs(value) >= 1 else 4 - (value < 0)
    return f"{value:.{digits}f}" if abs(value) < 1e5 and digits >= 0 else f"{value:.1e}"


def epoch_line(logs: Mapping[str, float], *, epoch: int, epochs: int, seconds: float, width: int) -> str:
    """An epoch in one line: the loss, as many other logs as there is room for in the order of `SHORT`, and the time.

    Example:
        >>> logs = {"loss": 1.25, "cross_entropy": 1.0, "class_wise": 0.25, "val_top1_error": 0.125, "val_nll": 0.5}
        >>> epoch_line(logs, epoch=3, epochs=60, seconds=1.5, width=60)
        'epoch  3/60  loss 1.2500  val error 0.1250    1.5s'
        >>> epoch_line(logs, epoch=3, epochs=60, seconds=1.5, width=120)[42:]
        '  nll 0.5000  cross_entropy 1.0000  class_wise 0.2500    1.5s'

    Args:
        logs: of the epoch.
        epoch: its number, from 1.
        epochs: of the run.
        seconds: that it took.
        width: characters at most.
    """
    line, time_taken = f"epoch {epoch:{len(str(epochs))}}/{epochs}", f"  {seconds:5.1f}s"
    for place, part in enumerate(_parts(logs)):
        if len(line) + 2 + len(part) + (len(time_taken) if place else 0) > width:
            break
        line += f"  {part}"
    return line + time_taken if len(line + time_taken) <= width else line


def _parts(logs: Mapping[str, float]) -> list[str]:
    """Names and values, those that matter most first; the evaluated split is named before its first metric."""
    of_split = {name: name.partition("_")[0] for name in logs if name.partition("_")[0] in SPLITS}
    order = {metric: place for place, metric in enumerate(SHORT)}
    metrics = sorted(of_split, key=lambda name: order.get(name.partition("_")[2], len(order)))
    parts = [f"loss {number(logs['loss'])}"] if "loss" in logs else []
    for place, name in enumerate(metrics):
        split, _, metric = name.partition("_")
        parts.append(f"{split if not place else ''} {SHORT.get(metric, metric)} {number(logs[name])}".strip())
    others = [name for name in logs if name not in of_split and name not in ("loss", "learning_rate")]
    parts += [f"{name} {number(logs[name])}" for name in others]
    if "learning_rate" in logs:
        parts.append(f"learning_rate {logs['learning_rate']:<6.4g}")
    return parts


class Screen:
    """What is seen of one run after another, in a `with` block around all of them.

    In a pipe it is plain lines of at most `PIPE` columns; on a terminal they have its width. What is logged while there
    is a bar stands above it.

    Args:
        verbose: 0 nothing, 1 lines and, on a terminal, the bar, 2 lines alone.
        epochs: of all runs.
        console: in place of one on stdout.

    Attributes:
        verbose: as given.
        epochs_before: of the runs that have ended.
    """

    def __init__(self, verbose: int, *, epochs: int, console: rich.console.Console | None = None):
        self.verbose = verbose
        self.epochs_before = 0
        self._console = console or printing.Console(markup=False, highlight=False, soft_wrap=True)
        self._progress: rich.progress.Progress | None = None
        self._task = rich.progress.TaskID(0)
        self._before: Any = None  # where the log went
        if verbose == 1 and self._console.is_interactive:
            columns = (
                rich.progress.TextColumn("{task.description}", markup=False),
                rich.progress.BarColumn(bar_width=None),
                rich.progress.TaskProgressColumn(),
                rich.progress.TimeRemainingColumn(),
                rich.progress.TextColumn("left"),
            )
            self._progress = rich.progress.Progress(
                *columns,
                console=self._console,
                expand=True,
                transient=True,
                auto_refresh=False,  # `move` does, and no thread is needed
                redirect_stderr=sys.stderr.isatty(),  # a file gets what is meant for it
                speed_estimate_period=REMEMBERED,
            )
            self._task = self._progress.add_task("", total=epochs, start=False)

    def __enter__(self) -> "Screen":
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()
            if self._before is not None:
                logging.get_absl_handler().python_handler.setStream(self._before)
                self._before = None

    def following(self, name: str) -> keras.callbacks.Callback:
        """A callback for the `fit` of a run, of which it comes last."""
        return _Following(self, name)

    def line(self, logs: Mapping[str, float], *, epoch: int, epochs: int, seconds: float) -> None:
        """Prints an epoch; arguments as of `epoch_line`."""
        if self.verbose:
            width = self._console.width if self._console.is_terminal else PIPE
            self._console.print(epoch_line(logs, epoch=epoch, epochs=epochs, seconds=seconds, width=width))

    def move(self, name: str, *, epochs: float, of: int) -> None:
        """Moves the bar to where a run is; the first time, starts it there."""
        if self._progress is None:
            return
        shown = f"{name[:NAME]} {int(epochs)}/{of}"
        completed = self.epochs_before + epochs
        starts = not self._progress.live.is_started
        if starts:
            self._progress.reset(self._task)  # the time counts from here
        self._progress.update(self._task, completed=completed, description=shown)
        if starts:
            self._progress.start()
            # To where rich leads stderr now; the handler has the stream that there was when it was made.
            self._before = logging.get_absl_handler().python_handler.setStream(sys.stderr)
        self._progress.refresh()


class _Following(keras.callbacks.Callback):
    """Tells the screen how a run goes on."""

    def __init__(self, screen: Screen, name: str):
        super().__init__()
        self._screen, self._name = screen, name
        self._epoch, self._begun, self._moved = 0, 0.0, 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch, self._begun = epoch, time.perf_counter()
        self._move(epoch)

    def on_train_batch_end(self, batch, logs=None):
        if time.perf_counter() - self._moved > BETWEEN:
            done = getattr(self.model, "batches_before", 0) + batch + 1
            self._move(self._epoch + done / self.params["steps"])

    def on_epoch_end(self, epoch, logs=None):
        epochs, seconds = self.params["epochs"], time.perf_counter() - self._begun
        self._screen.line(logs, epoch=epoch + 1, epochs=epochs, seconds=seconds)
        self._move(epoch + 1)

    def _move(self, epochs: float) -> None:
        self._screen.move(self._name, epochs=epochs, of=self.params["epochs"])
        self._moved = time.perf_counter()
