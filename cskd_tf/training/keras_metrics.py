"""ECE as a Keras metric."""

import keras
import numpy as np
import tensorflow as tf

from cskd_tf.errors import UserError
from cskd_tf.evaluation.calibration import DEFAULT_ECE_BINS, check_bins
from cskd_tf.evaluation.scores import sum_tolerance


@keras.saving.register_keras_serializable("cskd_tf")
class ExpectedCalibrationError(keras.metrics.Metric):
    """ECE as a streaming metric for `compile(metrics=[...])`, exact over the batches it has seen.

    Without an argument it takes logits, which is what a `SelfDistiller` and the networks here return. A network that
    ends in a softmax needs `from_logits=False`; scores that are then not probabilities are refused, as are labels that
    are none of the classes, and weights below 0. XLA drops such checks, so what was wrong is counted as well, and the
    result is NaN.

    Example, of confidences .9 (right) and .95 (wrong), `|.5 - .925|`:
        >>> metric = ExpectedCalibrationError(bins=2, from_logits=False)
        >>> metric.update_state([0, 1], [[0.9, 0.1], [0.95, 0.05]])
        >>> round(float(metric.result()), 6)
        0.425

    Labels are int `[B]` or `[B, 1]`, or one-hot `[B, C]`, of which the
    largest entry counts, of soft targets too, as in Keras' `CategoricalAccuracy`. Weights are `[B]` or `[B, 1]`. The
    result before the first batch is 0, as of Keras' `Mean`.

    Args:
        bins: equal-width confidence bins.
        from_logits: whether the predictions are logits; else they are probabilities.
        name: of the metric.

    Raises:
        UserError: fewer than one bin; predictions, labels or weights of other shapes.
        InvalidArgumentError: predictions that are not probabilities, with `from_logits=False`; labels that are no
            classes; weights that are not finite or below 0.
    """

    def __init__(self, *, bins: int = DEFAULT_ECE_BINS, from_logits: bool = True, name: str = "ece", **kwargs):
        super().__init__(name=name, **kwargs)
        check_bins(bins)
        self.bins = bins
        self.from_logits = from_logits
        self._direction = "down"  # where Keras' callbacks look for whether lower is better
        self._edges = np.linspace(0, 1, bins + 1)[1:].astype("float32")
        # Whatever Keras' floatx is: in float16 a count would end at 2048 images.
        self._count = self.add_variable((bins,), "zeros", dtype="float32", name="count")
        self._gap = self.add_variable((bins,), "zeros", dtype="float32", name="gap")
        self._refused = self.add_variable((), "zeros", dtype="float32", name="refused")

    def update_state(self, y_true, y_pred, sample_weight=None):
        scores, labels = tf.convert_to_tensor(y_pred), tf.convert_to_tensor(y_true)
        labels = _labels(labels, scores)
        self._require(
            (labels >= 0) & (labels < tf.shape(scores)[-1]), "Expected labels from 0 to classes - 1.", shown=labels
        )
        probabilities = self._probabilities(scores)
        confidence = tf.reduce_max(probabilities, axis=-1)
        # Of the scores: probabilities may be equal where logits are not.
        predicted = tf.argmax(scores, axis=-1, output_type=labels.dtype)
        correct = tf.cast(predicted == labels, tf.float32)
        weight = tf.ones_like(confidence) if sample_weight is None else _weight(sample_weight, confidence)
        sound = tf.math.is_finite(weight) & (weight >= 0)
        self._require(sound, "Expected weights that are finite and not below 0.", shown=weight)
        # (lo, hi]: as many edges lie below a confidence as bins do.
        index = tf.minimum(tf.searchsorted(self._edges, confidence, side="left"), self.bins - 1)
        member = tf.one_hot(index, self.bins) * weight[:, None]
        self._count.assign_add(tf.reduce_sum(member, axis=0))
        self._gap.assign_add(tf.reduce_sum(member * (correct - confidence)[:, None], axis=0))

    def _probabilities(self, scores):
        # In float32 whatever the network's type: a softmax in bfloat16 has two digits.
        if self.from_logits:
            return tf.nn.softmax(tf.cast(scores, tf.float32))
        probabilities = tf.cast(scores, tf.float32)
        sound = tf.abs(tf.reduce_sum(probabilities, axis=-1) - 1) <= sum_tolerance(scores.dtype.size)
        sound &= tf.reduce_all(probabilities >= 0, axis=-1)
        message = "Expected probabilities that sum to 1; from_logits=True is for logits."
        self._require(sound, message, shown=scores)
        return probabilities

    def _require(self, sound, message: str, *, shown) -> None:
        """Refuses a batch, or, where XLA drops the assertion, makes the result NaN."""
        self._refused.assign_add(tf.reduce_sum(tf.cast(~sound, tf.float32)))
        tf.debugging.Assert(tf.reduce_all(sound), [f"{message} Received:", shown])

    def result(self):
        ece = tf.reduce_sum(tf.abs(self._gap)) / tf.maximum(tf.reduce_sum(self._count), keras.config.epsilon())
        return tf.where(self._refused > 0, np.nan, ece)

    def get_config(self):
        return {**super().get_config(), "bins": self.bins, "from_logits": self.from_logits}


def _labels(labels, scores):
    """Labels `[B]` of what `compile(metrics=[...])` may meet."""
    shapes = labels.shape, scores.shape
    if scores.shape.rank != 2 or (scores.shape[-1] or 2) < 2:
        raise UserError(f"Expected predictions [B, classes] of two classes or more. Received: shape {scores.shape}")
    if labels.shape.rank == 2 and labels.shape[-1] == scores.shape[-1]:
        return tf.argmax(tf.cast(labels, tf.float32), axis=-1, output_type=tf.int32)
    if labels.shape.rank == 2 and labels.shape[-1] == 1:
        labels = labels[:, 0]
    if labels.shape.rank != 1 or not labels.shape.is_compatible_with(scores.shape[:1]):
        raise UserError(
            "Expected labels [B] or [B, 1], or one-hot [B, classes], beside predictions [B, classes]. "
            f"Received: shapes {shapes[0]} and {shapes[1]}"
        )
    return tf.cast(labels, tf.int32)


def _weight(weight, confidence):
    weight = tf.cast(weight, tf.float32)
    if weight.shape.rank == 2 and weight.shape[-1] == 1:
        weight = weight[:, 0]
    if weight.shape.rank != 1 or not weight.shape.is_compatible_with(confidence.shape):
        raise UserError(f"Expected weights [B] or [B, 1] beside {confidence.shape}. Received: shape {weight.shape}")
    return weight
