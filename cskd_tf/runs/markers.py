"""Which checkpoints are whole: a file beside each, written last, holds the size and the checksum of its parts.

Where files appear in any order or half, as in a mounted bucket, a checkpoint counts only with a marker that fits.
"""

import hashlib
import json
import pathlib
from typing import Any

import tensorflow as tf

from cskd_tf.files import to_disk, written_whole


def mark(prefix: pathlib.Path, **more: Any) -> None:
    """Says that the checkpoint `prefix` is whole.

    Args:
        prefix: of its files, such as `last/ckpt-2` of `last/ckpt-2.index`.
        more: JSON values that belong to it.
    """
    for part in _files(prefix):  # before it counts
        to_disk(part)
    content = {"files": _parts(prefix), **more}
    with written_whole(marker(prefix)) as partial:
        partial.write_text(json.dumps({**content, "sha256": _checksum(content)}, indent=2) + "\n")


def unmark(prefix: pathlib.Path) -> None:
    """Says that the checkpoint is about to change."""
    marker(prefix).unlink(missing_ok=True)


def marker(prefix: pathlib.Path) -> pathlib.Path:
    """Where the marker of a checkpoint is."""
    return prefix.with_name(prefix.name + ".json")


def read(prefix: pathlib.Path) -> dict[str, Any]:
    """What `mark` wrote; empty where there is none, or something else by now."""
    try:
        content = json.loads(marker(prefix).read_text())
        return content if content.pop("sha256") == _checksum(content) else {}
    except (FileNotFoundError, ValueError, KeyError, AttributeError, TypeError):
        return {}


def damage(prefix: pathlib.Path) -> str | None:
    """What is wrong with a checkpoint, or None.

    Of a folder of a version without markers everything is read, and the format's own checksums are compared.
    """
    if found := read(prefix):
        there = _parts(prefix)
        differing = [name for name, part in found["files"].items() if there.get(name) != part]
        return f"{differing[0]} is not what {marker(prefix).name} says" if differing else None
    if any(prefix.parent.glob("ckpt-*.json")):
        return f"{marker(prefix).name}, which is written last, is not there or not whole"
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
    except (tf.errors.OpError, ValueError, RuntimeError, IndexError) as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"
    return None


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _files(prefix: pathlib.Path) -> list[pathlib.Path]:
    # One pattern for all, because Python keeps what it compiles of each.
    names = f"{prefix.name}.data-", f"{prefix.name}.index"
    return [file for file in sorted(prefix.parent.glob("ckpt-*")) if file.name.startswith(names)]


def _parts(prefix: pathlib.Path) -> dict[str, dict[str, Any]]:
    parts = {}
    for file in _files(prefix):
        with open(file, "rb") as content:
            checksum = hashlib.file_digest(content, "sha256").hexdigest()
        parts[file.name] = {"bytes": file.stat().st_size, "sha256": checksum}
    return parts
