"""Which labels of a batch count: one per image, and of sequences one per position that has any."""

import tensorflow as tf

NO_LABEL = -1  # of a sequence's position, where nothing is to be predicted


def label_weights(labels: tf.Tensor) -> tf.Tensor:
    """0 where a sequence has no label, 1 elsewhere.

    Example:
        >>> label_weights(tf.constant([[3, 0, -1], [2, -1, -1]])).numpy().tolist()
        [[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]

    Args:
        labels: int `[B, L]`.

    Returns:
        float32 `[B, L]`.
    """
    return tf.cast(labels != NO_LABEL, tf.float32)


def counted(values: tf.Tensor, labels: tf.Tensor, *, sequences: bool) -> tf.Tensor:
    """The values of a loss, with 0 where there is no label.

    Example:
        >>> counted(tf.constant([[0.5, 7.0]]), tf.constant([[3, -1]]), sequences=True).numpy().tolist()
        [[0.5, 0.0]]

    Args:
        values: float32 `[B]`, or `[B, L]` of sequences.
        labels: int, of the same shape.
        sequences: whether labels are those of positions; those of images all count.
    """
    return label_weights(labels) * values if sequences else values


def global_count(labels: tf.Tensor, *, sequences: bool, replicas: int) -> tf.Tensor:
    """How many labels a step's whole batch has; what a replica divides by it is then summed over all.

    Example: of a batch without any label at least 1, so that its loss is 0:
        >>> [float(global_count(tf.constant(rows), sequences=True, replicas=1)) for rows in ([[3, 0, -1]], [[-1]])]
        [2.0, 1.0]

    Args:
        labels: int `[B]`, or `[B, L]` of sequences, of this replica.
        sequences: whether labels are those of positions.
        replicas: how many there are.

    Returns:
        float32 `[]`.
    """
    count = tf.reduce_sum(label_weights(labels)) if sequences else tf.cast(tf.shape(labels)[0], tf.float32)
    if replicas > 1:
        count = tf.distribute.get_replica_context().all_reduce("SUM", count)
    return tf.maximum(count, 1.0) if sequences else count
