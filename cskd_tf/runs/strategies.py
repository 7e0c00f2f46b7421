"""The devices that a run is computed on, by the name in its config."""

import tensorflow as tf

from cskd_tf.errors import UserError


def mirrored() -> tf.distribute.Strategy:
    """All GPUs of this machine, or all its logical CPUs where it has none."""
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def tpu() -> tf.distribute.Strategy:
    """The TPU that the environment names.

    Raises:
        UserError: there is none.
    """
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver()
    except ValueError as error:
        raise UserError(f"Expected a TPU for strategy=tpu. Received: {error}") from None
    tf.config.experimental_connect_to_cluster(resolver)
    tf.tpu.experimental.initialize_tpu_system(resolver)
    return tf.distribute.TPUStrategy(resolver)


# What `runs.config.Strategy` can be, and what makes each.
STRATEGIES = {"single": tf.distribute.get_strategy, "mirrored": mirrored, "tpu": tpu}
