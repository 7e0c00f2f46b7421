"""Further places for a run's log, each one of an optional package that is imported only where a config asks for it."""

import importlib
import importlib.util
from collections.abc import Sequence

import keras

from cskd_tf.errors import UserError
from cskd_tf.runs.config import Config
from cskd_tf.runs.workdir import Workdir

LOGGERS = {"wandb": "weights_and_biases", "mlflow": "mlflow_tracking"}  # files, by the packages that they need


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
    modules = [importlib.import_module(f"{__name__}.{LOGGERS[name]}") for name in config.loggers]
    return [module.Logger(config, workdir) for module in modules]
