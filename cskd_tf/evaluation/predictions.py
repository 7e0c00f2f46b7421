"""What a network says of a split: logits, labels and embeddings, from which every metric and figure is computed."""

import dataclasses
import pathlib

import numpy as np

from cskd_tf.evaluation.metrics import summarize
from cskd_tf.files import written_whole


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What a network says of a split: `logits` float32 `[N, C]`, `labels` int `[N]`, `embeddings` float32 `[N, D]`."""

    logits: np.ndarray
    labels: np.ndarray
    embeddings: np.ndarray

    def save(self, path: str | pathlib.Path) -> None:
        """Writes an `.npz`, whole or not at all."""
        with written_whole(path) as partial:
            np.savez(partial, **dataclasses.asdict(self))

    @classmethod
    def load(cls, path: str | pathlib.Path) -> "Predictions":
        with np.load(path) as arrays:
            return cls(**{field.name: arrays[field.name] for field in dataclasses.fields(cls)})

    def metrics(self, *, ece_bins: int) -> dict[str, float]:
        return summarize(self.logits, self.labels, self.embeddings, ece_bins=ece_bins)
