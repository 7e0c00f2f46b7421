"""Makes the run of a config from a checkpoint of the public PyTorch code, as if it had been trained here."""

import os
import pathlib

from absl import logging

from cskd_tf.errors import UserError
from cskd_tf.networks.torch_weights import count_classes, load_torch_weights, read_torch_checkpoint
from cskd_tf.runs import callbacks, export, train
from cskd_tf.runs.config import Config
from cskd_tf.runs.experiment import build_network, prepare
from cskd_tf.runs.images_of_run import check_images, note_images
from cskd_tf.runs.loggers import check_loggers
from cskd_tf.runs.space import check_space
from cskd_tf.runs.workdir import Workdir


def import_run(config: Config, workdir: Workdir, *, checkpoint: str | pathlib.Path) -> None:
    """Loads the weights into the config's network, evaluates and exports it; the run counts as finished.

    The config says which network and data the checkpoint is of. Class 0 of the checkpoint is class 0 of the data: in
    the public code and in the papers' data sets here, classes have the order of their sorted names.

    The same call completes an import that was interrupted.

    Args:
        config: of the run.
        workdir: new or empty.
        checkpoint: a `.t7` or `.pth` file for `networks.torch_weights.read_torch_checkpoint`.

    Raises:
        UserError: the checkpoint cannot be read or is not of this network (every name and shape that differs is
            listed), the config cannot be used, or the workdir has a run; nothing is written then.
    """
    workdir.check_owner(config)
    with workdir.locked(make=True):
        _import(workdir.settled(config), workdir, checkpoint=str(checkpoint))


def _import(config: Config, workdir: Workdir, *, checkpoint: str) -> None:
    if not workdir.is_new() and (workdir.metrics() or not _is_same(begun := workdir.imported_from(), checkpoint)):
        what = "a run" if workdir.metrics() or begun is None else f"an import of {begun} that was interrupted"
        raise UserError(f"Expected a new or empty workdir to import to. Received: {workdir.path}, which has {what}")
    export.check(config, workdir)
    check_loggers(config.loggers)
    weights = read_torch_checkpoint(checkpoint)
    # Once before the data are prepared, which can take hours, and then with the classes of the data.
    load_torch_weights(build_network(config, num_classes=count_classes(weights) or 2), weights)
    experiment = prepare(config)
    config = experiment.config
    load_torch_weights(experiment.model.network, weights)
    names = experiment.splits["train"].class_names
    if list(names) != sorted(names):
        logging.warning("Classes are not in the order of their names, as public code has them: %s ...", names[:5])
    check_space(experiment, workdir)
    check_images(workdir, experiment.splits)
    workdir.claim(config, imported_from=checkpoint)
    note_images(workdir, experiment.splits)
    saved = callbacks.Checkpoint(workdir, experiment.model, monitor=None)
    saved.save(config.epochs)
    logging.info("%s: imported %d weights from %s", workdir.path, len(weights), checkpoint)
    train.finish(experiment, workdir, imported_from=checkpoint)


def _is_same(begun: str | None, checkpoint: str) -> bool:
    """Whether an import was begun with this file, however its name was typed."""
    return begun is not None and os.path.realpath(begun) == os.path.realpath(checkpoint)
