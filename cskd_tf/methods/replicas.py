"""Statistics over the batch of all replicas, as one replica with the whole batch would compute them."""

import tensorflow as tf


def _context() -> tf.distribute.ReplicaContext | None:
    """The replica's, where there is more than one."""
    context = tf.distribute.get_replica_context()
    return context if context is not None and context.num_replicas_in_sync > 1 else None


def gather(values: tf.Tensor) -> tf.Tensor:
    """The rows of all replicas, `[b, ...]` to `[B, ...]`. No gradient flows to other replicas."""
    context = _context()
    # A tensor that the step was given is on no device yet, which all_gather of several workers refuses.
    return values if context is None else context.all_gather(tf.identity(values), axis=0)


def global_sum(values: tf.Tensor) -> tf.Tensor:
    """The sum over the rows of all replicas, `[b, ...]` to `[...]`, with gradients."""
    context = _context()
    total = tf.reduce_sum(values, axis=0)
    return total if context is None else context.all_reduce("SUM", total)


def global_mean(values: tf.Tensor) -> tf.Tensor:
    """The mean over the rows of all replicas, `[b, ...]` to `[...]`, with gradients."""
    return global_sum(values) / global_sum(tf.ones(tf.shape(values)[:1]))
