"""What every logger is."""

import abc
from collections.abc import Mapping

import keras

from cskd_tf.runs.config import Config
from cskd_tf.runs.workdir import Workdir


class Logger(keras.callbacks.Callback, abc.ABC):
    """Logs each epoch of a run, and the metrics of the finished network, to one run of another package's.

    Args:
        config: of the run.
        workdir: of the run, with its config.
    """

    def __init__(self, config: Config, workdir: Workdir):
        super().__init__()
        self._config, self._workdir = config, workdir

    def on_train_begin(self, logs=None):
        self._begin()

    @abc.abstractmethod
    def _begin(self) -> None:
        """Goes on with this workdir's run, or makes it, with the config."""

    @abc.abstractmethod
    def log_final(self, metrics: Mapping[str, float]) -> None:
        """Writes metrics of the finished network, and ends the run; to do it again changes nothing."""
