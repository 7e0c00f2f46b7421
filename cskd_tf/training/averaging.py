"""A running average of a model's weights, which is evaluated and exported in their place; the model that has one."""

import abc
import types
import zlib
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cskd_tf.errors import UserError


class WeightAverage:
    """The exponential moving average of variables, which can change places with them.

    After step t, from 0, `average = m * average + (1 - m) * value` with `m = min(momentum, (1 + t) / (10 + t))`,
    as `tf.train.ExponentialMovingAverage` has it with `num_updates`: what a short training began with is soon forgotten
    (Polyak and Juditsky, 1992, https://doi.org/10.1137/0330046; Cai et al., 2021, https://arxiv.org/abs/2104.00298).

    Running statistics of batch norm are averaged as the weights are, since they belong to weights of the same age; timm
    does the same. Keras' own averaging (`use_ema` of an optimizer) leaves them as those of the latest weights.

    Example: from 1 with m = .1 in the first step, whose value is 2, `.1 * 1 + .9 * 2`:
        >>> weight, step = keras.Variable([1.0]), keras.Variable(0, dtype="int64")
        >>> average = WeightAverage([weight], momentum=0.99)
        >>> _ = weight.assign([2.0])
        >>> average.update(step)
        >>> average.put(True)
        >>> round(float(weight.numpy()[0]), 6)
        1.9
        >>> average.put(False)
        >>> float(weight.numpy()[0])
        2.0

    What is assigned to a variable while the average is in its place, as by `set_weights` or `EarlyStopping`, is where
    the training goes on, and the average too.

    Args:
        variables: those of other types than floating point are left out.
        momentum: the largest m, from 0 to below 1.

    Attributes:
        variables: all that has to be saved: the averages, or, while they are in place, what they stand for; and whether
            they are in place.
    """

    def __init__(self, variables: Sequence[keras.Variable], *, momentum: float):
        self.momentum = momentum
        floats = [variable for variable in variables if keras.backend.is_float_dtype(variable.dtype)]
        # In sixteen bits a share of 1 - m is rounded away, and the average would stand still.
        self._pairs = [(variable, _copy_of(variable, least=4)) for variable in floats]
        # What the average of another type takes the place of; else the two change places.
        self._aside = {
            number: _copy_of(variable)
            for number, (variable, average) in enumerate(self._pairs)
            if average.dtype != variable.dtype
        }
        self._in_place = keras.Variable(
            0, dtype="int32", trainable=False, aggregation="only_first_replica", name="averages_in_place"
        )
        self.variables = [*(average for _, average in self._pairs), self._in_place, *self._aside.values()]
        # Checksums of the averages that were put in place here, and of what they stand for.
        self._put: list[tuple[int, int]] | None = None

    @property
    def in_place(self) -> bool:
        """Whether the averages are where the variables' own values were."""
        return bool(self._in_place.numpy())

    def update(self, step: keras.Variable) -> None:
        """Takes in what the variables are after a step, of number `step` from 0; on each replica its own."""
        done = tf.cast(step, tf.float32)
        momentum = tf.minimum(self.momentum, (1 + done) / (10 + done))
        for variable, average in self._pairs:
            share = tf.cast(1 - momentum, average.dtype)
            average.assign(average + share * (tf.cast(variable, average.dtype) - average))

    def put(self, in_place: bool) -> None:
        """Puts the averages in the variables' place, or back; nothing where they are there already.

        On several replicas, outside of them, when all have the same values.
        """
        if self.in_place == in_place:
            return
        assigned = self._assigned()
        for number, (variable, average) in enumerate(self._pairs):
            value = tf.identity(variable.value)
            if number in assigned:
                average.value.assign(tf.cast(value, average.dtype))
            elif (aside := self._aside.get(number)) is None:
                variable.value.assign(tf.identity(average.value))
                average.value.assign(value)
            elif in_place:
                aside.value.assign(value)
                variable.value.assign(tf.cast(tf.identity(average.value), variable.dtype))
            else:
                variable.value.assign(tf.identity(aside.value))
        self._put = self._checksums() if in_place else None
        self._in_place.assign(int(in_place))

    def settle(self) -> None:
        """Has what was assigned to variables while their averages were in place as what is trained on, for a file."""
        for number in (assigned := self._assigned()):
            variable, average = self._pairs[number]
            average.value.assign(tf.cast(tf.identity(variable.value), average.dtype))
            if number in self._aside:
                self._aside[number].value.assign(tf.identity(variable.value))
        if assigned:
            self._put = self._checksums()

    def _checksums(self) -> list[tuple[int, int]]:
        held = [self._aside.get(number, average) for number, (_, average) in enumerate(self._pairs)]
        return [(_checksum(variable), _checksum(raw)) for (variable, _), raw in zip(self._pairs, held, strict=True)]

    def _assigned(self) -> list[int]:
        """Which variables were assigned to while their averages are in place."""
        if self._put is None:
            return []
        now = self._checksums()
        if any(raw != before for (_, raw), (_, before) in zip(now, self._put, strict=True)):
            self.forget()  # both were, as by tf.train.Checkpoint
            return []
        return [number for number, (one, other) in enumerate(zip(now, self._put, strict=True)) if one != other]

    def forget(self) -> None:
        """What variables are from now on was not assigned to them, but read with their averages from a file."""
        self._put = None

    def of(self, variables: Sequence[keras.Variable]) -> list[keras.Variable]:
        """The averages of some of the variables, and what they stand for."""
        wanted = {id(variable) for variable in variables}
        numbers = [number for number, (variable, _) in enumerate(self._pairs) if id(variable) in wanted]
        aside = [self._aside[number] for number in numbers if number in self._aside]
        return [*(self._pairs[number][1] for number in numbers), *aside]


def _checksum(variable: keras.Variable) -> int:
    return zlib.crc32(np.ascontiguousarray(variable.numpy()).tobytes())


def _copy_of(variable: keras.Variable, *, least: int = 0) -> keras.Variable:
    """A variable of its value, in float32 where its own type has fewer than `least` bytes."""
    dtype = "float32" if tf.as_dtype(variable.dtype).size < least else variable.dtype
    value = tf.cast(tf.identity(variable.value), dtype)
    return keras.Variable(value, dtype=dtype, trainable=False, autocast=False, name="average")


class AveragedModel(keras.Model, abc.ABC):
    """A Keras model that keeps a `WeightAverage` of its weights where it is compiled with an `ema_momentum`.

    Its training step calls `_update_average` before it counts itself in `step`, and `fit` calls `_make_average` once it
    is built. A subclass has a `step` and a `classifier`, the model whose weights inference needs.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        # Not among the weights, of which a classifier must have the same: see save_own_variables.
        self._averaging = types.SimpleNamespace(momentum=0.0, average=None)
        # What tf.train.Checkpoint(model=...) saves beside the network; Keras shows TensorFlow no lists of layers.
        self._kept = tf.train.Checkpoint()

    @property
    @abc.abstractmethod
    def step(self) -> keras.Variable:
        """Training steps so far, int64."""

    @abc.abstractmethod
    def classifier(self) -> keras.Model:
        """What inference needs, sharing its layers."""

    @property
    def average(self) -> WeightAverage | None:
        """Of the weights that inference needs, where `compile` was given an `ema_momentum`.

        It is in the place of the weights from an epoch's end, for validation and callbacks, to where training goes on;
        so a model that has been fitted is the averaged one.
        """
        return self._averaging.average

    def put_average(self, in_place: bool) -> None:
        """Puts averaged weights, where the model has some, in the place of those that are trained, or back."""
        if self.average is not None:
            self.average.put(in_place)

    def _update_average(self) -> None:
        """Takes in what the weights are after a step, before it is counted."""
        if self._averaging.momentum and self.average is None:
            raise UserError("Expected a model that is built, to average its weights. Received: one that was not")
        if self.average is not None:
            self.average.update(self.step)

    def _make_average(self) -> None:
        """Once there are weights, as `compile` asked for it."""
        if self._averaging.momentum and self.average is None and self.built:
            with self.distribute_strategy.scope():
                average = WeightAverage(self.classifier().weights, momentum=self._averaging.momentum)
            self._averaging.average = average
            self._kept.average = [variable.value for variable in average.variables]

    def _settle_average(self) -> None:
        """Before what was assigned to averaged weights gets into a file, where nobody could tell any more."""
        if self.average is not None:
            self.average.settle()

    def set_weights(self, weights) -> None:
        """As `keras.Model.set_weights`."""
        super().set_weights(weights)
        self._settle_average()

    def save_own_variables(self, store) -> None:
        self._settle_average()
        super().save_own_variables(store)
        for number, variable in enumerate(self.average.variables if self.average else ()):
            store[f"average_{number}"] = variable.numpy()

    def load_own_variables(self, store) -> None:
        averages = {key: store[key] for key in store.keys() if key.startswith("average_")}  # noqa: SIM118  (of HDF5)
        super().load_own_variables({key: store[key] for key in store.keys() if key not in averages})  # noqa: SIM118
        if self.average is not None and not averages:  # of weights alone
            # fit makes one of what was loaded, which is not all there yet, and traces the step with it.
            self._averaging.average, self.train_function = None, None
        elif self.average is not None:
            self.average.forget()
            for number, variable in enumerate(self.average.variables):
                variable.assign(averages[f"average_{number}"][()])

    def compile(self, optimizer="rmsprop", *, ema_momentum: float = 0.0, **kwargs) -> None:
        """As `keras.Model.compile`. After a `fit` with an average, training goes on from the average, as of Keras' own.

        Args:
            optimizer: as for Keras.
            ema_momentum: keep a `WeightAverage`, see `average`; 0: none.
            **kwargs: as for Keras.

        Raises:
            UserError: a momentum out of range, or a second average, of the optimizer's own.
        """
        if not 0 <= ema_momentum < 1:
            raise UserError(f"Expected ema_momentum from 0 to below 1. Received: ema_momentum={ema_momentum!r}")
        super().compile(optimizer=optimizer, **kwargs)
        inner = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        if ema_momentum and getattr(inner, "use_ema", False):
            raise UserError(f"Expected one average of the weights. Received: {ema_momentum=} and use_ema=True")
        self._averaging.momentum, self._averaging.average = ema_momentum, None
        if not ema_momentum and hasattr(self._kept, "average"):  # else what was restored before it is made waits for it
            self._kept.average = []
        self._make_average()

    def get_compile_config(self) -> dict[str, Any]:
        """As `keras.Model.get_compile_config`."""
        config = super().get_compile_config()
        return {**config, "ema_momentum": self._averaging.momentum} if config else config
