"""Keras' optimizers with what fine-tuning asks of them: clipping over replicas, rates by layer, a decay of matrices."""

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from cskd_tf.errors import UserError

_CLIPPING = ("clipnorm", "clipvalue", "global_clipnorm")  # Keras'; Adafactor's clip_threshold is another thing


class Tuned(keras.optimizers.Optimizer):
    """What this package adds to an optimizer; a class has it in front of the one that says how a weight moves.

    Example: two weights with gradients of 3 and 4 are clipped to a norm of 1; the second one has half the rate:
        >>> first, second = keras.Variable([0.0]), keras.Variable([0.0])
        >>> optimizer = OPTIMIZERS["RMSprop"](1.0, rho=0.0, clip_norm=1.0, rates=[1.0, 0.5])
        >>> optimizer.apply([tf.constant([3.0]), tf.constant([4.0])], [first, second])
        >>> round(float(first.numpy()[0]), 4), round(float(second.numpy()[0]), 4)
        (-1.0, -0.5)

    Args:
        learning_rate: as the optimizer takes it.
        clip_norm: the longest that the gradients of all parameters together, over all replicas, may be; longer ones are
            shortened to it. 0: any.
        rates: a factor of the learning rate, and so of decoupled weight decay, for each variable in the order in which
            the optimizer is built with them; None: 1 for all.
        decay_vectors: whether weight decay reaches variables of less than two dimensions, which are biases and the
            scales and shifts of normalisation.
        restarts: whether `restart` may be called.
        **kwargs: as the optimizer takes them.

    Raises:
        UserError: a value out of range, two kinds of clipping, or Keras' `use_ema` beside `restarts`.
    """

    def __init__(
        self,
        learning_rate=0.001,
        *,
        clip_norm: float = 0.0,
        rates: Sequence[float] | None = None,
        decay_vectors: bool = True,
        restarts: bool = False,
        **kwargs,
    ):
        clipping = {name: kwargs[name] for name in _CLIPPING if kwargs.get(name) is not None}
        if clip_norm and clipping:
            raise UserError(f"Expected one kind of clipping. Received: clip_norm={clip_norm!r}, {clipping}")
        if not 0 <= clip_norm < math.inf:
            raise UserError(f"Expected clip_norm to be at least 0. Received: clip_norm={clip_norm!r}")
        if rates is not None and not all(0 <= rate < math.inf for rate in rates):
            raise UserError(f"Expected rates of at least 0. Received: rates={list(rates)}")
        if restarts and kwargs.get("use_ema"):
            # Which Keras keeps in the optimizer, that forgets, and pairs with what is trainable at the end of a fit.
            raise UserError(
                "Expected an average of weights by SelfDistiller.compile(..., ema_momentum=...) beside restarts=True. "
                "Received: use_ema=True"
            )
        super().__init__(learning_rate, **kwargs)
        self.clip_norm = clip_norm
        self.rates = None if rates is None else tuple(map(float, rates))
        self.decay_vectors = decay_vectors
        self.restarts = restarts
        self._share = 1.0  # of the learning rate, for the variables that are being decayed
        self._began: keras.Variable | None = None  # iterations before the last restart

    def build(self, variables):
        if self.built:
            return
        if self.rates is not None and len(self.rates) != len(variables):
            raise UserError(
                f"Expected a rate for each of {len(variables)} variables. Received: {len(self.rates)} rates"
            )
        super().build(variables)
        if self.restarts:
            self._began = self.add_variable(
                (), dtype="int", aggregation="only_first_replica", initializer="zeros", name="began"
            )

    @property
    def iterations(self):
        """Steps since the last `restart`; a schedule counts all of them."""
        return super().iterations if self._began is None else super().iterations - self._began

    @property
    def awaits_restart(self) -> bool:
        """Whether there have been steps, and no `restart` since the first of them."""
        return self._began is not None and int(self._began.numpy()) == 0 < int(super().iterations.numpy())

    def restart(self) -> None:
        """Forgets gradients, as a new optimizer would, which knows the steps of the schedule so far.

        For weights that join in later, as those of a backbone that was frozen: an Adam that went on would take its
        running averages of their gradients, which begin with nothing, for those of many steps, and move up to 6 times
        as far.

        Raises:
            UserError: without `restarts`.
        """
        if self._began is None:
            raise UserError(
                f"Expected an optimizer that was made with restarts=True. Received: {type(self).__name__} without"
            )
        with self._distribution_strategy.scope():
            fresh = type(self).from_config(self.get_config())
            fresh.build(self._trainable_variables)
        kept = {id(self._iterations), id(self._began)}
        for own, new in zip(self.variables, fresh.variables, strict=True):
            if id(own) not in kept:
                own.value.assign(tf.identity(new.value))
        batches = super().iterations  # whole ones, where gradients are accumulated
        self._began.value.assign(tf.cast(tf.convert_to_tensor(batches), self._began.dtype))

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
        super().update_step(gradient, variable, self._rate_of(variable, learning_rate))

    def _rate_of(self, variable, learning_rate):
        if self.rates is None:
            return learning_rate
        return learning_rate * self.rates[self._get_variable_index(variable)]

    def _get_current_learning_rate(self):
        learning_rate = super()._get_current_learning_rate()
        return learning_rate if self._share == 1 else learning_rate * self._share

    def _apply_weight_decay(self, variables):
        if self.rates is None:
            super()._apply_weight_decay(variables)
            return
        # Keras asks for the learning rate where it decays a variable: for those of one rate at a time it is theirs.
        # (Replicas take turns, and all of them set the share before the decay that they share is computed.)
        groups: dict[float, list] = {}
        for variable in variables:
            groups.setdefault(self.rates[self._get_variable_index(variable)], []).append(variable)
        for rate, group in groups.items():
            self._share = rate
            super()._apply_weight_decay(group)
        self._share = 1.0

    def _use_weight_decay(self, variable):
        return (self.decay_vectors or len(variable.shape) > 1) and super()._use_weight_decay(variable)

    def get_config(self):
        config = {
            **super().get_config(),
            "clip_norm": self.clip_norm,
            "rates": None if self.rates is None else list(self.rates),
            "decay_vectors": self.decay_vectors,
            "restarts": self.restarts,
        }
        return {**config, "global_clipnorm": None} if self.clip_norm else config


# Keras' own arguments that a config has other words for, or none.
_GENERAL = {
    "self", "learning_rate", "weight_decay", "clipnorm", "clipvalue", "global_clipnorm", "use_ema", "ema_momentum",
    "ema_overwrite_frequency", "loss_scale_factor", "gradient_accumulation_steps", "name", "kwargs",
}  # fmt: skip
# They wrap others.
_WRAPPERS = {"Optimizer", "LossScaleOptimizer", "MultiOptimizer"}
# Those of Keras' that are not what they are called, and why.
UNSOUND = {
    "ScheduleFreeAdamW": (
        "Keras takes its auxiliary weights after a step for those before it, so that from the second step on it goes "
        "elsewhere than the published optimizer (https://arxiv.org/abs/2405.15682), and it gives no way to the average "
        "that is to be evaluated. AdamW at a constant rate with ema_momentum averages weights too"
    ),
}


def _tuned(name: str, base: type) -> type:
    """A class of Keras' with what `Tuned` adds, that Keras can save and load."""
    made = type(name, (Tuned, base), {"__module__": __name__, "__doc__": f"`keras.optimizers.{name}`, as `Tuned`."})
    return keras.saving.register_keras_serializable("cskd_tf")(made)


# Every sound optimizer of Keras' but SGD, of which this package has its own, by its name there.
OPTIMIZERS: dict[str, Any] = {
    name: _tuned(name, kind)
    for name, kind in sorted(vars(keras.optimizers).items())
    if isinstance(kind, type) and issubclass(kind, keras.optimizers.Optimizer)
    if name not in {*_WRAPPERS, *UNSOUND, "SGD"}
}


def check_sound(optimizer: keras.optimizers.Optimizer) -> None:
    """Raises UserError for an optimizer of Keras' that is not what it is called, also inside a loss scale."""
    name = type(getattr(optimizer, "inner_optimizer", optimizer)).__name__
    if name in UNSOUND:
        raise UserError(f"Expected another optimizer: {UNSOUND[name]}. Received: {name}")


def arguments_of(name: str) -> dict[str, Any]:
    """What an optimizer of Keras' alone takes, with Keras' defaults.

    Example:
        >>> arguments_of("Lion")
        {'beta_1': 0.9, 'beta_2': 0.99}
    """
    parameters = inspect.signature(getattr(keras.optimizers, name).__init__).parameters
    return {key: parameter.default for key, parameter in parameters.items() if key not in _GENERAL}


def check_arguments(name: str, arguments: Mapping[str, Any]) -> None:
    """Refuses arguments that an optimizer of Keras' does not take, or of another type than its default.

    Raises:
        UserError: with the arguments that it takes.
    """
    known = arguments_of(name)
    if unknown := sorted(set(arguments) - set(known)):
        raise UserError(f"Unknown arguments of {name}; expected some of {known}. Received: {unknown}")
    for key, value in arguments.items():
        default = known[key]
        number = type(default) in (int, float)
        if number and not (type(value) in (int, float) and math.isfinite(value)):
            raise UserError(f"Expected {key} of {name} to be a number, as {default}. Received: {key}={value!r}")
        if isinstance(default, bool) and not isinstance(value, bool):
            raise UserError(f"Expected {key} of {name} to be True or False. Received: {key}={value!r}")
