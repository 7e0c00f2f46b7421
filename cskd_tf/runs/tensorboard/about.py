"""What TensorBoard shows of a run itself: its name, its config, its hyperparameters and its network's graph."""

import json
import pathlib
from typing import Any

import keras
import tensorflow as tf
from tensorboard.plugins.hparams import api

from cskd_tf.methods import METHODS
from cskd_tf.runs.config import OF_NO_RESULT, Config
from cskd_tf.runs.experiment import network_arguments
from cskd_tf.runs.json_files import flatten
from cskd_tf.runs.report import name_of_methods

CROSS_ENTROPY = "cross_entropy"


def name_of_run(config: Config) -> str:
    """The methods of a config as their files are called; what TensorBoard calls the run.

    Example:
        >>> import types
        >>> name_of_run(types.SimpleNamespace(methods=[{"name": "Mixup"}, {"name": "LabelSmoothing"}]))
        'mixup+label_smoothing'
    """
    files = [METHODS[method["name"]].__module__.rpartition(".")[2] for method in config.methods]
    return "+".join(files) or CROSS_ENTROPY


def hyperparameters(config: Config) -> dict[str, Any]:
    """The keys of a config on which a run's results depend, as the HParams tab takes them; its methods in one word."""
    values = flatten(config.as_dict())
    chosen = {
        key: str(value) if isinstance(value, (list, dict)) else value
        for key, value in values.items()
        if key not in OF_NO_RESULT and not key.endswith("].name")
    }
    return {**chosen, "methods": name_of_methods(config)}


def trial(path: pathlib.Path) -> str:
    """What the HParams tab calls a run, whose column is narrow: the end of its workdir's path, and then the rest.

    Example:
        >>> trial(pathlib.Path("workdirs/digits/weight=1/seed=0"))
        'weight=1/seed=0 in workdirs/digits'
    """
    return f"{pathlib.Path(*path.parts[-2:])} in {pathlib.Path(*path.parts[:-2])}"


def write_about(model: keras.Model, config: Config, path: pathlib.Path) -> None:
    """Writes, for the default writer, the run's config as text, its hyperparameters, and the graph of its network.

    `path` is that of its workdir.
    """
    text = json.dumps(config.as_dict(), indent=2)
    tf.summary.text("config", f"{name_of_methods(config)}\n\n```json\n{text}\n```")
    api.hparams(hyperparameters(config), trial_id=trial(path))
    images = tf.TensorSpec((None, *network_arguments(config)["input_shape"]), tf.float32, name="images")
    infer = tf.function(lambda images: model.network(images, training=False), autograph=False)
    tf.summary.graph(infer.get_concrete_function(images).graph)
