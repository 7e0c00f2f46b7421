"""One pass over a split that collects what the network says of it, on every replica of every worker."""

import weakref
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cskd_tf.errors import UserError
from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.networks.features import NetworkOutputs
from cskd_tf.networks.logits import check_logits
from cskd_tf.training.distiller import SelfDistiller
from cskd_tf.training.forms import peeked_images, shape_of
from cskd_tf.training.workers import Workers

FILLING = -1  # number of a batch that fills up


class Collector:
    """Collects predictions, each batch on one of the replicas of the strategy that the model was made under.

    Args:
        model: a `SelfDistiller`, or any Keras model that maps images to logits and ends in a dense layer.
    """

    def __init__(self, model: keras.Model):
        is_ours = isinstance(model, SelfDistiller)
        self._network_outputs = model._network_outputs if is_ours else NetworkOutputs(model)
        self._outputs = model.outputs if is_ours else self._network_outputs
        self._model = weakref.ref(model)
        self._name = model.name
        self._strategy = model.distribute_strategy
        self._workers = Workers(self._strategy)
        self._dataset: tf.data.Dataset | None = None  # the last one, which `_shared` deals out
        self._shared: Any = None
        self._run = tf.function(
            lambda batch: self._strategy.run(self.predict_step, args=(batch,)),
            reduce_retracing=True,
            autograph=False,  # which would make other errors of those that are raised inside
        )

    def is_of(self, model: keras.Model) -> bool:
        """Whether this collects the predictions of `model`, and of no other."""
        return self._model() is model

    def predict_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """What is collected of a batch of `"image"` and `"label"`: logits, labels and embeddings, the row's own each.

        Raises:
            UserError: a network without embeddings.
        """
        outputs = self._outputs(batch["image"], training=False)
        self._check_embedding("embedding" in outputs)
        logits, embedding = (tf.cast(outputs[name], tf.float32) for name in ("logits", "embedding"))
        return {"logits": logits, "labels": batch["label"], "embeddings": embedding, "number": batch["number"]}

    def check(self) -> None:
        """Refuses a network without embeddings before it is called, as far as its layers tell. Errors as `collect`."""
        self._check_embedding(not self._network_outputs.lacks_embedding)

    def _check_embedding(self, there: bool) -> None:
        if not there:
            raise UserError(
                "Expected a network whose last dense layer reads the embedding, or SelfDistiller(embedding_layer=...). "
                f"Received: {self._name!r}, which has no dense layer"
            )

    def collect(self, dataset: tf.data.Dataset) -> Predictions:
        """Predictions for a data set of `(images, labels)` batches; images may be a dictionary with `"image"`.

        Of several workers each reads its share of the batches; all of them get all predictions, in the data's order.

        Raises:
            UserError: a model that returns something else than logits, or batches without images.
        """
        return Predictions(**self.rows(dataset))

    def rows(self, dataset: tf.data.Dataset) -> dict[str, np.ndarray]:
        """What `predict_step` collects, but for the number, of all batches; otherwise as `collect`."""
        count_classes(self._model(), dataset)
        if self._dataset is not dataset:  # to share the same one again would trace its functions again, every epoch
            share = Shares(dataset, static_shapes=isinstance(self._strategy, tf.distribute.TPUStrategy))
            self._dataset, self._shared = dataset, self._strategy.distribute_datasets_from_function(share)
        collected: dict[str, list[np.ndarray]] = {}
        for batch in self._shared:
            for name, values in self._run(batch).items():
                of_replicas = self._strategy.experimental_local_results(values)
                collected.setdefault(name, []).extend(value.numpy() for value in of_replicas)
        if not collected:
            raise UserError("Expected at least one batch of images. Received: a data set of none")
        rows: dict[str, Any] = {
            name: self._workers.gather(np.concatenate(parts)) for name, parts in sorted(collected.items())
        }
        number = rows.pop("number")
        order = np.argsort(number, kind="stable")[np.count_nonzero(number == FILLING) :]
        return {name: values[order] for name, values in rows.items()}


class ProbabilityCollector(Collector):
    """Collects of each image how probable its label and its prediction are: little, however many classes there are."""

    def predict_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """`"target"` and `"maximum"`, float32 in [0, 1], and `"correct"`, int32 0 or 1, each `[b]`; and the number."""
        logits = tf.cast(self._outputs(batch["image"], training=False)["logits"], tf.float32)
        probabilities, labels = tf.nn.softmax(logits), tf.cast(batch["label"], tf.int32)
        return {
            "target": tf.gather(probabilities, labels, axis=1, batch_dims=1),
            "maximum": tf.reduce_max(probabilities, axis=1),
            "correct": tf.cast(tf.argmax(logits, axis=1, output_type=tf.int32) == labels, tf.int32),
            "number": batch["number"],
        }


class Shares:
    """The batches of a data set, each on one replica, and as many on each: what is missing is filled up.

    Example: 3 batches on 2 replicas are 2 on each, of which the last one fills up:
        >>> data = tf.data.Dataset.zip(tf.data.Dataset.range(5), tf.data.Dataset.range(5)).batch(2)
        >>> shares = Shares(data, static_shapes=True)
        >>> context = tf.distribute.InputContext(num_input_pipelines=2, input_pipeline_id=1, num_replicas_in_sync=2)
        >>> [(batch["label"].numpy().tolist(), batch["number"].numpy().tolist()) for batch in shares(context)]
        [([2, 3], [1, 1]), ([0, 1], [-1, -1])]

    Args:
        dataset: of `(images, labels)` batches.
        static_shapes: fill up a smaller batch too, so that all have the size of the first one.
    """

    def __init__(self, dataset: tf.data.Dataset, *, static_shapes: bool):
        self._dataset = dataset
        self._rows = int(tf.shape(next(iter(dataset))[1])[0]) if static_shapes else None

    def __call__(self, context: tf.distribute.InputContext) -> tf.data.Dataset:
        """The batches `{"image", "label", "number"}` of a worker; `"number"`, int64 `[b]`, is the batch's of each row.

        It is -1 in the rows that fill up.
        """
        workers, worker = context.num_input_pipelines, context.input_pipeline_id
        own = tf.data.Dataset.range(worker, 2**62, workers), self._dataset.shard(workers, worker)
        batches = tf.data.Dataset.zip(*own)
        if context.num_replicas_in_sync > 1:
            # A replica without a batch would be given one of no images, whose shape TensorFlow does not know.
            filling = tf.data.Dataset.zip(tf.data.Dataset.from_tensors(np.int64(FILLING)), self._dataset.take(1))
            replicas = context.num_replicas_in_sync // workers
            on_each = -(-self._count() // context.num_replicas_in_sync)
            batches = batches.concatenate(filling.repeat()).take(on_each * replicas)
        return batches.map(self._as_inputs)

    def _count(self) -> int:
        count = int(self._dataset.cardinality())
        return count if count >= 0 else int(self._dataset.reduce(np.int64(0), lambda count, _: count + 1))

    def _as_inputs(self, number, batch) -> dict[str, tf.Tensor]:
        images, labels = batch
        labels = tf.reshape(labels, [-1])
        images = images["image"] if isinstance(images, dict) else images
        rows = {"image": images, "label": labels, "number": tf.fill(tf.shape(labels), number)}
        return rows if self._rows is None else {name: self._filled(values, name) for name, values in rows.items()}

    def _filled(self, values: tf.Tensor, name: str) -> tf.Tensor:
        missing = self._rows - tf.shape(values)[0]
        paddings = [[0, missing], *[[0, 0]] * (values.shape.rank - 1)]
        value = tf.constant(FILLING if name == "number" else 0, values.dtype)
        return tf.ensure_shape(tf.pad(values, paddings, constant_values=value), [self._rows, *values.shape[1:]])


def count_classes(model: keras.Model, dataset: tf.data.Dataset) -> int:
    """The classes of a model of logits, a `SelfDistiller` or not, that takes the images of a data set.

    Raises:
        UserError: a model that returns something else than logits, or batches without images that it takes.
    """
    _, images = peeked_images(dataset)
    if (shape := shape_of(images)) is None:
        raise UserError(f"Expected batches of images. Received: {dataset.element_spec}")
    network = model.network if isinstance(model, SelfDistiller) else model
    expected = getattr(network, "input_shape", None)  # a subclassed network may not know it
    if isinstance(expected, tuple) and not tf.TensorShape(shape).is_compatible_with(expected):
        raise UserError(f"Expected images {expected}, which {network.name!r} takes. Received: {shape}")
    return check_logits(network, input_shape=shape)
