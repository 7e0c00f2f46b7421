"""What Keras lets through, and fails at or gets wrong once training has begun: refused before it, or done otherwise."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from cskd_tf.checks import check_count
from cskd_tf.errors import UserError
from cskd_tf.training.optimizers import LossScaleOptimizer


def check_trainable(model: keras.Model) -> None:
    """Raises UserError where no weight would be trained, which Keras only warns of."""
    if not model.trainable_variables:
        raise UserError(
            "Expected at least one trainable weight; set network.trainable = True, or unfreeze its classifier, and "
            f"compile again. Received: network={model.network.name!r}, all of it frozen"
        )


def check_steps(steps: int | None, *, steps_per_execution: int) -> None:
    """Raises UserError unless whole executions make an epoch, so that no execution runs on into the next one.

    An epoch of no steps is refused: Keras takes it for one of all data, and reads those that have no end for ever.

    3 steps per epoch go with 1 or 3 steps per execution; with 2 Keras would take 4.
    """
    if steps is None:
        return
    check_count("steps_per_epoch", steps)
    if steps % steps_per_execution:
        raise UserError(
            f"Expected steps_per_execution to divide the {steps} steps of an epoch. Received: {steps_per_execution=}"
        )


def synchronized_layers(model: keras.Model) -> list[str]:
    """Names of the layers whose batch norm is over all replicas."""
    layers = model._flatten_layers()  # nothing public reaches the layers inside of layers
    return [layer.name for layer in layers if getattr(layer, "synchronized", False)]


def needing_images(model: keras.Model) -> list[str]:
    """Names of the layers that a replica without an image trains wrongly, or fails at.

    Batch norm over a replica's own images makes its statistics NaN, silently. TensorFlow's convolutions on oneDNN
    return another shape where there is no image, and fail.
    """
    on_cpu = any("CPU" in device for device in model.distribute_strategy.extended.worker_devices)
    return [
        layer.name
        for layer in model._flatten_layers()
        if (isinstance(layer, keras.layers.BatchNormalization) and layer.trainable and not layer.synchronized)
        or (on_cpu and isinstance(layer, _CONVOLUTIONS))
    ]


_CONVOLUTIONS = (
    keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D, keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D, keras.layers.SeparableConv1D, keras.layers.SeparableConv2D,
    keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose,
)  # fmt: skip


def check_jit(jit_compile: bool | str, *, replicas: int, exchanging: Sequence[str]) -> None:
    """Raises UserError for XLA on several replicas where something needs the whole batch within the loss.

    Args:
        jit_compile: as of `keras.Model.compile`.
        replicas: how many there are.
        exchanging: names of what does.
    """
    if jit_compile is True and replicas > 1 and exchanging:
        raise UserError(
            f'Expected jit_compile="auto" or False on several replicas beside {", ".join(exchanging)}: statistics of '
            "the whole batch enter the loss, which a program of one replica cannot compute. "
            f"Received: jit_compile=True on {replicas} replicas"
        )


def compiled_in_replica(function: Callable[[Any], Any], *, variables: Sequence[keras.Variable]) -> Callable[[Any], Any]:
    """A function of a replica's tensors as a program of XLA's, which exchanges nothing with other replicas.

    A variable that replicas share can only be assigned to where all of them meet, so the program returns what layers
    assign, such as the statistics of batch norm, and this replica assigns it afterwards.

    Example:
        >>> count = keras.Variable(1.0, trainable=False)
        >>> def double(values):
        ...     count.assign(count + 1)
        ...     return 2 * values
        >>> float(compiled_in_replica(double, variables=[count])(tf.constant(3.0))), float(count)
        (6.0, 2.0)

    Args:
        function: of nested tensors, to nested tensors or None.
        variables: of all layers that it runs; it assigns to no others, and not to those that are trained.
    """
    state = [variable for variable in variables if not variable.trainable]
    regularized = [(variable, variable.value) for variable in variables if variable.regularizer is not None]

    @functools.partial(tf.function, jit_compile=True, autograph=False)
    def program(inputs):
        with keras.StatelessScope(collect_losses=True) as scope:
            # Inside a scope Keras looks for what it regularises there, and nowhere else.
            scope.state_mapping.update({id(variable): value for variable, value in regularized})
            results = function(inputs)
        return results, [scope.get_current_value(variable) for variable in state]

    def run(inputs):
        results, values = program(inputs)
        for variable, value in zip(state, values, strict=True):
            if value is not None:
                variable.assign(value)
        return results

    return run


def check_for_replicas(optimizer, *, replicas: int) -> None:
    """Raises UserError for optimizers that Keras lets through, and that fail or go wrong on several replicas."""
    applied = getattr(optimizer, "inner_optimizer", optimizer)
    if getattr(applied, "use_ema", False) and (frequency := applied.ema_overwrite_frequency):
        raise UserError(
            "Expected ema_overwrite_frequency=None on several replicas, which Keras cannot bring together inside the "
            "condition that it overwrites weights under; SelfDistiller.compile(ema_momentum=...) evaluates, saves and "
            f"exports averages. Received: ema_overwrite_frequency={frequency} on {replicas} replicas"
        )
    if parts := getattr(applied, "gradient_accumulation_steps", None):
        raise UserError(
            "Expected SelfDistiller.compile(gradient_accumulation_steps=...) on several replicas, whose gradients "
            "Keras' optimizers cannot bring together inside a condition. "
            f"Received: an optimizer with gradient_accumulation_steps={parts} on {replicas} replicas"
        )
    is_scaling = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    if is_scaling and not isinstance(optimizer, LossScaleOptimizer):
        raise UserError(
            "Expected cskd_tf.optimizers.LossScaleOptimizer on several replicas: Keras' own asks the first one alone "
            f"whether gradients are finite. Received: keras.optimizers.LossScaleOptimizer on {replicas} replicas"
        )


def check_for_workers(strategy: tf.distribute.Strategy, *, metrics: Sequence, steps_per_execution: int) -> None:
    """Raises UserError for what Keras lets through, and fails at or gets wrong on several workers."""
    if steps_per_execution != 1:
        raise UserError(f"Expected steps_per_execution=1 on several workers. Received: {steps_per_execution=}")
    for metric in metrics:
        variables = [each.value for each in metric.variables] if isinstance(metric, keras.metrics.Metric) else []
        if not all(map(strategy.extended.variable_created_in_scope, variables)):
            raise UserError(
                "Expected metrics by name, or made inside strategy.scope(): others would count this worker's images "
                f"alone. Received: {type(metric).__name__}(name={metric.name!r}), made outside"
            )
