"""Runs that others learn from: which file of theirs is the teacher, and whether it is one of these images."""

import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from cskd_tf.errors import UserError
from cskd_tf.runs.config import Config
from cskd_tf.runs.workdir import CLASSIFIER, CONFIG, Workdir


def by_file(method: Any) -> Any:
    """One entry of `config.methods`, where a teacher that is named by its workdir is named by the file in it.

    Raises:
        UserError: a folder without such a file.
    """
    teacher = method.get("teacher") if isinstance(method, Mapping) else None
    if not isinstance(teacher, str) or not pathlib.Path(teacher).is_dir():
        return method
    file = pathlib.Path(teacher) / CLASSIFIER
    if not file.is_file():
        raise UserError(f"Expected the workdir of a finished run, with {CLASSIFIER}, as teacher. Received: {teacher}")
    return {**method, "teacher": str(file)}


def check(config: Config, *, class_names: Sequence[str]) -> None:
    """Compares runs that are teachers with what a run is going to ask them: pixels, and classes by number.

    Raises:
        UserError: other classes, or pixels that were normalised otherwise.
    """
    for method in config.methods:
        teacher = method.get("teacher")
        if not isinstance(teacher, str):
            continue
        path = pathlib.Path(teacher)
        workdir = Workdir(path.parent if path.name == CLASSIFIER else path)
        if not (workdir.path / CONFIG).is_file():
            continue
        if (known := workdir.classes()) and list(known[0]) != list(class_names):
            differ = [pair for pair in itertools.zip_longest(known[0], class_names) if pair[0] != pair[1]]
            raise UserError(
                f"Expected a teacher of the same classes in the same order. Received: {teacher}, one of whose classes "
                f"is {differ[0][0]!r} where that of the images is {differ[0][1]!r}"
            )
        ours, theirs = ((each.mean, each.std) for each in (config.data.augment, workdir.config().data.augment))
        if ours != theirs:
            raise UserError(
                "Expected a teacher of pixels with the same data.augment.mean and .std. "
                f"Received: {teacher} with {theirs[0]} and {theirs[1]}, here {ours[0]} and {ours[1]}"
            )
