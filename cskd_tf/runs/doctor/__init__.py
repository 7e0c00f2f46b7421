"""Examines the data and the settings of a run before it is started."""

import dataclasses

import numpy as np
import tensorflow as tf

from cskd_tf.data.catalogue.splits import load_splits
from cskd_tf.data.sources.inspection import inspect
from cskd_tf.errors import UserError
from cskd_tf.runs.classifiers import open_classifier
from cskd_tf.runs.config import Config
from cskd_tf.runs.doctor import contents, costs, labels
from cskd_tf.runs.experiment import prepare
from cskd_tf.runs.report import console

LABELS = 5000  # of training images that are checked at most


@dataclasses.dataclass(frozen=True, eq=False)
class Findings:
    """What advice on a run can go by.

    Attributes:
        config: of the run.
        counts: int `[C]`, training images of each class.
        held_out: validation images.
        sides: int `[N]`, the shorter side of each training image, in pixels.
        same_size: whether all training images are of one size.
        steps: of a training epoch.
        step: seconds of one, as timed here.
    """

    config: Config
    counts: np.ndarray
    held_out: int
    sides: np.ndarray
    same_size: bool
    steps: int
    step: float


def examine(config: Config, *, check_labels: int = LABELS, run: str = "") -> Findings:
    """Prints what is found in the data, and what an epoch will take.

    Every image is read and decoded once; nothing is written but what preparing a data set writes.

    Args:
        config: of the run.
        check_labels: how many training images at most have their labels checked, see `labels.check`; 0: none.
        run: a workdir or a SavedModel, by whose embeddings they are; empty: by their pixels.

    Raises:
        UserError: whatever would make training fail; after the table was printed, unless there is nothing to put
            into it, such as a missing folder or a class without images. A `run` that has no embeddings.
    """
    if run and not check_labels:
        raise UserError(f"Expected labels to be checked beside --with={run}. Received: --check_labels=0")
    by = open_classifier(run) if run else None
    source = dataclasses.replace(config.data.source, memory=0.0)
    splits = load_splits(source, config.data.split, check_files=False)  # every file is looked at here
    inspections = {split: inspect(images, name=split) for split, images in splits.items()}
    screen = console()
    screen.print(contents.table(source.name, splits, inspections))
    for line in contents.remarks(splits, inspections):
        screen.print(line, markup=False)
    if problems := contents.unreadable(splits, inspections):
        raise UserError(_refusal(problems))
    if check_labels:
        checked = labels.check(splits["train"], limit=check_labels, classifier=by)
        same = bool(by and by.trained_on and by.trained_on.source == config.data.source)
        for line in labels.described(checked, splits["train"], saw_them=same):
            screen.print(line, markup=False)
    try:
        experiment = prepare(config)
        cost = costs.measure(experiment)
    except (ValueError, tf.errors.OpError) as error:
        raise UserError(_refusal([str(error)])) from error
    screen.print(costs.table(cost, experiment))
    screen.print("Nothing here keeps the run from training.")
    train = inspections["train"]
    return Findings(
        config=config,
        counts=train.counts,
        held_out=len(splits["val"].labels) if "val" in splits else 0,
        sides=train.extents.min(axis=1),
        same_size=len(np.unique(train.extents, axis=0)) == 1,
        steps=experiment.steps_per_epoch,
        step=cost.step,
    )


def _refusal(problems: list[str]) -> str:
    return "Expected data and settings that can be trained. Received:\n" + "\n".join(problems)
