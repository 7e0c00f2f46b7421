"""TensorBoard's files of a run that was interrupted: each epoch once, as of a run that was not."""

import pathlib
from typing import Any

import tensorflow as tf
from absl import logging

from cskd_tf.files import remove_leftovers, written_whole


def keep_epochs(folder: pathlib.Path, *, epochs: int) -> None:
    """Rewrites event files so that they hold what was written for the first `epochs` epochs, each value once.

    What follows will be trained, and written, again. A last record that was cut off is left out.

    Args:
        folder: of event files whose steps are epochs, from 1.
        epochs: how many to keep.
    """
    remove_leftovers(folder)
    files = sorted(folder.glob("*tfevents*"))
    kept: dict[tuple, Any] = {}
    for file in files:
        try:
            for record in tf.data.TFRecordDataset(str(file)):
                event = tf.compat.v1.Event.FromString(record.numpy())
                tags = tuple(value.tag for value in event.summary.value)
                if event.step <= epochs:
                    kept.setdefault((event.step, tags), event)
        except tf.errors.DataLossError as error:
            logging.warning("%s: what follows its last whole record is left out (%s)", file, error.message)
    if not files:
        return
    with written_whole(files[0]) as partial, tf.io.TFRecordWriter(str(partial)) as writer:
        for event in kept.values():
            writer.write(event.SerializeToString())
    for file in files[1:]:
        file.unlink()
