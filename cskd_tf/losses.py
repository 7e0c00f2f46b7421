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


def soft_cross_entropy(target_logits: tf.Tensor, logits: tf.Tensor, *, temperature: float = 1.0) -> tf.Tensor:
    """Cross-entropy between softened predictions, `-sum softmax(target_logits / T) log softmax(logits / T)`, in nats.

    Example: target logits `[[ln 3, 0]]` against logits `[[0, 0]]` give `ln 2 = 0.693147`.

    Args and result as of `kl_divergence`.
    """
    targets = tf.nn.softmax(tf.cast(target_logits, tf.float32) / temperature)
    return cross_entropy(tf.cast(logits, tf.float32) / temperature, targets=targets)


def entropy(logits: tf.Tensor) -> tf.Tensor:
    """Entropy of `softmax(logits)` in nats, `[..., classes]` to `[...]` float32.

    Example: logits `[[ln 3, 0]]` are `[[.75, .25]]`, of entropy `-.75 ln .75 - .25 ln .25 = 0.562335`.
    """
    return soft_cross_entropy(logits, logits)


def refine_targets(targets: tf.Tensor, *, previous: tf.Tensor, share: tf.Tensor | float) -> tf.Tensor:
    """`(1 - share) * targets + share * previous`: PS-KD's soft targets (equation 4).

    Example: the target `[1, 0]` with the previous prediction `[.5, .5]` at share .4 becomes `[.8, .2]`.

    Args:
        targets: `[..., classes]`; of whole images `[B, C]`, or of each position of a sequence `[B, L, C]`.
        previous: of the same shape, probabilities.
        share: one number, or one an example `[B]`, in [0, 1].
    """
    share = tf.cast(share, tf.float32)
    share = tf.reshape(share, tf.concat([tf.shape(share), tf.ones([tf.rank(targets) - tf.rank(share)], tf.int32)], 0))
    return (1 - share) * tf.cast(targets, tf.float32) + share * tf.cast(previous, tf.float32)


def masked_mean(values: tf.Tensor, *, mask: tf.Tensor) -> tf.Tensor:
    """Mean of each sequence's values where `mask` is true, `[B, L]` to `[B]`; 0 for a sequence without any.

    Example: values `[[1, 3, 8]]` with mask `[[True, True, False]]` are `[2]`.
    """
    weights = tf.cast(mask, tf.float32)
    return tf.math.divide_no_nan(tf.reduce_sum(weights * values, axis=-1), tf.reduce_sum(weights, axis=-1))


def one_hot(labels: tf.Tensor, *, num_classes: int) -> tf.Tensor:
    """Integer labels `[...]` as float32 targets `[..., num_classes]`. Example: `1` of 3 classes is `[0, 1, 0]`."""
    return keras.ops.one_hot(labels, num_classes, dtype="float32")
