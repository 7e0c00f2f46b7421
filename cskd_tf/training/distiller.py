"""`SelfDistiller`, the Keras model that trains any classifier with cross-entropy and a list of methods."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from cskd_tf.data.batches.views import IMAGE, Distribution
from cskd_tf.errors import UserError
from cskd_tf.methods.base import Head, Method
from cskd_tf.methods.composition import Composition
from cskd_tf.methods.mixing import Mixing
from cskd_tf.networks.convolution import warn_of_lost_sums
from cskd_tf.networks.features import NetworkOutputs, layers_of
from cskd_tf.networks.logits import check_logits, check_one_input, input_dtype
from cskd_tf.training.accumulation import accumulated, check_accumulation
from cskd_tf.training.compiling import compiled_in_replica
from cskd_tf.training.expectations import Expectations
from cskd_tf.training.fitting import ContinuingModel
from cskd_tf.training.forms import unpack
from cskd_tf.training.freezing import as_before
from cskd_tf.training.inputs import assert_all, check_for_training, check_weighable
from cskd_tf.training.label_kinds import label_kind
from cskd_tf.training.labels import WEIGHT, class_weight_table, global_count
from cskd_tf.training.objective import Objective


@keras.saving.register_keras_serializable("cskd_tf")
class SelfDistiller(ContinuingModel):
    """A classifier and the way it is trained.

    Each training step runs the network on every image view that the methods ask for, in order (`x`, then its partner),
    and minimises `hard_weight * cross_entropy + sum of the methods' terms`, the cross-entropy of every labelled view:
    the image, and DDGSD's second one. Every part is one value per example, summed and divided by the size of the global
    batch, so that any number of replicas and an uneven last batch give the same gradients. At inference it is the
    network: images in, logits out.

    With `sequences` a network classifies every position of what it takes: logits `[B, L, C]`, labels int `[B, L]`, and
    -1 where nothing is to be predicted, as behind a sentence's end. Every part of the loss is then one value per
    position, and their sum is divided by the number of labels in the global batch, so that a long sequence counts more
    than a short one, and -1 nothing. `"image"` is what the network takes, whatever it shows.

    With `multi_label` each image has any of the classes: targets `[B, C]` from 0 to 1, and a sigmoid for each class.
    Every part of the loss is then the mean over the classes, as of Keras' `BinaryCrossentropy`.

    Weights of examples and classes are Keras': with weight `w_i` of image i the loss is
    `sum_i w_i * (hard_weight * cross_entropy_i + terms_i) / B`, and what layers add is not weighted. Logs are of
    weighted parts, which with what layers add make up `loss`; `weighted_metrics` get the weights, `metrics` do not.

    Example:
        >>> images, labels = np.random.default_rng(0).normal(size=(20, 8, 8, 3)).astype("float32"), np.arange(20) % 4
        >>> network = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(4)])
        >>> model = SelfDistiller(network, [cskd_tf.methods.CSKD(temperature=4.0, weight=1.0)])
        >>> model.compile(optimizer=cskd_tf.optimizers.SGD(0.1), metrics=["accuracy"])
        >>> data = cskd_tf.data.paired_dataset(images, labels, batch_size=8, seed=0, **model.data_options)
        >>> sorted(model.fit(data, epochs=2, verbose=0).history)
        ['accuracy', 'class_wise', 'cross_entropy', 'loss']

    Args:
        network: any Keras model that maps images `[B, H, W, C]` to logits `[B, classes]`.
        methods: of `cskd_tf.methods`; empty for plain cross-entropy.
        num_examples: size of the training set, for methods that keep something for each image.
        embedding_layer: name of the layer whose input is the embedding; found by itself where that is the last dense
            layer.
        sequences: whether the network returns logits for every position.
        multi_label: whether each image has any of the classes, yes or no each.

    Attributes:
        step: int64, training steps so far, and which batch of a `PairedDataset` comes next. It is saved with the model.

    Raises:
        UserError: methods that cannot work together, or on such labels, or a network that returns something else than
            logits.
    """

    def __init__(
        self,
        network: keras.Model,
        methods: Sequence[Mixing | Head | Method] = (),
        *,
        num_examples: int | None = None,
        embedding_layer: str | None = None,
        sequences: bool = False,
        multi_label: bool = False,
        **kwargs,
    ):
        if not isinstance(network, keras.Model):
            received = network.__name__ if isinstance(network, type) else f"a {type(network).__name__}"
            raise UserError(f"Expected network to be a keras.Model, made and not its class. Received: {received}")
        composition = Composition(methods)
        kind = label_kind(sequences=sequences, multi_label=multi_label)
        kind.check_methods(composition)
        check_one_input(network)
        # The network casts its inputs by its own policy; raw pixels must not be rounded to bfloat16 before that.
        super().__init__(autocast=False, dtype=kwargs.pop("dtype", network.dtype_policy), **kwargs)
        self.network = network
        self.methods = list(methods)  # so that Keras tracks and saves them
        self.composition = composition
        self.num_examples = num_examples
        self.embedding_layer = embedding_layer
        self.sequences = sequences
        self.multi_label = multi_label
        self.label_kind = kind
        self.gradient_accumulation_steps = 1
        self._network_outputs = NetworkOutputs(network, embedding_layer=embedding_layer)
        self._objective = Objective(composition, kind, network=self._network_outputs, added=lambda: self.losses)
        self._trackers = {name: keras.metrics.Mean(name=name) for name in ("loss", *composition.term_names)}
        # A subclassed network may be built and not know its input's shape: the first batch does.
        if network.built and (shape := getattr(network, "input_shape", None)) is not None:
            self.build(shape)

    def build(self, input_shape) -> None:
        shape = input_shape["image"] if isinstance(input_shape, dict) else input_shape
        if tf.TensorShape(shape).rank is None:
            raise UserError("Expected images of a known rank, such as [B, H, W, C]. Received: images of an unknown one")
        with tf.init_scope():  # also where a step that is being traced is the first to see an image
            self._build(shape)
        self.built = True

    def _build(self, shape) -> None:
        self._image_shape = (None, *shape[1:])
        if not self.network.built:
            # A symbolic call; build() would not reach the layers of a subclassed network.
            self.network(keras.KerasTensor(self._image_shape, dtype=input_dtype(self.network)))
        self._num_classes = check_logits(self.network, input_shape=shape, sequences=self.label_kind.per_position)
        if self.composition.attachable:
            parts = self._network_outputs.parts(shape)
            logits = keras.KerasTensor(tuple(parts.logits.shape), keras.backend.standardize_dtype(parts.logits.dtype))
            parts = dataclasses.replace(parts, logits=self.label_kind.scores(logits))
            for method in self.composition.attachable:
                method.attach_once(self.network, parts=parts, num_examples=self.num_examples)
            self._kept.methods = [[each.value for each in method.variables] for method in self.composition.attachable]

    def compile(self, optimizer="rmsprop", *, gradient_accumulation_steps: int = 1, **kwargs) -> None:
        """As `keras.Model.compile`; the loss is cross-entropy and the methods' terms, so none is taken.

        Args:
            optimizer: as for Keras.
            gradient_accumulation_steps: parts in which each replica computes its share of a batch, one after another,
                adding up their gradients: the step of the whole batch, to rounding, in the memory of a part. Batch norm
                takes each part for a batch: it normalises by it, and its running statistics move once per part.
            **kwargs: as for Keras.

        Raises:
            UserError: a loss, several parts beside a method that needs a batch in one, or metrics that would count
                something else of such labels.
        """
        for name in ("loss", "loss_weights"):
            if kwargs.get(name) is not None:
                raise UserError(
                    f"Expected no {name}: SelfDistiller minimises cross-entropy and the terms of its methods. "
                    f"Received: {name}={kwargs[name]!r}"
                )
        for metric in keras.tree.flatten([kwargs.get("metrics"), kwargs.get("weighted_metrics")]):
            if getattr(metric, "name", metric) in self._trackers:
                raise UserError(
                    f"Expected metrics of other names than the model's own logs, {sorted(self._trackers)}, which they "
                    f"would be lost behind. Received: {metric!r}"
                )
        self.label_kind.check_metrics(kwargs.get("metrics"), kwargs.get("weighted_metrics"))
        check_accumulation(gradient_accumulation_steps, composition=self.composition)
        warn_of_lost_sums(layers_of(self.network))
        super().compile(optimizer=optimizer, **kwargs)
        self.gradient_accumulation_steps = gradient_accumulation_steps

    def get_compile_config(self) -> dict[str, Any]:
        """As `keras.Model.get_compile_config`."""
        config = super().get_compile_config()
        if not config:
            return config
        jit_compile = True if self._state.compiled_in_replicas else config["jit_compile"]
        own = {"gradient_accumulation_steps": self.gradient_accumulation_steps, "jit_compile": jit_compile}
        return {**config, **own}

    def compile_from_config(self, config) -> None:
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def classifier(self) -> "SelfDistiller":
        """What inference needs, sharing its layers: the network, and the method that replaces its head."""
        heads = [] if self.composition.head is None else [self.composition.head]
        options = {key: getattr(self, key) for key in ("embedding_layer", "sequences", "multi_label")}
        # By a name of its own: that of Keras counts the process's models, and stands in the file of the weights.
        classifier = SelfDistiller(self.network, heads, name="classifier", **options)
        # Around a subclassed network it is not built, and its file would lack the head's weights.
        if self.built and not classifier.built:
            classifier.build(self._image_shape)
        return classifier

    def save(self, filepath, *args, **kwargs):
        """As `keras.Model.save`; not to Keras' legacy HDF5, which does not find the class again."""
        if str(filepath).endswith((".h5", ".hdf5")):
            raise UserError(f"Expected a file whose name ends in .keras. Received: {str(filepath)!r}")
        with as_before(self):
            return super().save(filepath, *args, **kwargs)

    def export(self, filepath, *args, **kwargs):
        """As `keras.Model.export`, without what training alone needs."""
        if any(method is not self.composition.head for method in self.methods):
            return self.classifier().export(filepath, *args, **kwargs)
        if self.built:
            # Keras exports what has been called.
            self(keras.KerasTensor(self._image_shape, dtype=input_dtype(self.network)))
        return super().export(filepath, *args, **kwargs)

    @property
    def input_dtype(self):
        dtype = input_dtype(self.network)
        return dtype if keras.backend.is_int_dtype(dtype) else super().input_dtype  # what Keras exports

    @property
    def input_shape(self):
        return getattr(self.network, "input_shape", None) or self._image_shape  # a subclassed network may not know it

    @property
    def output_shape(self):
        return self.network.output_shape

    @property
    def data_options(self) -> dict[str, Any]:
        """What methods and replicas need of the pipeline, as keyword arguments of `cskd_tf.data.paired_dataset`."""
        parts = self.gradient_accumulation_steps
        distribution = Distribution(num_replicas=self._replicas(), parts=parts)
        return {"needs": self.composition.needs, "distribution": distribution}

    def outputs(self, images, *, training: bool = False) -> dict[str, Any]:
        """`{"logits", "embedding", "stages"}` of one run of the network, with the logits as inference sees them."""
        return self._objective.outputs(images, training=training)

    def call(self, inputs, training: bool = False):
        images = inputs[IMAGE] if isinstance(inputs, dict) else inputs
        if training or self._replicas() == 1 or images.shape[0] is not None:
            return self.outputs(images, training=training)["logits"]
        # The last replicas may have no image, at which TensorFlow's convolutions on oneDNN fail: they get an empty one.
        rows, *size = tf.unstack(tf.shape(images))
        # Not by tf.pad, which TensorFlow makes a part of the convolution, and then does not do.
        images = tf.concat([images, tf.zeros([tf.cast(rows == 0, tf.int32), *size], images.dtype)], axis=0)
        return self.outputs(images)["logits"][:rows]

    @tf.autograph.experimental.do_not_convert  # as Keras' fit has it: nothing in here branches on a tensor
    def train_step(self, data) -> dict[str, Any]:
        batch, labels, weights = unpack(data)
        if not self.built and IMAGE in batch:
            self.build(batch[IMAGE].shape)
        check_for_training(batch, self.composition, self.label_kind, image_shape=self._image_shape)
        conditions = self.expectations(training=True).conditions(labels, index=batch.get("index"), weights=weights)
        batch, labels = self._read(batch, labels, weights, conditions=conditions)
        if self.class_weight is not None:
            table = class_weight_table(self.class_weight, num_classes=self._num_classes)
            batch = self.label_kind.weighted_by_class(batch, table)
        if WEIGHT in batch:
            check_weighable(self.composition)
        sound = tf.reduce_all(list(conditions.values()))
        count = global_count(self.label_kind.counts(batch), replicas=self._replicas())
        variables = self.trainable_variables
        self._note_traced()

        def differentiate(part: dict[str, Any]):
            """Gradients of a part of this replica's batch, and one row per example of all else."""
            with tf.GradientTape() as tape:
                outputs, terms, regularization = self._objective.training(part, tape)
                values = tf.add_n(list(terms.values())) + self.label_kind.counts(part) * regularization
                values = tf.where(sound, values, math.nan)  # of which the gradients are 0
                # The gradients of all parts, and then of all replicas, are summed.
                loss = self.optimizer.scale_loss(tf.reduce_sum(values) / count)
            return tape.gradient(loss, variables), (outputs, terms, values)

        compute: Callable[[dict[str, Any]], Any] = differentiate
        if self._state.compiled_in_replicas:
            compute = compiled_in_replica(differentiate, variables=self.variables)
        parts, unit = self.gradient_accumulation_steps, self.composition.rows_together
        gradients, (outputs, terms, values) = accumulated(compute, batch, parts=parts, unit=unit)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        self._update_average()
        for method in self.composition.terms:
            method.after_step(batch, outputs)
        self.step.assign_add(1)
        logits = self.label_kind.logits(outputs[IMAGE]["logits"])
        return self._metrics_after({**terms, "loss": values}, batch, labels, logits)

    @tf.autograph.experimental.do_not_convert
    def test_step(self, data) -> dict[str, Any]:
        """`loss`, which is cross-entropy and, as of Keras, what layers add, and the compiled metrics."""
        batch, labels, weights = unpack(data)
        logits = self(batch, training=False)
        conditions = self.expectations(training=False).conditions(labels, weights=weights)
        batch, labels = self._read(batch, labels, weights, conditions=conditions)
        values = self._objective.evaluation(batch, logits)
        values += self.label_kind.counts(batch) * self._objective.regularization()
        return self._of_evaluation(self._metrics_after({"loss": values}, batch, labels, logits))

    @property
    def metrics(self):
        """As `keras.Model.metrics`, with one loss, our own, at the beginning."""
        own = getattr(self, "_trackers", {}).get("loss")
        return [own, *(each for each in super().metrics if each.name != own.name)] if own else super().metrics

    def get_metrics_result(self):
        """As `keras.Model.get_metrics_result`; of an evaluation it is the names that `test_step` returns.

        Else Keras would take what the step returned, which is the mean over replicas of what each has seen.
        """
        results = super().get_metrics_result()
        return self._of_evaluation(results) if self._state.evaluating else results

    def _of_evaluation(self, results: dict[str, Any]) -> dict[str, Any]:
        """The results without those of the terms of training."""
        unmoved = set(self._trackers) - {"loss"}
        return {name: value for name, value in results.items() if name not in unmoved}

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return {
            "name": self.name,
            "network": serialize(self.network),
            "methods": [serialize(method) for method in self.methods],
            "num_examples": self.num_examples,
            "embedding_layer": self.embedding_layer,
            "sequences": self.sequences,
            "multi_label": self.multi_label,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects=None) -> "SelfDistiller":
        config = dict(config)
        for key in ("network", "methods"):
            config[key] = keras.saving.deserialize_keras_object(config[key], custom_objects=custom_objects)
        return cls(**config)

    def expectations(self, *, training: bool) -> Expectations:
        """What every batch has to be like, of the built model."""
        expected = Expectations(num_classes=self._num_classes, labels=self.label_kind)
        if not training:
            return expected
        needs = self.composition.needs
        return dataclasses.replace(
            expected,
            reading_class=tuple(self.composition.reading_class),
            pairs_adjacent=needs.pairs_adjacent,
            parts=self.gradient_accumulation_steps,
            num_examples=self.num_examples if "index" in needs.extras else None,
        )

    def _read(
        self, batch: dict[str, Any], labels: tf.Tensor, weights: tf.Tensor | None, *, conditions: dict[str, tf.Tensor]
    ) -> tuple[dict[str, Any], tf.Tensor]:
        """The batch with labels and weights as losses and methods take them, and the labels as metrics do."""
        # For loops of the user's own; fit looks at the data before they get here, where XLA drops the assertions.
        with tf.control_dependencies(assert_all(conditions)):
            labels = tf.identity(labels)
        batch = self.label_kind.read(batch, labels, num_classes=self._num_classes)
        if "index" in batch:
            batch["index"] = tf.cast(batch["index"], tf.int64)  # of which a byte is no index for TensorFlow
        if weights is not None:
            batch = self.label_kind.weighted(batch, weights)
        as_rows = self._data_forms.of_metrics_as_rows
        return batch, self.label_kind.of_metrics(labels, num_classes=self._num_classes, as_rows=as_rows)

    def _metrics_after(self, terms: dict[str, Any], batch: dict, labels, logits) -> dict[str, Any]:
        """All metrics, after this step's terms, of the shape of `LabelKind.counts`, and logits were added to them."""
        counts = self.label_kind.counts(batch)
        for name, values in terms.items():
            self._trackers[name].update_state(values, sample_weight=counts)
        # Not by Keras' mask on the logits, of which the loss knows nothing either.
        return self.compute_metrics(batch, labels, tf.identity(logits), sample_weight=self.label_kind.weights(batch))
