"""Settings as frozen dataclasses, whose types say what values are possible."""

import dataclasses
import math
import typing
from typing import Any

from cskd_tf.errors import UserError, did_you_mean


@dataclasses.dataclass(frozen=True)
class Within:
    """The numbers that a setting may be: `epochs: Annotated[int, Within(1)]` is at least 1."""

    least: float
    most: float = math.inf


def check_value(kind: Any, value: Any, *, name: str) -> None:
    """Refuses a value outside of a `Within`, or that is none of a `Literal`; types are not looked at.

    Raises:
        UserError: with the setting's name, what was expected and what came.
    """
    if typing.get_origin(kind) is typing.Literal and value not in (known := sorted(typing.get_args(kind))):
        raise UserError(
            f"Unknown {name.rpartition('.')[2]}; expected one of {known}. "
            f"Received: {name}={value!r}{did_you_mean(value, map(str, known))}"
        )
    for bounds in getattr(kind, "__metadata__", ()):
        if not bounds.least <= value <= bounds.most:  # so that NaN is refused too
            expected = f"at most {bounds.most}" if value > bounds.most else f"at least {bounds.least}"
            raise UserError(f"Expected {name} to be {expected}. Received: {name}={value!r}")


def check(settings: Any) -> None:
    """`check_value` of every field of a dataclass, for its `__post_init__`."""
    for name, kind in kinds(type(settings)).items():
        check_value(kind, getattr(settings, name), name=name)


def kinds(group: type) -> dict[str, Any]:
    """The fields of a dataclass and what is possible for each.

    Example:
        >>> kinds(Within)
        {'least': <class 'float'>, 'most': <class 'float'>}
    """
    hints = typing.get_type_hints(group, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(group)}
