"""`SelfDistiller`, the Keras model that trains any classifier with cross-entropy and a list of methods."""

import math
import types
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from cskd_tf import losses
from cskd_tf.data.paired import PairedDataset
from cskd_tf.fitting import (
    Course,
    check_for_replicas,
    check_steps_per_execution,
    check_trainable,
    prepare_callbacks,
)
from cskd_tf.inputs import (
    Expectations,
    assert_all,
    check_batch,
    check_for_training,
    checked,
    image_shape,
    one_hot_targets,
    peeked,
    unpack,
)
from cskd_tf.methods.base import Method, View, check_composition, data_options, merge_views, overrides, term_names
from cskd_tf.networks.features import NetworkOutputs
from cskd_tf.networks.logits import check_logits, check_one_input


@keras.saving.register_keras_serializable("cskd_tf")
class SelfDistiller(keras.Model):
    """A classifier and the way it is trained.

    Each training step runs the network on every image view that the methods ask for, in order (`x`, then its partner),
    and minimises `hard_weight * cross_entropy + sum of the methods' terms`, the cross-entropy of every labelled view:
    the image, and DDGSD's second one. Every part is one value an example, summed and divided by the size of the global
    batch, so that any number of replicas and an uneven last batch give the same gradients. At inference it is the
    network: images in, logits out.

    Example::

        model = SelfDistiller(network, [CSKD(temperature=4.0, weight=1.0)])
        model.compile(optimizer=cskd_tf.optimizers.SGD(0.1), metrics=["accuracy"])
        model.fit(cskd_tf.data.paired_dataset(images, labels, batch_size=128, seed=0), epochs=200)

    Args:
        network: any Keras model that maps images `[B, H, W, C]` to logits `[B, classes]`.
        methods: of `cskd_tf.methods`; empty for plain cross-entropy.
        num_examples: size of the training set, for methods that keep something for each image.
        embedding_layer: name of the layer whose input is the embedding; found by itself where that is the last dense
            layer.

    Attributes:
        step: int64, training steps so far, and which batch of a `PairedDataset` comes next. It is saved with the model.

    Raises:
        ValueError: methods that cannot work together, or a network that returns something else than logits.
    """

    def __init__(
        self,
        network: keras.Model,
        methods: Sequence[Method] = (),
        *,
        num_examples: int | None = None,
        embedding_layer: str | None = None,
        **kwargs,
    ):
        check_composition(methods)
        check_one_input(network)
        # The network casts its inputs by its own policy; raw pixels must not be rounded to bfloat16 before that.
        super().__init__(autocast=False, dtype=kwargs.pop("dtype", network.dtype_policy), **kwargs)
        self.network = network
        self.methods = list(methods)
        self.num_examples = num_examples
        self.embedding_layer = embedding_layer
        self.views = merge_views(self.methods)
        self._network_outputs = NetworkOutputs(network, embedding_layer=embedding_layer)
        heads = [method for method in self.methods if overrides(method, "scores")]
        self._head = heads[0] if heads else None
        self._hard_weight = 1.0
        for method in self.methods:
            self._hard_weight *= method.hard_weight
        # Not among the weights, of which a classifier must have the same: see save_own_variables.
        self._state = types.SimpleNamespace(
            step=keras.Variable(
                0, dtype="int64", trainable=False, autocast=False, aggregation="only_first_replica", name="step"
            )
        )
        self._trackers = {name: keras.metrics.Mean(name=name) for name in ("loss", *term_names(self.methods))}
        # A subclassed network may be built and not know its input's shape: the first batch does.
        if network.built and (shape := getattr(network, "input_shape", None)) is not None:
            self.build(shape)

    def build(self, input_shape) -> None:
        shape = input_shape["image"] if isinstance(input_shape, dict) else input_shape
        self._image_shape = (None, *shape[1:])
        if not self.network.built:
            # A symbolic call; build() would not reach the layers of a subclassed network.
            self.network(keras.KerasTensor(tuple(shape), dtype="float32"))
        self._state.num_classes = check_logits(self.network, input_shape=shape)
        # Not again to the same network, or what a method owns would start anew.
        new = []
        for method in self.methods:
            if overrides(method, "attach") and method.attached_to is None:
                new.append(method)
            elif method.attached_to is not None and method.attached_to() is not self.network:
                raise ValueError(
                    f"Expected methods that no other network has: {type(method).__name__} keeps something for its own. "
                    "Make new ones. Received: a method of another network"
                )
        parts = self._network_outputs.describe(shape) if new else {}
        for method in new:
            method.attach(self.network, parts=parts, num_examples=self.num_examples)
            method.attached_to = weakref.ref(self.network)
        self.built = True

    @property
    def step(self) -> keras.Variable:
        return self._state.step

    @property
    def fit_callbacks(self) -> Sequence[keras.callbacks.Callback]:
        """Those of the running or last `fit`, in their order."""
        return getattr(self._state, "callbacks", ())

    def save_own_variables(self, store) -> None:
        super().save_own_variables(store)
        store["step"] = self.step.numpy()

    def load_own_variables(self, store) -> None:
        super().load_own_variables({key: store[key] for key in store.keys() if key != "step"})  # noqa: SIM118
        if "step" in store.keys():  # noqa: SIM118  (of an HDF5 file; older ones have none)
            self.step.assign(store["step"][()])

    def compile(self, optimizer="rmsprop", **kwargs) -> None:
        """As `keras.Model.compile`; the loss is cross-entropy and the methods' terms, so none is taken."""
        if kwargs.get("loss") is not None:
            raise ValueError(
                "Expected no loss: SelfDistiller minimises cross-entropy and the terms of its methods. "
                f"Received: loss={kwargs['loss']!r}"
            )
        if self._replicas() > 1:
            check_for_replicas(optimizer, jit_compile=kwargs.get("jit_compile", "auto"), replicas=self._replicas())
        super().compile(optimizer=optimizer, **kwargs)

    def compile_from_config(self, config) -> None:
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def classifier(self) -> "SelfDistiller":
        """What inference needs, sharing its layers: the network, and the method that replaces its head."""
        heads = [] if self._head is None else [self._head]
        made = SelfDistiller(self.network, heads, embedding_layer=self.embedding_layer)
        # Around a subclassed network it is not built, and its file would lack the head's weights.
        if self.built and not made.built:
            made.build(self._image_shape)
        return made

    def export(self, filepath, *args, **kwargs):
        """As `keras.Model.export`, without what training alone needs."""
        if any(method is not self._head for method in self.methods):
            return self.classifier().export(filepath, *args, **kwargs)
        if self.built:
            self(keras.KerasTensor(self._image_shape, dtype="float32"))  # Keras exports what has been called
        return super().export(filepath, *args, **kwargs)

    @property
    def input_shape(self):
        return self.network.input_shape

    @property
    def output_shape(self):
        return self.network.output_shape

    @property
    def data_options(self) -> dict[str, Any]:
        """What methods and replicas need of the pipeline, as keyword arguments of `cskd_tf.data.paired_dataset`."""
        return {**data_options(self.methods), "num_replicas": self._replicas()}

    def outputs(self, images, *, training: bool = False) -> dict[str, Any]:
        """`{"logits", "embedding", "stages"}` of one run of the network, with the logits as inference sees them."""
        return self._with_scores(self._network_outputs(images, training=training), training=training)

    def call(self, inputs, training: bool = False):
        images = inputs["image"] if isinstance(inputs, dict) else inputs
        return self.outputs(images, training=training)["logits"]

    def fit(self, x=None, y=None, batch_size=None, epochs=1, verbose="auto", callbacks=None, **kwargs):
        """As `keras.Model.fit`; what cannot be trained is refused before the first step.

        A data set of `cskd_tf.data.paired_dataset` knows its steps an epoch, and is read on from where the model is:
        see `Course`. `epochs` of the data set need not be `fit`'s.
        """
        x = self._built_from(x)
        if self.built:
            check_trainable(self)
        if isinstance(x, PairedDataset) and kwargs.get("steps_per_epoch") is None:
            kwargs["steps_per_epoch"] = x.steps_per_epoch
        steps = kwargs.get("steps_per_epoch")
        check_steps_per_execution(steps, steps_per_execution=self.steps_per_execution)
        course = Course(epochs=epochs, steps_per_epoch=steps)
        callbacks = prepare_callbacks(callbacks, own=course, model=self)
        self._state.callbacks = callbacks if isinstance(callbacks, list) else callbacks.callbacks
        if isinstance(x, tf.data.Dataset):
            kwargs.setdefault("shuffle", False)  # Keras cannot shuffle it, and would warn
        x = self._checked(x, y, shuffle=kwargs.get("shuffle", True), opened_at=course.position)
        validation = kwargs.get("validation_data")
        if isinstance(validation, (tuple, list)):
            self._checked(*validation[:2])
        elif validation is not None:
            kwargs["validation_data"] = self._checked(validation, None)
        return super().fit(x, y, batch_size, epochs, verbose, callbacks, **kwargs)

    def evaluate(self, x=None, y=None, *args, **kwargs):
        """As `keras.Model.evaluate`."""
        if not kwargs.get("_use_cached_eval_dataset"):  # of fit, which has checked it
            x = self._checked(self._built_from(x), y)
        return super().evaluate(x, y, *args, **kwargs)

    def train_on_batch(self, x, y=None, *args, **kwargs):
        """As `keras.Model.train_on_batch`."""
        self._built_from(x)
        check_batch((x, y), self._expected(training=True))
        return super().train_on_batch(x, y, *args, **kwargs)

    def test_on_batch(self, x, y=None, *args, **kwargs):
        """As `keras.Model.test_on_batch`."""
        self._built_from(x)
        check_batch((x, y), self._expected(training=False))
        return super().test_on_batch(x, y, *args, **kwargs)

    def train_step(self, data) -> dict[str, Any]:
        batch, labels = unpack(data)
        check_for_training(batch, self.methods)
        if not self.built:
            self.build(batch["image"].shape)
        # For loops of the user's own; fit looks at the data before they get here, where XLA drops the assertions.
        conditions = self._expected(training=True).conditions(labels, batch.get("index"))
        with tf.control_dependencies(assert_all(conditions)):
            labels = batch["label"] = tf.identity(labels)
        with tf.GradientTape() as tape:
            outputs = {}
            for view in self.views:
                outputs[view.name] = self._run_view(view, batch, tape)
                if view.name == "image":
                    # Read now: the next run of the network clears what its layers added.
                    # Each layer has its own precision; what is added up has float32.
                    regularization = tf.add_n([tf.constant(0.0), *(tf.cast(each, tf.float32) for each in self.losses)])
            targets = one_hot_targets(batch, classes=outputs["image"]["logits"].shape[-1])
            if "targets" in batch:
                batch = {**batch, "targets": targets}
            for method in self.methods:
                targets = method.targets(batch, targets)
            terms = {}
            for view in self.views:
                if view.labelled:
                    scores = self._scores(outputs[view.name], labels=labels, training=True)
                    hard = losses.cross_entropy(scores, targets=_as_wide(targets, scores))
                    terms[view.term_name] = self._hard_weight * hard
            outputs = {name: self._with_scores(output, training=True) for name, output in outputs.items()}
            for method in self.methods:
                terms.update(self._terms(method, batch, outputs, targets))
            per_example = tf.where(tf.reduce_all(list(conditions.values())), tf.add_n(list(terms.values())), math.nan)
            loss = self._global_mean(per_example, labels) + regularization / self._replicas()
            scaled_loss = self.optimizer.scale_loss(loss)
        variables = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(scaled_loss, variables), variables, strict=True))
        for method in self.methods:
            method.after_step(batch, outputs)
        self.step.assign_add(1)
        for name, values in {**terms, "loss": per_example + regularization}.items():
            self._trackers[name].update_state(values)
        return self.compute_metrics(batch, labels, outputs["image"]["logits"])

    def test_step(self, data) -> dict[str, Any]:
        """Cross-entropy alone, as `loss`, and the compiled metrics."""
        batch, labels = unpack(data)
        logits = self(batch, training=False)
        with tf.control_dependencies(assert_all(self._expected(training=False).conditions(labels))):
            labels = batch["label"] = tf.identity(labels)
        values = losses.cross_entropy(logits, targets=one_hot_targets(batch, classes=logits.shape[-1]))
        for name in ("loss", "cross_entropy"):
            self._trackers[name].update_state(values)
        results = self.compute_metrics(batch, labels, logits)
        unmoved = set(self._trackers) - {"loss", "cross_entropy"}
        return {name: value for name, value in results.items() if name not in unmoved}

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return {
            "name": self.name,
            "network": serialize(self.network),
            "methods": [serialize(method) for method in self.methods],
            "num_examples": self.num_examples,
            "embedding_layer": self.embedding_layer,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects=None) -> "SelfDistiller":
        config = dict(config)
        for key in ("network", "methods"):
            config[key] = keras.saving.deserialize_keras_object(config[key], custom_objects=custom_objects)
        return cls(**config)

    def _built_from(self, x):
        """`x`, after this model was built as its images ask, which Keras would do in the first step: too late for us.

        Only data that are distributed already do not tell their shape.
        """
        if self.built:
            return x
        x, sample = peeked(x)
        if (shape := image_shape(sample)) is not None:
            with self.distribute_strategy.scope():
                self.build(shape)
        return x

    def _expected(self, *, training: bool) -> Expectations:
        """What every batch has to be like, of the built model."""
        classes = self._state.num_classes
        if not training:
            return Expectations(num_classes=classes)
        return Expectations(
            num_classes=classes,
            pairs_adjacent=any(method.pairs_adjacent for method in self.methods),
            num_examples=self.num_examples if any("index" in method.extras for method in self.methods) else None,
        )

    def _checked(self, x, y, *, shuffle: bool = False, opened_at: Callable[[], int] | None = None):
        """What Keras is to read in place of `x`; for training, where `opened_at` says at which step."""
        if not self.built:
            return x
        expected = self._expected(training=opened_at is not None)
        if not isinstance(x, PairedDataset):
            return checked(x, y, expected=expected, shuffle=shuffle)
        expected.check_data(x)
        batches = x if opened_at is None else x.opened_at(opened_at, num_classes=expected.num_classes)
        return checked(batches, None, expected=expected) if x.relabelled else batches

    def _run_view(self, view: View, batch: dict, tape: tf.GradientTape) -> dict[str, Any]:
        images = batch[view.name]
        if view.gradient:
            return self._run_network(images, view.batch_norm)
        with tape.stop_recording():
            return self._run_network(images, view.batch_norm)

    def _run_network(self, images, batch_norm: str) -> dict[str, Any]:
        if batch_norm != "train_no_update":
            return self._network_outputs(images, training=batch_norm == "train")
        # Assignments inside a stateless scope reach the scope and not the variables. Random generators do move on, or
        # the next run would drop the same units.
        state = self.network.non_trainable_variables
        random_states = [variable for variable in state if keras.backend.is_int_dtype(variable.dtype)]
        with keras.StatelessScope() as scope:
            outputs = self._network_outputs(images, training=True)
        for variable in random_states:
            if (value := scope.get_current_value(variable)) is not None:
                variable.assign(value)
        return outputs

    def _scores(self, outputs: dict[str, Any], *, training: bool, labels=None):
        if self._head is None:
            return outputs["logits"]
        # As a layer of float32: inside a mixed-precision model Keras would round the variables that scores() reads.
        return self._head(outputs, labels=labels, training=training)

    def _with_scores(self, outputs: dict[str, Any], *, training: bool) -> dict[str, Any]:
        return {**outputs, "logits": tf.cast(self._scores(outputs, training=training), tf.float32)}

    def _terms(self, method: Method, batch: dict, outputs: dict, targets) -> dict[str, Any]:
        terms = method.terms(batch, outputs, targets)
        if set(terms) != set(method.term_names):
            raise ValueError(
                f"Expected {type(method).__name__}.terms to return its term_names {sorted(method.term_names)}. "
                f"Received: {sorted(terms)}"
            )
        return terms

    def _global_mean(self, values, labels):
        """Sum of this replica's values over the size of the whole batch; the replicas' gradients are then summed."""
        batch_size = tf.cast(tf.shape(labels)[0], tf.float32)
        if self._replicas() > 1:
            batch_size = tf.distribute.get_replica_context().all_reduce("SUM", batch_size)
        return tf.reduce_sum(values) / batch_size

    def _replicas(self) -> int:
        return self.distribute_strategy.num_replicas_in_sync


def _as_wide(targets, scores):
    """Targets `[B, C]` with zeros for the classes that a head has added to its scores."""
    return tf.pad(targets, [(0, 0), (0, scores.shape[-1] - targets.shape[-1])])
