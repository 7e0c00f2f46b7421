"""What a run holds in memory before its first step, of real variables and images."""

import math
from collections.abc import Iterable

import keras
import tensorflow as tf
from tensorflow.python.client import device_lib  # nothing public tells a device's limit

from cskd_tf.runs.experiment import Experiment

MIB = 2**20


def describe(experiment: Experiment) -> str:
    """One line: parameters, MiB of state on each replica and of images, and the device, of GPUs with their memory.

    Activations, which come to it in each step, are as large as batch size and network make them.
    """
    model = experiment.model
    attached = model.composition.attachable
    owned = [variable for method in attached for variable in (*method.variables, *method.untracked_variables)]
    state = {"weights": model.network.variables, "optimizer": model.optimizer.variables, "methods": owned}
    if model.average:
        state["average"] = model.average.variables
    sizes = ", ".join(f"{name} {size_of(variables) / MIB:.1f}" for name, variables in state.items())
    held = {key: count for source in experiment.splits.values() for key, count in source.held_bytes().items()}
    images = f"images in memory {sum(held.values()) / MIB:.1f} MiB"
    return "; ".join([f"{parameters_of(model):,} parameters; MiB on each replica: {sizes}", images, *_devices()])


def parameters_of(model: keras.Model) -> int:
    """How many numbers are trained, as papers count parameters: without running statistics of batch norm.

    Example:
        >>> inputs = keras.Input((2,))
        >>> parameters_of(keras.Model(inputs, keras.layers.BatchNormalization()(keras.layers.Dense(3)(inputs))))
        15
    """
    return sum(math.prod(variable.shape) for variable in model.trainable_variables)


def size_of(variables: Iterable[keras.Variable]) -> int:
    """Bytes of the values of variables, each counted once.

    Example:
        >>> step, table = keras.Variable(0, dtype="int64"), keras.Variable(tf.zeros([3, 2]), dtype="float16")
        >>> size_of([step, table, step])
        20
    """
    unique = {id(variable): variable for variable in variables}.values()
    return sum(math.prod(variable.shape) * tf.as_dtype(variable.dtype).size for variable in unique)


def _devices() -> list[str]:
    """What computes; of each GPU what TensorFlow may take of it, and has taken."""
    if not tf.config.list_logical_devices("GPU"):
        return [f"computed on the {'TPU' if tf.config.list_logical_devices('TPU') else 'CPU'}"]
    lines = []
    for device in device_lib.list_local_devices():
        if device.device_type == "GPU":
            taken = tf.config.experimental.get_memory_info(device.name.removeprefix("/device:"))["current"]
            lines.append(f"{device.name} {device.memory_limit / MIB:,.0f} MiB, {taken / MIB:,.0f} of them taken")
    return lines
