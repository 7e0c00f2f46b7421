"""The formulas: logits in, one value an example out. Everything is computed in float32."""

import keras
import tensorflow as tf


def cross_entropy(logits: tf.Tensor, *, targets: tf.Tensor) -> tf.Tensor:
    """Cross-entropy `-sum_c targets_c log softmax(logits)_c` in nats.

    Example: logits `[[ln 3, 0]]` are probabilities `[[.75, .25]]`; with targets `[[1, 0]]` the value is
    `-ln .75 = 0.287682`, with targets `[[.5, .5]]` it is `0.836988`.

    Args:
        logits: `[..., classes]`, any float type.
        targets: `[..., classes]`, non-negative; hard labels as one-hot rows.

    Returns:
        `[...]` float32.
    """
    log_probabilities = tf.nn.log_softmax(tf.cast(logits, tf.float32))
    return -tf.reduce_sum(tf.cast(targets, tf.float32) * log_probabilities, axis=-1)


def kl_divergence(target_logits: tf.Tensor, logits: tf.Tensor, *, temperature: float = 1.0) -> tf.Tensor:
    """`KL( softmax(target_logits / T) || softmax(logits / T) )` in nats, without the factor `T^2`.

    Gradients flow into both arguments; a caller that distils stops them at `target_logits`.

    Example: target logits `[[ln 3, 0]]` (`[[.75, .25]]`) against logits `[[0, 0]]` at temperature 1 give
    `.75 ln 1.5 + .25 ln .5 = 0.130812`.

    Args:
        target_logits: `[..., classes]`, of the distribution that is approached.
        logits: `[..., classes]`, of the distribution that approaches.
        temperature: T, divides both logits.

    Returns:
        `[...]` float32.
    """
    target = tf.nn.log_softmax(tf.cast(target_logits, tf.float32) / temperature)
    approximation = tf.nn.log_softmax(tf.cast(logits, tf.float32) / temperature)
    return tf.reduce_sum(tf.exp(target) * (target - approximation), axis=-1)


def one_hot(labels: tf.Tensor, *, num_classes: int) -> tf.Tensor:
    """Integer labels `[...]` as float32 targets `[..., num_classes]`. Example: `1` of 3 classes is `[0, 1, 0]`."""
    return keras.ops.one_hot(labels, num_classes, dtype="float32")
