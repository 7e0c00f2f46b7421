"""Runs that others learn from, or begin with the weights of: the files of theirs, and whether they saw such images."""

import itertools
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from absl import logging

from cskd_tf.errors import UserError
from cskd_tf.networks.pretrained import is_pretrained
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
        if (workdir := _run_of(teacher)) is None:
            continue
        if (known := workdir.classes()) and list(known[0]) != list(class_names):
            differ = [pair for pair in itertools.zip_longest(known[0], class_names) if pair[0] != pair[1]]
            raise UserError(
                f"Expected a teacher of the same classes in the same order. Received: {teacher}, one of whose classes "
                f"is {differ[0][0]!r} where that of the images is {differ[0][1]!r}"
            )
        ours, theirs = _normalizations(config, workdir)
        if ours != theirs:
            raise UserError(
                "Expected a teacher of pixels with the same data.augment.mean and .std. "
                f"Received: {teacher} with {theirs[0]} and {theirs[1]}, here {ours[0]} and {ours[1]}"
            )


def warn_of_other_pixels(config: Config) -> None:
    """Says it where the run that `network.weights` names saw pixels that were normalised otherwise, as is rarely meant.

    What is pretrained has a layer of its own for that, which begins anew.
    """
    workdir = None if is_pretrained(config.network.name) else _run_of(config.network.weights)
    if workdir is None:
        return
    ours, theirs = _normalizations(config, workdir)
    if ours != theirs:
        logging.warning(
            "The weights of %s are of pixels with data.augment.mean and .std %s and %s, and here these are %s and %s",
            config.network.weights, *theirs, *ours,
        )  # fmt: skip


def _run_of(path: str) -> Workdir | None:
    """The run of a folder, or of the classifier in it; None for what is of no run."""
    given = pathlib.Path(path)
    workdir = Workdir(given.parent if given.name == CLASSIFIER else given)
    return workdir if path and (workdir.path / CONFIG).is_file() else None


def _normalizations(config: Config, workdir: Workdir) -> Iterator[tuple[Sequence[float], Sequence[float]]]:
    """Mean and standard deviation of a config's images, and of a run's."""
    return ((each.mean, each.std) for each in (config.data.augment, workdir.config().data.augment))
