"""What TensorBoard shows of each epoch: every scalar of the logs, and pictures of the evaluated split."""

import pathlib
from collections.abc import Callable, Mapping

import keras
import numpy as np
import tensorflow as tf

from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.runs.tensorboard.events import keep_epochs
from cskd_tf.training.callbacks import Evaluation

# The section in which each scalar stands; all others are parts of the loss.
SECTIONS = {
    "learning_rate": "training",
    "top1_error": "quality",
    "top5_error": "quality",
    "recall_at_1": "quality",
    "aurc": "quality",
    "nll": "calibration",
    "ece": "calibration",
}
SPLITS = ("val", "test")  # whose scalars begin with the name of the split in the logs
PICTURES = 5  # how often in a run, at most, pictures are drawn: they take longer than all scalars


def tag(name: str) -> str:
    """A scalar's name behind its section's.

    Example:
        >>> tag("ece"), tag("class_wise")
        ('calibration/ece', 'loss/class_wise')
    """
    return f"{SECTIONS.get(name, 'loss')}/{name}"


def by_split(logs: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """The scalars of an epoch's logs by split, under tags that training and validation share.

    The NLL of a split is its cross-entropy, and stands beside that of training too.

    Example:
        >>> by_split({"cross_entropy": 0.7, "val_nll": 0.9})["train"]
        {'loss/cross_entropy': 0.7}
        >>> by_split({"cross_entropy": 0.7, "val_nll": 0.9})["val"]
        {'calibration/nll': 0.9, 'loss/cross_entropy': 0.9}
    """
    found: dict[str, dict[str, float]] = {}
    for name, value in logs.items():
        split, _, metric = name.partition("_")
        if split not in SPLITS:
            split, metric = "train", name
        scalars = found.setdefault(split, {})
        scalars[tag(metric)] = value
        if metric == "nll":
            scalars[tag("cross_entropy")] = value
    return found


def is_drawn(epoch: int, *, epochs: int) -> bool:
    """Whether there are pictures of an epoch, from 1: of the last, and of others at even distances.

    Example:
        >>> [epoch for epoch in range(1, 26) if is_drawn(epoch, epochs=25)]
        [5, 10, 15, 20, 25]
    """
    return epoch == epochs or epoch % -(-epochs // PICTURES) == 0


class TensorBoard(keras.callbacks.Callback):
    """Every scalar of the logs each epoch, and pictures of the evaluated split some five times a run.

    Training and validation are two runs, `train` and `val`, of tags that they share, so that one chart shows both; a
    tag is the scalar's name behind that of a section, as in `calibration/ece`. (Keras' callback would rename `val_ece`
    to `validation/epoch_ece`.)

    Args:
        folder: for the event files.
        evaluation: whose predictions pictures show; it has to come first.
        pictures: draws predictions under a title: uint8 `[1, H, W, 3]` by tag. None: there are no pictures.
        about: what to write of the run itself, with the first epoch, to the writer in whose context it is called.
        done: epochs that this run trained before; what the folder has of later ones is removed, as it will be written
            again. None: the folder's files stay as they are.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        *,
        evaluation: Evaluation,
        pictures: Callable[[Predictions, str], Mapping[str, np.ndarray]] | None = None,
        about: Callable[[], None] | None = None,
        done: int | None = None,
    ):
        super().__init__()
        self.folder = folder
        self.evaluation = evaluation
        self.done = done
        self._pictures, self._about = pictures, about
        self._writers: dict[str, tf.summary.SummaryWriter] = {}

    def on_train_begin(self, logs=None):
        if self.done is not None:
            keep_epochs(self.folder, epochs=self.done)

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 0 and self._about:
            with self._writer("").as_default(step=0):
                self._about()
        for split, scalars in by_split(logs).items():
            with self._writer(split).as_default(step=epoch + 1):
                for name, value in scalars.items():
                    tf.summary.scalar(name, float(value))
        if self._pictures and is_drawn(epoch + 1, epochs=self.params["epochs"]):
            split = self.evaluation.split
            drawn = self._pictures(self.evaluation.predictions, f"{split}, epoch {epoch + 1}")
            with self._writer(split).as_default(step=epoch + 1):
                for name, image in drawn.items():
                    tf.summary.image(name, image)
        for writer in self._writers.values():
            writer.flush()

    def on_train_end(self, logs=None):
        for writer in self._writers.values():
            writer.close()
        self._writers = {}

    def _writer(self, part: str) -> tf.summary.SummaryWriter:
        """The writer of a part of the run: of training, of a split, or, with an empty name, of the run itself."""
        if part not in self._writers:
            self._writers[part] = tf.summary.create_file_writer(str(self.folder / part))
        return self._writers[part]
