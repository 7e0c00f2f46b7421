"""What TensorBoard shows of a finished run: the metrics of its splits, and its embeddings."""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.files import read_arrays
from cskd_tf.runs.config import Config
from cskd_tf.runs.tensorboard.about import name_of_run
from cskd_tf.runs.tensorboard.board import SECTIONS, by_split
from cskd_tf.runs.tensorboard.events import remove_events
from cskd_tf.runs.tensorboard.projector import write_projector
from cskd_tf.runs.workdir import Workdir

PROJECTED = "test"


def write_ending(
    workdir: Workdir, config: Config, *, metrics: Mapping[str, Mapping[str, Any]], class_names: Sequence[str]
) -> None:
    """Writes final metrics of each split that was not followed through the epochs, and the projector's files.

    To do it again changes nothing.

    Args:
        workdir: of the run, with its predictions and thumbnails.
        config: of the run.
        metrics: of each split with metrics of its own.
        class_names: of all classes.
    """
    folder = workdir.tensorboard / name_of_run(config)
    last = workdir.log()[-1] if workdir.log() else {}
    for split, values in metrics.items():
        if f"{split}_nll" in last:
            continue
        remove_events(folder / split)
        writer = tf.summary.create_file_writer(str(folder / split))
        logs = {f"{split}_{name}": value for name, value in values.items() if name in SECTIONS}
        with writer.as_default(step=config.epochs):
            for tag, value in by_split(logs)[split].items():
                tf.summary.scalar(tag, float(value))
        writer.close()
    if PROJECTED not in metrics:
        return
    pictures = read_arrays(workdir.thumbnails(PROJECTED), ["indices", "images"])
    write_projector(
        folder,
        Predictions.load(workdir.predictions(PROJECTED)),
        **pictures,
        class_names=class_names,
        name=f"{PROJECTED} images",
    )
