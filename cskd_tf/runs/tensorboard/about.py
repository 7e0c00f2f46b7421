"""What TensorBoard shows of a run itself: its name, its config, its hyperparameters and its network's graph."""

import json
from typing import Any

import keras
import tensorflow as tf
from tensorboard.plugins.hparams import api

from cskd_tf.methods import METHODS
from cskd_tf.runs.config import OF_NO_RESULT, Config
from cskd_tf.runs.experiment import network_arguments
from cskd_tf.runs.report import name_of_methods
from cskd_tf.runs.workdir import flatten

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
        key: str(value) if isinstance(value, list) else value
        for key, value in values.items()
        if key not in OF_NO_RESULT and not key.endswith("].name")
    }
    return {**chosen, "methods": name_of_methods(config)}


def write_about(model: keras.Model, config: Config) -> None:
    """Writes, for the default writer, the run's config as text, its hyperparameters, and the graph of its network."""
    text = json.dumps(config.as_dict(), indent=2)
    tf.summary.text("config", f"{name_of_methods(config)}\n\n```json\n{text}\n```")
    api.hparams(hyperparameters(config))
    images = tf.TensorSpec((None, *network_arguments(config)["input_shape"]), tf.float32, name="images")
    infer = tf.function(lambda images: model.network(images, training=False), autograph=False)
    tf.summary.graph(infer.get_concrete_function(images).graph)
