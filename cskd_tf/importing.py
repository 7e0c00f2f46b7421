"""Makes the run of a config from a checkpoint of the public PyTorch code, as if it had been trained here."""

import pathlib
from typing import Any

from absl import logging

from cskd_tf import callbacks, train
from cskd_tf.experiment import as_plain, prepare
from cskd_tf.networks.torch_weights import load_torch_weights, read_torch_checkpoint
from cskd_tf.workdir import Workdir


def import_run(config: dict[str, Any], workdir: Workdir, *, checkpoint: str | pathlib.Path) -> None:
    """Loads the weights into the config's network, evaluates and exports it; the run counts as finished.

    The config says which network and data the checkpoint is of. Classes are those of the data, in the order of their
    sorted names, which is the public code's order.

    Args:
        config: of the run.
        workdir: new or empty.
        checkpoint: a `.t7` or `.pth` file for `networks.torch_weights.read_torch_checkpoint`.

    Raises:
        ValueError: the checkpoint cannot be read or is not of this network (every name and shape that differs is
            listed), the config cannot be used, or the workdir has a run; nothing is written then.
    """
    config = as_plain(config)
    workdir.check_owner(config)
    if workdir.path.exists() and any(workdir.path.iterdir()):
        raise ValueError(f"Expected a new or empty workdir to import to. Received: {workdir.path}, which has a run")
    weights = read_torch_checkpoint(checkpoint)
    experiment = prepare(config)
    load_torch_weights(experiment.model.network, weights)
    workdir.claim(config)
    saved = callbacks.Checkpoint(workdir, experiment.model, monitor="val_top1_error")
    saved.save(config["epochs"])
    logging.info("%s: imported %d weights from %s", workdir.path, len(weights), checkpoint)
    train.finish(experiment, workdir, imported_from=str(checkpoint))
