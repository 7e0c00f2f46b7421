"""SGD as the papers' code means it, and their step schedule."""

import math

import keras
import tensorflow as tf
from keras import ops

from cskd_tf.errors import UserError


@keras.saving.register_keras_serializable("cskd_tf")
class SGD(keras.optimizers.SGD):
    """Stochastic gradient descent with coupled weight decay, as PyTorch's `torch.optim.SGD` computes it.

    `g = gradient + weight_decay * w; buffer = momentum * buffer + g; w = w - learning_rate * buffer`, on every
    trainable parameter, batch norm and biases too; with `nesterov` the step is `g + momentum * buffer`. Keras' own SGD
    decays the weights apart from the gradient and keeps the learning rate inside its buffer, which is another
    optimiser as soon as the rate drops.

    Example: from w = 1 with a gradient of .5 the buffer becomes `.5 + .1 * 1 = .6` and w `1 - .1 * .6 = .94`:
        >>> weight = keras.Variable([1.0])
        >>> SGD(0.1, momentum=0.9, weight_decay=0.1).apply([tf.constant([0.5])], [weight])
        >>> weight.numpy().round(6)
        array([0.94], dtype=float32)

    Args:
        learning_rate: a float or a `keras.optimizers.schedules.LearningRateSchedule`.
        momentum: from 0 to 1.
        weight_decay: coupled decay, at least 0.
        nesterov: whether to look ahead.
        clip_norm: the longest that the gradients of all parameters together may be, before decay and momentum; longer
            ones are shortened to it. 0: any.

    Raises:
        UserError: a value out of range.
    """

    def __init__(self, learning_rate=0.1, *, momentum=0.9, weight_decay=1e-4, nesterov=False, clip_norm=0.0, **kwargs):
        if isinstance(learning_rate, (float, int)):
            _check_learning_rate(learning_rate)
        if not 0 <= momentum <= 1:
            raise UserError(f"Expected momentum to be from 0 to 1. Received: momentum={momentum!r}")
        if not 0 <= weight_decay < math.inf:
            raise UserError(f"Expected weight_decay to be at least 0. Received: weight_decay={weight_decay!r}")
        clipping = {name: value for name, value in kwargs.items() if "clip" in name and value is not None}
        if clip_norm and clipping:
            raise UserError(f"Expected one kind of clipping. Received: clip_norm={clip_norm!r}, {clipping}")
        if not 0 <= clip_norm < math.inf:
            raise UserError(f"Expected clip_norm to be at least 0. Received: clip_norm={clip_norm!r}")
        super().__init__(learning_rate, momentum=float(momentum), nesterov=nesterov, weight_decay=None, **kwargs)
        self.coupled_weight_decay = weight_decay
        self.clip_norm = clip_norm

    def apply(self, grads, trainable_variables=None):
        # Weight decay reaches every row, so nothing is gained by sparse gradients, which Keras cannot unscale.
        grads = [tf.convert_to_tensor(grad) if isinstance(grad, tf.IndexedSlices) else grad for grad in grads]
        if self.clip_norm:
            # Keras clips where it should, after the loss scale was taken out and parts of a batch were added up, but
            # on each replica by itself, whose gradients it then adds up. So each is given its share of the whole.
            context = tf.distribute.get_replica_context()
            replicas = 1 if context is None else context.num_replicas_in_sync
            if replicas > 1:
                means = iter(context.all_reduce("MEAN", [grad for grad in grads if grad is not None]))
                grads = [None if grad is None else next(means) for grad in grads]
            self.global_clipnorm = self.clip_norm / replicas
        return super().apply(grads, trainable_variables)

    def update_step(self, gradient, variable, learning_rate):
        learning_rate = ops.cast(learning_rate, variable.dtype)
        step = ops.cast(gradient, variable.dtype) + self.coupled_weight_decay * variable
        if self.momentum:
            buffer = self.momentums[self._get_variable_index(variable)]
            self.assign(buffer, self.momentum * buffer + step)
            step = step + self.momentum * buffer if self.nesterov else buffer
        self.assign_sub(variable, learning_rate * step)

    def get_config(self):
        config = {**super().get_config(), "weight_decay": self.coupled_weight_decay, "clip_norm": self.clip_norm}
        return {**config, "global_clipnorm": None} if self.clip_norm else config


@keras.saving.register_keras_serializable("cskd_tf")
class LossScaleOptimizer(keras.optimizers.LossScaleOptimizer):
    """Keras' dynamic loss scaling, for float16: a step whose gradients are not finite is skipped, the scale halved.

    `SelfDistiller.compile` puts it around the optimizer of a mixed_float16 network, where Keras would put its own. That
    one asks the first replica alone whether gradients are finite, and its schedule falls behind by a step for each that
    is skipped. Here no replica takes a step that one of them cannot take, and a skipped step counts: rates drop at the
    epoch they are told to. Weights and momentum stay; what the forward pass saw stands, as running statistics do.

    Example:
        >>> weight, optimizer = keras.Variable([1.0]), LossScaleOptimizer(SGD(0.1, weight_decay=0.0), initial_scale=8.0)
        >>> optimizer.apply([tf.constant([math.inf])], [weight])
        >>> float(weight.numpy()[0]), float(optimizer.dynamic_scale), int(optimizer.iterations)
        (1.0, 4.0, 1)
        >>> optimizer.apply([tf.constant([4.0 * 0.5])], [weight])
        >>> round(float(weight.numpy()[0]), 6), int(optimizer.iterations)
        (0.95, 2)
    """

    def check_finite(self, grads):
        finite = super().check_finite(grads)
        context = tf.distribute.get_replica_context()
        if context is None or context.num_replicas_in_sync == 1:
            return finite
        return context.all_reduce("SUM", tf.cast(~finite, tf.float32)) == 0

    def apply(self, grads, trainable_variables=None):
        following = self.iterations + 1
        super().apply(grads, trainable_variables)
        if not self.inner_optimizer.gradient_accumulation_steps:  # which waits for another part
            self.iterations.assign(following)


def with_loss_scaling(
    optimizer: keras.optimizers.Optimizer | str | dict, *, policy: keras.DTypePolicy
) -> keras.optimizers.Optimizer | str | dict:
    """The optimizer, in a `LossScaleOptimizer` where it trains a network of `mixed_float16` and is in none."""
    if policy.name != "mixed_float16" or isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return optimizer
    return LossScaleOptimizer(keras.optimizers.get(optimizer), name="loss_scale_optimizer")


def _check_learning_rate(learning_rate: float) -> None:
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
    """

    def __init__(self, schedule: keras.optimizers.schedules.LearningRateSchedule, *, steps: int):
        super().__init__()
        self.schedule, self.steps = schedule, steps

    def __call__(self, step):
        share = ops.minimum((ops.cast(step, "float32") + 1) / self.steps, 1.0)
        return share * self.schedule(step)

    def get_config(self):
        return {"schedule": keras.saving.serialize_keras_object(self.schedule), "steps": self.steps}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config["schedule"]), steps=config["steps"])


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
    _check_learning_rate(learning_rate)
    if list(milestones) != sorted(set(milestones)) or not all(0 < milestone < 1 for milestone in milestones):
        raise UserError(f"Expected rising milestones between 0 and 1. Received: milestones={tuple(milestones)}")
    if not 0 < factor < math.inf:
        raise UserError(f"Expected factor to be above 0. Received: factor={factor!r}")
    if not 0 <= warmup_epochs <= epochs:
        raise UserError(f"Expected warmup_epochs from 0 to {epochs}. Received: warmup_epochs={warmup_epochs!r}")
    # Keras uses the old value up to and including the boundary; the first step of the new epoch must have the new one.
    drops_at = milestone_epochs(milestones, epochs=epochs) or [epochs]  # Keras needs one: without any, the end
    boundaries = [epoch * steps_per_epoch - 1 for epoch in drops_at]
    values = [learning_rate * factor**drops for drops in range(len(boundaries) + 1)]
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, values)
    return WarmUp(schedule, steps=warmup_epochs * steps_per_epoch) if warmup_epochs else schedule
