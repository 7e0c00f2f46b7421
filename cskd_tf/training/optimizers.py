"""SGD as the papers' code means it, any other optimizer by its name, and loss scaling for float16."""

import inspect
import math
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from cskd_tf.errors import UserError
from cskd_tf.training.schedules import check_learning_rate
from cskd_tf.training.tuned import OPTIMIZERS, UNSOUND, Tuned, arguments_of, check_arguments

FAR = 30  # times the usual learning rate


@keras.saving.register_keras_serializable("cskd_tf")
class SGD(Tuned, keras.optimizers.SGD):
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
        weight_decay: coupled decay, at least 0; None is 0.
        nesterov: whether to look ahead.
        clip_norm: the longest that the gradients of all parameters together may be, before decay and momentum; longer
            ones are shortened to it. 0: any.
        **kwargs: `rates`, `decay_vectors` and `restarts` as of `Tuned`, and others as Keras' SGD takes them.

    Raises:
        UserError: a value out of range.
    """

    def __init__(self, learning_rate=0.1, *, momentum=0.9, weight_decay=1e-4, nesterov=False, **kwargs):
        if isinstance(learning_rate, (float, int)):
            check_learning_rate(learning_rate)
        if not 0 <= momentum <= 1:
            raise UserError(f"Expected momentum to be from 0 to 1. Received: momentum={momentum!r}")
        weight_decay = 0.0 if weight_decay is None else weight_decay  # as Keras has it by default
        if not 0 <= weight_decay < math.inf:
            raise UserError(f"Expected weight_decay to be at least 0. Received: weight_decay={weight_decay!r}")
        super().__init__(learning_rate, momentum=float(momentum), nesterov=nesterov, weight_decay=None, **kwargs)
        self.coupled_weight_decay = weight_decay

    def update_step(self, gradient, variable, learning_rate):
        learning_rate = ops.cast(self._rate_of(variable, learning_rate), variable.dtype)
        step = ops.cast(gradient, variable.dtype)
        if self._use_weight_decay(variable):
            step = step + self.coupled_weight_decay * variable
        if self.momentum:
            buffer = self.momentums[self._get_variable_index(variable)]
            self.assign(buffer, self.momentum * buffer + step)
            step = step + self.momentum * buffer if self.nesterov else buffer
        self.assign_sub(variable, learning_rate * step)

    def get_config(self):
        return {**super().get_config(), "weight_decay": self.coupled_weight_decay}


@keras.saving.register_keras_serializable("cskd_tf")
class LossScaleOptimizer(keras.optimizers.LossScaleOptimizer):
    """Keras' dynamic loss scaling, for float16: a step whose gradients are not finite is skipped, the scale halved.

    `SelfDistiller.compile` puts it around the optimizer of a mixed_float16 network, where Keras would put its own. That
    one asks the first replica alone whether gradients are finite, and its schedule falls behind by a step for each that
    is skipped. Here no replica takes a step that one of them cannot take, and a schedule counts what is skipped: rates
    drop at the epoch they are told to. The optimizer does not, as of Keras: weights, momentum, averages and Adam's bias
    correction know nothing of it. What the forward pass saw stands, as running statistics do.

    Example: of two steps the first is skipped, and the rate is that of the second:
        >>> schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0], [0.2, 0.1])
        >>> weight = keras.Variable([1.0])
        >>> optimizer = LossScaleOptimizer(SGD(schedule, weight_decay=0.0), initial_scale=8.0)
        >>> optimizer.apply([tf.constant([math.inf])], [weight])
        >>> float(weight.numpy()[0]), float(optimizer.dynamic_scale), int(optimizer.iterations)
        (1.0, 4.0, 0)
        >>> optimizer.apply([tf.constant([4.0 * 0.5])], [weight])
        >>> round(float(weight.numpy()[0]), 6), int(optimizer.iterations), int(optimizer.skipped.numpy())
        (0.95, 1, 1)

    Attributes:
        skipped: how many steps, an int64 `keras.Variable`, once it is built; None before.
    """

    def __init__(self, inner_optimizer, *args, **kwargs):
        super().__init__(inner_optimizer, *args, **kwargs)
        self.skipped: Any = None
        self._skipped_before = 0
        schedule = inner_optimizer._learning_rate
        if isinstance(schedule, _ScheduleOfAllSteps):  # of another one, that it was in before
            schedule, self._skipped_before = schedule.every_step, schedule.skipped
        self._follow(schedule)

    def _follow(self, schedule) -> None:
        if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
            self.inner_optimizer._learning_rate = _ScheduleOfAllSteps(schedule, self)

    @keras.optimizers.LossScaleOptimizer.learning_rate.setter
    def learning_rate(self, learning_rate):
        self.inner_optimizer.learning_rate = learning_rate
        self._follow(learning_rate)

    def build(self, variables):
        super().build(variables)
        self.skipped = self.add_variable(
            (), dtype="int", aggregation="only_first_replica", initializer="zeros", name="skipped"
        )
        self.skipped.assign(self._skipped_before)

    def check_finite(self, grads):
        finite = super().check_finite(grads)
        context = tf.distribute.get_replica_context()
        if context is None or context.num_replicas_in_sync == 1:
            return finite
        return context.all_reduce("SUM", tf.cast(~finite, tf.float32)) == 0

    def apply(self, grads, trainable_variables=None):
        counter = self.inner_optimizer._iterations
        following = counter + 1
        super().apply(grads, trainable_variables)
        self.skipped.assign_add(following - counter)


@keras.saving.register_keras_serializable("cskd_tf")
class _ScheduleOfAllSteps(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule that is asked for the rate of a step that was taken, and counts those that were skipped before it.

    In a file it is the schedule alone, around which the loss scale of the file puts it again.
    """

    def __init__(self, schedule: keras.optimizers.schedules.LearningRateSchedule, optimizer: LossScaleOptimizer):
        self.every_step, self._optimizer = schedule, optimizer

    @property
    def skipped(self) -> int:
        """So far."""
        return 0 if self._optimizer.skipped is None else int(self._optimizer.skipped.numpy())

    def __call__(self, step):
        skipped = self._optimizer.skipped
        return self.every_step(step if skipped is None else step + skipped)

    def get_config(self):
        return {"schedule": keras.saving.serialize_keras_object(self.every_step)}

    @classmethod
    def from_config(cls, config):
        return keras.saving.deserialize_keras_object(config["schedule"])


def with_loss_scaling(
    optimizer: keras.optimizers.Optimizer | str | dict, *, policy: keras.DTypePolicy
) -> keras.optimizers.Optimizer | str | dict:
    """The optimizer, in a `LossScaleOptimizer` where it trains a network of `mixed_float16` and is in none."""
    if policy.name != "mixed_float16" or isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return optimizer
    return LossScaleOptimizer(keras.optimizers.get(optimizer), name="loss_scale_optimizer")


def check(name: str, *, arguments: Mapping[str, Any]) -> None:
    """Refuses an optimizer that `make` cannot make. Arguments and errors as of `make`."""
    if name in UNSOUND:
        raise UserError(f"Expected another optimizer: {UNSOUND[name]}. Received: name={name!r}")
    if name != "SGD" and name not in OPTIMIZERS:
        raise UserError(f"Unknown optimizer; expected one of {['SGD', *OPTIMIZERS]}. Received: name={name!r}")
    if name != "SGD":
        check_arguments(name, arguments)
    elif arguments:
        raise UserError(
            f"Expected no arguments of SGD, whose momentum has a key of its own. Received: arguments={dict(arguments)}"
        )


def unusual_rate(name: str, *, learning_rate: float) -> str:
    """What is usual for an optimizer where a learning rate is far above it; empty where it is not.

    Keras' default is what is usual, and 30 times that is far: 0.1, which SGD takes, is 100 times that of most others.
    Their steps are as long as the rate, however small gradients are, but those of SGD, Adadelta and Adagrad.

    Example:
        >>> unusual_rate("AdamW", learning_rate=0.1)
        '0.001, as Keras has it'
        >>> unusual_rate("Lion", learning_rate=0.1)
        '0.0001 to 0.0003, of AdamW a tenth to a third (Chen et al., 2023)'
        >>> unusual_rate("AdamW", learning_rate=0.02), unusual_rate("SGD", learning_rate=0.1)
        ('', '')

    Args:
        name: as of `make`.
        learning_rate: the highest of the run.
    """
    if name in ("SGD", "Adadelta", "Adagrad"):  # of these two Keras' own pages say that 1 is as published
        return ""
    usual = inspect.signature(getattr(keras.optimizers, name)).parameters["learning_rate"].default
    if learning_rate <= FAR * usual:
        return ""
    return {"Lion": "0.0001 to 0.0003, of AdamW a tenth to a third (Chen et al., 2023)"}.get(
        name, f"{usual:g}, as Keras has it"
    )


def make(
    name: str,
    learning_rate: float | keras.optimizers.schedules.LearningRateSchedule,
    *,
    weight_decay: float,
    momentum: float = 0.9,
    nesterov: bool = False,
    arguments: Mapping[str, Any],
    **options: Any,
) -> Tuned:
    """An optimizer by its name.

    Example:
        >>> optimizer = make("AdamW", 1e-3, weight_decay=0.05, arguments={"beta_2": 0.98}, decay_vectors=False)
        >>> optimizer.name, optimizer.weight_decay, optimizer.beta_1, optimizer.beta_2
        ('AdamW', 0.05, 0.9, 0.98)

    Args:
        name: SGD for this package's, or any other of Keras', which are the keys of `OPTIMIZERS`.
        learning_rate: as the optimizer takes it.
        weight_decay: of SGD added to the gradient; of the others taken off the weights themselves, times the learning
            rate (Loshchilov and Hutter, 2019, https://arxiv.org/abs/1711.05101), in both parts of Muon too.
        momentum: of SGD.
        nesterov: of SGD.
        arguments: others of Keras' optimizer.
        **options: as of `Tuned`.

    Raises:
        UserError: an unknown name or unknown arguments; what there is is listed.
    """
    check(name, arguments=arguments)
    if name == "SGD":
        return SGD(learning_rate, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay, **options)
    decay = {"weight_decay": weight_decay}
    if "adam_weight_decay" in arguments_of(name):  # of Muon, for what is no matrix
        decay["adam_weight_decay"] = weight_decay
    try:
        return OPTIMIZERS[name](learning_rate, name=name, **{**decay, **arguments}, **options)
    except ValueError as error:
        raise UserError(f"Expected arguments that {name} takes. Received: {dict(arguments)} ({error})") from error
