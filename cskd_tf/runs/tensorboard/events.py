"""TensorBoard's files of a run that was interrupted: each epoch once, as of a run that was not."""

import pathlib
from typing import Any

import tensorflow as tf
from absl import logging

from cskd_tf.files import remove_leftovers, written_whole


def keep_epochs(folder: pathlib.Path, *, epochs: int) -> None:
    """Rewrites event files so that they hold what was written for the first `epochs` epochs, each value once.

    What follows will be trained, and written, again: with `epochs` of 0 everything is. A last record that was cut off
    is left out.

    Args:
        folder: of event files, or of folders with such files, whose steps are epochs, from 1. What has step 0 was
            written with the first epoch.
        epochs: how many to keep.
    """
    for part in sorted({file.parent for file in folder.rglob("*tfevents*")}):
        remove_leftovers(part)
        files = sorted(part.glob("*tfevents*"))
        if epochs:
            _rewrite(files, epochs=epochs)
        for file in files[1 if epochs else 0 :]:
            file.unlink()


def _rewrite(files: list[pathlib.Path], *, epochs: int) -> None:
    """Puts what is kept of all files of one folder into the first."""
    kept: dict[tuple, Any] = {}
    for file in files:
        try:
            for record in tf.data.TFRecordDataset(str(file)):
                event = tf.compat.v1.Event.FromString(record.numpy())
                tags = tuple(value.tag for value in event.summary.value)
                if event.step <= epochs:
                    kept.setdefault((event.step, event.WhichOneof("what"), tags), event)
        except tf.errors.DataLossError as error:
            logging.warning("%s: what follows its last whole record is left out (%s)", file, error.message)
    with written_whole(files[0]) as partial, tf.io.TFRecordWriter(str(partial)) as writer:
        for event in sorted(kept.values(), key=lambda event: event.step):
            writer.write(event.SerializeToString())


def remove_events(folder: pathlib.Path) -> None:
    """Removes the event files that lie in a folder itself; what is written there next stands alone."""
    for file in folder.glob("*tfevents*"):
        file.unlink()
