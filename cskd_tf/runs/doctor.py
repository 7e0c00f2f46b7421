"""Examines the data and the settings of a run before it is started."""

import dataclasses
import resource
import statistics
import sys
import time

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
from cskd_tf.evaluation.metrics import alone_in_class
from cskd_tf.runs.config import Config
from cskd_tf.runs.experiment import Experiment, prepare

SHOWN = 5  # examples of each finding
TIMED_STEPS = 4


def examine(config: Config) -> None:
    """Prints what is found in the data, and what an epoch will take.

    Every image is read and decoded once; nothing is written but what preparing a data set writes.

    Raises:
        ValueError: whatever would make training fail; after the table was printed, unless there is nothing to put
            into it, such as a missing folder or a class without images.
    """
    source = dataclasses.replace(config.data.source, memory=0.0)
    splits = load_splits(source, config.data.split, check_files=False)  # every file is looked at here
    found = {split: inspect(source, name=split) for split, source in splits.items()}
    console = rich.console.Console(width=None if sys.stdout.isatty() else 160, highlight=False, soft_wrap=True)
    console.print(_table(source.name, splits, found))
    for line in _remarks(splits, found):
        console.print(line)
    problems = [
        f"{len(each.unreadable)} images of {split} cannot be decoded: "
        + "; ".join(f"{splits[split].locate(index)} ({why})" for index, why in list(each.unreadable.items())[:SHOWN])
        for split, each in found.items()
        if each.unreadable
    ]
    if not problems:
        try:
            console.print(_costs(prepare(config)))
        except (ValueError, tf.errors.OpError) as error:
            problems.append(str(error))
    if problems:
        raise UserError("Expected data and settings that can be trained. Received:\n" + "\n".join(problems))
    console.print("Nothing here keeps the run from training.")


def _table(name: str, splits: dict[str, Source], found: dict[str, Inspection]) -> rich.table.Table:
    result = rich.table.Table(title=f"{name}: what is there", title_justify="left", box=rich.box.SIMPLE_HEAD)
    result.add_column("")
    for split in splits:
        result.add_column(split, justify="right")
    rows = {
        "images": lambda source, each: f"{len(source.labels):,}",
        "classes": lambda source, each: f"{len(source.class_names):,}",
        "groups of classes": lambda source, each: f"{len(set(source.class_groups or []))}",
        "images a class: fewest": lambda source, each: f"{each.counts.min():,}",
        "median": lambda source, each: f"{np.median(each.counts):,.0f}",
        "most": lambda source, each: f"{each.counts.max():,}",
        "classes of a single image": lambda source, each: f"{(each.counts == 1).sum():,}",
        "unreadable images": lambda source, each: f"{len(each.unreadable):,}",
        "also in an earlier split": lambda source, each: f"{len(_repeated(found, each)):,}",
        "GiB encoded": lambda source, each: _encoded_size(source),
        "GiB decoded": lambda source, each: f"{each.extents.prod(axis=1).sum() * source.image_shape[2] / GIB:.2f}",
        "smallest, pixels": lambda source, each: _extent(each.extents, np.argmin),
        "largest": lambda source, each: _extent(each.extents, np.argmax),
    }
    if not splits["train"].class_groups:
        del rows["groups of classes"]
    for heading, cell in rows.items():
        result.add_row(heading, *(cell(splits[split], each) for split, each in found.items()))
    return result


def _encoded_size(source: Source) -> str:
    return f"{source.sizes.sum() / GIB:.2f}" if isinstance(source, EncodedSource) else ""


def _repeated(found: dict[str, Inspection], each: Inspection) -> list[tuple[str, int, int]]:
    """Images of a split with the content of one before it: name of the earlier split, index there, index here."""
    repeated = []
    for split, earlier in found.items():
        if earlier is each:
            break
        repeated += [(split, one, other) for one, other in duplicates(earlier, each)]
    return repeated


def _extent(extents: np.ndarray, choose) -> str:
    """Height and width of the image of least or most area."""
    return " x ".join(map(str, extents[choose(extents.prod(axis=1))])) if len(extents) else ""


def _remarks(splits: dict[str, Source], found: dict[str, Inspection]) -> list[str]:
    """One line a finding that does not keep a run from training."""
    lines = []
    for split, each in found.items():
        source = splits[split]
        if len(single := np.flatnonzero(each.counts == 1)) and split == "train":
            names = [source.class_names[label] for label in single[:SHOWN]]
            lines.append(f"{split}: {len(single)} classes have one image, which is paired with itself: {names}")
        if split != "train" and (alone := alone_in_class(source.labels)):
            undefined = ", and is undefined" if alone == len(source.labels) else ""
            lines.append(
                f"{split}: R@1 leaves out {alone:,} of {len(source.labels):,} images, alone in their class{undefined}"
            )
        lines += [f"{split}: {count:,} images are {remark}" for remark, count in each.remarks.most_common()]
        if repeated := _repeated(found, each):
            pairs = [(splits[earlier].locate(one), source.locate(other)) for earlier, one, other in repeated[:SHOWN]]
            lines.append(f"{split}: {len(repeated)} images are in an earlier split as well, to the byte: {pairs}")
    return lines


def _costs(experiment: Experiment) -> rich.table.Table:
    """Time and memory of a training epoch, from a few steps of it."""
    timer = _StepTimer()
    keras.utils.set_random_seed(experiment.config.seed)
    steps = min(TIMED_STEPS, experiment.steps_per_epoch)
    experiment.model.fit(experiment.training_data(), epochs=1, steps_per_epoch=steps, verbose=0, callbacks=[timer])
    seconds = statistics.median(timer.seconds[1:] or timer.seconds)  # the first step compiles
    batches = experiment.training_data().take(8).as_numpy_iterator()
    next(batches)
    start = time.perf_counter()
    count = sum(1 for _ in batches)
    epoch = experiment.steps_per_epoch * seconds
    result = rich.table.Table(title="what an epoch takes", title_justify="left", box=rich.box.SIMPLE_HEAD)
    result.add_column("")
    result.add_column("", justify="right")
    result.add_row("steps", f"{experiment.steps_per_epoch:,}")
    result.add_row("a step, s", f"{seconds:.3f}")
    if count:
        result.add_row("of which the data alone would take", f"{(time.perf_counter() - start) / count:.3f}")
    result.add_row("a training epoch, minutes", f"{epoch / 60:.1f}")
    result.add_row(f"all {experiment.config.epochs} epochs, hours", f"{epoch * experiment.config.epochs / 3600:.1f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    result.add_row("most memory so far, GiB", f"{peak:.1f}")
    return result


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
