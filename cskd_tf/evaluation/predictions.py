"""What a network says of a split: logits, labels and embeddings, from which every metric and figure is computed."""

import dataclasses
import pathlib

import numpy as np

from cskd_tf.errors import UserError
from cskd_tf.evaluation.metrics import summarize
from cskd_tf.files import read_arrays, written_whole


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What a network says of a split.

    Example:
        >>> Predictions(np.eye(2), np.array([0, 1]), np.zeros((2, 4))).save("predictions_val.npz")
        >>> Predictions.load("predictions_val.npz").logits.tolist()
        [[1.0, 0.0], [0.0, 1.0]]

    Attributes:
        logits: float32 `[N, C]`.
        labels: int `[N]`.
        embeddings: float32 `[N, D]`.
    """

    logits: np.ndarray
    labels: np.ndarray
    embeddings: np.ndarray

    def save(self, path: str | pathlib.Path) -> None:
        """Writes an `.npz`, whole or not at all."""
        with written_whole(path) as partial:
            np.savez(partial, **dataclasses.asdict(self))

    @classmethod
    def load(cls, path: str | pathlib.Path) -> "Predictions":
        """What `save` wrote; errors as of `read_arrays`."""
        try:
            return cls(**read_arrays(path, [field.name for field in dataclasses.fields(cls)]))
        except UserError as error:
            raise UserError(f"{error}; --mode=evaluate writes a run's again") from None

    def metrics(self, *, ece_bins: int) -> dict[str, float]:
        """The metrics of `cskd_tf.metrics.summarize`."""
        return summarize(self.logits, self.labels, self.embeddings, ece_bins=ece_bins)
