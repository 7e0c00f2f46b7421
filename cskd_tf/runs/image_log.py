"""The log of training images: how probable the label and the prediction of each one is, epoch by epoch."""

import pathlib
import re

import keras
import numpy as np

from cskd_tf.errors import UserError
from cskd_tf.evaluation.figures.courses import ImageHistory
from cskd_tf.files import read_arrays, written_whole
from cskd_tf.runs.experiment import Experiment
from cskd_tf.runs.workdir import Workdir
from cskd_tf.training.collector import ProbabilityCollector


class ImageLog(keras.callbacks.Callback):
    """Writes `image_log/epoch-N.npz` after every `every` epochs, and after the last.

    By one more pass over the training images, as evaluation sees them, under the weights that the epoch ended with. The
    training step's own probabilities would come without a pass, but of augmented or mixed images, each under other
    weights, and of some images twice or not at all. An epoch that is trained again writes the same bytes again.

    Args:
        experiment: of the run; all its workers need the callback, of which the chief writes.
        workdir: of the run.
        every: epochs, at least 1.
    """

    def __init__(self, experiment: Experiment, workdir: Workdir, *, every: int):
        super().__init__()
        self._experiment, self._workdir, self._every = experiment, workdir, every
        self._collector = ProbabilityCollector(experiment.model)
        self._data = experiment.evaluation_data("train")

    def on_epoch_end(self, epoch, logs=None):
        number = epoch + 1
        if number % self._every == 0 or number == self._experiment.config.epochs:
            rows = self._collector.rows(self._data)
            self._experiment.workers.on_chief(lambda: self._write(rows, number))

    def _write(self, rows: dict[str, np.ndarray], epoch: int) -> None:
        self._workdir.image_log.mkdir(exist_ok=True)
        target, maximum = (rows[name].astype(np.float16) for name in ("target", "maximum"))
        with written_whole(self._workdir.image_log / f"epoch-{epoch}.npz") as partial:
            np.savez(partial, target=target, maximum=maximum, correct=rows["correct"].astype(bool))


def read_image_log(workdir: Workdir) -> ImageHistory | None:
    """The log of a run; None where it wrote none.

    Raises:
        UserError: files that are damaged, or of different numbers of images.
    """
    files = {number: path for path in workdir.image_log.glob("epoch-*.npz") if (number := _epoch_of(path))}
    if not files:
        return None
    epochs = sorted(files)
    parts = [read_arrays(files[epoch], ["target", "maximum", "correct"]) for epoch in epochs]
    shapes = {values.shape for part in parts for values in part.values()}
    if len(shapes) > 1:
        raise UserError(f"Expected one number of images in {workdir.image_log}. Received: shapes {sorted(shapes)}")
    target, maximum, correct = (np.stack([part[name] for part in parts]) for name in ("target", "maximum", "correct"))
    return ImageHistory(np.array(epochs), target.astype(np.float32), maximum.astype(np.float32), correct.astype(bool))


def _epoch_of(path: pathlib.Path) -> int | None:
    match = re.fullmatch(r"epoch-(\d+)", path.stem)
    return int(match[1]) if match else None
