"""Soft targets after Zipf's law for the classes that an image is not of, and their loss."""

import tensorflow as tf

from cskd_tf.losses import cross_entropy, one_hot

_OUT = -1e9  # a logit whose probability is 0 in float32


def ranks(scores: tf.Tensor) -> tf.Tensor:
    """The place of each class, from 1 for the highest score; equal scores share the best of their places.

    Example:
        >>> ranks(tf.constant([[2.0, 0.0, 5.0, 2.0]])).numpy().tolist()
        [[2, 4, 1, 2]]

    Args:
        scores: float `[B, C]`.

    Returns:
        int32 `[B, C]`.
    """
    not_higher = tf.searchsorted(tf.sort(scores, axis=-1), scores, side="right")
    return scores.shape[-1] - not_higher + 1


def zipf_targets(places: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Probabilities of the classes other than the label, in proportion to `1 / place`; 0 for the label itself.

    Example: of the places 1 and 3 that label 1 leaves, three quarters and one quarter:
        >>> zipf_targets(tf.constant([[1, 2, 3]]), tf.constant([1])).numpy().tolist()
        [[0.75, 0.0, 0.25]]

    Args:
        places: int `[B, C]`, from `ranks`.
        labels: int `[B]`.

    Returns:
        float32 `[B, C]`.
    """
    others = 1 - one_hot(labels, num_classes=places.shape[-1])
    shares = others / tf.cast(places, tf.float32)
    return shares / tf.reduce_sum(shares, axis=-1, keepdims=True)


def cross_entropy_of_others(logits: tf.Tensor, *, targets: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Cross-entropy in nats among the classes other than the label, whose logit gets no gradient.

    Example: of the logits (ln 3, 9, 0) label 1 leaves the probabilities (.75, 0, .25):
        >>> options = {"targets": tf.constant([[1.0, 0.0, 0.0]]), "labels": tf.constant([1])}
        >>> round(float(cross_entropy_of_others(tf.constant([[math.log(3), 9.0, 0.0]]), **options)[0]), 6)
        0.287682

    Args:
        logits: `[B, C]`.
        targets: `[B, C]`, 0 for the label.
        labels: int `[B]`.

    Returns:
        float32 `[B]`.
    """
    label = one_hot(labels, num_classes=logits.shape[-1]) > 0
    return cross_entropy(tf.where(label, _OUT, tf.cast(logits, tf.float32)), targets=targets)
