"""Which of Keras' metrics say what they are called, of logits and of the labels that a model has."""

import types
from collections.abc import Sequence
from typing import Any

import keras

from cskd_tf.errors import UserError
from cskd_tf.training.keras_metrics import ExpectedCalibrationError

# Keras' own, and no subclasses, which may take a softmax first.
_OF_LOGITS = (  # or of probabilities, as which logits would be cut at 0 and 1
    keras.metrics.CategoricalCrossentropy,
    keras.metrics.SparseCategoricalCrossentropy,
    keras.metrics.BinaryCrossentropy,
    keras.metrics.AUC,
    keras.losses.CategoricalCrossentropy,
    keras.losses.SparseCategoricalCrossentropy,
    keras.losses.BinaryCrossentropy,
)
_OF_CLASSES = (
    keras.metrics.SparseCategoricalAccuracy,
    keras.metrics.SparseTopKCategoricalAccuracy,
    keras.metrics.SparseCategoricalCrossentropy,
)
_OF_ROWS = (
    keras.metrics.CategoricalAccuracy,
    keras.metrics.TopKCategoricalAccuracy,
    keras.metrics.CategoricalCrossentropy,
)


_FUNCTIONS = (
    "categorical_crossentropy", "sparse_categorical_crossentropy", "binary_crossentropy",
    "categorical_accuracy", "sparse_categorical_accuracy",
    "top_k_categorical_accuracy", "sparse_top_k_categorical_accuracy",
)  # fmt: skip


def _made(metric: Any) -> Any:
    """A metric by its name in Keras, or of Keras' function; a name whose meaning follows from the labels stays one."""
    if isinstance(metric, types.FunctionType) and metric.__name__ in _FUNCTIONS and metric.__module__[:6] == "keras.":
        metric = metric.__name__
    if not isinstance(metric, str):
        return metric
    return metric.lower() if metric.lower() in ("accuracy", "acc", "crossentropy", "ce") else keras.metrics.get(metric)


def check_of_logits(metrics: Sequence[Any]) -> None:
    """Raises UserError for metrics of probabilities, beside a model that returns logits of one class."""
    for metric in map(_made, metrics):
        takes_logits = type(metric) not in _OF_LOGITS or metric.get_config()["from_logits"]
        if metric in ("crossentropy", "ce") or not takes_logits:
            raise UserError(
                "Expected metrics of logits, such as SparseCategoricalCrossentropy(from_logits=True). "
                f"Received: {metric!r}, of probabilities"
            )


def check_form_of_labels(metrics: Sequence[Any], *, as_rows: bool) -> None:
    """Raises UserError for metrics of rows where labels are classes, and the other way round."""
    for metric in map(_made, metrics):
        of_classes, of_rows = type(metric) in _OF_CLASSES, type(metric) in _OF_ROWS
        if (as_rows and of_classes) or (of_rows and not as_rows):
            form, other = ("rows", "Categorical") if as_rows else ("classes", "SparseCategorical")
            raise UserError(
                f"Expected metrics of labels that are {form}, of Keras' those with {other} in their name, or "
                f"'accuracy', which is of both. Received: {metric.name!r}"
            )


# Metrics of one class of each image: they would compare the largest of the scores alone, or take their softmax.
_OF_ONE_CLASS = (
    keras.metrics.Accuracy,
    keras.metrics.CategoricalAccuracy,
    keras.metrics.SparseCategoricalAccuracy,
    keras.metrics.TopKCategoricalAccuracy,
    keras.metrics.SparseTopKCategoricalAccuracy,
    keras.metrics.CategoricalCrossentropy,
    keras.metrics.SparseCategoricalCrossentropy,
    ExpectedCalibrationError,
)


def takes_logits_of_several(metric: Any) -> bool:
    """Whether a metric can be of any number of classes and of logits, as far as its settings say.

    Example: Keras' thresholds are of probabilities unless they are given:
        >>> [takes_logits_of_several(keras.metrics.BinaryAccuracy(threshold=of)) for of in (0.5, 0.0)]
        [False, True]
    """
    metric = _made(metric)
    if isinstance(metric, (str, *_OF_ONE_CLASS)):
        return False
    if not isinstance(metric, keras.metrics.Metric) or (
        isinstance(metric, keras.metrics.MeanMetricWrapper)
        and not isinstance(metric, (keras.metrics.BinaryAccuracy, keras.metrics.BinaryCrossentropy))
    ):
        return True  # a function of the user's own, or one of Keras' that knows neither classes nor logits
    settings = metric.get_config()
    if "from_logits" in settings:
        return settings["from_logits"]
    if "threshold" in settings:
        return settings["threshold"] == 0
    return settings.get("thresholds", 0) is not None and "num_thresholds" not in settings
