"""Examines the data and the settings of a run before it is started."""

import dataclasses
import resource
import statistics
import sys
import time
from collections.abc import Callable

import keras
import numpy as np
import rich.box
import rich.console
import rich.table
import tensorflow as tf

from cskd_tf.data.catalogue.splits import load_splits
from cskd_tf.data.sources.base import EncodedSource, Source
from cskd_tf.data.sources.caching import GIB
from cskd_tf.data.sources.inspection import Inspection, duplicates, inspect
from cskd_tf.errors import UserError
from cskd_tf.evaluation.neighbours import alone_in_class
from cskd_tf.runs.config import Config
from cskd_tf.runs.experiment import Experiment, prepare

SHOWN = 5  # examples of each finding
TIMED_STEPS = 4


def examine(config: Config) -> None:
    """Prints what is found in the data, and what an epoch will take.

    Every image is read and decoded once; nothing is written but what preparing a data set writes.

    Raises:
        UserError: whatever would make training fail; after the table was printed, unless there is nothing to put
            into it, such as a missing folder or a class without images.
    """
    source = dataclasses.replace(config.data.source, memory=0.0)
    splits = load_splits(source, config.data.split, check_files=False)  # every file is looked at here
    inspections = {split: inspect(images, name=split) for split, images in splits.items()}
    console = rich.console.Console(width=None if sys.stdout.isatty() else 160, highlight=False, soft_wrap=True)
    console.print(_table(source.name, splits, inspections))
    for line in _remarks(splits, inspections):
        console.print(line)
    problems = _unreadable(splits, inspections)
    if not problems:
        try:
            console.print(_costs(prepare(config)))
        except (ValueError, tf.errors.OpError) as error:
            problems.append(str(error))
    if problems:
        raise UserError("Expected data and settings that can be trained. Received:\n" + "\n".join(problems))
    console.print("Nothing here keeps the run from training.")


def _unreadable(splits: dict[str, Source], inspections: dict[str, Inspection]) -> list[str]:
    """One line per split that has images which cannot be decoded."""
    lines = []
    for split, inspection in inspections.items():
        if reasons := inspection.unreadable:
            shown = [f"{splits[split].locate(index)} ({reason})" for index, reason in list(reasons.items())[:SHOWN]]
            lines.append(f"{len(reasons)} images of {split} cannot be decoded: {'; '.join(shown)}")
    return lines


def _table(name: str, splits: dict[str, Source], inspections: dict[str, Inspection]) -> rich.table.Table:
    result = rich.table.Table(title=f"{name}: what is there", title_justify="left", box=rich.box.SIMPLE_HEAD)
    result.add_column("")
    for split in splits:
        result.add_column(split, justify="right")
    rows = {
        "images": lambda images, seen: f"{len(images.labels):,}",
        "classes": lambda images, seen: f"{len(images.class_names):,}",
        "groups of classes": lambda images, seen: f"{len(set(images.class_groups or []))}",
        "images per class: fewest": lambda images, seen: f"{seen.counts.min():,}",
        "median": lambda images, seen: f"{np.median(seen.counts):,.0f}",
        "most": lambda images, seen: f"{seen.counts.max():,}",
        "classes of a single image": lambda images, seen: f"{(seen.counts == 1).sum():,}",
        "unreadable images": lambda images, seen: f"{len(seen.unreadable):,}",
        "also in an earlier split": lambda images, seen: f"{len(_repeated(inspections, seen)):,}",
        "GiB encoded": lambda images, seen: _encoded_size(images),
        "GiB decoded": lambda images, seen: f"{seen.extents.prod(axis=1).sum() * images.image_shape[2] / GIB:.2f}",
        "smallest, pixels": lambda images, seen: _extent(seen.extents, np.argmin),
        "largest": lambda images, seen: _extent(seen.extents, np.argmax),
    }
    if not splits["train"].class_groups:
        del rows["groups of classes"]
    for heading, cell in rows.items():
        result.add_row(heading, *(cell(splits[split], inspection) for split, inspection in inspections.items()))
    return result


def _encoded_size(images: Source) -> str:
    return f"{images.sizes.sum() / GIB:.2f}" if isinstance(images, EncodedSource) else ""


def _repeated(inspections: dict[str, Inspection], inspection: Inspection) -> list[tuple[str, int, int]]:
    """Images of a split with the content of one before it: name of the earlier split, index there, index here."""
    repeated = []
    for split, earlier in inspections.items():
        if earlier is inspection:
            break
        repeated += [(split, there, here) for there, here in duplicates(earlier, inspection)]
    return repeated


def _extent(extents: np.ndarray, choose: Callable[[np.ndarray], int]) -> str:
    """Height and width of the image of least or most area."""
    return " x ".join(map(str, extents[choose(extents.prod(axis=1))])) if len(extents) else ""


def _remarks(splits: dict[str, Source], inspections: dict[str, Inspection]) -> list[str]:
    """One line per finding that does not keep a run from training."""
    lines = []
    for split, inspection in inspections.items():
        images = splits[split]
        if len(single := np.flatnonzero(inspection.counts == 1)) and split == "train":
            names = [images.class_names[label] for label in single[:SHOWN]]
            lines.append(f"{split}: {len(single)} classes have one image, which is paired with itself: {names}")
        if split != "train" and (alone := alone_in_class(images.labels)):
            undefined = ", and is undefined" if alone == len(images.labels) else ""
            lines.append(
                f"{split}: R@1 leaves out {alone:,} of {len(images.labels):,} images, alone in their class{undefined}"
            )
        lines += [f"{split}: {count:,} images are {remark}" for remark, count in inspection.remarks.most_common()]
        if repeated := _repeated(inspections, inspection):
            pairs = [(splits[earlier].locate(there), images.locate(here)) for earlier, there, here in repeated[:SHOWN]]
            lines.append(f"{split}: {len(repeated)} images are in an earlier split as well, to the byte: {pairs}")
    return lines


def _costs(experiment: Experiment) -> rich.table.Table:
    """Time and memory of a training epoch, from a few steps of it."""
    step, data_alone = _seconds_per_step(experiment)
    steps, epochs = experiment.steps_per_epoch, experiment.config.epochs
    result = rich.table.Table(title="what an epoch takes", title_justify="left", box=rich.box.SIMPLE_HEAD)
    result.add_column("")
    result.add_column("", justify="right")
    result.add_row("steps", f"{steps:,}")
    result.add_row("per step, s", f"{step:.3f}")
    if data_alone is not None:
        result.add_row("of which the data alone would take", f"{data_alone:.3f}")
    result.add_row("a training epoch, minutes", f"{steps * step / 60:.1f}")
    result.add_row(f"all {epochs} epochs, hours", f"{epochs * steps * step / 3600:.1f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    result.add_row("most memory so far, GiB", f"{peak:.1f}")
    return result


def _seconds_per_step(experiment: Experiment) -> tuple[float, float | None]:
    """Of training, and of making the batches alone; None where an epoch has a single batch."""
    timer = _StepTimer()
    keras.utils.set_random_seed(experiment.config.seed)
    steps = min(TIMED_STEPS, experiment.steps_per_epoch)
    experiment.model.fit(experiment.training_data(), epochs=1, steps_per_epoch=steps, verbose=0, callbacks=[timer])
    batches = experiment.training_data().take(8).as_numpy_iterator()
    next(batches)
    start = time.perf_counter()
    count = sum(1 for _ in batches)
    data_alone = (time.perf_counter() - start) / count if count else None
    return statistics.median(timer.seconds[1:] or timer.seconds), data_alone  # the first step compiles


class _StepTimer(keras.callbacks.Callback):
    """Seconds from the end of one step to the end of the next."""

    def __init__(self):
        super().__init__()
        self.seconds: list[float] = []

    def on_train_begin(self, logs=None):
        self._last = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        now = time.perf_counter()
        self.seconds.append(now - self._last)
        self._last = now
