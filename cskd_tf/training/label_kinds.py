"""One class of an image, one of every position of a sequence, several classes of an image: the kinds of labels."""

import keras
import tensorflow as tf

from cskd_tf import losses
from cskd_tf.errors import UserError
from cskd_tf.training.labels import NO_LABEL, WEIGHT, LabelKind, kind_of, sizes_of, tolerance_of, type_of
from cskd_tf.training.metric_checks import check_form_of_labels, check_of_logits, takes_logits_of_several


class OneClass(LabelKind):
    """One class of each image: integers `[B]` or `[B, 1]`, or rows `[B, C]` that sum to 1, one-hot or soft.

    Rows are targets, as Keras' `CategoricalCrossentropy` takes them, and their largest entry is the class.

    Example:
        >>> batch = OneClass().read({}, tf.constant([[0.0, 1.0], [0.75, 0.25]]), num_classes=2)
        >>> batch["label"].numpy().tolist(), batch["targets"].numpy().tolist()
        ([1, 0], [[0.0, 1.0], [0.75, 0.25]])

        Weights (1, 3) of two classes make of the target (.75, .25) the weight `.75 + 3 * .25`, and half of each class:
        >>> batch = OneClass().weighted_by_class(batch, [1.0, 3.0])
        >>> batch["sample_weight"].numpy().tolist(), batch["targets"].numpy().tolist()
        ([3.0, 1.5], [[0.0, 1.0], [0.5, 0.5]])
    """

    def check_metrics(self, metrics, weighted_metrics):
        check_of_logits(keras.tree.flatten([metrics, weighted_metrics]))

    def check_metrics_of(self, metrics, *, as_rows):
        check_form_of_labels(metrics, as_rows=as_rows)

    def check_form(self, labels, *, num_classes):
        sizes, kind = sizes_of(labels), kind_of(labels)
        if self.are_rows(labels, num_classes=num_classes):
            possible = kind in ("int", "float", "bool")
        else:
            possible = (sizes is None or len(sizes) == 1 or sizes[1:] == (1,)) and kind in ("int", "float")
        if not possible:
            raise UserError(
                f"Expected integer labels [B] or [B, 1], or rows [B, {num_classes}] with a share for each of the "
                f"network's classes. Received: {type_of(labels)} of shape {sizes}"
            )

    def expected(self, labels, *, num_classes):
        if labels is not None and self.are_rows(labels, num_classes=num_classes):
            return f"Expected rows [B, {num_classes}] of shares that are not below 0 and sum to 1."
        whole = ", as whole numbers" if labels is not None and kind_of(labels) == "float" else ""
        return f"Expected labels from 0 to {num_classes - 1}, one of the classes of the network{whole}."

    def wrong(self, labels, *, num_classes, namespace):
        if self.are_rows(labels, num_classes=num_classes):
            rows = namespace.asarray(labels, namespace.float32)
            sums_to_1 = namespace.abs(namespace.sum(rows, axis=-1) - 1) <= tolerance_of(labels)
            return ~(sums_to_1 & namespace.all(rows >= 0, axis=-1))
        is_float = kind_of(labels) == "float"
        number = namespace.float64 if is_float else namespace.int64
        numbers = namespace.reshape(namespace.asarray(labels, number), (-1,))
        of_a_class = (numbers >= 0) & (numbers < num_classes)
        return ~(of_a_class & (namespace.floor(numbers) == numbers)) if is_float else ~of_a_class

    def classes(self, labels, *, num_classes, namespace):
        if self.are_rows(labels, num_classes=num_classes):
            return namespace.argmax(namespace.asarray(labels, namespace.float32), axis=-1)
        # A byte cannot hold the number of 256 classes.
        return namespace.reshape(namespace.asarray(labels, namespace.int64), (-1,))

    def of_several(self, labels, *, num_classes, namespace):
        if not self.are_rows(labels, num_classes=num_classes):
            return None
        return namespace.max(namespace.asarray(labels, namespace.float32), axis=-1) < 1 - tolerance_of(labels)

    def read(self, batch, labels, *, num_classes):
        if self.are_rows(labels, num_classes=num_classes):
            if "targets" in batch:
                raise UserError(
                    "Expected integer labels beside the targets of a method that works in the pipeline. "
                    f"Received: rows of shape {sizes_of(labels)}"
                )
            batch = {**batch, "targets": tf.cast(labels, tf.float32)}
        elif "targets" in batch:  # what the pipeline has mixed
            if (given := batch["targets"].shape[-1]) > num_classes:
                raise UserError(f"Expected targets of the network's {num_classes} classes. Received: {given} classes")
            batch = {**batch, "targets": tf.pad(batch["targets"], [(0, 0), (0, num_classes - given)])}
        return {**batch, "label": self.classes(labels, num_classes=num_classes, namespace=tf.experimental.numpy)}

    def of_metrics(self, labels, *, num_classes, as_rows=None):
        are_rows = self.are_rows(labels, num_classes=num_classes)
        if are_rows and as_rows is not False:
            return tf.cast(labels, tf.float32)
        classes = self.classes(labels, num_classes=num_classes, namespace=tf.experimental.numpy)
        return losses.one_hot(classes, num_classes=num_classes) if as_rows and not are_rows else classes

    def weighted_by_class(self, batch, class_weights):
        if WEIGHT in batch:
            raise UserError("Expected class_weight or sample weights, and not both. Received: batches with weights")
        table = tf.constant(class_weights, tf.float32)
        if "targets" not in batch:
            return {**batch, WEIGHT: tf.gather(table, batch["label"])}
        # sum_c w_c t_c (-log p_c) is the weight sum_c w_c t_c times the cross-entropy of targets in proportion to it.
        shares = batch["targets"] * table
        weights = tf.reduce_sum(shares, axis=-1)
        targets = tf.where(weights[:, None] > 0, tf.math.divide_no_nan(shares, weights[:, None]), batch["targets"])
        return {**batch, WEIGHT: weights, "targets": targets}

    def are_rows(self, labels, *, num_classes):
        sizes = sizes_of(labels)
        return sizes is not None and sizes[1:] == (num_classes,)


class ClassPerPosition(LabelKind):
    """One class of every position of a sequence: integers `[B, L]`, and -1 where there is none, which count nothing.

    Example:
        >>> batch = ClassPerPosition().read({}, tf.constant([[3, 0, -1], [2, -1, -1]]), num_classes=4)
        >>> batch = ClassPerPosition().weighted(batch, tf.constant([1.0, 0.5]))
        >>> ClassPerPosition().counts(batch).numpy().tolist(), ClassPerPosition().weights(batch).numpy().tolist()
        ([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]], [[1.0, 1.0, 0.0], [0.5, 0.0, 0.0]])
    """

    ability = "per_position"
    called = "every position of a sequence"
    per_position = True
    takes_classes = False

    def check_metrics(self, metrics, weighted_metrics):
        if metrics:
            raise UserError(
                "Expected weighted_metrics=[...] of sequences, where positions without a label weigh nothing. "
                f"Received: metrics={metrics!r}"
            )

    def check_form(self, labels, *, num_classes):
        sizes = sizes_of(labels)
        if not (kind_of(labels) == "int" and (sizes is None or len(sizes) == 2)):
            raise UserError(f"Expected integer labels [B, L]. Received: {type_of(labels)} of shape {sizes}")

    def expected(self, labels, *, num_classes):
        return (
            f"Expected labels from 0 to {num_classes - 1}, one of the classes of the network, or {NO_LABEL} for none."
        )

    def wrong(self, labels, *, num_classes, namespace):
        numbers = namespace.asarray(labels, namespace.int64)
        return (numbers < NO_LABEL) | (numbers >= num_classes)

    def read(self, batch, labels, *, num_classes):
        return {**batch, "label": tf.cast(labels, tf.int64)}

    def of_metrics(self, labels, *, num_classes, as_rows=None):
        return tf.maximum(tf.cast(labels, tf.int64), 0)  # Keras' take classes alone, also where they weigh nothing

    def check_weights(self, weights, labels):
        sizes, of_labels = sizes_of(weights), sizes_of(labels)
        if sizes is None or of_labels is None or len(sizes) == 1 or sizes[1:] in ((1,), (None,), of_labels[1:]):
            return
        raise UserError(
            f"Expected sample weights [B], or [B, L] as the labels, of shape {of_labels}. Received: shape {sizes}"
        )

    def weighted(self, batch, weights):
        weights = tf.cast(weights, tf.float32)
        return {**batch, WEIGHT: weights[:, None] if weights.shape.rank == 1 else weights}

    def counts(self, batch):
        return tf.cast(batch["label"] != NO_LABEL, tf.float32)

    def weights(self, batch):
        return self.counts(batch) * batch[WEIGHT] if WEIGHT in batch else self.counts(batch)


class SeveralClasses(LabelKind):
    """Any of the classes of each image: rows `[B, C]` from 0 to 1, each class by itself, under a sigmoid.

    A class is a choice of its own between yes and no. Losses and methods are shown both, `[B, C, 2]`: the scores
    `(z, 0)`, whose softmax is `(sigmoid(z), 1 - sigmoid(z))`, and the targets `(y, 1 - y)`. Their formulas, which sum
    over the last axis, then are the sigmoid's, one value per class `[B, C]`. An example's value is the mean over its
    classes, as of Keras' `BinaryCrossentropy`.

    Example, of logits (ln 3, 0), so sigmoids (.75, .5), with targets (1, 0): the mean of `-ln .75` and `-ln .5`:
        >>> kind = SeveralClasses()
        >>> batch = kind.read({}, tf.constant([[1, 0]]), num_classes=2)
        >>> scores, targets = kind.scores(tf.constant([[math.log(3), 0.0]])), kind.targets(batch, num_classes=2)
        >>> values = cskd_tf.losses.cross_entropy(scores, targets=targets)
        >>> [round(float(value), 6) for value in values[0]], round(float(kind.in_the_loss(values, batch)[0]), 6)
        ([0.287682, 0.693147], 0.490415)
    """

    ability = "per_class"
    called = "several classes of an image, yes or no each"
    takes_classes = False

    def check_metrics(self, metrics, weighted_metrics):
        for metric in keras.tree.flatten([metrics, weighted_metrics]):
            if not takes_logits_of_several(metric):
                raise UserError(
                    "Expected metrics of several classes and their logits, such as BinaryAccuracy(threshold=0.0), "
                    f"AUC(multi_label=True, from_logits=True) or Precision(thresholds=0). Received: {metric!r}"
                )

    def check_form(self, labels, *, num_classes):
        sizes = sizes_of(labels)
        possible = sizes is None or (len(sizes) == 2 and sizes[1] in (None, num_classes))
        if not (possible and kind_of(labels) in ("int", "float", "bool")):
            raise UserError(
                f"Expected targets [B, {num_classes}] of several classes (multi_label=True), from 0 to 1 each. "
                f"Received: {type_of(labels)} of shape {sizes}"
            )

    def expected(self, labels, *, num_classes):
        return "Expected targets from 0 to 1 of several classes (multi_label=True)."

    def wrong(self, labels, *, num_classes, namespace):
        rows = namespace.asarray(labels, namespace.float32)
        return ~((rows >= 0) & (rows <= 1))

    def read(self, batch, labels, *, num_classes):
        return {**batch, "label": tf.ensure_shape(tf.cast(labels, tf.float32), [None, num_classes])}

    def of_metrics(self, labels, *, num_classes, as_rows=None):
        return tf.cast(labels, tf.float32)

    def scores(self, logits):
        return keras.ops.stack([logits, keras.ops.zeros_like(logits)], axis=-1)

    def logits(self, scores):
        return scores[..., 0]

    def targets(self, batch, *, num_classes):
        return tf.stack([batch["label"], 1 - batch["label"]], axis=-1)

    def in_the_loss(self, values, batch):
        further = list(range(1, values.shape.rank))  # a method may have one value per example
        return super().in_the_loss(tf.reduce_mean(values, axis=further), batch)


def label_kind(*, sequences: bool, multi_label: bool) -> LabelKind:
    """What `SelfDistiller` is told of its labels.

    Raises:
        UserError: both.
    """
    if sequences and multi_label:
        raise UserError("Expected sequences or several classes. Received: sequences=True, multi_label=True")
    return ClassPerPosition() if sequences else SeveralClasses() if multi_label else OneClass()


def check_one_class(model: keras.Model, *, expected: str) -> None:
    """Refuses a `SelfDistiller` whose labels are not one class of each image; other models do not tell.

    Args:
        model: any.
        expected: the sentence to begin with.

    Raises:
        UserError: labels of every position, or several classes of an image.
    """
    kind = getattr(model, "label_kind", None)
    if kind is not None and not isinstance(kind, OneClass):
        raise UserError(f"{expected} Received: a model whose labels are {kind.called}")
