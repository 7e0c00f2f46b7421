"""Where the data of a `fit` begin, which epoch methods are told of, and what is evaluated of it."""

import keras
import tensorflow as tf
from absl import logging

from cskd_tf.errors import UserError
from cskd_tf.training import order

_EPOCH_IS_OVER = object()  # as true as what other callbacks set, and to be told from it


class Course(keras.callbacks.Callback):
    """Knows which step the model is at when `fit` opens the data, and tells the methods which epoch begins.

    Batch s of a `PairedDataset` is what step s of the model sees, counted through everything that it was ever trained
    for: so `fit` in a loop, from an `initial_epoch`, after an interruption or from a file goes on where it was, without
    showing an epoch again. With another data set, or other batches, it goes on at the beginning of the next epoch of
    these. A model of fewer steps than `initial_epoch` tells of, one that was made of weights alone,
    joins there.

    With 3 steps per epoch, a model after 6 steps goes on at step 6, in `fit(epochs=1)` as well as in
    `fit(initial_epoch=2, epochs=4)`; a new one begins at 0, or at 6.

    Args:
        epochs: of the whole training, for the methods.
        steps_per_epoch: of it; None where Keras alone finds out.
        other_data_of: steps per epoch of the data set, where the one before was another; None: it was not.
    """

    def __init__(self, *, epochs: int, steps_per_epoch: int | None, other_data_of: int | None = None):
        super().__init__()
        self.epochs, self.steps_per_epoch = epochs, steps_per_epoch
        self._other_data_of = other_data_of
        self._position: int | None = None
        self._end: int | None = None  # step, of an epoch that is gone on with

    def position(self) -> int:
        """The step whose batch comes first."""
        # Not what the model's step is now: a step may count itself before it has asked for its batch.
        return self._position or 0

    def on_epoch_begin(self, epoch, logs=None):
        self.model.put_average(False)
        if self._position is None:
            self._join(epoch)
        state = self.model._state
        metrics, state.under_way = state.under_way, None
        state.batches_before = 0
        if metrics is not None:
            steps, step = self.steps_per_epoch or self.params["steps"], int(self.model.step.numpy())
            state.batches_before = step % steps
            self._end = step - step % steps + steps
            self.model.restore_metrics(metrics)  # which Keras has just reset
            return
        for method in self.model.composition.terms:
            method.on_epoch_begin(epoch, epochs=self.epochs)

    def on_train_batch_begin(self, batch, logs=None):
        self.model.build_optimizer()  # for the layers that other callbacks have left trainable

    def on_train_batch_end(self, batch, logs=None):
        if self._end is not None and int(self.model.step.numpy()) == self._end:
            self.model.stop_training = _EPOCH_IS_OVER  # of which Keras would run all steps

    def on_epoch_end(self, epoch, logs=None):
        if self.model.stop_training is _EPOCH_IS_OVER:  # and no other callback has asked for an end of it all
            self.model.stop_training = False
        self._end = None
        self._settle()  # before other callbacks evaluate

    def on_test_begin(self, logs=None):
        self._settle()  # before Keras' own validation, which comes before that

    def _settle(self) -> None:
        """Makes the model what is evaluated and saved of this epoch."""
        share_running_statistics(self.model)
        self.model.put_average(True)

    def _join(self, epoch: int) -> None:
        # Now and not before, because callbacks restore models when the training begins.
        steps = self.steps_per_epoch or self.params.get("steps") or 0
        self._position = max(int(self.model.step.numpy()), epoch * steps)
        if self._other_data_of:
            self._position = -(-self._position // self._other_data_of) * self._other_data_of
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
        running = model.network.non_trainable_variables
        for variable in [*running, *(model.average.of(running) if model.average else ())]:
            of_replica = tf.identity(variable.value)  # as read here, that of this worker's first
            variable.value.assign(model.workers.gather(of_replica.numpy()[None])[0])


def prepare_callbacks(callbacks, *, own: Course, model: keras.Model):
    """What `fit` takes as callbacks, ours in front of them, and in an order in which they work.

    Raises:
        UserError: as of `order.check`.
    """
    if isinstance(callbacks, keras.callbacks.CallbackList):
        order.check(callbacks.callbacks, model=model)
        own.set_model(model)
        others = [callback for callback in callbacks.callbacks if not isinstance(callback, Course)]
        callbacks.callbacks = [own, *order.ordered(others)]
        return callbacks
    callbacks = keras.tree.flatten(callbacks) if callbacks else []  # as Keras takes lists in lists
    order.check(callbacks, model=model)
    return [own, *order.ordered(callbacks)]
