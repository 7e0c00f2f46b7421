"""Further places for a run's log, each one of an optional package, for configs that ask for it."""

import importlib.util
from collections.abc import Sequence

import keras

from cskd_tf.errors import UserError
from cskd_tf.runs.config import Config
from cskd_tf.runs.loggers import mlflow_tracking, weights_and_biases
from cskd_tf.runs.workdir import Workdir

# By the packages that they need, which each imports when training begins.
LOGGERS = {"wandb": weights_and_biases.Logger, "mlflow": mlflow_tracking.Logger}


def check_loggers(names: Sequence[str]) -> None:
    """Raises UserError for a logger that there is not, or whose package is not installed."""
    for name in names:
        if name not in LOGGERS:
            raise UserError(f"Unknown logger; expected some of {list(LOGGERS)}. Received: loggers={list(names)}")
        if importlib.util.find_spec(name) is None:
            raise UserError(
                f"Expected the package of a logger, which `pip install 'cskd_tf[{name}]'` installs. "
                f"Received: loggers={list(names)}, and no {name}"
            )


def build_loggers(config: Config, workdir: Workdir) -> list[keras.callbacks.Callback]:
    """The callbacks of a config's loggers; they come behind what adds to the logs, on the chief alone."""
    return [LOGGERS[name](config, workdir) for name in config.loggers]
