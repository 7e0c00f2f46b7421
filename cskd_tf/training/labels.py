"""What a label is: one class of an image, one of every position of a sequence, or several classes of an image.

All that depends on it is here: which forms labels come in, what losses and methods are shown of them, which values
count, by how much, and what is refused beside them.
"""

import abc
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import tensorflow as tf

from cskd_tf import losses
from cskd_tf.checks import check_number
from cskd_tf.errors import UserError
from cskd_tf.evaluation.scores import sum_tolerance
from cskd_tf.methods.composition import Composition

NO_LABEL = -1  # of a sequence's position, where nothing is to be predicted
WEIGHT = "sample_weight"  # key of a batch, float32 [B], or [B, L] of sequences


class LabelKind(abc.ABC):
    """What the labels of a model are. `labels` are as the user gives them, `batch` is what the step made of them.

    Where a check is to work on numpy's arrays and inside of a graph, `namespace` is `numpy` or `tf.experimental.numpy`.

    Attributes:
        ability: what a method has to say of itself, of `Ability`'s attributes, to be of use; None: nothing.
        called: what such a method works on, in messages.
        per_position: whether a network has to return logits of every position, `[B, L, C]`.
        takes_classes: whether a data set whose labels are classes, as a `PairedDataset`'s, will do.
    """

    ability: ClassVar[str | None] = None
    called: ClassVar[str] = ""
    per_position: ClassVar[bool] = False
    takes_classes: ClassVar[bool] = True

    def check_methods(self, composition: Composition) -> None:
        """Raises UserError for methods that cannot work on such labels."""
        if self.ability and (names := composition.unable(self.ability)):
            raise UserError(f"Expected methods that work on {self.called} (Method.{self.ability}). Received: {names}")

    def check_metrics(self, metrics, weighted_metrics) -> None:  # noqa: B027, because most labels need no check
        """Raises UserError for what `compile` takes, and would compute something else of such labels."""

    def check_metrics_of(self, metrics: Sequence[Any], *, as_rows: bool) -> None:  # noqa: B027
        """As `check_metrics`, once it is known whether the labels come as rows."""

    @abc.abstractmethod
    def check_form(self, labels, *, num_classes: int) -> None:
        """Raises UserError for labels of a shape or type that they cannot have."""

    @abc.abstractmethod
    def expected(self, labels, *, num_classes: int) -> str:
        """The sentence about values that cannot be, of labels of a possible form, or of None: of a data set."""

    @abc.abstractmethod
    def wrong(self, labels, *, num_classes: int, namespace: Any) -> Any:
        """Which labels, of a possible form, have values that cannot be: bool, of their shape or `[n]`."""

    @abc.abstractmethod
    def read(self, batch: dict[str, Any], labels: tf.Tensor, *, num_classes: int) -> dict[str, Any]:
        """The batch with `"label"`, and with `"targets"` where there is more to say than a class."""

    @abc.abstractmethod
    def of_metrics(self, labels: tf.Tensor, *, num_classes: int, as_rows: bool | None = None) -> tf.Tensor:
        """The labels as Keras' metrics take them; as rows or as classes where the metrics were made for these."""

    def are_rows(self, labels, *, num_classes: int) -> bool:
        """Whether labels that may be classes or rows are rows: what was traced or made for one is not for the other."""
        return False

    def classes(self, labels, *, num_classes: int, namespace: Any) -> Any:
        """The class of each image, int64 `[B]`, or of each position `[B, L]`."""
        return namespace.asarray(labels, namespace.int64)

    def of_several(self, labels, *, num_classes: int, namespace: Any) -> Any | None:
        """Which images have shares of several classes, bool `[B]`; None where that cannot be."""
        return None

    def check_weights(self, weights, labels) -> None:
        """Raises UserError for weights of a shape that they cannot have: `[B]` or `[B, 1]`."""
        sizes = sizes_of(weights)
        if not (sizes is None or len(sizes) == 1 or sizes[1:] == (1,)):
            raise UserError(f"Expected sample weights [B], one per example. Received: shape {sizes}")

    def weighted(self, batch: dict[str, Any], weights: tf.Tensor) -> dict[str, Any]:
        """The batch with the weights of its examples."""
        return {**batch, WEIGHT: tf.reshape(tf.cast(weights, tf.float32), [-1])}

    def weighted_by_class(self, batch: dict[str, Any], class_weights: Sequence[float]) -> dict[str, Any]:
        """The batch with the weights of its classes, `[C]`."""
        raise UserError(f"Expected sample_weight of labels that are {self.called}. Received: class_weight")

    def scores(self, logits: Any) -> Any:
        """What losses and methods take for logits: what the network returned."""
        return logits

    def logits(self, scores: tf.Tensor) -> tf.Tensor:
        """What the network returned, of `scores`."""
        return scores

    def targets(self, batch: dict[str, Any], *, num_classes: int) -> tf.Tensor:
        """float32 `[..., C]`: `"targets"`, or the labels as one-hot rows."""
        return batch["targets"] if "targets" in batch else losses.one_hot(batch["label"], num_classes=num_classes)

    def counts(self, batch: dict[str, Any]) -> tf.Tensor:
        """1 for each value of the loss that counts, 0 for others: float32 `[B]`, or `[B, L]` of sequences."""
        return tf.ones(tf.shape(batch["label"])[:1])

    def weights(self, batch: dict[str, Any]) -> tf.Tensor | None:
        """What each value of the loss is multiplied by, of the shape of `counts`; None: by 1."""
        return batch.get(WEIGHT)

    def in_the_loss(self, values: tf.Tensor, batch: dict[str, Any]) -> tf.Tensor:
        """Values of a loss as they are added up: of the shape of `counts`, times their weights."""
        weights = self.weights(batch)
        return values if weights is None else weights * values


def global_count(counts: tf.Tensor, *, replicas: int) -> tf.Tensor:
    """How many values a step's whole batch has; what a replica divides by it is then summed over all.

    Example: of a batch without any label at least 1, so that its loss is 0:
        >>> [float(global_count(tf.constant(counts), replicas=1)) for counts in ([[1.0, 1.0, 0.0]], [[0.0]])]
        [2.0, 1.0]

    Args:
        counts: `LabelKind.counts` of this replica.
        replicas: how many there are.

    Returns:
        float32 `[]`.
    """
    count = tf.reduce_sum(counts)
    if replicas > 1:
        count = tf.distribute.get_replica_context().all_reduce("SUM", count)
    return tf.maximum(count, 1.0)


def class_weight_table(class_weight: Mapping[int, float], *, num_classes: int) -> tuple[float, ...]:
    """Keras' `class_weight` as one number per class, 1 for those that it leaves out.

    Example:
        >>> class_weight_table({0: 0.5, 2: 3}, num_classes=3)
        (0.5, 1.0, 3.0)

    Raises:
        UserError: no dictionary, classes that the network has not, or weights that are not finite or below 0.
    """
    if not isinstance(class_weight, Mapping):
        raise UserError(
            "Expected class_weight as a dictionary from a class to its weight, as Keras takes it. "
            f"Received: {type(class_weight).__name__}"
        )
    unknown = [key for key in class_weight if isinstance(key, bool) or key not in range(num_classes)]
    if unknown:
        raise UserError(f"Expected class_weight of classes from 0 to {num_classes - 1}. Received: {unknown[:10]}")
    weights = {
        int(key): check_number(f"class_weight[{key}]", value, positive=False) for key, value in class_weight.items()
    }
    return tuple(weights.get(number, 1.0) for number in range(num_classes))


def sizes_of(values) -> tuple[int | None, ...] | None:
    """The shape of an array or tensor; None where even its rank is unknown."""
    shape = values.shape
    if isinstance(shape, tf.TensorShape):
        return None if shape.rank is None else tuple(shape.as_list())
    return tuple(shape)


def type_of(values) -> str:
    """The name of the type of an array or tensor."""
    return values.dtype.name


def kind_of(values) -> str:
    """`"int"`, `"float"` or `"bool"`, of whatever size; else the name of the type."""
    return next((kind for kind in ("int", "float", "bool") if kind in type_of(values)), type_of(values))


def tolerance_of(values) -> float:
    """By how much the sum of a row that is a distribution may differ from 1."""
    return sum_tolerance(tf.as_dtype(values.dtype).size)
