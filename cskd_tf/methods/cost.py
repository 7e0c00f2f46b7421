"""What a step of a list of methods takes, counted: arithmetic, not a measurement."""

from collections.abc import Mapping, Sequence
from typing import Any

from cskd_tf.methods import build
from cskd_tf.methods.composition import Composition

WITH_GRADIENT, FORWARD = 3, 1  # a backward pass has two products for each one of the forward pass


def passes(descriptions: Sequence[Mapping[str, Any]]) -> int:
    """Passes of the network itself in a training step, counted as forward passes; a teacher's are not counted.

    A view with gradients counts as three, one without as one, and so does the network of the last epoch.

    Example:
        >>> passes([]), passes([{"name": "CSKD"}]), passes([{"name": "DDGSD"}])
        (3, 4, 6)

    Args:
        descriptions: as of `build`; a teacher need not be there yet.

    Raises:
        UserError: as of `build`.
    """
    views = Composition(build([method for method in descriptions if not method.get("teacher")])).views
    own = sum(WITH_GRADIENT if view.gradient else FORWARD for view in views)
    return own + FORWARD * sum(method.get("source") == "network" for method in descriptions)


def over_cross_entropy(descriptions: Sequence[Mapping[str, Any]]) -> float:
    """How many steps of cross-entropy a step takes, where a teacher is a network of the same size.

    Example:
        >>> cskd, teacher = {"name": "CSKD"}, {"name": "Distillation", "teacher": "workdirs/teacher"}
        >>> [round(over_cross_entropy(methods), 6) for methods in ([cskd], [teacher], [teacher, cskd])]
        [1.333333, 1.333333, 1.666667]

    Args:
        descriptions: as of `passes`.

    Raises:
        UserError: as of `build`.
    """
    teachers = sum(bool(method.get("teacher")) for method in descriptions)
    return (passes(descriptions) + FORWARD * teachers) / passes([])
