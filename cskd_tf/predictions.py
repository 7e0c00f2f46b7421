"""One pass over a split: logits, labels and embeddings, from which every metric and figure is computed."""

import dataclasses
import os
import pathlib
import weakref

import keras
import numpy as np
import tensorflow as tf

from cskd_tf.distiller import SelfDistiller
from cskd_tf.inputs import image_shape
from cskd_tf.metrics import summarize
from cskd_tf.networks.features import NetworkOutputs
from cskd_tf.networks.logits import check_logits


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What a network says of a split: `logits` float32 `[N, C]`, `labels` int `[N]`, `embeddings` float32 `[N, D]`."""

    logits: np.ndarray
    labels: np.ndarray
    embeddings: np.ndarray

    def save(self, path: str | pathlib.Path) -> None:
        """Writes an `.npz`, whole or not at all."""
        partial = pathlib.Path(path).with_suffix(".partial.npz")
        np.savez(partial, **dataclasses.asdict(self))
        os.replace(partial, path)

    @classmethod
    def load(cls, path: str | pathlib.Path) -> "Predictions":
        with np.load(path) as arrays:
            return cls(**{field.name: arrays[field.name] for field in dataclasses.fields(cls)})

    def metrics(self, *, ece_bins: int) -> dict[str, float]:
        return summarize(self.logits, self.labels, self.embeddings, ece_bins=ece_bins)


class Collector(keras.Model):
    """Collects predictions by `predict`, so that they are computed on every replica.

    Args:
        model: a `SelfDistiller`, or any Keras model that maps images to logits and ends in a dense layer.
    """

    def __init__(self, model: keras.Model):
        super().__init__(autocast=False)
        self._run = model.outputs if isinstance(model, SelfDistiller) else NetworkOutputs(model)
        self._model = weakref.ref(model)

    def is_of(self, model: keras.Model) -> bool:
        """Whether this collects the predictions of `model`, and of no other."""
        return self._model() is model

    @classmethod
    def of(cls, model: keras.Model) -> "Collector":
        """A collector under the strategy that the model was made under."""
        with model.distribute_strategy.scope():
            return cls(model)

    def call(self, batch, training: bool = False):
        outputs = self._run(batch["image"], training=False)
        if "embedding" not in outputs:
            raise ValueError(
                "Expected a network whose last dense layer reads the embedding, or SelfDistiller(embedding_layer=...). "
                f"Received: {self._model().name!r}, which has no dense layer"
            )
        logits, embedding = (tf.cast(outputs[name], tf.float32) for name in ("logits", "embedding"))
        return {"logits": logits, "labels": batch["label"], "embeddings": embedding}

    def collect(self, dataset: tf.data.Dataset) -> Predictions:
        """Predictions for a data set of `(images, labels)` batches; images may be a dictionary with `"image"`.

        Raises:
            ValueError: a model that returns something else than logits.
        """
        model, shape = self._model(), image_shape(dataset)
        check_logits(model.network if isinstance(model, SelfDistiller) else model, input_shape=shape)

        def as_inputs(images, labels):
            return {"image": images["image"] if isinstance(images, dict) else images, "label": tf.reshape(labels, [-1])}

        return Predictions(**self.predict(dataset.map(as_inputs), verbose=0))
