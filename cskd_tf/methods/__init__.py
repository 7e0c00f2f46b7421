"""Every method, and the way from a config's list to their objects."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from cskd_tf.methods.base import Method, View, check_composition, data_options, merge_views
from cskd_tf.methods.cskd import CSKD

METHODS = {method.__name__: method for method in (CSKD,)}


def build(descriptions: Sequence[Mapping[str, Any]]) -> list[Method]:
    """The methods of a config. Example: `build([{"name": "CSKD", "temperature": 4.0}])` is `[CSKD(temperature=4.0)]`.

    Args:
        descriptions: one mapping a method: `name`, and the keyword arguments of the class.

    Raises:
        ValueError: an unknown method or argument (the known ones are listed), a value out of range, or a list that
            cannot work together.
    """
    if isinstance(descriptions, str) or not all(isinstance(each, Mapping) for each in descriptions):
        raise ValueError(f"Expected one mapping a method, with its name. Received: methods={descriptions!r}")
    methods = []
    for description in descriptions:
        arguments = dict(description)
        name = arguments.pop("name", None)
        if not isinstance(name, str) or name not in METHODS:
            raise ValueError(f"Unknown method; expected one of {sorted(METHODS)}. Received: name={name!r}")
        known = [key for key in inspect.signature(METHODS[name]).parameters if key != "kwargs"]
        if unknown := sorted(set(arguments) - set(known)):
            raise ValueError(f"Unknown argument of {name}; expected some of {known}. Received: {unknown}")
        methods.append(METHODS[name](**arguments))
    check_composition(methods)
    return methods


__all__ = ["CSKD", "METHODS", "Method", "View", "build", "check_composition", "data_options", "merge_views"]
