"""The formulas: logits in, one value per image out. Everything is computed in float32."""

import keras
import tensorflow as tf

from cskd_tf.checks import check_number
from cskd_tf.errors import UserError


def cross_entropy(logits: tf.Tensor, *, targets: tf.Tensor) -> tf.Tensor:
    """Cross-entropy `-sum_c targets_c log softmax(logits)_c` in nats.

    Example:
        Logits (ln 3, 0) are probabilities (.75, .25): for the targets (1, 0) that is `-ln .75`, and for (.5, .5)
        `-.5 ln .75 - .5 ln .25`.

        >>> values = cross_entropy([[math.log(3), 0.0], [math.log(3), 0.0]], targets=[[1.0, 0.0], [0.5, 0.5]])
        >>> [round(float(value), 6) for value in values]
        [0.287682, 0.836988]

    Args:
        logits: `[..., classes]`, any float type; -inf masks a class: infinite loss only where its target is above 0.
        targets: of the same shape, non-negative; hard labels as one-hot rows.

    Returns:
        `[...]` float32.

    Raises:
        UserError: of another shape.
    """
    _check_same_shape(targets=targets, logits=logits)
    log_probabilities = tf.nn.log_softmax(tf.cast(logits, tf.float32))
    return -_expected(log_probabilities, tf.cast(targets, tf.float32))


def kl_divergence(target_logits: tf.Tensor, logits: tf.Tensor, *, temperature: float = 1.0) -> tf.Tensor:
    """`KL( softmax(target_logits / T) || softmax(logits / T) )` in nats, without the factor `T^2`.

    Gradients flow into both arguments; a caller that distils stops them at `target_logits`.

    Example:
        From (.5, .5) to the target (.75, .25) that is `.75 ln 1.5 + .25 ln .5`.

        >>> round(float(kl_divergence([math.log(3), 0.0], [0.0, 0.0])), 6)
        0.130812

    Args:
        target_logits: `[..., classes]`, of the distribution that is approached.
        logits: of the same shape, of the distribution that approaches.
        temperature: T above 0, divides both logits.

    Returns:
        `[...]` float32.

    Raises:
        UserError: of another shape, or a temperature that is not above 0.
    """
    _check_same_shape(target_logits=target_logits, logits=logits)
    check_number("temperature", temperature, positive=True)
    target = tf.nn.log_softmax(tf.cast(target_logits, tf.float32) / temperature)
    approximation = tf.nn.log_softmax(tf.cast(logits, tf.float32) / temperature)
    return _expected(target - approximation, tf.exp(target))


def soft_cross_entropy(target_logits: tf.Tensor, logits: tf.Tensor, *, temperature: float = 1.0) -> tf.Tensor:
    """Cross-entropy between softened predictions, `-sum softmax(target_logits / T) log softmax(logits / T)`, in nats.

    Example:
        The target (.75, .25) against (.5, .5) gives `-.75 ln .5 - .25 ln .5 = ln 2`.

        >>> round(float(soft_cross_entropy([math.log(3), 0.0], [0.0, 0.0])), 6)
        0.693147

    Args:
        target_logits: `[..., classes]`, of the targets.
        logits: of the same shape, of the predictions that are compared with them.
        temperature: T above 0, divides both logits.

    Returns:
        `[...]` float32.

    Raises:
        UserError: of another shape, or a temperature that is not above 0.
    """
    check_number("temperature", temperature, positive=True)
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
        share: in [0, 1], of the targets' leading axes: one number, one per image `[B]`, or per position `[B, L]`.

    Returns:
        float32 of the same shape.

    Raises:
        UserError: of another shape, or shares outside of [0, 1] (inside of a graph they are not known yet).
    """
    _check_same_shape(targets=targets, previous=previous)
    share = tf.cast(share, tf.float32)
    known = tf.get_static_value(share)  # None inside of a graph
    if known is not None and not ((known >= 0) & (known <= 1)).all():
        raise UserError(f"Expected share in [0, 1]. Received: share={known.tolist()}")
    share = tf.reshape(share, tf.concat([tf.shape(share), tf.ones([tf.rank(targets) - tf.rank(share)], tf.int32)], 0))
    return (1 - share) * tf.cast(targets, tf.float32) + share * tf.cast(previous, tf.float32)


def one_hot(labels: tf.Tensor, *, num_classes: int) -> tf.Tensor:
    """Integer labels `[...]` as float32 targets `[..., num_classes]`; of a label outside the classes, zeros.

    Example:
        >>> one_hot([1, 2], num_classes=3).numpy().tolist()
        [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    return keras.ops.one_hot(labels, num_classes, dtype="float32")


def _expected(values: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
    """Sums over classes, of which one of probability 0 adds 0 though it be infinite: logits of -inf mask classes.

    Not by `multiply_no_nan`, whose gradient by the probabilities is the infinite value.
    """
    return tf.reduce_sum(tf.where(probabilities > 0, values, 0.0) * probabilities, axis=-1)


def _check_same_shape(**arguments: tf.Tensor) -> None:
    """Refuses what TensorFlow would broadcast, as labels in place of targets."""
    shapes = {name: tf.convert_to_tensor(value).shape for name, value in arguments.items()}
    one, other = shapes.values()
    if not one.is_compatible_with(other):
        received = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise UserError(f"Expected {' and '.join(shapes)} of one shape, [..., classes]. Received: {received}")
