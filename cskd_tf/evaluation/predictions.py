"""What a network says of a split: logits, labels and embeddings, from which every metric and figure is computed."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from cskd_tf.errors import UserError
from cskd_tf.evaluation.metrics import summarize
from cskd_tf.files import read_arrays, written_whole


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What a network says of a split; lists and tensors become arrays.

    Example:
        >>> Predictions(np.eye(2), np.array([0, 1]), np.zeros((2, 4))).save("predictions_val.npz")
        >>> Predictions.load("predictions_val.npz").logits.tolist()
        [[1.0, 0.0], [0.0, 1.0]]

    Attributes:
        logits: `[N, C]`, float32 as a run has them.
        labels: int `[N]`.
        embeddings: `[N, D]`, float32 as a run has them; with D of 0, which None becomes, there are none.

    Raises:
        UserError: what makes no array of numbers.
    """

    logits: np.ndarray
    labels: np.ndarray
    embeddings: np.ndarray

    def __init__(self, logits: ArrayLike, labels: ArrayLike, embeddings: ArrayLike | None = None):
        arrays = {"logits": _numbers(logits, name="logits"), "labels": _numbers(labels, name="labels")}
        nothing = np.zeros((*arrays["logits"].shape[:1], 0), np.float32)
        arrays["embeddings"] = nothing if embeddings is None else _numbers(embeddings, name="embeddings")
        for name, array in arrays.items():
            object.__setattr__(self, name, array)  # as a frozen dataclass has to

    @property
    def given_embeddings(self) -> np.ndarray | None:
        """The embeddings, or None where there are none."""
        return self.embeddings if self.embeddings.shape[-1:] != (0,) else None

    def save(self, path: str | pathlib.Path) -> None:
        """Writes an `.npz`, whole or not at all."""
        with written_whole(path) as partial:
            np.savez(partial, **dataclasses.asdict(self))

    @classmethod
    def load(cls, path: str | pathlib.Path) -> "Predictions":
        """What `save` wrote; errors as of `read_arrays`."""
        return cls(**_read(path, [field.name for field in dataclasses.fields(cls)]))

    @staticmethod
    def labels_of(path: str | pathlib.Path) -> np.ndarray:
        """The labels alone of what `save` wrote, `[N]`, of which the rest may be large; errors as of `read_arrays`."""
        return _read(path, ["labels"])["labels"]

    def metrics(self, *, ece_bins: int) -> dict[str, float]:
        """The metrics of `cskd_tf.metrics.summarize`."""
        return summarize(self.logits, self.labels, self.given_embeddings, ece_bins=ece_bins)


def check_several_classes(predictions: Predictions) -> None:
    """Raises UserError for logits of a single class."""
    if predictions.logits.shape[1:] == (1,):
        raise UserError("Expected logits of at least two classes. Received: one, which is always right")


def check_same_classes(everything: Mapping[str, Predictions | None]) -> None:
    """Raises UserError where predictions, by what they are called, are of different numbers of classes."""
    shapes = {name: each.logits.shape for name, each in everything.items() if each is not None}
    if len({shape[1:] for shape in shapes.values()}) > 1:
        received = ", ".join(f"{name} with {' x '.join(map(str, shape[1:]))}" for name, shape in shapes.items())
        raise UserError(f"Expected predictions of the same classes. Received: {received}")


def _read(path: str | pathlib.Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    try:
        return read_arrays(path, names)
    except UserError as error:
        raise UserError(f"{error}; --mode=evaluate writes a run's again") from None


def _numbers(values: ArrayLike, *, name: str) -> np.ndarray:
    try:
        array = np.asarray(values)
    except ValueError as error:  # rows of different lengths
        raise UserError(f"Expected {name} to be an array of numbers. Received: {error}") from error
    if array.dtype.kind in "OSUMmc":
        raise UserError(
            f"Expected {name} to be an array of numbers. Received: {type(values).__name__} of {array.dtype}"
        )
    # bfloat16, of which a file would keep the bytes and not the type.
    return array.astype(np.float32) if array.dtype.kind == "V" and array.dtype.name == "bfloat16" else array
