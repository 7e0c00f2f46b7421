"""What `SelfDistiller` reads, checked: data sets before the first epoch, batches when a step is traced."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from cskd_tf import losses
from cskd_tf.methods.base import Method, merge_views, overrides


def unpack(data) -> tuple[dict[str, Any], tf.Tensor]:
    """The batch as a dictionary with the labels in it, and the labels, int `[B]`."""
    inputs, labels, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    if labels is None or sample_weight is not None:
        raise ValueError("Expected batches (images, labels) without sample or class weights.")
    column = labels.shape.rank in (None, 1) or labels.shape[1:] == [1]
    if not (labels.dtype.is_integer and column):
        raise ValueError(f"Expected integer labels [B]. Received: {labels.dtype.name} of shape {labels.shape}")
    labels = tf.cast(tf.reshape(labels, [-1]), tf.int64)  # a byte cannot hold the number of 256 classes
    return {**(inputs if isinstance(inputs, dict) else {"image": inputs}), "label": labels}, labels


def check_for_training(batch: dict, methods: Sequence[Method]) -> None:
    """Raises ValueError where the batch lacks what the methods need of the pipeline."""
    built = "build the data with cskd_tf.data.paired_dataset(..., **model.data_options)"
    received = f"Received: a batch with {sorted(batch)}"
    if missing := [extra for method in methods for extra in method.extras if extra not in batch]:
        raise ValueError(f"The methods need {missing}, which a stream without indices cannot give: {built}. {received}")
    if missing := [view.name for view in merge_views(methods) if view.name not in batch]:
        raise ValueError(f"The methods need the views {missing}: {built}. {received}")
    mixing = [type(method).__name__ for method in methods if overrides(method, "mix")]
    if mixing and "targets" not in batch:
        raise ValueError(f"{mixing} work in the pipeline: {built}. {received}")


def one_hot_targets(batch: dict, *, classes: int) -> tf.Tensor:
    """float32 `[B, C]`: what the pipeline has mixed, or the labels as one-hot rows."""
    if "targets" in batch:
        return batch["targets"]
    # Such a label would become a row of zeros, and its image be trained on nothing.
    message = f"Expected labels from 0 to {classes - 1}, one of the classes of the network."
    labels = batch["label"]
    checks = [
        tf.debugging.assert_non_negative(labels, message=message),
        tf.debugging.assert_less(labels, tf.constant(classes, labels.dtype), message=message),
    ]
    with tf.control_dependencies([check for check in checks if check is not None]):
        return losses.one_hot(tf.identity(labels), num_classes=classes)


def steps_per_epoch(data, *, epochs: int, initial_epoch: int) -> int | None:
    """What a data set of `cskd_tf.data` says of itself, which holds all epochs; None for any other data.

    Raises:
        ValueError: it does not reach to the last epoch, or went through another tf.data call and lost where one ends.
    """
    if (steps := getattr(data, "steps_per_epoch", None)) is not None:
        held, wanted = int(data.cardinality()), (epochs - initial_epoch) * steps
        if held < wanted:
            raise ValueError(
                "Expected a data set of all the epochs that fit() is to train, "
                f"paired_dataset(..., epochs={epochs}): {wanted} batches. Received: {held} batches"
            )
    elif epochs > 1 and isinstance(data, tf.data.Dataset) and isinstance(_inputs(data.element_spec), dict):
        raise ValueError(
            "Expected steps_per_epoch, or a data set as paired_dataset returned it: it spans all epochs, and after "
            "another tf.data call it cannot say where one ends. Received: steps_per_epoch=None"
        )
    return steps


def image_shape(data) -> tuple[int | None, ...] | None:
    """`[None, H, W, C]` of what arrays or a tf.data set hold; None where only the first batch tells."""
    images = _inputs(data.element_spec) if isinstance(data, tf.data.Dataset) else data
    images = images["image"] if isinstance(images, dict) else images
    return (None, *images.shape[1:]) if hasattr(images, "shape") else None


def _inputs(element_spec):
    return element_spec[0] if isinstance(element_spec, tuple) else element_spec
