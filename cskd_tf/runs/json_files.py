"""JSON files that are written whole, and read with a clear error; nested values as dotted keys."""

import json
import math
import pathlib
from typing import Any

from cskd_tf.errors import UserError
from cskd_tf.files import written_whole


def as_json(value: Any, *, indent: int | None = None) -> str:
    """JSON text, with null for NaN and infinities, which JSON lacks.

    Example:
        >>> as_json({"a": [1.5, math.nan]})
        '{"a": [1.5, null]}'
    """

    def finite(part):
        if isinstance(part, dict):
            return {key: finite(item) for key, item in part.items()}
        if isinstance(part, (list, tuple)):
            return [finite(item) for item in part]
        return None if isinstance(part, float) and not math.isfinite(part) else part

    return json.dumps(finite(value), indent=indent, allow_nan=False)


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes whole or not at all: a reader never sees half a file. As `as_json`."""
    with written_whole(path) as partial:
        partial.write_text(as_json(value, indent=2) + "\n")


def read_json(path: pathlib.Path, *, advice: str = "") -> dict[str, Any]:
    """What `write_json` wrote; UserError, which ends in `advice`, where something else is there by now."""
    return parsed_json(path.read_text(errors="replace"), name=str(path), advice=advice)


def parsed_json(text: str, *, name: str, advice: str = "") -> dict[str, Any]:
    """A JSON object; UserError, in which it is called `name`, for any other text."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise UserError(f"Expected a JSON object in {name}{advice}. Received: {text.strip()[:60]!r}")
    return value


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings and lists as dotted keys.

    Example:
        >>> flatten({"seed": 1, "methods": [{"name": "CSKD", "weight": 3.0}]})
        {'seed': 1, 'methods[0].name': 'CSKD', 'methods[0].weight': 3.0}
    """
    if isinstance(value, dict) and value:
        items = [(f"{prefix}.{key}" if prefix else str(key), item) for key, item in value.items()]
    elif isinstance(value, (list, tuple)) and any(isinstance(item, dict) for item in value):
        items = [(f"{prefix}[{number}]", item) for number, item in enumerate(value)]
    else:
        return {prefix: list(value) if isinstance(value, tuple) else value}
    return {key: leaf for name, item in items for key, leaf in flatten(item, name).items()}
