"""Trains the run of a config in its workdir, from the start or from where it stopped."""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf
from absl import logging

from cskd_tf.data.sources.reading import refuse_unreadable
from cskd_tf.errors import UserError
from cskd_tf.runs import evaluate, export
from cskd_tf.runs.callbacks import Checkpoint, RunLog, TensorBoard
from cskd_tf.runs.config import Config
from cskd_tf.runs.experiment import Experiment, prepare
from cskd_tf.runs.report import name_of_methods
from cskd_tf.runs.space import check_space
from cskd_tf.runs.termination import Terminated, Termination
from cskd_tf.runs.workdir import Workdir
from cskd_tf.training.callbacks import Evaluation, StopOnNaN

BASELINE = "cross_entropy"


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
    export.check_directory(config)
    runs = [(config, workdir)]
    if config.baseline:
        runs.append((baseline_of(config), Workdir(workdir.path / BASELINE)))
    for run_config, run_workdir in runs:
        run_workdir.check_owner(run_config)
    with contextlib.ExitStack() as locks:
        for _, run_workdir in runs:
            locks.enter_context(run_workdir.locked())
        _train_runs(config, runs)


def _train_runs(config: Config, runs: Sequence[tuple[Config, Workdir]]) -> None:
    workdir = runs[0][1]
    if config.baseline and not workdir.metrics():
        prepare(config)  # the whole config must be sound before the baseline's training starts
    if config.baseline:
        workdir.claim(config)  # before the baseline is put inside
    for run_config, run_workdir in reversed(runs):
        _train_run(run_config, run_workdir)


def _train_run(config: Config, workdir: Workdir) -> None:
    if workdir.metrics():
        logging.info("%s is finished; remove it, or choose another --workdir, to train anew", workdir.path)
        return
    if checkpoint := workdir.imported_from():
        raise UserError(
            f"Expected a workdir to train in. Received: {workdir.path}, where an import was interrupted; "
            f"--mode=import --checkpoint={checkpoint} completes it"
        )
    keras.utils.clear_session()
    experiment = prepare(config)
    check_space(experiment, workdir)
    workdir.claim(config)
    logging.info("%s: training %s with %s", workdir.path, config.network.name, name_of_methods(config))
    sizes = ", ".join(f"{split} {len(source.labels)}" for split, source in experiment.splits.items())
    classes = len(experiment.splits["train"].class_names)
    logging.info("%s, %d classes, images: %s", config.data.source.name, classes, sizes)
    if "val" not in experiment.splits:
        logging.info("No validation images: the test split is evaluated each epoch, and nothing is chosen by it")
    try:
        checkpoint = fit(experiment, workdir)
    except tf.errors.OpError as error:
        if "IteratorGetNext" in str(error):  # of the data: TensorFlow does not say which image it was
            for split, source in experiment.splits.items():
                refuse_unreadable(source, name=split)
        raise
    best = {}
    if best_epoch := checkpoint.restore_best():
        metrics = {split: experiment.metrics(experiment.predict(split)) for split in experiment.evaluation_splits}
        best = {"best_epoch": {"epoch": best_epoch, **metrics}}
        checkpoint.restore_last()
    finish(experiment, workdir, **best)


def finish(experiment: Experiment, workdir: Workdir, **more: Any) -> None:
    """Evaluates, saves and exports what the model is now; `metrics.json`, with `more`, marks the run as finished."""
    metrics = {**evaluate.evaluate_splits(experiment, workdir), **more}
    experiment.model.classifier().save(workdir.classifier)
    if experiment.config.export.enabled:
        published = export.exported(experiment, workdir) or export.export(experiment, workdir)
        metrics["saved_model"] = str(published)
    workdir.write_metrics(metrics)


def fit(experiment: Experiment, workdir: Workdir, *, more: Sequence[keras.callbacks.Callback] = ()) -> Checkpoint:
    """Trains the epochs that are left, logging and saving each; `more` callbacks come last.

    Without validation images the test split is evaluated each epoch, and no epoch is the best: nothing is chosen by it.
    """
    config, model = experiment.config, experiment.model
    split = experiment.evaluation_splits[0]
    checkpoint = Checkpoint(workdir, model, monitor="val_top1_error" if split == "val" else None)
    done = checkpoint.restore_last()
    workdir.trim_log(epochs=done)
    if under_way := checkpoint.under_way:
        logging.info("%s: continuing after epoch %d and %d steps", workdir.path, done, under_way["steps"])
    elif done:
        logging.info("%s: continuing after epoch %d", workdir.path, done)
    if done == config.epochs:
        return checkpoint
    evaluation = Evaluation(
        experiment.evaluation_data(split),
        split=split,
        ece_bins=config.evaluation.ece_bins,
        collector=experiment.collector,
    )
    log = RunLog(workdir, begun=under_way and under_way["log"])
    with Termination() as termination:
        callbacks = [
            StopOnNaN(),
            termination,
            evaluation,
            log,
            TensorBoard(workdir.tensorboard, evaluation=evaluation, done=done),
            checkpoint,
            *more,
        ]
        try:
            finished = _go_on(experiment, callbacks, done=done, under_way=under_way)
        except Terminated:
            where = checkpoint.save_within_epoch(log.begun()) or "between two epochs"
            logging.warning("%s: terminated %s; the same command goes on there", workdir.path, where)
            raise
    return checkpoint if finished else fit(experiment, workdir, more=more)


def _go_on(
    experiment: Experiment,
    callbacks: Sequence[keras.callbacks.Callback],
    *,
    done: int,
    under_way: Mapping[str, Any] | None,
) -> bool:
    """Trains what is left after `done` epochs, or where that is an epoch's end, this alone; returns whether it was all.

    `under_way` is the checkpoint's, of the next epoch.
    """
    if under_way and under_way["steps"] == experiment.steps_per_epoch:
        _end_epoch(experiment, callbacks, epoch=done, metrics=under_way["metrics"])
        return False
    if under_way:
        experiment.model.go_on_within_epoch(under_way["metrics"])
    experiment.model.fit(
        experiment.training_data(),
        epochs=experiment.config.epochs,
        initial_epoch=done,
        verbose=experiment.config.verbose,
        callbacks=callbacks,
    )
    return True


def _end_epoch(experiment: Experiment, callbacks: Sequence[keras.callbacks.Callback], *, epoch: int, metrics) -> None:
    """Does what `fit` would have done after the last step of an epoch, where the run was interrupted."""
    experiment.model.restore_metrics(metrics)
    ends = keras.callbacks.CallbackList(
        callbacks, model=experiment.model, epochs=experiment.config.epochs, steps=experiment.steps_per_epoch
    )
    ends.on_train_begin()
    ends.on_epoch_begin(epoch)
    ends.on_epoch_end(epoch, experiment.model.get_metrics_result())
    ends.on_train_end()
