"""A running average of a model's weights, which is evaluated and exported in their place."""

from collections.abc import Sequence

import keras
import tensorflow as tf


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

    Args:
        variables: those of other types than floating point are left out.
        momentum: the largest m, from 0 to below 1.

    Attributes:
        variables: all that has to be saved: the averages, or, while they are in place, what they stand for; and whether
            they are in place.
    """

    def __init__(self, variables: Sequence[keras.Variable], *, momentum: float):
        self.momentum = momentum
        self._pairs = [
            (variable, _copy_of(variable)) for variable in variables if keras.backend.is_float_dtype(variable.dtype)
        ]
        self._in_place = keras.Variable(
            0, dtype="int32", trainable=False, aggregation="only_first_replica", name="averages_in_place"
        )
        self.variables = [*(average for _, average in self._pairs), self._in_place]

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
            average.assign(average + share * (variable - average))

    def put(self, in_place: bool) -> None:
        """Puts the averages in the variables' place, or back; nothing where they are there already.

        On several replicas, outside of them, when all have the same values.
        """
        if self.in_place == in_place:
            return
        for variable, average in self._pairs:
            value = tf.identity(variable.value)
            variable.value.assign(tf.identity(average.value))
            average.value.assign(value)
        self._in_place.assign(int(in_place))

    def of(self, variables: Sequence[keras.Variable]) -> list[keras.Variable]:
        """The averages of some of the variables."""
        wanted = {id(variable) for variable in variables}
        return [average for variable, average in self._pairs if id(variable) in wanted]


def _copy_of(variable: keras.Variable) -> keras.Variable:
    return keras.Variable(
        tf.identity(variable.value), dtype=variable.dtype, trainable=False, autocast=False, name="average"
    )
