"""The Keras model that goes on with its data where it was, and whose data are looked at before they reach its step."""

import contextlib
import dataclasses
import math
import types
from collections.abc import Callable, Iterator, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from cskd_tf.checks import check_count
from cskd_tf.data.batches.dataset import PairedDataset, split_in_turn
from cskd_tf.data.sources.weakly import weakly
from cskd_tf.errors import UserError
from cskd_tf.training.building import DataBuiltModel
from cskd_tf.training.compiling import (
    check_for_replicas,
    check_for_workers,
    check_jit,
    check_steps,
    check_trainable,
    needing_images,
    synchronized_layers,
)
from cskd_tf.training.course import Course, prepare_callbacks
from cskd_tf.training.forms import check_form
from cskd_tf.training.freezing import thaw
from cskd_tf.training.inputs import check_batch, checked
from cskd_tf.training.labels import class_weight_table
from cskd_tf.training.optimizers import with_loss_scaling
from cskd_tf.training.tuned import check_sound

_ALONE = tf.distribute.InputContext()

_UNNUMBERED = ()  # data whose batches are not counted, after which a PairedDataset begins with a whole epoch


def _numbers(x) -> tuple[int, ...]:
    """What tells data from others whose batches are counted: images, and steps per epoch."""
    return (x.num_examples, x.steps_per_epoch) if isinstance(x, PairedDataset) else _UNNUMBERED


class ContinuingModel(DataBuiltModel):
    """A Keras model that goes on with its data where it was, and looks at them before they reach its step.

    Its training step counts itself: `self.step.assign_add(1)`. A subclass has a `composition`, whose methods are told
    of epochs, and what a `DataBuiltModel` asks for.

    Attributes:
        composition: of the methods.
        step: int64, training steps so far, and which batch of a `PairedDataset` comes next. It is saved with the model.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        # Not among the weights, of which a classifier must have the same: see save_own_variables.
        self._state = types.SimpleNamespace(
            step=keras.Variable(
                0, dtype="int64", trainable=False, autocast=False, aggregation="only_first_replica", name="step"
            ),
            data=None,  # how large the last data set was, and its batches; None: as in the file, if there is one
            frozen=[],  # layers and variables, and whether they were trained before
            evaluating=False,
            under_way=None,  # what the metrics were, for an epoch that is gone on with
            batches_before=0,
            class_weight=None,
            traced_with=None,  # the class weights that are part of the traced step
            compiled_in_replicas=False,  # by XLA, each for itself
        )
        self._kept.step = self.step.value

    @property
    def step(self) -> keras.Variable:
        return self._state.step

    @property
    def batches_before(self) -> int:
        """Batches of the running epoch that were trained before this `fit`: see `go_on_within_epoch`."""
        return self._state.batches_before

    def go_on_within_epoch(self, metrics: Sequence[Sequence]) -> None:
        """Lets the next `fit` go on within its first epoch, at the step that the model is at, to the same logs.

        That epoch is as much shorter, its means begin with what `metrics` holds, and methods are not told that it
        begins: what they made of that is for the caller to restore.

        Args:
            metrics: what `metric_values` returned at that step.
        """
        self._state.under_way = metrics

    def metric_values(self) -> list[list]:
        """What the metrics have added up: for each of their variables its value on every replica of all workers."""
        return [
            self.workers.gather(np.stack([part.numpy() for part in self._on_replicas(variable)])).tolist()
            for variable in self.metrics_variables
        ]

    def restore_metrics(self, values: Sequence[Sequence]) -> None:
        """Takes what `metric_values` returned, of as many replicas or of others: what counts is the sum of all."""
        for variable, saved in zip(self.metrics_variables, values, strict=True):
            of_all = np.array(saved, variable.dtype)
            if len(saved) != self._replicas():
                of_all = np.stack([of_all.sum(axis=0), *[np.zeros(of_all.shape[1:])] * (self._replicas() - 1)])
            parts = self._on_replicas(variable)
            first = self.workers.index * len(parts)
            for part, value in zip(parts, of_all[first : first + len(parts)], strict=True):
                part.assign(value)

    def _on_replicas(self, variable: keras.Variable) -> Sequence[tf.Variable]:
        return self.distribute_strategy.experimental_local_results(variable.value)

    @property
    def class_weight(self) -> Mapping[int, float] | None:
        """Keras' `class_weight` of the running `fit` or `train_on_batch`."""
        return self._state.class_weight

    @contextlib.contextmanager
    def _weighing(self, class_weight: Mapping[int, float] | None, sample_weight) -> Iterator[None]:
        """Trains with these weights of classes, in the step itself, so that mixed and soft targets are weighted too."""
        if class_weight is not None and sample_weight is not None:
            raise UserError("Expected class_weight or sample_weight, and not both. Received: both")
        if class_weight is not None and self.built:
            class_weight_table(class_weight, num_classes=self.expectations(training=True).num_classes)
        state, class_weight = self._state, None if class_weight is None else dict(class_weight)
        if class_weight != state.traced_with:
            self.train_function = None  # to be traced anew
        state.class_weight = state.traced_with = class_weight
        try:
            yield
        finally:
            state.class_weight = None

    def build_optimizer(self) -> None:
        """Makes its variables before the step is traced: a step that makes variables is traced twice."""
        if self.compiled and self.built and not self.optimizer.built:
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)

    def save_own_variables(self, store) -> None:
        super().save_own_variables(store)
        store["step"] = self.step.numpy()

    def load_own_variables(self, store) -> None:
        super().load_own_variables({key: store[key] for key in store.keys() if key != "step"})  # noqa: SIM118
        if "step" in store.keys():  # noqa: SIM118  (of an HDF5 file; older ones have none)
            self.step.assign(store["step"][()])

    def compile(self, optimizer="rmsprop", **kwargs) -> None:
        """As `DataBuiltModel.compile`.

        Args:
            optimizer: as for Keras.
            **kwargs: as for `DataBuiltModel.compile`.

        Raises:
            UserError: as of `DataBuiltModel.compile`, and for what Keras lets through and fails at.
        """
        if optimizer is None:
            raise UserError("Expected an optimizer, or its name. Received: optimizer=None")
        check_count("steps_per_execution", kwargs.get("steps_per_execution", 1))
        with self.distribute_strategy.scope():
            optimizer = keras.optimizers.get(optimizer)
        if kwargs.get("auto_scale_loss", True):
            optimizer = with_loss_scaling(optimizer, policy=self.dtype_policy)
        replicas, jit_compile = self._replicas(), kwargs.get("jit_compile", "auto")
        exchanging = [*self.composition.needing_whole_batches, *synchronized_layers(self)]
        check_jit(jit_compile, replicas=replicas, exchanging=exchanging)
        # Keras would compile the whole step as one program, with what replicas exchange, which XLA cannot; on a TPU
        # the strategy compiles it.
        on_tpu = isinstance(self.distribute_strategy, tf.distribute.TPUStrategy)
        self._state.compiled_in_replicas = jit_compile is True and replicas > 1 and not on_tpu
        if jit_compile is True and replicas > 1:
            kwargs["jit_compile"] = False
        if replicas > 1:
            check_for_replicas(optimizer, replicas=replicas)
        if self.workers.count > 1:
            check_for_workers(
                self.distribute_strategy,
                metrics=keras.tree.flatten([kwargs.get("metrics"), kwargs.get("weighted_metrics")]),
                steps_per_execution=kwargs.get("steps_per_execution", 1),
            )
        super().compile(optimizer=optimizer, **kwargs)
        check_sound(self.optimizer)

    def fit(
        self,
        x=None,
        y=None,
        batch_size=None,
        epochs=1,
        verbose="auto",
        callbacks=None,
        validation_split=0.0,
        validation_data=None,
        shuffle=None,
        class_weight=None,
        sample_weight=None,
        **kwargs,
    ):
        """As `keras.Model.fit`; what cannot be trained is refused before the first step.

        A data set of `cskd_tf.data.paired_dataset` knows its steps per epoch, and is read on from where the model is:
        see `Course`. `epochs` of the data set need not be `fit`'s; as validation data it is read for one. With
        `shuffle=None` what Keras can shuffle is shuffled.
        """
        check_form(x, y, sample_weight)
        x = self._built_from(x, y, function="train_function")
        if self.built:
            check_trainable(self)
            self._trace_as_frozen()
            self._make_average()
        if isinstance(x, PairedDataset) and kwargs.get("steps_per_epoch") is None:
            kwargs["steps_per_epoch"] = x.steps_per_epoch
        steps = kwargs.get("steps_per_epoch")
        check_steps(steps, steps_per_execution=self.steps_per_execution)
        before, numbers = self._state.data, _numbers(x)
        others = numbers != _UNNUMBERED and before not in (None, numbers)  # of another size, or in other batches
        course = Course(epochs=epochs, steps_per_epoch=steps, other_data_of=x.steps_per_epoch if others else None)
        callbacks = prepare_callbacks(callbacks, own=course, model=self)
        if shuffle is None:
            shuffle = not isinstance(x, tf.data.Dataset)  # which Keras cannot shuffle, and would warn of
        x = self._checked(
            x, y, sample_weight, shuffle=shuffle, opened_at=weakly(course.position), batch_size=batch_size,
            share=1.0 - (validation_split or 0.0), batches=(steps or math.inf) * epochs,
        )  # fmt: skip
        if isinstance(validation_data, (tuple, list)):
            if len(validation_data) not in (2, 3):
                raise UserError(
                    "Expected validation_data=(images, labels), or with weights as third. "
                    f"Received: a {type(validation_data).__name__} of {len(validation_data)}"
                )
            check_form(*validation_data, *[None] * (3 - len(validation_data)))
            self._built_from(*validation_data[:2], function="test_function")
            self._checked(*validation_data)
        elif validation_data is not None:
            check_form(validation_data, None, None)
            validation_data = self._checked(self._built_from(validation_data, None, function="test_function"), None)
        kwargs |= {"validation_split": validation_split, "validation_data": validation_data, "shuffle": shuffle}
        with self._weighing(class_weight, sample_weight):
            self._state.data = numbers  # not before: what is refused leaves the training where it was
            try:
                return super().fit(x, y, batch_size, epochs, verbose, callbacks, sample_weight=sample_weight, **kwargs)
            finally:
                thaw(self)  # also where an exception ends it, of which Keras tells no callback
                self._settle_average()  # behind callbacks that restore the best weights

    def evaluate(self, x=None, y=None, batch_size=None, verbose="auto", sample_weight=None, *args, **kwargs):
        """As `keras.Model.evaluate`."""
        if not kwargs.get("_use_cached_eval_dataset"):  # of fit, which has checked it
            check_form(x, y, sample_weight)
            x = self._checked(self._built_from(x, y, function="test_function"), y, sample_weight)
        self._state.evaluating = True
        try:
            return super().evaluate(x, y, batch_size, verbose, sample_weight, *args, **kwargs)
        finally:
            self._state.evaluating = False

    def predict(self, x, *args, **kwargs):
        """As `keras.Model.predict`."""
        return super().predict(self._built_for(x), *args, **kwargs)

    def predict_on_batch(self, x):
        """As `keras.Model.predict_on_batch`."""
        return super().predict_on_batch(self._built_for(x))

    def compute_metrics(self, *args, **kwargs):
        """As `keras.Model.compute_metrics`; of several workers each as `[1]`, since Keras takes means over axis 0."""
        results = super().compute_metrics(*args, **kwargs)
        return {name: tf.reshape(value, [1]) for name, value in results.items()} if self.workers.count > 1 else results

    def train_on_batch(self, x, y=None, sample_weight=None, class_weight=None, *args, **kwargs):
        """As `keras.Model.train_on_batch`."""
        self._built_from(x, y, function="train_function")
        check_batch((x, y, sample_weight), self.expectations(training=True))
        with self._weighing(class_weight, sample_weight):
            self._make_average()
            self.build_optimizer()
            if self.built:
                self._trace_as_frozen()
            self.put_average(False)
            self._state.data = _UNNUMBERED
            return super().train_on_batch(x, y, sample_weight, None, *args, **kwargs)

    def test_on_batch(self, x, y=None, sample_weight=None, *args, **kwargs):
        """As `keras.Model.test_on_batch`."""
        self._built_from(x, y, function="test_function")
        check_batch((x, y, sample_weight), self.expectations(training=False))
        return super().test_on_batch(x, y, sample_weight, *args, **kwargs)

    def _checked(self, x, y, weights=None, *, opened_at: Callable[[], int] | None = None, **of_arrays):
        """What Keras is to read in place of `x`; for training, where `opened_at` says at which step."""
        if not self.built:
            return x
        expected = self.expectations(training=opened_at is not None)
        if not isinstance(x, PairedDataset):
            if opened_at is not None and self._replicas() > 1:
                names = tuple(needing_images(self))
                expected = dataclasses.replace(expected, replicas=self._replicas(), needing_images=names)
            return checked(x, y, weights=weights, expected=expected, **of_arrays)
        expected.check_data(x)

        def read(context: tf.distribute.InputContext) -> tf.data.Dataset:
            """Each worker makes its own part of every batch, and deals it out among its replicas."""
            own = x.shared_by(worker=context.input_pipeline_id, num_workers=context.num_input_pipelines)
            if opened_at is None:
                batches = own.take(own.steps_per_epoch)
            else:
                batches = own.opened_at(opened_at, num_classes=expected.num_classes)
            parts = context.num_replicas_in_sync // context.num_input_pipelines
            batches = split_in_turn(batches, parts=parts)
            return checked(batches, None, expected=expected) if x.relabelled else batches

        # Not as tf.distribute deals out whole batches: of 5 images, the last of 4 replicas would get none.
        is_shared = opened_at is not None
        return self.distribute_strategy.distribute_datasets_from_function(read) if is_shared else read(_ALONE)
