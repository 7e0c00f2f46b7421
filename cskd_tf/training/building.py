"""The Keras model that is built from its data, and traced anew for labels of another form and other variables."""

import abc
import types
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from cskd_tf.errors import UserError
from cskd_tf.methods.composition import Composition
from cskd_tf.training.averaging import AveragedModel
from cskd_tf.training.expectations import Expectations
from cskd_tf.training.forms import peeked, peeked_images, shape_of
from cskd_tf.training.workers import Workers


def _by_id(variables: Sequence[keras.Variable]) -> dict[int, str]:
    """The paths of variables, which several may have, by what tells them apart."""
    return {id(variable): variable.path for variable in variables}


class DataBuiltModel(AveragedModel):
    """A Keras model that takes from its data how it is built and for which labels its functions are traced.

    A subclass has `expectations`, a `composition` of methods, and what an `AveragedModel` asks for.
    """

    composition: Composition

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self._data_forms = types.SimpleNamespace(
            traced_for_rows={},  # by the name of each function that Keras has traced: see _retrace_for
            of_metrics_as_rows=None,  # whether labels were rows when Keras chose what "accuracy" is
            metrics=[],  # that compile was given
            trained=None,  # the variables of the step as it was traced last; None: it will be anew
            opened=None,  # data whose form was looked at: see _maybe_symbolic_build
        )

    @abc.abstractmethod
    def expectations(self, *, training: bool) -> Expectations:
        """What every batch has to be like, of the built model."""

    @property
    def workers(self) -> Workers:
        """The processes that train this model."""
        return Workers(self.distribute_strategy)

    def compile(self, optimizer="rmsprop", **kwargs) -> None:
        """As `AveragedModel.compile`."""
        super().compile(optimizer=optimizer, **kwargs)
        self._data_forms.of_metrics_as_rows = self._data_forms.trained = None
        self._data_forms.metrics = keras.tree.flatten([kwargs.get("metrics"), kwargs.get("weighted_metrics")])

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """As Keras', which takes a batch's form from the mean of its parts, also where there is nothing left to build.

        Where these differ in size, or lie on several workers (https://github.com/keras-team/keras/issues/20585), that
        fails. And an iterator on several devices that is dropped right after its first batch, as this one is, may take
        the process along: its thread goes on to read from a data set that is gone (on a single core every other time).
        So it is opened for metrics of the user's alone, and kept.
        """
        if iterator is not None and self._replicas() > 1:
            unbuilt = [part for part in (self._compile_metrics, self._compile_loss) if part and not part.built]
            if unbuilt or not all(layer.built for layer in self._flatten_layers()):
                _, _, self._data_forms.opened = next(iter(iterator))
                local_results = self.distribute_strategy.experimental_local_results
                data_batch = tf.nest.map_structure(lambda part: local_results(part)[0], next(self._data_forms.opened))
            iterator = None
        super()._maybe_symbolic_build(iterator, data_batch)

    def _built_from(self, x, y, *, function: str):
        """`x`, after this model was built as its images ask, which Keras would do in the first step: too late for us.

        Its function of that name is then fit for the labels. Only data that are distributed already do not tell.
        """
        x, (images, labels) = peeked(x, y)
        self._build_of(images)
        self._check_shape(shape_of(images))
        if self.built and hasattr(labels, "shape"):
            self._retrace_for(labels, function=function)
        return x

    def _built_for(self, x):
        """As `_built_from`, of what is to be predicted, labels or none beside it."""
        if self.built:
            return x
        x, images = peeked_images(x)
        self._build_of(images)
        return x

    def _build_of(self, images) -> None:
        if not self.built and (shape := shape_of(images)) is not None:
            with self.distribute_strategy.scope():
                self.build(shape)

    def _check_shape(self, shape: tuple[int | None, ...] | None) -> None:
        """Refuses images of another shape than the network's; of another rank, Keras may add or drop an axis of 1."""
        expected = getattr(self.network, "input_shape", None)  # a subclassed network may not know it
        if not isinstance(expected, tuple) or shape is None or len(shape) != len(expected):
            return
        if not tf.TensorShape(shape).is_compatible_with(expected):
            raise UserError(f"Expected images {expected}, which {self.network.name!r} takes. Received: {shape}")

    def _retrace_for(self, labels, *, function: str) -> None:
        """Makes Keras trace a function anew that it traced for labels in another form: classes, or rows of shares.

        Else it would relax both shapes to one of unknown rank. Metrics go on to get the form that they began with.
        """
        expected, forms = self.expectations(training=False), self._data_forms
        rows = expected.labels.are_rows(labels, num_classes=expected.num_classes)
        if forms.traced_for_rows.setdefault(function, rows) != rows:
            setattr(self, function, None)
            forms.traced_for_rows[function] = rows
        if forms.of_metrics_as_rows is None:
            expected.labels.check_metrics_of(forms.metrics, as_rows=rows)
            forms.of_metrics_as_rows = rows

    def _trace_as_frozen(self) -> None:
        """Has the step traced anew where other variables are trainable than those that it trains.

        Raises:
            UserError: variables that the optimizer does not know.
        """
        if not self.compiled:  # as Keras says
            return
        trainable = _by_id(self.trainable_variables)
        inner: Any = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        known = _by_id(getattr(inner, "_trainable_variables", ())) if inner.built else trainable
        if unknown := sorted(path for key, path in trainable.items() if key not in known):
            raise UserError(
                "Expected compile() again where layers or variables are trained that were frozen: the optimizer does "
                f"not know them. Received: {len(unknown)}, such as {unknown[0]}"
            )
        if self._data_forms.trained not in (None, trainable):
            self.train_function = None

    def _note_traced(self) -> None:
        """Called by the training step: these variables are the ones that Keras' function of it trains."""
        if self._data_forms.trained is None:
            self._data_forms.trained = _by_id(self.trainable_variables)
        for method in self.composition.attachable:
            method.note_traced()

    def make_train_function(self, force=False):
        """As `keras.Model.make_train_function`."""
        if force or self.train_function is None:
            self._data_forms.trained = None
        return super().make_train_function(force)

    def _replicas(self) -> int:
        return self.distribute_strategy.num_replicas_in_sync
