"""Further places for a run's log, each one of an optional package, for configs that ask for it."""

import importlib.util
import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from cskd_tf.errors import UserError, installing
from cskd_tf.runs.config import Config
from cskd_tf.runs.loggers import base, mlflow_tracking, weights_and_biases
from cskd_tf.runs.workdir import Workdir

# By the packages that they need, which each imports when training begins.
LOGGERS: dict[str, type[base.Logger]] = {"wandb": weights_and_biases.Logger, "mlflow": mlflow_tracking.Logger}


def check_loggers(names: Sequence[str]) -> None:
    """Raises UserError for a logger that there is not, or whose package is not installed."""
    for name in names:
        if name not in LOGGERS:
            raise UserError(f"Unknown logger; expected some of {list(LOGGERS)}. Received: loggers={list(names)}")
        if importlib.util.find_spec(name) is None:
            raise UserError(
                f"Expected the package of a logger, which {installing(name)} installs. "
                f"Received: loggers={list(names)}, and no {name}"
            )


def build_loggers(config: Config, workdir: Workdir) -> list[keras.callbacks.Callback]:
    """The callbacks of a config's loggers; they come behind what adds to the logs, on the chief alone."""
    return [LOGGERS[name](config, workdir) for name in config.loggers]


def log_final(config: Config, workdir: Workdir, metrics: Mapping[str, Mapping[str, Any]]) -> None:
    """Gives the metrics of the finished network to a config's loggers, as `final/test_top1_error`, on the chief alone.

    To do it again changes nothing. What is undefined is left out.

    Args:
        config: of the run.
        workdir: of the run, with its config.
        metrics: of each split with metrics of its own, as `metrics.json` has them.
    """
    values = {
        f"final/{split}_{name}": value
        for split, of_split in metrics.items()
        for name, value in of_split.items()
        if isinstance(value, float) and math.isfinite(value)
    }
    for name in config.loggers:
        LOGGERS[name](config, workdir).log_final(values)
