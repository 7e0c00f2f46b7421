"""Learning rates over a run: the papers' steps, a half cosine, or a constant, each after a rise from nothing."""

import math

import keras
from keras import ops

from cskd_tf.errors import UserError


def check_learning_rate(learning_rate: float) -> None:
    """Raises UserError for a learning rate that is none."""
    if not 0 < learning_rate < math.inf:
        raise UserError(f"Expected learning_rate to be above 0. Received: learning_rate={learning_rate!r}")


@keras.saving.register_keras_serializable("cskd_tf")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """Raises the learning rate over the first steps, in a line from nothing to what `schedule` says.

    Example:
        >>> schedule = WarmUp(keras.optimizers.schedules.PiecewiseConstantDecay([100], [0.1, 0.01]), steps=4)
        >>> [round(float(schedule(step)), 3) for step in range(6)]
        [0.025, 0.05, 0.075, 0.1, 0.1, 0.1]

    Args:
        schedule: the learning rate otherwise.
        steps: at least 1.
        before: whether `schedule` begins when these steps are over, and not with them.
    """

    def __init__(self, schedule: keras.optimizers.schedules.LearningRateSchedule, *, steps: int, before: bool = False):
        super().__init__()
        self.schedule, self.steps, self.before = schedule, steps, before

    def __call__(self, step):
        share = ops.minimum((ops.cast(step, "float32") + 1) / self.steps, 1.0)
        return share * self.schedule(ops.maximum(step - self.steps, 0) if self.before else step)

    def get_config(self):
        return {
            "schedule": keras.saving.serialize_keras_object(self.schedule),
            "steps": self.steps,
            "before": self.before,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "schedule": keras.saving.deserialize_keras_object(config["schedule"])})


def milestone_epochs(milestones: tuple[float, ...], *, epochs: int) -> list[int]:
    """After which epoch each rate ends, counted from 1.

    Example:
        >>> milestone_epochs((0.5, 0.75), epochs=200), milestone_epochs((0.5, 0.75), epochs=3)
        ([100, 150], [1, 2])
    """
    last, result = 0, []
    for milestone in milestones:
        # 0.29 * 100 is 28.999999999999996.
        last = max(math.floor(milestone * epochs + 1e-9), last + 1)
        result.append(last)
    return result


def step_schedule(
    learning_rate: float,
    *,
    milestones: tuple[float, ...],
    factor: float,
    epochs: int,
    steps_per_epoch: int,
    warmup_epochs: int = 0,
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Multiplies the learning rate by `factor` at each milestone.

    Example: 0.1 through epoch 100 of 200, 0.01 through epoch 150, 0.001 to the end, as the CS-KD paper says (its public
    code drops one epoch later), here with one step per epoch:
        >>> schedule = step_schedule(0.1, milestones=(0.5, 0.75), factor=0.1, epochs=200, steps_per_epoch=1)
        >>> [round(float(schedule(epoch - 1)), 6) for epoch in (1, 100, 101, 150, 151, 200)]
        [0.1, 0.1, 0.01, 0.01, 0.001, 0.001]

    A milestone within an epoch counts from that epoch's start, but the first epoch always has the full rate and each
    milestone comes at least an epoch after the one before: of 90 epochs (0.5, 0.75) are 45 and 67, of 3 epochs 1 and 2,
    of 2 epochs 1 alone, because the second would come when the run is over. (The public code compares the epoch, from
    0, with 67.5 after it was trained, and so drops after 69.)

    Args:
        learning_rate: of the first epochs.
        milestones: as fractions of the run, rising, each within (0, 1); none: the rate stays.
        factor: above 0.
        epochs: of the whole run.
        steps_per_epoch: batches per epoch.
        warmup_epochs: over which the rate rises at the start, from nothing; 0, as in the papers: it does not.

    Raises:
        UserError: learning rate, milestones or factor out of range.
    """
    check_learning_rate(learning_rate)
    warm_up = _warm_up_steps(warmup_epochs, epochs=epochs, steps_per_epoch=steps_per_epoch)
    if list(milestones) != sorted(set(milestones)) or not all(0 < milestone < 1 for milestone in milestones):
        raise UserError(f"Expected rising milestones between 0 and 1. Received: milestones={tuple(milestones)}")
    if not 0 < factor < math.inf:
        raise UserError(f"Expected factor to be above 0. Received: factor={factor!r}")
    # Keras uses the old value up to and including the boundary; the first step of the new epoch must have the new one.
    drops_at = milestone_epochs(milestones, epochs=epochs) or [epochs]  # Keras needs one: without any, the end
    boundaries = [epoch * steps_per_epoch - 1 for epoch in drops_at]
    values = [learning_rate * factor**drops for drops in range(len(boundaries) + 1)]
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, values)
    return _warmed_up(schedule, steps=warm_up)


def cosine_schedule(
    learning_rate: float, *, epochs: int, steps_per_epoch: int, warmup_epochs: int = 0
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Half a cosine, from the learning rate when it has risen down to nothing at the run's end, step by step.

    `learning_rate / 2 * (1 + cos(pi * t / T))` (Loshchilov and Hutter, 2017, https://arxiv.org/abs/1608.03983, equation
    5, without restarts), where t of T steps behind the warm-up are done.

    Example: an epoch of warm-up and four of the cosine, of one step each:
        >>> schedule = cosine_schedule(0.1, epochs=5, steps_per_epoch=1, warmup_epochs=1)
        >>> [round(float(schedule(step)), 6) for step in range(6)]
        [0.1, 0.1, 0.085355, 0.05, 0.014645, 0.0]

    Args:
        learning_rate: the highest.
        epochs: of the whole run.
        steps_per_epoch: batches per epoch.
        warmup_epochs: over which the rate rises at the start, from nothing; fewer than `epochs`.

    Raises:
        UserError: learning rate or warm-up out of range.
    """
    check_learning_rate(learning_rate)
    warm_up = _warm_up_steps(warmup_epochs, epochs=epochs - 1, steps_per_epoch=steps_per_epoch)
    steps = epochs * steps_per_epoch - warm_up
    return _warmed_up(keras.optimizers.schedules.CosineDecay(learning_rate, steps), steps=warm_up, before=True)


def constant_schedule(
    learning_rate: float, *, epochs: int, steps_per_epoch: int, warmup_epochs: int = 0
) -> keras.optimizers.schedules.LearningRateSchedule:
    """One learning rate, after the warm-up.

    Example:
        >>> schedule = constant_schedule(0.1, epochs=3, steps_per_epoch=2, warmup_epochs=1)
        >>> [round(float(schedule(step)), 3) for step in range(4)]
        [0.05, 0.1, 0.1, 0.1]

    Args and errors as of `cosine_schedule`; the warm-up may take the whole run.
    """
    lengths = {"epochs": epochs, "steps_per_epoch": steps_per_epoch, "warmup_epochs": warmup_epochs}
    return step_schedule(learning_rate, milestones=(), factor=1.0, **lengths)


def _warm_up_steps(warmup_epochs: int, *, epochs: int, steps_per_epoch: int) -> int:
    if not 0 <= warmup_epochs <= epochs:
        raise UserError(f"Expected warmup_epochs from 0 to {epochs}. Received: warmup_epochs={warmup_epochs!r}")
    return warmup_epochs * steps_per_epoch


def _warmed_up(schedule, *, steps: int, before: bool = False) -> keras.optimizers.schedules.LearningRateSchedule:
    return WarmUp(schedule, steps=steps, before=before) if steps else schedule
