"""A batch in parts, whose gradients are added up: the step of the whole batch in the memory of a part."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from cskd_tf.checks import check_count
from cskd_tf.errors import UserError
from cskd_tf.methods.composition import Composition


def check_accumulation(steps: int, *, composition: Composition) -> None:
    """Raises UserError for no number of parts, or several beside a method that needs a batch in one."""
    check_count("gradient_accumulation_steps", steps)
    if steps > 1 and (names := composition.needing_whole_batches):
        raise UserError(
            f"Expected gradient_accumulation_steps=1 beside {', '.join(names)}: a statistic of the whole batch enters "
            f"the loss of each image. Received: gradient_accumulation_steps={steps}"
        )


def accumulated(
    differentiate: Callable[[dict[str, tf.Tensor]], tuple[list, Any]],
    batch: dict[str, tf.Tensor],
    *,
    parts: int,
    unit: int = 1,
) -> tuple[list, Any]:
    """What `differentiate` says of a batch, computed in parts.

    Example: of the sum of the squares of 1, 2 and 3 times w, at w = 1:
        >>> weight = tf.Variable(1.0)
        >>> def differentiate(batch):
        ...     with tf.GradientTape() as tape:
        ...         squares = (weight * batch["x"]) ** 2
        ...         loss = tf.reduce_sum(squares)
        ...     return tape.gradient(loss, [weight]), squares
        >>> (gradient,), squares = accumulated(differentiate, {"x": tf.constant([1.0, 2.0, 3.0])}, parts=2)
        >>> float(gradient), squares.numpy().tolist()
        (28.0, [1.0, 4.0, 9.0])

    Args:
        differentiate: from a batch to the gradients of a sum over its examples, of which some may be None, and nested
            tensors of one row per example.
        batch: tensors `[b, ...]`, of at least `parts * unit` rows.
        parts: how many, as even as they can be.
        unit: rows that stay together.

    Returns:
        The sum of the gradients, and all rows in their order.
    """
    if parts == 1:
        return differentiate(batch)
    gradients: list = []
    rows = []
    for number in range(parts):
        part = {name: _part(values, number, parts=parts, unit=unit) for name, values in batch.items()}
        # It begins when the one before it has its gradients, or TensorFlow would hold several in memory.
        with tf.control_dependencies([each for each in gradients if each is not None]):
            part = {name: tf.identity(values) for name, values in part.items()}
        added, of_part = differentiate(part)
        added = [None if each is None else tf.convert_to_tensor(each) for each in added]  # sparse ones too
        pairs = zip(gradients or added, added, strict=True)
        gradients = [one if one is None or one is other else one + other for one, other in pairs]
        rows.append(of_part)
    return gradients, tf.nest.map_structure(lambda *values: tf.concat(values, axis=0), *rows)


def _part(values: tf.Tensor, number: int, *, parts: int, unit: int) -> tf.Tensor:
    """Rows of one part.

    Example:
        >>> [_part(tf.range(10), number, parts=2, unit=2).numpy().tolist() for number in range(2)]
        [[0, 1, 2, 3], [4, 5, 6, 7, 8, 9]]
    """
    units = (tf.shape(values)[0] if values.shape[0] is None else values.shape[0]) // unit
    return values[unit * (units * number // parts) : unit * (units * (number + 1) // parts)]
