"""Tables of finished runs."""

import json
import math
import pathlib
import re
import shlex
import statistics
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import rich.table
from absl import logging

from cskd_tf.errors import UserError
from cskd_tf.evaluation.metrics import ensemble, summarize
from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.runs import printing
from cskd_tf.runs.config import OF_NO_RESULT, Config
from cskd_tf.runs.grid import SEED_KEYS
from cskd_tf.runs.images_of_run import IMAGES, noted_images
from cskd_tf.runs.json_files import flatten
from cskd_tf.runs.workdir import CONFIG, METRICS, Workdir

# Heading, key in metrics.json, factor. Papers print per cent, and AURC times 1000.
COLUMNS = (
    ("top-1\nerror %", "top1_error", 100),
    ("top-5\nerror %", "top5_error", 100),
    ("\nNLL", "nll", 1),
    ("\nECE %", "ece", 100),
    ("\nR@1 %", "recall_at_1", 100),
    ("AURC\nx 1000", "aurc", 1000),
)


def find_runs(root: pathlib.Path) -> list[Workdir]:
    """All finished runs at and below a folder.

    Raises:
        UserError: there is none.
    """
    folders = [path.parent for path in sorted(root.rglob(METRICS))] if root.is_dir() else []
    found = []
    for folder in folders:
        if not (folder / CONFIG).is_file():
            logging.warning("%s is left out: it is no run's folder, for it lacks %s", folder, CONFIG)
            continue
        try:
            found.append(Workdir(folder))
        except UserError as error:  # a path that TensorFlow would take for a pattern
            if len(folders) == 1:
                raise
            logging.warning("%s is left out: %s", folder, error)
    runs = [run for run in found if _has_finished(run, alone=len(found) == 1)]
    if not runs:
        raise UserError(f"Expected finished runs ({METRICS}) in or below the workdir. Received: none in {root}")
    return runs


def _has_finished(run: Workdir, *, alone: bool) -> bool:
    """Whether there are metrics; where there are other runs, one whose files are damaged is named and left out."""
    try:
        return bool(run.config() and run.metrics())
    except UserError as error:
        if alone:
            raise
        logging.warning("%s is left out: %s", run.path, error)
        return False


def name_unfinished(root: pathlib.Path, runs: Sequence[Workdir]) -> None:
    """Warns of runs at and below a folder that are not among the finished ones."""
    finished = {run.path for run in runs}
    for path in sorted(root.rglob(CONFIG)):
        if path.parent in finished or (path.parent / METRICS).exists() or not path.is_file():
            continue
        try:
            Workdir(path.parent).config()
            why = "it has not finished"
        except UserError as error:
            why = f"it is no run's folder, or its config is damaged: {error}"
        logging.warning("%s is left out: %s", path.parent, why)


def name_of_methods(config: Config) -> str:
    """The methods of a run, such as `CSKD(temperature=4, weight=1)`, or `cross-entropy`."""
    calls = []
    for method in config.methods:
        values = {key: f"{value:g}" if isinstance(value, float) else value for key, value in method.items()}
        arguments = ", ".join(f"{key}={value}" for key, value in values.items() if key != "name")
        calls.append(f"{method['name']}({arguments})")
    return " + ".join(calls) or "cross-entropy"


def group_by_seed(runs: Sequence[Workdir]) -> list[list[Workdir]]:
    """Runs whose configs differ in seeds alone, together; those with fewer methods first.

    Of runs that are the same, seeds and all, such as those of two grids with a point in common, the first counts.

    Raises:
        UserError: as of `check_same_images` and `check_same_bins`, of a group.
    """
    groups: dict[str, dict[str, Workdir]] = {}
    for run in runs:
        group = groups.setdefault(json.dumps(settings(run), sort_keys=True), {})
        values = flatten(run.config().as_dict())
        first = group.setdefault(json.dumps([values[key] for key in SEED_KEYS]), run)
        if first is not run:
            logging.warning("%s is left out: it has the config and the seeds of %s", run.path, first.path)
    for group in groups.values():
        check_same_images(list(group.values()))
        check_same_bins(list(group.values()))
    return sorted(
        (list(group.values()) for group in groups.values()),
        key=lambda group: (len(group[0].config().methods), str(group[0].path)),
    )


def check_same_images(runs: Sequence[Workdir]) -> None:
    """Refuses runs that are split alike and have other images all the same: their data has changed in between.

    Runs that have not noted their images are compared by the labels of the test split.

    Raises:
        UserError: such runs, or predictions that cannot be read.
    """
    noted: dict[int, tuple[Workdir, dict[str, Any]]] = {}
    for run in runs:
        if (images := noted_images(run)) is None:
            continue
        other, others = noted.setdefault(run.config().data.split.seed, (run, images))
        if images != others:
            raise UserError(
                "Expected runs of one config and split to have the same images. "
                f"Received: {other.path} and {run.path}, whose {IMAGES} differ; has their data changed?"
            )
    first: dict[int, tuple[Workdir, np.ndarray]] = {}
    for run in runs:
        if len(runs) < 2 or not (file := run.predictions("test")).exists():
            continue
        labels = Predictions.labels_of(file)
        other, theirs = first.setdefault(run.config().data.split.seed, (run, labels))
        if not np.array_equal(labels, theirs):
            raise UserError(
                f"Expected runs of one config and split to have the same test images. Received: {other.path} with "
                f"{len(theirs)} and {run.path} with {len(labels)}, whose labels differ; has their data changed?"
            )


def name_other_images(runs: Sequence[Workdir]) -> None:
    """Warns of runs of one data set and split whose images differ all the same, so that they cannot be compared.

    Of one config they are refused (`check_same_images`); runs of several methods may stand side by side nevertheless.
    """
    of_data: dict[str, dict[str, list[Workdir]]] = {}
    for run in runs:
        if (images := noted_images(run)) is None:
            continue
        data = run.config().data
        settings = repr((data.source.of_images(), data.split))
        of_data.setdefault(settings, {}).setdefault(json.dumps(images, sort_keys=True), []).append(run)
    for alike in of_data.values():
        if len(alike) > 1:
            named = [f"{one.path}" + (f" and {len(more)} more" if more else "") for one, *more in alike.values()]
            logging.warning(
                "Not to be compared, for their images differ though one config says of their data (%s): %s",
                IMAGES, "; ".join(named),
            )  # fmt: skip


def check_same_bins(runs: Sequence[Workdir]) -> None:
    """Refuses runs of one config whose ECEs are of other numbers of bins, of which there is no mean.

    Raises:
        UserError: such runs.
    """
    of_bins = {run.metrics_of("test")["ece_bins"]: run.path for run in runs}
    if len(of_bins) > 1:
        (bins, path), (others, other), *_ = of_bins.items()
        raise UserError(
            f"Expected runs of one config with one number of bins of the ECE. Received: {bins:g} in {path}, "
            f"{others:g} in {other}; --mode=evaluate writes a run's metrics again"
        )


def settings(run: Workdir) -> dict[str, Any]:
    """What runs of one group share, of teachers that a sweep has trained in `TEACHER/seed=0` the first part."""
    ignored = (*SEED_KEYS, *OF_NO_RESULT)
    values = {key: value for key, value in flatten(run.config().as_dict()).items() if key not in ignored}
    for key, value in values.items():
        if key.startswith("methods[") and isinstance(value, str):
            values[key] = re.sub(r"/seed=[^/]*$", "", value)
    return {**values, "imported": run.imported_from() is not None}


def name_groups(groups: Sequence[Sequence[Workdir]]) -> list[str]:
    """A name for each group: its methods, and the other keys in which not all of the groups are the same.

    Such as `["cross-entropy, epochs=60", "cross-entropy, epochs=80", "CSKD(temperature=4), epochs=80"]`.
    """
    shared = [settings(group[0]) for group in groups]
    own = [key for key in dict.fromkeys(key for each in shared for key in each) if not key.startswith("methods")]
    keys = [key for key in own if key != "imported" and any(each.get(key) != shared[0].get(key) for each in shared)]
    return [
        ", ".join([name_of_methods(group[0].config()), *(f"{key}={each.get(key)}" for key in keys)])
        for group, each in zip(groups, shared, strict=True)
    ]


def table(runs: Sequence[Workdir], *, split: str = "test") -> rich.table.Table:
    """One row per config, mean and standard deviation over its seeds; runs of one data set and network."""
    config = runs[0].config()
    bins = " or ".join(str(count) for count in sorted({run.metrics_of(split)["ece_bins"] for run in runs}))
    title = f"{config.data.source.name}, {config.network.name}: {split} split, last epoch, ECE with {bins} bins"
    result = printing.table(title, ["\nmethods", "\nruns", *(heading for heading, _, _ in COLUMNS)])
    groups = group_by_seed(runs)
    for name, group in zip(name_groups(groups), groups, strict=True):
        name += " (imported)" if group[0].imported_from() else ""
        result.add_row(name, str(len(group)), *_cells([run.metrics_of(split) for run in group]))
        if (together := ensemble_metrics(group, split=split)) is not None:
            result.add_row(f"  their ensemble: {name}", str(len(group)), *_cells([together]))
    return result


def _cells(members: Sequence[dict[str, float]]) -> list[str]:
    """Mean and standard deviation of each column; a dash for what is not there.

    A column is undefined if it is so, null in `metrics.json`, in one of the runs: the mean is then one of other runs.
    """
    cells = []
    for _, key, factor in COLUMNS:
        if not any(key in metrics for metrics in members):
            cells.append("-")
            continue
        if any(metrics.get(key) is None or math.isnan(metrics[key]) for metrics in members):
            cells.append("undefined")
            continue
        values = [factor * metrics[key] for metrics in members]
        digits = 3 if factor == 1 else 2
        spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
        cells.append(f"{statistics.mean(values):.{digits}f}{spread}")
    return cells


def ensemble_metrics(runs: Sequence[Workdir], *, split: str) -> dict[str, float] | None:
    """Metrics of the average of the runs' probabilities; None for a single run, or runs on different images."""
    files = [run.predictions(split) for run in runs]
    if len(runs) < 2 or not all(file.exists() for file in files):
        return None
    members = [Predictions.load(file) for file in files]
    labels = members[0].labels
    if len({run.config().data.split.seed for run in runs}) > 1 or not all(
        np.array_equal(member.labels, labels) for member in members
    ):
        return None
    bins = runs[0].metrics_of(split)["ece_bins"]
    return summarize(ensemble([member.logits for member in members]), labels, None, ece_bins=bins)


def report(root: pathlib.Path) -> None:
    """Prints the tables of all runs at and below `root`, where their SavedModels lie, and the TensorBoard command."""
    runs = find_runs(root)
    name_unfinished(root, runs)
    name_other_images(runs)
    screen = printing.console()
    subjects: dict[tuple[str, str], list[Workdir]] = {}
    for run in runs:
        config = run.config()
        subjects.setdefault((config.data.source.name, config.network.name), []).append(run)
    for members in subjects.values():
        printing.show(screen, table(members))
    for run in runs:
        if saved := run.metrics().get("saved_model"):
            screen.print(f"SavedModel of {run.path}: {saved}")
    screen.print(
        f"TensorBoard: {_relative(sys.executable)} -m tensorboard.main --logdir {shlex.quote(str(_logdir(root)))}"
    )


def _logdir(root: pathlib.Path) -> pathlib.Path:
    """The folder of which TensorBoard shows runs by their shortest names: that of events, where all lie in one."""
    own = root / "tensorboard"
    return own if all(path.is_relative_to(own) for path in root.rglob("*tfevents*")) and own.is_dir() else root


def _relative(path: str) -> str:
    here = pathlib.Path.cwd()
    return str(pathlib.Path(path).relative_to(here)) if pathlib.Path(path).is_relative_to(here) else path
