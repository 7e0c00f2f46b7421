"""SGD as the papers' code means it, and their step schedule."""

import math

import keras
from keras import ops


@keras.saving.register_keras_serializable("cskd_tf")
class SGD(keras.optimizers.SGD):
    """Stochastic gradient descent with coupled weight decay, as PyTorch's `torch.optim.SGD` computes it.

    `g = gradient + weight_decay * w; buffer = momentum * buffer + g; w = w - learning_rate * buffer`, on every
    trainable parameter, batch norm and biases too; with `nesterov` the step is `g + momentum * buffer`. Keras' own SGD
    decays the weights apart from the gradient and keeps the learning rate inside its buffer, which is another
    optimiser as soon as the rate drops.

    Example: w = 1, gradient .5, learning rate .1, momentum .9, weight decay .1: the buffer becomes .6 and w .94.

    Args:
        learning_rate: a float or a `keras.optimizers.schedules.LearningRateSchedule`.
        momentum: from 0 to 1.
        weight_decay: coupled decay, at least 0.
        nesterov: whether to look ahead.

    Raises:
        ValueError: a value out of range.
    """

    def __init__(self, learning_rate=0.1, *, momentum=0.9, weight_decay=1e-4, nesterov=False, **kwargs):
        if isinstance(learning_rate, (float, int)):
            _check_learning_rate(learning_rate)
        if not 0 <= momentum <= 1:
            raise ValueError(f"Expected momentum to be from 0 to 1. Received: momentum={momentum!r}")
        if not 0 <= weight_decay < math.inf:
            raise ValueError(f"Expected weight_decay to be at least 0. Received: weight_decay={weight_decay!r}")
        super().__init__(learning_rate, momentum=float(momentum), nesterov=nesterov, weight_decay=None, **kwargs)
        self.coupled_weight_decay = weight_decay

    def update_step(self, gradient, variable, learning_rate):
        learning_rate = ops.cast(learning_rate, variable.dtype)
        step = ops.cast(gradient, variable.dtype) + self.coupled_weight_decay * variable
        if self.momentum:
            buffer = self.momentums[self._get_variable_index(variable)]
            self.assign(buffer, self.momentum * buffer + step)
            step = step + self.momentum * buffer if self.nesterov else buffer
        self.assign_sub(variable, learning_rate * step)

    def get_config(self):
        return {**super().get_config(), "weight_decay": self.coupled_weight_decay}


def _check_learning_rate(learning_rate: float) -> None:
    if not 0 < learning_rate < math.inf:
        raise ValueError(f"Expected learning_rate to be above 0. Received: learning_rate={learning_rate!r}")


def step_schedule(
    learning_rate: float, *, milestones: tuple[float, ...], factor: float, epochs: int, steps_per_epoch: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Multiplies the learning rate by `factor` at each milestone.

    Example: 0.1, milestones (0.5, 0.75), factor 0.1, 200 epochs: 0.1 through epoch 100, 0.01 through epoch 150, 0.001
    to the end (epochs counted from 1), as the CS-KD paper says. Its public code drops one epoch later.

    Args:
        learning_rate: of the first epochs.
        milestones: as fractions of the run, rising, each within (0, 1).
        factor: above 0.
        epochs: of the whole run.
        steps_per_epoch: batches an epoch.

    Raises:
        ValueError: learning rate, milestones or factor out of range.
    """
    _check_learning_rate(learning_rate)
    if list(milestones) != sorted(set(milestones)) or not all(0 < milestone < 1 for milestone in milestones):
        raise ValueError(f"Expected rising milestones between 0 and 1. Received: milestones={tuple(milestones)}")
    if not 0 < factor < math.inf:
        raise ValueError(f"Expected factor to be above 0. Received: factor={factor!r}")
    # Keras uses the old value up to and including the boundary; the first step of the new epoch must have the new one.
    # A run of few epochs has at least one at the full rate.
    boundaries = [max(round(milestone * epochs), 1) * steps_per_epoch - 1 for milestone in milestones]
    values = [learning_rate * factor**drops for drops in range(len(milestones) + 1)]
    return keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, values)
