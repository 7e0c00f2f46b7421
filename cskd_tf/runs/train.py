"""Trains the run of a config in its workdir, from the start or from where it stopped."""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from absl import logging

import cskd_tf
from cskd_tf.data.sources.reading import unreadable_named
from cskd_tf.errors import UserError
from cskd_tf.files import ONCE_THERE_IS_ROOM, full_disk, written_whole
from cskd_tf.runs import evaluate, export, memory, strategies
from cskd_tf.runs.config import Config
from cskd_tf.runs.epochs import fit
from cskd_tf.runs.experiment import Experiment, prepare
from cskd_tf.runs.images_of_run import check_images, described, note_images
from cskd_tf.runs.json_files import flatten
from cskd_tf.runs.loggers import check_loggers, log_final
from cskd_tf.runs.report import name_of_methods
from cskd_tf.runs.screen import Screen
from cskd_tf.runs.sharing import check_alike, check_shared
from cskd_tf.runs.space import Need, check_space, needs
from cskd_tf.runs.tensorboard.about import CROSS_ENTROPY
from cskd_tf.runs.tensorboard.ending import write_ending
from cskd_tf.runs.workdir import WHERE_IMAGES_ARE, Workdir
from cskd_tf.training.workers import Workers


def baseline_of(config: Config) -> Config:
    """The same run without methods."""
    return dataclasses.replace(config, methods=(), baseline=False)


def train(config: Config, workdir: Workdir) -> None:
    """Trains, evaluates and exports; with `config.baseline`, plain cross-entropy first, in `WORKDIR/cross_entropy`.

    The same call with the same workdir continues an interrupted run and leaves a finished one as it is. A run that was
    interrupted ends with the same bytes as one that was not.

    Raises:
        UserError: anything that cannot be trained, before training starts and before anything is written.
        FloatingPointError: the loss became NaN or infinite; the last good checkpoint is kept.
    """
    workers = Workers(strategies.make(config.strategy))
    free = config.may_change | WHERE_IMAGES_ARE
    compared = {key: value for key, value in flatten(config.as_dict()).items() if key not in free}
    check_alike({**compared, "version of cskd_tf": cskd_tf.__version__}, workers, what="config")
    workers.on_chief(functools.partial(export.check, config, workdir))
    check_loggers(config.loggers)
    if config.precision == "auto" and (config := workdir.settled(config)).precision != "auto":
        logging.info("%s: precision %s, with which the run began", workdir.path, config.precision)
    runs = [(config, workdir)]
    if config.baseline:
        runs.append((baseline_of(config), Workdir(workdir.path / CROSS_ENTROPY, tensorboard=workdir.tensorboard)))
    for run_config, run_workdir in runs:
        workers.on_chief(functools.partial(_check_owner, run_config, run_workdir))
    if all(_is_finished(run_workdir, workers) for _, run_workdir in runs):  # also where nothing can be written to
        for _, run_workdir in runs:
            _say_finished(run_workdir)
        return
    with contextlib.ExitStack() as locks:
        for _, run_workdir in runs:
            # The baseline's lies in the other's, which is new as long as there is nothing in it.
            lock = run_workdir.locked(make=run_workdir is workdir)
            workers.on_chief(functools.partial(locks.enter_context, lock))
        _train_runs(runs, workers)


def _train_runs(runs: Sequence[tuple[Config, Workdir]], workers: Workers) -> None:
    left: list[tuple[Config, Workdir]] = []
    for run_config, run_workdir in runs:
        if _is_finished(run_workdir, workers):
            _say_finished(run_workdir)
            continue
        if checkpoint := run_workdir.imported_from():
            raise UserError(
                f"Expected a workdir to train in. Received: {run_workdir.path}, where an import was interrupted; "
                f"--mode=import --checkpoint={checkpoint} completes it"
            )
        left.insert(0, (run_config, run_workdir))  # the baseline is trained first
    config, workdir = runs[0]
    later: Sequence[Need] = ()
    if len(left) > 1:  # the whole config must be sound, and find room, before the baseline's training starts
        config, later = _foreseen(config, workdir, workers)
        left = [(baseline_of(config), left[0][1]), (config, workdir)]
    with Screen(config.verbose if workers.is_chief else 0, epochs=config.epochs * len(left)) as screen:
        for run_config, run_workdir in left:
            keras.utils.clear_session()
            experiment = prepare(run_config)
            check_alike(flatten(described(experiment.splits)), workers, what="images")
            workers.on_chief(functools.partial(check_space, experiment, run_workdir, later=later))
            if run_workdir is not workdir:  # before the baseline is put inside
                workers.on_chief(functools.partial(workdir.claim, config))
            workers.on_chief(functools.partial(check_images, run_workdir, experiment.splits))
            workers.on_chief(functools.partial(run_workdir.claim, experiment.config))
            check_shared(run_workdir, workers)
            workers.on_chief(functools.partial(note_images, run_workdir, experiment.splits))
            try:
                _train_run(experiment, run_workdir, screen)
            except (OSError, tf.errors.OpError) as error:
                run_workdir.check_there()
                if full := full_disk(error):
                    where = getattr(error, "filename", None) or run_workdir.path
                    raise OSError(f"{os.strerror(full)}: {where}. {ONCE_THERE_IS_ROOM}") from error
                raise
            screen.epochs_before += run_config.epochs
            del experiment  # before the next one's data are loaded
            later = ()


def _check_owner(config: Config, workdir: Workdir) -> None:
    """As `Workdir.check_owner`; of a finished run, which is left as it is, no image is looked at any more."""
    workdir.check_owner(config, images_compared=not workdir.metrics())


def _is_finished(workdir: Workdir, workers: Workers) -> bool:
    """Whether a run has its metrics, as the first worker sees it."""
    return workers.any(workers.is_chief and bool(workdir.metrics()))


def _say_finished(workdir: Workdir) -> None:
    logging.info("%s is finished; remove it, or choose another --workdir, to train anew", workdir.path)


def _foreseen(config: Config, workdir: Workdir, workers: Workers) -> tuple[Config, Sequence[Need]]:
    """The config as it is going to be trained, and what that is going to write; errors as of `prepare`."""
    experiment = prepare(config)
    return experiment.config, workers.on_chief(functools.partial(needs, experiment, workdir)) or ()


def _train_run(experiment: Experiment, workdir: Workdir, screen: Screen) -> None:
    config = experiment.config
    logging.info("%s: training %s with %s", workdir.path, config.network.name, name_of_methods(config))
    sizes = ", ".join(f"{split} {len(source.labels)}" for split, source in experiment.splits.items())
    classes = len(experiment.splits["train"].class_names)
    logging.info("%s, %d classes, images: %s", config.data.source.name, classes, sizes)
    logging.info("%s", memory.describe(experiment))
    if "val" not in experiment.splits:
        logging.info("No validation images: the test split is evaluated each epoch, and nothing is chosen by it")
    with unreadable_named(experiment.splits):
        checkpoint = fit(experiment, workdir, more=[screen.following(workdir.path.name)])
    best = {}
    if best_epoch := checkpoint.restore_best():
        metrics = {split: experiment.metrics(experiment.predict(split)) for split in experiment.evaluation_splits}
        best = {"best_epoch": {"epoch": best_epoch, **metrics}}
        checkpoint.restore_last()
    finish(experiment, workdir, **best)


def finish(experiment: Experiment, workdir: Workdir, **more: Any) -> None:
    """Evaluates, saves and exports what the model is now; `metrics.json`, with `more`, marks the run as finished."""
    of_splits = evaluate.evaluate_splits(experiment, workdir)
    metrics = {**of_splits, **more}

    def write() -> None:
        workdir.check_there()  # before TensorBoard's files bring a part of it back
        class_names = experiment.splits["train"].class_names
        write_ending(workdir, experiment.config, metrics=of_splits, class_names=class_names)
        with written_whole(workdir.classifier) as partial:
            experiment.model.classifier().save(partial)
        if experiment.config.export.enabled:
            try:
                metrics["saved_model"] = str(export.export_once(experiment, workdir))
            except UserError as error:  # as int8 that has lost too much
                raise UserError(
                    f"{error}. All else of the run is done: the same command with other export.formats, or with "
                    "--config.export.enabled=False, ends it"
                ) from error
        log_final(experiment.config, workdir, of_splits)
        workdir.write_metrics(metrics)

    experiment.workers.on_chief(write)
