"""The formulas: logits in, one value per image out. Everything is computed in float32."""

import keras
import tensorflow as tf


def cross_entropy(logits: tf.Tensor, *, targets: tf.Tensor) -> tf.Tensor:
    """Cross-entropy `-sum_c targets_c log softmax(logits)_c` in nats.

    Example:
        Logits (ln 3, 0) are probabilities (.75, .25): for the targets (1, 0) that is `-ln .75`, and for (.5, .5)
        `-.5 ln .75 - .5 ln .25`.

        >>> values = cross_entropy([[math.log(3), 0.0], [math.log(3), 0.0]], targets=[[1.0, 0.0], [0.5, 0.5]])
        >>> [round(float(value), 6) for value in values]
        [0.287682, 0.836988]

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

    Example:
        From (.5, .5) to the target (.75, .25) that is `.75 ln 1.5 + .25 ln .5`.

        >>> round(float(kl_divergence([math.log(3), 0.0], [0.0, 0.0])), 6)
        0.130812

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

    Example:
        The target (.75, .25) against (.5, .5) gives `-.75 ln .5 - .25 ln .5 = ln 2`.

        >>> round(float(soft_cross_entropy([math.log(3), 0.0], [0.0, 0.0])), 6)
        0.693147

    Args:
        target_logits: `[..., classes]`, of the targets.
        logits: `[..., classes]`, of the predictions that are compared with them.
        temperature: T, divides both logits.

    Returns:
        `[...]` float32.
    """
    targets = tf.nn.softmax(tf.cast(target_logits, tf.float32) / temperature)
    return cross_entropy(tf.cast(logits, tf.float32) / temperature, targets=targets)


def entropy(logits: tf.Tensor) -> tf.Tensor:
    """Entropy of `softmax(logits)` in nats.

    Example:
        Of (.75, .25) it is `-.75 ln .75 - .25 ln .25`.

        >>> round(float(entropy([math.log(3), 0.0])), 6)
        0.562335

    Args:
        logits: `[..., classes]`, any float type.

    Returns:
        `[...]` float32.
    """
    return soft_cross_entropy(logits, logits)


def refine_targets(targets: tf.Tensor, *, previous: tf.Tensor, share: tf.Tensor | float) -> tf.Tensor:
    """`(1 - share) * targets + share * previous`: PS-KD's soft targets (equation 4).

    Example:
        >>> targets = refine_targets([[1.0, 0.0]], previous=[[0.5, 0.5]], share=0.4)
        >>> [round(float(value), 6) for value in targets[0]]
        [0.8, 0.2]

    Args:
        targets: `[..., classes]`; of whole images `[B, C]`, or of each position of a sequence `[B, L, C]`.
        previous: of the same shape, probabilities.
        share: one number, or one per image `[B]`, in [0, 1].

    Returns:
        float32 of the same shape.
    """
    share = tf.cast(share, tf.float32)
    share = tf.reshape(share, tf.concat([tf.shape(share), tf.ones([tf.rank(targets) - tf.rank(share)], tf.int32)], 0))
    return (1 - share) * tf.cast(targets, tf.float32) + share * tf.cast(previous, tf.float32)


def one_hot(labels: tf.Tensor, *, num_classes: int) -> tf.Tensor:
    """Integer labels `[...]` as float32 targets `[..., num_classes]`.

    Example:
        >>> one_hot([1, 2], num_classes=3).numpy().tolist()
        [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    return keras.ops.one_hot(labels, num_classes, dtype="float32")
