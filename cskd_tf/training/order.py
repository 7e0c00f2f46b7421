"""In which order the callbacks of a `fit` stand, and which are refused: what would fail or go wrong epochs later."""

from collections.abc import Sequence

import keras
from absl import logging

from cskd_tf.errors import UserError
from cskd_tf.evaluation.metrics import DIRECTIONS

# Of Keras, those that read at an epoch's end what `Evaluation` adds to the logs.
READERS = (
    keras.callbacks.CSVLogger,
    keras.callbacks.EarlyStopping,
    keras.callbacks.History,
    keras.callbacks.ModelCheckpoint,
    keras.callbacks.OrbaxCheckpoint,
    keras.callbacks.ProgbarLogger,
    keras.callbacks.ReduceLROnPlateau,
    keras.callbacks.RemoteMonitor,
    keras.callbacks.TensorBoard,
)
# Those that keep weights.
KEEPERS = (keras.callbacks.EarlyStopping, keras.callbacks.ModelCheckpoint, keras.callbacks.OrbaxCheckpoint)
SETTERS = (keras.callbacks.ReduceLROnPlateau, keras.callbacks.LearningRateScheduler)  # of the learning rate


def ordered(callbacks: Sequence[keras.callbacks.Callback]) -> list[keras.callbacks.Callback]:
    """The callbacks, an `Evaluation` that stands behind one of Keras' that reads its metrics in front of it.

    All else stays where it is. What is not Keras' may do anything, so it is only said that it comes first.

    An evaluation is what has `adds_to_logs`, the prefix of what it adds.

    Example:
        >>> evaluation = cskd_tf.callbacks.Evaluation((np.zeros((2, 3)), np.array([0, 1])))
        >>> stop = keras.callbacks.EarlyStopping("val_nll", mode="min")
        >>> [type(callback).__name__ for callback in ordered([keras.callbacks.TerminateOnNaN(), stop, evaluation])]
        ['TerminateOnNaN', 'Evaluation', 'EarlyStopping']
    """
    result = list(callbacks)
    for evaluation in [callback for callback in callbacks if hasattr(callback, "adds_to_logs")]:
        before = result[: result.index(evaluation)]
        readers = [number for number, callback in enumerate(before) if isinstance(callback, READERS)]
        if readers:
            result.remove(evaluation)
            result.insert(readers[0], evaluation)
            before = before[: readers[0]]
        warn_of_readers(evaluation, [callback for callback in before if _may_read(callback)])
    for number, swap in enumerate(result):
        keepers = [type(callback).__name__ for callback in result[:number] if isinstance(callback, KEEPERS)]
        if isinstance(swap, keras.callbacks.SwapEMAWeights) and swap.swap_on_epoch and keepers:
            logging.warning(
                "%s before SwapEMAWeights in the list of callbacks: keeps weights that are not averaged, though those "
                "that are averaged are evaluated", ", ".join(keepers),
            )  # fmt: skip
    return result


def warn_of_readers(evaluation, before: Sequence[keras.callbacks.Callback]) -> None:
    """Says of callbacks that stand before an evaluation what they do not see."""
    if names := ", ".join(type(callback).__name__ for callback in before):
        logging.warning(
            "%s before Evaluation in the list of callbacks: no %s... metrics in what it is told at an epoch's end",
            names, evaluation.adds_to_logs,
        )  # fmt: skip


def check(callbacks: Sequence[keras.callbacks.Callback], *, model: keras.Model) -> None:
    """Refuses callbacks that would fail, or do nothing, after the first epoch.

    Raises:
        UserError: `ModelCheckpoint` is to save a model that cannot be saved whole; a callback watches one of our
            metrics and does not say whether less of it is better; or is to set a learning rate that follows a schedule.
    """
    for callback in callbacks:
        metric = str(getattr(callback, "monitor", "")).removeprefix("val_").removeprefix("test_")
        if getattr(callback, "mode", None) == "auto" and metric in DIRECTIONS:
            # Keras knows the direction of its own metrics only, and would say so after the first epoch.
            raise UserError(
                f"Expected {type(callback).__name__}(monitor={callback.monitor!r}, mode={DIRECTIONS[metric]!r}): Keras "
                "cannot know whether less of it is better. Received: mode='auto'"
            )
        if isinstance(callback, SETTERS) and _follows_schedule(model.optimizer):
            raise UserError(
                f"Expected an optimizer whose learning_rate is a number beside {type(callback).__name__}, which sets "
                "it. Received: one that follows a schedule"
            )
    savers = [callback for callback in callbacks if isinstance(callback, keras.callbacks.ModelCheckpoint)]
    if any(not saver.save_weights_only for saver in savers):
        model.get_config()  # where a teacher is an object, it says what to do


def _may_read(callback: keras.callbacks.Callback) -> bool:
    """Whether somebody's own function is called with the logs at an epoch's end."""
    if isinstance(callback, keras.callbacks.LambdaCallback):
        return "on_epoch_end" in vars(callback)
    own = type(callback).on_epoch_end is not keras.callbacks.Callback.on_epoch_end
    return own and type(callback).__module__.partition(".")[0] not in ("keras", "cskd_tf")


def _follows_schedule(optimizer: keras.optimizers.Optimizer) -> bool:
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    return isinstance(getattr(inner, "_learning_rate", None), keras.optimizers.schedules.LearningRateSchedule)
