"""Computes predictions, metrics and figures of the splits of a run."""

import contextlib
import dataclasses
import pathlib
from typing import Any

import numpy as np
from absl import logging

from cskd_tf import methods, networks
from cskd_tf.data.sources.base import Source
from cskd_tf.data.sources.thumbnails import thumbnails
from cskd_tf.errors import UserError
from cskd_tf.evaluation.assessment import assess
from cskd_tf.evaluation.figures.reliability import save_reliability_diagram
from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.files import written_whole
from cskd_tf.runs import assessment_tables, strategies
from cskd_tf.runs.callbacks import Checkpoint
from cskd_tf.runs.config import Config
from cskd_tf.runs.experiment import Experiment, prepare
from cskd_tf.runs.images_of_run import check_images
from cskd_tf.runs.json_files import write_json
from cskd_tf.runs.workdir import METRICS, Workdir
from cskd_tf.training.workers import Workers

VALIDATION_ITSELF = "these are the validation images, which it would be fitted on"
NO_VALIDATION = "the run has no validation images (data.split.validation_fraction=0)"
THUMBNAILS = 256  # images of a split
THUMBNAIL_SIZE = 64  # pixels of the longer side, at most


def load_run(workdir: Workdir, *, config: Config | None = None) -> Experiment:
    """The experiment of a workdir, with the weights of its last epoch.

    Args:
        workdir: of a finished run.
        config: as the run may go on (`Workdir.check_owner`), such as on another strategy; else as it began.

    Raises:
        UserError: no run, one that has not finished, one whose last checkpoint is damaged, or one that was begun with
            other images than there are now.
    """
    strategy = config.strategy if config else "auto"  # those devices that are there now
    began_as = workdir.config()
    config = config or began_as
    if not workdir.metrics():
        raise UserError(
            "Expected a finished run; the command that started it continues it. "
            f"Received: workdir {workdir.path}, unfinished after {len(workdir.log())} of {config.epochs} epochs"
        )
    # Without what training alone needs, such as a teacher, which may be gone.
    inference = methods.for_inference(config.methods)
    weights = networks.for_other_weights(config.network.name, config.network.weights)
    network = dataclasses.replace(config.network, weights=weights)
    experiment = prepare(dataclasses.replace(config, methods=inference, network=network, strategy=strategy))
    check_images(workdir, experiment.splits)
    restored = Checkpoint(workdir, experiment.model, monitor=None).restore_classifier()
    if not restored:
        raise UserError(f"Expected a run with a checkpoint. Received: workdir {workdir.path}, without one")
    if restored != began_as.epochs:  # else its results would become those of another epoch
        raise UserError(
            f"Expected a whole checkpoint of the last epoch, {began_as.epochs}, of the finished run in {workdir.path}; "
            f"once its {METRICS} is removed, the command that trained it trains again what is lost. "
            f"Received: one of epoch {restored}"
        )
    return dataclasses.replace(experiment, config=config)


def evaluate_splits(experiment: Experiment, workdir: Workdir) -> dict[str, Any]:
    """Writes predictions and a reliability diagram of each split; returns `{"val": {...}, "test": {...}}`.

    Without validation images there is `"test"` alone; on a worker that is not the chief there is nothing.
    """
    everything = predict_splits(experiment)
    return experiment.workers.on_chief(lambda: _written(experiment, workdir, everything)) or {}


def predict_splits(experiment: Experiment) -> dict[str, Predictions]:
    """Predictions of each split with metrics of its own, on every worker."""
    return {split: experiment.predict(split) for split in experiment.evaluation_splits}


def _written(experiment: Experiment, workdir: Workdir, everything: dict[str, Predictions]) -> dict[str, Any]:
    """Writes what `--mode=figures` needs, predictions and a figure, and returns the metrics, of each split."""
    workdir.figures.mkdir(exist_ok=True)
    train = experiment.splits["train"]
    workdir.write_classes(train.class_names, train.class_groups)
    bins = experiment.config.evaluation.ece_bins
    results = {}
    for split, predictions in everything.items():
        predictions.save(workdir.predictions(split))
        _save_thumbnails(experiment.splits[split], workdir.thumbnails(split))
        path = workdir.figures / f"reliability_{split}.png"
        save_reliability_diagram(predictions, path, bins=bins, title=f"{workdir.path.name}: {split}")
        results[split] = experiment.metrics(predictions)
        if alone := results[split]["recall_left_out"]:
            logging.info(
                "%s: R@1 leaves out %d of %d images, alone in their class", split, alone, len(predictions.labels)
            )
    return results


def _save_thumbnails(source: Source, path: pathlib.Path) -> None:
    """Writes some images of a split, the same ones of every run on it, small."""
    chosen = np.sort(np.random.default_rng(0).permutation(len(source.labels))[:THUMBNAILS])
    images = thumbnails(source, chosen, size=THUMBNAIL_SIZE)
    with written_whole(path) as partial:
        np.savez_compressed(partial, indices=chosen, images=images)


def evaluate(workdir: Workdir, *, config: Config | None = None) -> dict[str, Any]:
    """Evaluates the last epoch of a run again, from its checkpoint, and writes what `evaluate_splits` writes.

    Beyond that it writes `assessment_<split>.json` of each split, and prints that of the test split.

    Arguments and errors as of `load_run`.
    """
    workers = Workers(strategies.make(config.strategy if config else "auto"))
    with contextlib.ExitStack() as lock:
        workers.on_chief(lambda: lock.enter_context(workdir.locked()))
        experiment = load_run(workdir, config=config)
        everything = predict_splits(experiment)

        def write() -> dict[str, Any]:
            results = {**workdir.metrics(), **_written(experiment, workdir, everything)}
            _assess(everything, workdir, experiment=experiment)
            workdir.write_metrics(results)
            logging.info("%s: written, with predictions, thumbnails and figures of each split", workdir.path / METRICS)
            return results

        return workers.on_chief(write) or {}


def _assess(everything: dict[str, Predictions], workdir: Workdir, *, experiment: Experiment) -> None:
    """Writes the assessment of each split, and prints that of the test split."""
    train = experiment.splits["train"]
    for split, predictions in everything.items():
        assessment = assess(
            predictions,
            validation=everything.get("val") if split != "val" else None,
            class_names=train.class_names,
            class_groups=train.class_groups,
            why_no_validation=VALIDATION_ITSELF if split == "val" else NO_VALIDATION,
        )
        write_assessment(workdir.assessment(split), {"of": [str(workdir.path)], "split": split, **assessment})
        if split == "test":
            assessment_tables.show(assessment, title=f"{workdir.path}: {split} split")


def write_assessment(path: pathlib.Path, assessment: dict[str, Any]) -> None:
    """Writes it, whole or not at all, and says so."""
    write_json(path, assessment)
    logging.info("%s: written", path)
