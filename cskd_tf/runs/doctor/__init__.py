"""Examines the data and the settings of a run before it is started."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import rich.console
import tensorflow as tf

from cskd_tf.data.catalogue.splits import brings_validation, load_splits
from cskd_tf.data.sources.inspection import inspect
from cskd_tf.errors import UserError
from cskd_tf.runs.classifiers import open_classifier
from cskd_tf.runs.config import Config
from cskd_tf.runs.doctor import contents, costs, labels
from cskd_tf.runs.experiment import prepare
from cskd_tf.runs.printing import PROSE, console, say, show

LABELS = 5000  # of training images that are checked at most


@dataclasses.dataclass(frozen=True, eq=False)
class Findings:
    """What advice on a run can go by.

    Attributes:
        config: of the run.
        counts: int `[C]`, training images of each class.
        held_out: validation images.
        brought: whether they are the data's own, and not taken from the training images.
        tested: test images.
        sides: int `[N]`, the shorter side of each training image that can be decoded, in pixels.
        same_size: whether all of these are of one size.
        steps: of a training epoch; 0 where it cannot be trained.
        step: seconds of one, as timed here; None where it cannot be trained.
        problem: what keeps the run from training; empty: nothing.
    """

    config: Config
    counts: np.ndarray
    held_out: int
    tested: int
    sides: np.ndarray
    same_size: bool
    steps: int = 0
    step: float | None = None
    problem: str = ""
    brought: bool = False


def examine(
    config: Config,
    *,
    check_labels: int = LABELS,
    run: str = "",
    advise: Callable[[Findings], Mapping[str, Any]] | None = None,
) -> Findings:
    """Prints what is found in the data, and what an epoch will take.

    Every image is read and decoded once; nothing is written but what preparing a data set writes.

    Args:
        config: of the run.
        check_labels: how many training images at most have their labels checked, see `labels.check`; 0: none.
        run: a workdir or a SavedModel, by whose embeddings they are; empty: by their pixels.
        advise: prints advice on what was found, before a problem is raised, and returns keys of the config that may
            mend that, with values.

    Raises:
        UserError: whatever would make training fail; after all else was printed, and with what mends it where that is
            known. Before, where there is nothing to print, such as of a missing folder or a class without images. A
            `run` that has no embeddings.
    """
    if run and not check_labels:
        raise UserError(f"Expected labels to be checked beside --with={run}. Received: --check_labels=0")
    by = open_classifier(run) if run else None
    source = dataclasses.replace(config.data.source, memory=0.0)
    # Every file is looked at here, and what is too small is shown before it is refused.
    splits = load_splits(source, config.data.split, check_files=False, check_sizes=False)
    inspections = {split: inspect(images, name=split) for split, images in splits.items()}
    screen = console(piped=PROSE)
    show(screen, contents.table(source.name, splits, inspections))
    for line in contents.remarks(splits, inspections):
        say(screen, line)
    train = inspections["train"]
    findings = Findings(
        config=config,
        counts=train.counts,
        held_out=len(splits["val"].labels) if "val" in splits else 0,
        tested=len(splits["test"].labels) if "test" in splits else 0,
        sides=train.extents.min(axis=1) if len(train.extents) else train.extents[:, 0],
        same_size=len(np.unique(train.extents, axis=0)) == 1,
        problem="\n".join(contents.unreadable(splits, inspections)),
        brought="val" in splits and brings_validation(source, config.data.split),
    )
    cause: Exception | None = None
    if not findings.problem:
        if check_labels:
            checked = labels.check(splits["train"], limit=check_labels, classifier=by)
            same = bool(by and by.trained_on and by.trained_on.source.of_images() == config.data.source.of_images())
            for line in labels.described(checked, splits["train"], saw_them=same):
                say(screen, line)
        findings, cause = _timed(findings, screen)
    mends = advise(findings) if advise and len(findings.sides) else {}
    if findings.problem:
        raise UserError(_refusal(findings.problem, _mending(config, mends))) from cause
    return findings


def _timed(findings: Findings, screen: rich.console.Console) -> tuple[Findings, Exception | None]:
    """The findings with what a step takes, which is printed, or with what keeps it from being taken, and the cause."""
    try:
        experiment = prepare(findings.config)
        cost = costs.measure(experiment)
    except (ValueError, tf.errors.OpError) as error:
        return dataclasses.replace(findings, problem=str(error)), error
    show(screen, costs.table(cost, experiment))
    say(screen, "Nothing here keeps the run from training.")
    return dataclasses.replace(findings, steps=experiment.steps_per_epoch, step=cost.step), None


def _mending(config: Config, mends: Mapping[str, Any]) -> str:
    """The flags with which a run can be prepared that cannot without them; empty where it cannot with them either."""
    if not mends:
        return ""
    values = config.as_dict()
    for key, value in mends.items():
        *groups, last = key.split(".")
        functools.reduce(dict.__getitem__, groups, values)[last] = value
    try:
        prepare(Config.read(values))
    except (ValueError, tf.errors.OpError):
        return ""
    return " ".join(f"--config.{key}={value}" for key, value in mends.items())


def _refusal(problem: str, flags: str) -> str:
    mended = f"\nIt can be trained with {flags}" if flags else ""
    return f"Expected data and settings that can be trained. Received:\n{problem}{mended}"
