"""Checks of arguments: the value back, or a UserError that says what was expected and what came."""

import math
import numbers
from collections.abc import Sequence
from typing import Any

from cskd_tf.errors import UserError


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def check_number(name: str, value: float, *, positive: bool) -> float:
    """A finite number above 0 (`positive`), or not below it."""
    if not _is_number(value) or value < 0 or (positive and value == 0):
        bound = "above 0" if positive else "of at least 0"
        raise UserError(f"Expected {name} to be a finite number {bound}. Received: {name}={value!r}")
    return float(value)


def check_fraction(name: str, value: float, *, zero: bool = True, one: bool = False) -> float:
    """A number between 0 and 1, which may be 0 (`zero`) and 1 (`one`)."""
    if not _is_number(value) or not 0 <= value <= 1 or (value == 0 and not zero) or (value == 1 and not one):
        bounds = f"{'[' if zero else '('}0, 1{']' if one else ')'}"
        raise UserError(f"Expected {name} in {bounds}. Received: {name}={value!r}")
    return float(value)


def check_count(name: str, value: int, *, least: int = 1) -> int:
    """An integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise UserError(f"Expected {name} to be an integer of at least {least}. Received: {name}={value!r}")
    return int(value)


def check_seed(seed: int) -> int:
    """An integer of at most 64 bits."""
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral):
        raise UserError(f"Expected seed to be an integer. Received: seed={seed!r}")
    if not -(2**63) <= seed < 2**64:
        raise UserError(f"Expected a seed of at most 64 bits. Received: seed={seed}")
    return int(seed)


def check_flag(name: str, value: bool) -> bool:
    """True or False, and nothing that only counts as either."""
    if not isinstance(value, bool):
        raise UserError(f"Expected {name} to be True or False. Received: {name}={value!r}")
    return value


def check_option(name: str, value: str, options: Sequence[str]) -> str:
    """One of some words."""
    if value not in options:
        raise UserError(f"Expected {name} to be one of {list(options)}. Received: {name}={value!r}")
    return value
