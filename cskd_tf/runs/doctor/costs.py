"""What an epoch takes here, by a few steps of it."""

import dataclasses
import resource
import statistics
import time

import keras
import rich.table

from cskd_tf.runs import printing
from cskd_tf.runs.experiment import Experiment

TIMED_STEPS = 4


@dataclasses.dataclass(frozen=True)
class Cost:
    """Seconds of a training step, and of making its batch alone; None where an epoch has a single batch."""

    step: float
    data_alone: float | None


def table(cost: Cost, experiment: Experiment) -> rich.table.Table:
    """Time and memory of a training epoch."""
    steps, epochs = experiment.steps_per_epoch, experiment.config.epochs
    result = printing.table("what an epoch takes", ["", ""])
    result.add_row("steps", f"{steps:,}")
    result.add_row("per step, s", f"{cost.step:.3f}")
    if cost.data_alone is not None:
        result.add_row("of which the data alone would take", f"{cost.data_alone:.3f}")
    result.add_row("a training epoch, minutes", f"{steps * cost.step / 60:.1f}")
    result.add_row(f"all {epochs} epochs, hours", f"{epochs * steps * cost.step / 3600:.1f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    result.add_row("most memory so far, GiB", f"{peak:.1f}")
    return result


def measure(experiment: Experiment) -> Cost:
    """Trains a few steps of an experiment, and times them."""
    timer, per_execution = _StepTimer(), experiment.config.steps_per_execution
    keras.utils.set_random_seed(experiment.config.seed)
    # Of executions, which are all that Keras tells of, at least one after the first, which compiles.
    steps = min(max(2, TIMED_STEPS // per_execution) * per_execution, experiment.steps_per_epoch)
    experiment.model.fit(experiment.training_data(), epochs=1, steps_per_epoch=steps, verbose=0, callbacks=[timer])
    batches = experiment.training_data().take(8).as_numpy_iterator()
    next(batches)
    start = time.perf_counter()
    count = sum(1 for _ in batches)
    data_alone = (time.perf_counter() - start) / count if count else None
    return Cost(statistics.median(timer.seconds[1:] or timer.seconds) / per_execution, data_alone)


class _StepTimer(keras.callbacks.Callback):
    """Seconds from the end of one execution, of one step or more, to the end of the next."""

    def __init__(self):
        super().__init__()
        self.seconds: list[float] = []

    def on_train_begin(self, logs=None):
        self._last = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        now = time.perf_counter()
        self.seconds.append(now - self._last)
        self._last = now
