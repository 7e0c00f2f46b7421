"""One pass over a split that collects what the network says of it, on every replica."""

import weakref

import keras
import tensorflow as tf

from cskd_tf.errors import UserError
from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.networks.features import NetworkOutputs
from cskd_tf.networks.logits import check_logits
from cskd_tf.training.distiller import SelfDistiller
from cskd_tf.training.inputs import image_shape


class Collector(keras.Model):
    """Collects predictions by `predict`, so that they are computed on every replica.

    Args:
        model: a `SelfDistiller`, or any Keras model that maps images to logits and ends in a dense layer.
    """

    def __init__(self, model: keras.Model):
        super().__init__(autocast=False)
        self._run = model.outputs if isinstance(model, SelfDistiller) else NetworkOutputs(model)
        self._model = weakref.ref(model)
        self._name = model.name

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
            raise UserError(
                "Expected a network whose last dense layer reads the embedding, or SelfDistiller(embedding_layer=...). "
                f"Received: {self._name!r}, which has no dense layer"
            )
        logits, embedding = (tf.cast(outputs[name], tf.float32) for name in ("logits", "embedding"))
        return {"logits": logits, "labels": batch["label"], "embeddings": embedding}

    def collect(self, dataset: tf.data.Dataset) -> Predictions:
        """Predictions for a data set of `(images, labels)` batches; images may be a dictionary with `"image"`.

        Raises:
            UserError: a model that returns something else than logits, or batches without images.
        """
        count_classes(self._model(), dataset)

        def as_inputs(images, labels):
            return {"image": images["image"] if isinstance(images, dict) else images, "label": tf.reshape(labels, [-1])}

        return Predictions(**self.predict(dataset.map(as_inputs), verbose=0))


def count_classes(model: keras.Model, dataset: tf.data.Dataset) -> int:
    """The classes of a model of logits, a `SelfDistiller` or not, that takes the images of a data set.

    Raises:
        UserError: a model that returns something else than logits, or batches without images.
    """
    if (shape := image_shape(dataset)) is None:
        raise UserError(f"Expected batches of images. Received: {dataset.element_spec}")
    return check_logits(model.network if isinstance(model, SelfDistiller) else model, input_shape=shape)
