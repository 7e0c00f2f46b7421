"""Whether the disks have room for what a run is going to write, before it begins."""

import math
import pathlib
import shutil
from collections.abc import Sequence

import keras
import tensorflow as tf

from cskd_tf.errors import UserError
from cskd_tf.files import nearest_folder
from cskd_tf.networks.features import NetworkOutputs
from cskd_tf.runs.evaluate import THUMBNAIL_SIZE, THUMBNAILS
from cskd_tf.runs.experiment import Experiment, network_arguments
from cskd_tf.runs.tensorboard.about import CROSS_ENTROPY
from cskd_tf.runs.workdir import Workdir

MEGABYTE = 10**6
PER_EPOCH = 10_000  # bytes, of the log and of TensorBoard's scalars
BOARD = 5 * MEGABYTE  # of TensorBoard's pictures, graph and projector
PER_LOGGED_IMAGE = 5  # bytes: two probabilities, and whether it is right
GRAPHS = 2 * MEGABYTE  # of a Keras file and a SavedModel, beside their weights
Need = tuple[pathlib.Path, int]  # a folder, and the bytes that will be written to it


def check_space(experiment: Experiment, workdir: Workdir, *, later: Sequence[Need] = ()) -> None:
    """Raises UserError where a disk has less free than what the run is going to write there.

    That is an estimate: the checkpoints that are kept and the one that is being written, predictions, logs, and the
    export. What an interrupted run has written already is not needed again.

    Args:
        experiment: of the run.
        workdir: of the run.
        later: the `needs` of the run that follows it.
    """
    needed: dict[int, Need] = {}
    for folder, size in [*needs(experiment, workdir), *later]:
        nearest = nearest_folder(folder)
        disk = nearest.stat().st_dev
        needed[disk] = nearest, needed.get(disk, (nearest, 0))[1] + size
    runs = f"{workdir.path}{' and of the run that follows it' if later else ''}"
    parts = (
        "checkpoints, predictions and the export" if experiment.config.export.enabled else "checkpoints and predictions"
    )
    for folder, size in needed.values():
        free = shutil.disk_usage(folder).free
        if free < size:
            raise UserError(
                f"Expected {size / MEGABYTE:,.0f} MB free on the disk of {folder}, for {parts} "
                f"of {runs}. Received: {free / MEGABYTE:,.0f} MB free"
            )


def needs(experiment: Experiment, workdir: Workdir) -> list[Need]:
    """What a run is going to write, as `check_space` estimates it."""
    model, config = experiment.model, experiment.config
    methods = [variable for method in model.composition.terms for variable in method.epoch_state]
    averages = model.average.variables if model.average else []
    whole = _bytes([*model.variables, *model.optimizer.variables, *methods, *averages])
    inference = _bytes(model.classifier().weights)
    shape = (None, *network_arguments(config)["input_shape"])
    parts = NetworkOutputs(model.network, embedding_layer=model.embedding_layer).parts(shape)
    row = 8 + 4 * (parts.logits.shape[-1] + (0 if parts.embedding is None else parts.embedding.shape[-1]))
    images = sum(len(experiment.splits[split].labels) for split in experiment.evaluation_splits)
    # Two checkpoints are kept while the next is written; the best one, while its successor is.
    size = 3 * whole + 2 * inference + (inference + GRAPHS) + images * row + config.epochs * PER_EPOCH + BOARD
    size += len(experiment.evaluation_splits) * THUMBNAILS * THUMBNAIL_SIZE**2 * config.data.source.channels
    if config.log_images:
        size += -(-config.epochs // config.log_images) * len(experiment.splits["train"].labels) * PER_LOGGED_IMAGE
    baseline = workdir.path / CROSS_ENTROPY  # a run of its own
    files = (file for file in workdir.path.rglob("*") if file.is_file() and baseline not in file.parents)
    found = [(workdir.path, max(0, size - sum(file.stat().st_size for file in files)))]
    if config.export.enabled:
        found.append((pathlib.Path(config.export.directory), (1 + len(config.export.formats)) * inference + 2 * GRAPHS))
    return found


def _bytes(variables: Sequence[keras.Variable]) -> int:
    return sum(math.prod(each.shape) * tf.as_dtype(each.dtype).size for each in variables)
