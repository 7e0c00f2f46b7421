"""What the network and the methods take for granted of each batch: checked of arrays, or a part of the graph."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from cskd_tf.data.batches.dataset import PairedDataset
from cskd_tf.errors import UserError
from cskd_tf.training.label_kinds import OneClass
from cskd_tf.training.labels import LabelKind, kind_of, sizes_of, type_of

BUILD = "build the data with cskd_tf.data.paired_dataset(..., **model.data_options)"

# Its message, whether it is met, and what is shown of what came where it is not.
_Requirement = tuple[str, Any, Callable[[], object]]


@dataclasses.dataclass(frozen=True)
class Expectations:
    """What the network and the methods take for granted of each batch.

    Attributes:
        num_classes: C of the network.
        labels: what they are.
        reading_class: names of methods that read the class of each image, which may then not have shares of several.
        pairs_adjacent: rows 0 and 1, 2 and 3 and so on are of one class (`CSKD(in_batch=True)`).
        parts: in which a replica computes its rows, each of at least one row, or pair.
        num_examples: of methods that keep something for each image: indices are below it; None: no method does.
        replicas: among which each batch will be dealt out.
        needing_images: names of the layers that go wrong on a replica without an image.
    """

    num_classes: int
    labels: LabelKind = dataclasses.field(default_factory=OneClass)
    reading_class: tuple[str, ...] = ()
    pairs_adjacent: bool = False
    parts: int = 1
    num_examples: int | None = None
    replicas: int = 1
    needing_images: tuple[str, ...] = ()

    @property
    def _without_images(self) -> str:
        layers = ", ".join(self.needing_images[:3]) + (", ..." if len(self.needing_images) > 3 else "")
        return (
            f"Expected batches that leave none of {self.replicas} replicas without an image, the last of an epoch too: "
            f"choose another batch size, as layers such as {layers} go wrong there. Data of "
            "cskd_tf.data.paired_dataset are dealt out evenly."
        )

    def reaches_all(self, count):
        """Whether a batch of so many images leaves no replica without one: tf.distribute fills the first ones up.

        Example:
            >>> [Expectations(num_classes=2, replicas=4).reaches_all(count) for count in (4, 5, 6, 7)]
            [True, False, False, True]
        """
        return -(-count // self.replicas) * (self.replicas - 1) < count

    def check_batches(self, size: int, *, batch_size: int, batches: float = math.inf) -> None:
        """Raises UserError where arrays of `size` images make a batch that cannot be dealt out among the replicas.

        Of no more than `batches`: the last one may never come.
        """
        last = size % batch_size if batches > size // batch_size else 0
        for count in {min(size, batch_size), last} - {0}:
            received = f"Received: a batch of {count} of {size} images, {batch_size=}"
            if self.needing_images and not self.reaches_all(count):
                raise UserError(f"{self._without_images} {received}")
            share = -(-count // self.replicas)  # of the first replicas; the last ones get what is left
            if self.parts > 1 and count - share * (self.replicas - 1) < self._least_rows:
                raise UserError(f"{self._too_few_rows} {received}")
            if self.pairs_adjacent and (count % 2 or (share < count and share % 2)):
                raise UserError(f"{self.wrong_pair} {received}")

    @property
    def _least_rows(self) -> int:
        return self.parts * (2 if self.pairs_adjacent else 1)

    @property
    def _too_few_rows(self) -> str:
        return f"Expected batches of at least {self._least_rows} images on each replica: {self.parts} parts of each."

    @property
    def wrong_pair(self) -> str:
        return f"Expected batches of pairs of one class, image, partner, image, partner: {BUILD}."

    @property
    def _wrong_index(self) -> str:
        return (
            f"Expected indices from 0 and below num_examples={self.num_examples}, which SelfDistiller was told is the "
            "size of the training set."
        )

    def check(self, labels, *, index=None, weights=None) -> None:
        """Raises UserError for labels, indices `[n]` and weights that are not as expected."""
        labels = np.asarray(labels)
        weights, index = (None if each is None else np.asarray(each) for each in (weights, index))
        count = labels.shape[0] if labels.ndim else 0
        for message, sound, received in self._required(labels, index, weights, count=count, namespace=np):
            if not sound:
                raise UserError(f"{message} Received: {received()}")

    def check_data(self, data: PairedDataset) -> None:
        """Raises UserError for a data set that says of itself that it is not as expected."""
        if not (self.labels.takes_classes or data.relabelled):
            raise UserError(
                f"Expected data whose labels are {self.labels.called}. Received: a PairedDataset, of one class each"
            )
        if data.num_classes > self.num_classes and not data.relabelled:
            expected = self.labels.expected(None, num_classes=self.num_classes)
            raise UserError(f"{expected} Received: data of {data.num_classes} classes")
        if self.pairs_adjacent and not data.pairs_adjacent:
            raise UserError(f"{self.wrong_pair} Received: a data set with pairs_adjacent=False")
        if self.num_examples is not None and data.num_examples > self.num_examples:
            raise UserError(f"{self._wrong_index} Received: {data.num_examples} training images")

    def conditions(self, labels: tf.Tensor, *, index=None, weights=None) -> dict[str, tf.Tensor]:
        """The same inside a graph: for each message whether all is well, bool.

        Raises:
            UserError: labels or weights of another form.
        """
        count, namespace = tf.shape(labels)[0], tf.experimental.numpy
        required = self._required(labels, index, weights, count=count, namespace=namespace)
        conditions = {message: sound for message, sound, _ in required}
        if self.needing_images:
            conditions[self._without_images] = self.reaches_all(count)
        if self.parts > 1:
            conditions[self._too_few_rows] = count >= self._least_rows
        return conditions

    def _required(self, labels, index, weights, *, count, namespace: Any) -> Iterator[_Requirement]:
        """All requirements, by `namespace`: `numpy`, or `tf.experimental.numpy` inside of a graph."""
        yield from self._of_labels(labels, namespace)
        if self.pairs_adjacent:
            of_images, even = self._classes(labels, namespace), count // 2 * 2
            sound = namespace.all(of_images[:even:2] == of_images[1:even:2]) & (count == even)
            yield self.wrong_pair, sound, lambda: f"labels {of_images[:10].tolist()}"
        if self.num_examples is not None and index is not None:
            yield self._of_index(index, namespace)
        if weights is not None:
            yield self._of_weights(weights, labels, namespace)

    def _classes(self, labels, namespace: Any):
        return self.labels.classes(labels, num_classes=self.num_classes, namespace=namespace)

    def _of_labels(self, labels, namespace: Any) -> Iterator[_Requirement]:
        classes, kind = {"num_classes": self.num_classes}, self.labels
        kind.check_form(labels, **classes)
        wrong = kind.wrong(labels, **classes, namespace=namespace)
        yield kind.expected(labels, **classes), ~namespace.any(wrong), lambda: _some_of(labels, wrong)
        several = kind.of_several(labels, **classes, namespace=namespace)
        if self.reading_class and several is not None:
            names = ", ".join(self.reading_class)
            message = f"Expected one-hot rows, of images of one class, beside {names}, which reads it."
            yield message, ~namespace.any(several), lambda: _some_of(labels, several)

    def _of_index(self, index, namespace: Any) -> _Requirement:
        sizes = sizes_of(index)
        if kind_of(index) != "int" or not (sizes is None or len(sizes) == 1):
            received = f"{type_of(index)} of shape {sizes}"
            raise UserError(f"Expected the index of each example as integers [B]. Received: {received}")
        numbers = namespace.asarray(index, namespace.int64)
        wrong = (numbers < 0) | (numbers >= self.num_examples)
        return self._wrong_index, ~namespace.any(wrong), lambda: f"index {_some_of(index, wrong)}"

    def _of_weights(self, weights, labels, namespace: Any) -> _Requirement:
        if kind_of(weights) not in ("int", "float", "bool"):
            raise UserError(f"Expected sample weights that are numbers. Received: {type_of(weights)}")
        self.labels.check_weights(weights, labels)
        numbers = namespace.asarray(weights, namespace.float32)
        wrong = ~(namespace.isfinite(numbers) & (numbers >= 0))
        message = "Expected sample weights that are finite and not below 0."
        return message, ~namespace.any(wrong), lambda: _some_of(weights, wrong)


def _some_of(values: np.ndarray, wrong: np.ndarray) -> list:
    """Some of the values that are wrong: numbers once each, or a row of several."""
    found = values[wrong] if values.ndim == wrong.ndim or values.shape[-1] > 1 else values[wrong, 0]
    return found[:1].tolist() if found.ndim > 1 else np.unique(found)[:10].tolist()
