"""What `fit` does around Keras' own: where the data go on, what the methods are told, what is refused."""

import types
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf
from absl import logging

from cskd_tf.data.batches.dataset import PairedDataset
from cskd_tf.errors import UserError
from cskd_tf.evaluation.metrics import DIRECTIONS
from cskd_tf.methods.composition import Composition
from cskd_tf.training.inputs import Expectations, check_batch, checked, image_shape, peeked


class ContinuingModel(keras.Model):
    """A Keras model that goes on with its data where it was, and looks at them before they reach its step.

    Its training step counts itself: `self.step.assign_add(1)`. A subclass has a `composition`, whose methods are told
    of epochs, and `expectations`.

    Attributes:
        composition: of the methods.
        step: int64, training steps so far, and which batch of a `PairedDataset` comes next. It is saved with the model.
    """

    composition: Composition

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        # Not among the weights, of which a classifier must have the same: see save_own_variables.
        self._state = types.SimpleNamespace(
            step=keras.Variable(
                0, dtype="int64", trainable=False, autocast=False, aggregation="only_first_replica", name="step"
            )
        )

    def expectations(self, *, training: bool) -> Expectations:
        """What every batch has to be like, of the built model."""
        raise NotImplementedError

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
        if self._replicas() > 1:
            check_for_replicas(optimizer, jit_compile=kwargs.get("jit_compile", "auto"), replicas=self._replicas())
        super().compile(optimizer=optimizer, **kwargs)

    def fit(self, x=None, y=None, batch_size=None, epochs=1, verbose="auto", callbacks=None, **kwargs):
        """As `keras.Model.fit`; what cannot be trained is refused before the first step.

        A data set of `cskd_tf.data.paired_dataset` knows its steps per epoch, and is read on from where the model is:
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
        check_batch((x, y), self.expectations(training=True))
        return super().train_on_batch(x, y, *args, **kwargs)

    def test_on_batch(self, x, y=None, *args, **kwargs):
        """As `keras.Model.test_on_batch`."""
        self._built_from(x)
        check_batch((x, y), self.expectations(training=False))
        return super().test_on_batch(x, y, *args, **kwargs)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """As Keras', which takes a batch's form from the mean of its parts: where these differ in size, it fails."""
        if iterator is not None and self._replicas() > 1:
            _, _, batches = next(iter(iterator))
            local_results = self.distribute_strategy.experimental_local_results
            iterator, data_batch = None, tf.nest.map_structure(lambda part: local_results(part)[0], next(batches))
        super()._maybe_symbolic_build(iterator, data_batch)

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

    def _checked(self, x, y, *, shuffle: bool = False, opened_at: Callable[[], int] | None = None):
        """What Keras is to read in place of `x`; for training, where `opened_at` says at which step."""
        if not self.built:
            return x
        expected = self.expectations(training=opened_at is not None)
        if not isinstance(x, PairedDataset):
            return checked(x, y, expected=expected, shuffle=shuffle)
        expected.check_data(x)
        batches = x if opened_at is None else x.opened_at(opened_at, num_classes=expected.num_classes)
        return checked(batches, None, expected=expected) if x.relabelled else batches

    def _replicas(self) -> int:
        return self.distribute_strategy.num_replicas_in_sync


class Course(keras.callbacks.Callback):
    """Knows which step the model is at when `fit` opens the data, and tells the methods which epoch begins.

    Batch s of a `PairedDataset` is what step s of the model sees, counted through everything that it was ever trained
    for: so `fit` in a loop, from an `initial_epoch`, after an interruption or from a file goes on where it was, without
    showing an epoch again. A model of fewer steps than `initial_epoch` tells of, one that was made of weights alone,
    joins there.

    With 3 steps per epoch, a model after 6 steps goes on at step 6, in `fit(epochs=1)` as well as in
    `fit(initial_epoch=2, epochs=4)`; a new one begins at 0, or at 6.

    Args:
        epochs: of the whole training, for the methods.
        steps_per_epoch: of it; None where Keras alone finds out.
    """

    def __init__(self, *, epochs: int, steps_per_epoch: int | None):
        super().__init__()
        self.epochs, self.steps_per_epoch = epochs, steps_per_epoch
        self._position: int | None = None

    def position(self) -> int:
        """The step whose batch comes first."""
        # Not what the model's step is now: a step may count itself before it has asked for its batch.
        return self._position or 0

    def on_epoch_begin(self, epoch, logs=None):
        if self._position is None:
            self._join(epoch)
        for method in self.model.composition.terms:
            method.on_epoch_begin(epoch, epochs=self.epochs)

    def on_epoch_end(self, epoch, logs=None):
        share_running_statistics(self.model)  # before other callbacks evaluate

    def on_test_begin(self, logs=None):
        share_running_statistics(self.model)  # before Keras' own validation, which comes before that

    def _join(self, epoch: int) -> None:
        # Now and not before, because callbacks restore models when the training begins.
        steps = self.steps_per_epoch or self.params.get("steps") or 0
        self._position = max(int(self.model.step.numpy()), epoch * steps)
        self.model.step.assign(self._position)
        reached = self._position // steps if steps else 0
        following = self.model.composition.following_epochs
        if not following or reached <= epoch:
            return
        if self.epochs == 1:
            raise UserError(
                f"Expected fit(initial_epoch={reached}, epochs=...) of a model that was trained for {reached} epochs: "
                f"{following} must know which epoch it is, and of how many. Received: initial_epoch={epoch}, epochs=1"
            )
        logging.info("%s: epoch %d of %d, though the model has seen %d", following, epoch + 1, self.epochs, reached)


def share_running_statistics(model: keras.Model) -> None:
    """Gives every replica the first one's running statistics, as they are saved, where each has its own.

    Else batch norm that is not synchronised would be evaluated as another network than the one that is saved.
    """
    if model.distribute_strategy.num_replicas_in_sync > 1:
        for variable in model.network.non_trainable_variables:
            variable.value.assign(tf.identity(variable.value))  # as read here, that of the first


def prepare_callbacks(callbacks, *, own: Course, model: keras.Model):
    """What `fit` takes as callbacks, with ours in front of them; refuses those that would fail after the first epoch.

    Raises:
        UserError: `ModelCheckpoint` is to save a model that cannot be saved whole, or a callback watches one of our
            metrics and does not say whether less of it is better.
    """
    if isinstance(callbacks, keras.callbacks.CallbackList):
        _check_callbacks(callbacks.callbacks, model)
        own.set_model(model)
        callbacks.callbacks = [own, *(callback for callback in callbacks.callbacks if not isinstance(callback, Course))]
        return callbacks
    callbacks = list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks] if callbacks else []
    _check_callbacks(callbacks, model)
    return [own, *callbacks]


def _check_callbacks(callbacks: Sequence[keras.callbacks.Callback], model: keras.Model) -> None:
    for callback in callbacks:
        metric = str(getattr(callback, "monitor", "")).removeprefix("val_").removeprefix("test_")
        if getattr(callback, "mode", None) == "auto" and metric in DIRECTIONS:
            # Keras knows the direction of its own metrics only, and would say so after the first epoch.
            raise UserError(
                f"Expected {type(callback).__name__}(monitor={callback.monitor!r}, mode={DIRECTIONS[metric]!r}): Keras "
                "cannot know whether less of it is better. Received: mode='auto'"
            )
    savers = [callback for callback in callbacks if isinstance(callback, keras.callbacks.ModelCheckpoint)]
    if any(not saver.save_weights_only for saver in savers):
        model.get_config()  # where a teacher is an object, it says what to do


def check_trainable(model: keras.Model) -> None:
    """Raises UserError where no weight would be trained, which Keras only warns of."""
    if not model.trainable_variables:
        raise UserError(
            "Expected at least one trainable weight; set network.trainable = True, or unfreeze its classifier, and "
            f"compile again. Received: network={model.network.name!r}, all of it frozen"
        )


def check_steps_per_execution(steps: int | None, *, steps_per_execution: int) -> None:
    """Raises UserError unless whole executions make an epoch, so that no execution runs on into the next one.

    3 steps per epoch go with 1 or 3 steps per execution; with 2 Keras would take 4.
    """
    if steps and steps % steps_per_execution:
        raise UserError(
            f"Expected steps_per_execution to divide the {steps} steps of an epoch. Received: {steps_per_execution=}"
        )


def check_for_replicas(optimizer, *, jit_compile: bool | str, replicas: int) -> None:
    """Raises UserError for what Keras lets through `compile` and fails at in the first step, on several replicas."""
    if jit_compile is True:
        raise UserError(
            'Expected jit_compile="auto" or False on several replicas: Keras would compile them and what they exchange '
            f"as one program, which XLA cannot. Received: jit_compile=True on {replicas} replicas"
        )
    if parts := getattr(getattr(optimizer, "inner_optimizer", optimizer), "gradient_accumulation_steps", None):
        raise UserError(
            "Expected no gradient accumulation on several replicas, which Keras' optimizers cannot bring together "
            f"inside a condition. Received: gradient_accumulation_steps={parts} on {replicas} replicas"
        )
