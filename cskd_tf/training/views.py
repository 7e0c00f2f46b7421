"""A run of the network on one view of a batch, in the view's batch-norm mode, with its gradients or without."""

from typing import Any

import keras
import tensorflow as tf

from cskd_tf.methods.base import BatchNormMode, View
from cskd_tf.networks.features import NetworkOutputs


def run_view(view: View, batch: dict[str, Any], *, run: NetworkOutputs, tape: tf.GradientTape) -> dict[str, Any]:
    """The network's outputs for a view.

    Args:
        view: which one, and how it is run.
        batch: with what the network takes under the view's name.
        run: the network.
        tape: that records it where the view has gradients.

    Returns:
        As `NetworkOutputs`.
    """
    if view.gradient:
        return _outputs(run, batch[view.name], batch_norm=view.batch_norm)
    with tape.stop_recording():
        return _outputs(run, batch[view.name], batch_norm=view.batch_norm)


def _outputs(run: NetworkOutputs, images: tf.Tensor, *, batch_norm: BatchNormMode) -> dict[str, Any]:
    if batch_norm != "train_no_update":
        return run(images, training=batch_norm == "train")
    # Assignments inside a stateless scope reach the scope and not the variables. Random generators do move on, or
    # the next run would drop the same units.
    state = run.network.non_trainable_variables
    random_states = [variable for variable in state if keras.backend.is_int_dtype(variable.dtype)]
    # Where the step is itself in such a scope, they have moved there.
    with keras.StatelessScope([(variable, tf.convert_to_tensor(variable)) for variable in random_states]) as scope:
        outputs = run(images, training=True)
    for variable in random_states:
        if (value := scope.get_current_value(variable)) is not None:
            variable.assign(value)
    return outputs
