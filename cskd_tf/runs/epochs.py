"""The epochs of a run, from the first or from where it stopped: callbacks around `fit`, and what is written each."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from absl import logging

from cskd_tf.errors import UserError
from cskd_tf.runs.callbacks import Checkpoint, RunLog
from cskd_tf.runs.experiment import Experiment
from cskd_tf.runs.image_log import ImageLog
from cskd_tf.runs.loggers import build_loggers
from cskd_tf.runs.tensorboard.about import name_of_run, write_about
from cskd_tf.runs.tensorboard.board import TensorBoard
from cskd_tf.runs.tensorboard.pictures import Pictures
from cskd_tf.runs.tensorboard.profile import Profile
from cskd_tf.runs.termination import Terminated, Termination
from cskd_tf.runs.workdir import Workdir
from cskd_tf.training.callbacks import Evaluation, StopOnNaN
from cskd_tf.training.freezing import FrozenBackbone


def fit(experiment: Experiment, workdir: Workdir, *, more: Sequence[keras.callbacks.Callback] = ()) -> Checkpoint:
    """Trains the epochs that are left, logging and saving each; `more` callbacks come last.

    Without validation images the test split is evaluated each epoch, and no epoch is the best: nothing is chosen by it.
    """
    config, model, workers = experiment.config, experiment.model, experiment.workers
    split = experiment.evaluation_splits[0]
    monitor = "val_top1_error" if split == "val" else None
    checkpoint = Checkpoint(workdir, model, monitor=monitor, writes=workers.is_chief)
    logged = workdir.logged_epochs(monitor=monitor)  # of which the chief trims the rest once all have come here
    done = workers.on_chief(functools.partial(checkpoint.restore_last, logged=logged))
    if done is None:  # here; the chief has been first, and has removed what was left half written
        done = checkpoint.restore_last(logged=logged)
    steps = checkpoint.under_way["steps"] if checkpoint.under_way else 0
    if len(found := set(map(tuple, workers.gather(np.array([[done, steps]])).tolist()))) > 1:
        raise UserError(
            "Expected a workdir that all workers share. Received: "
            f"{workdir.path}, in which they find checkpoints after {sorted(found)} epochs and steps of the next"
        )
    check_replicas(experiment, workdir, done=done, under_way=checkpoint.under_way)
    workers.on_chief(functools.partial(workdir.trim_log, epochs=done))
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
    with Termination(workers) as termination:
        callbacks: list[keras.callbacks.Callback] = [StopOnNaN(), termination, evaluation]
        if frozen_epochs := config.network.frozen_epochs:
            callbacks.insert(0, FrozenBackbone(frozen_epochs))
        if config.log_images:
            callbacks.append(ImageLog(experiment, workdir, every=config.log_images))
        if workers.is_chief:
            callbacks += [log, *_boards(experiment, workdir, evaluation=evaluation, done=done), checkpoint]
        try:
            finished = _go_on(experiment, [*callbacks, *more], done=done, under_way=under_way)
            termination.leave_if_asked()  # of several workers, in the evaluation behind the last step
        except Terminated as leaving:
            metrics = model.metric_values()
            where = workers.on_chief(lambda: checkpoint.save_within_epoch(log.begun(), metrics))
            where = (where or "between epochs") if workers.is_chief else "where worker 0 says"
            logging.warning("%s: %s %s; the same command goes on there", workdir.path, leaving.how, where)
            raise
    return checkpoint if finished else fit(experiment, workdir, more=more)


def _boards(
    experiment: Experiment, workdir: Workdir, *, evaluation: Evaluation, done: int
) -> list[keras.callbacks.Callback]:
    """What writes each epoch for others to show."""
    config, model = experiment.config, experiment.model
    folder = workdir.tensorboard / name_of_run(config)
    pictures = Pictures(experiment.splits[evaluation.split], bins=config.evaluation.ece_bins)
    about = functools.partial(write_about, model, config, workdir.path)
    boards: list[keras.callbacks.Callback] = [
        TensorBoard(folder, evaluation=evaluation, pictures=pictures, about=about, done=done)
    ]
    if config.profile_steps:
        boards.append(Profile(folder, steps=config.profile_steps))
    return [*boards, *build_loggers(config, workdir)]


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
        class_weight=experiment.class_weight,
        verbose=0,
        callbacks=callbacks,
    )
    return True


def _end_epoch(experiment: Experiment, callbacks: Sequence[keras.callbacks.Callback], *, epoch: int, metrics) -> None:
    """Does what `fit` would have done after the last step of an epoch, where the run was interrupted."""
    experiment.model.restore_metrics(metrics)
    experiment.model.put_average(True)
    ends = keras.callbacks.CallbackList(
        callbacks, model=experiment.model, epochs=experiment.config.epochs, steps=experiment.steps_per_epoch
    )
    ends.on_train_begin()
    ends.on_epoch_begin(epoch)
    ends.on_epoch_end(epoch, experiment.model.get_metrics_result())
    ends.on_train_end()


def check_replicas(
    experiment: Experiment, workdir: Workdir, *, done: int, under_way: Mapping[str, Any] | None = None
) -> None:
    """Says what another number of replicas than so far changes, and refuses another order.

    Args:
        experiment: as it goes on.
        workdir: of the run.
        done: epochs.
        under_way: the checkpoint's, of the next epoch, which has the metrics of each replica.

    Raises:
        UserError: `data.pairing.replica_local`, and so an order that depends on the number of replicas.
    """
    config, replicas = experiment.config, experiment.distribution.num_replicas
    before = next((entry.get("replicas") for entry in workdir.log() if entry["epoch"] == done), None)
    if under_way:
        before = len(under_way["metrics"][0])
    if before in (None, replicas):  # logs of older runs do not say
        return
    if config.data.pairing.replica_local:
        raise UserError(
            f"Expected the {before} replicas that {workdir.path} was trained on so far: with "
            "data.pairing.replica_local the order of the images depends on their number. "
            f"Received: {replicas} replicas"
        )
    logging.info("%s: %d replicas, after %d so far", workdir.path, replicas, before)
    if not config.network.synchronized:
        logging.warning(
            "network.synchronized=False: batch norm averages over %d images at once, and not over %d as before",
            config.batch_size // replicas, config.batch_size // before,
        )  # fmt: skip
