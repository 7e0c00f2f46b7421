"""What Keras lets through, and fails at or gets wrong once training has begun: refused before it."""

from collections.abc import Sequence

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


def check_jit(jit_compile: bool | str, *, replicas: int) -> None:
    """Raises UserError for XLA on several replicas, which Keras lets through and fails at in the first step."""
    if jit_compile is True and replicas > 1:
        raise UserError(
            'Expected jit_compile="auto" or False on several replicas: Keras would compile them and what they exchange '
            f"as one program, which XLA cannot. Received: jit_compile=True on {replicas} replicas"
        )


def check_for_replicas(optimizer, *, replicas: int) -> None:
    """Raises UserError for optimizers that Keras lets through, and that fail or go wrong on several replicas."""
    if parts := getattr(getattr(optimizer, "inner_optimizer", optimizer), "gradient_accumulation_steps", None):
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
