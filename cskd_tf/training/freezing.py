"""A backbone that is frozen while its new classifier learns, and then trained with it."""

import contextlib
from collections.abc import Iterable, Iterator

import keras

from cskd_tf.errors import UserError
from cskd_tf.networks.features import find_classifier, layers_of
from cskd_tf.training.tuned import Tuned


class FrozenBackbone(keras.callbacks.Callback):
    """Trains the classifier alone for the first epochs, and then the whole network.

    The classifier is the layer that reads the embedding; what methods own, such as AdaCos' vectors or BYOT's exits, is
    trained from the start too. Batch norm of a frozen network runs as at inference, by its running statistics, which
    stay as they are. When the backbone joins in, the step is traced anew, and the optimizer begins anew, as
    `Tuned.restart` says; the schedule goes on. Layers and variables that were frozen before stay so.

    Example: of three epochs, the first one moves the last layer alone:
        >>> images, labels = np.random.default_rng(0).normal(size=(8, 4)).astype("float32"), np.arange(8) % 2
        >>> first, last = keras.layers.Dense(3, activation="tanh"), keras.layers.Dense(2)
        >>> model = cskd_tf.SelfDistiller(keras.Sequential([keras.Input((4,)), first, last]))
        >>> model.compile(cskd_tf.optimizers.SGD(0.1, restarts=True))
        >>> before = first.kernel.numpy()
        >>> unmoved = []
        >>> look = keras.callbacks.LambdaCallback(
        ...     on_epoch_end=lambda epoch, logs: unmoved.append(bool((first.kernel.numpy() == before).all()))
        ... )
        >>> _ = model.fit(images, labels, epochs=3, verbose=0, callbacks=[FrozenBackbone(1), look])
        >>> unmoved
        [True, False, False]

    Args:
        epochs: for which the backbone is frozen, at least 1.

    Raises:
        UserError: fewer epochs; when training begins, an optimizer that cannot restart or does not know all weights, or
            a network whose classifier was not found.
    """

    def __init__(self, epochs: int):
        super().__init__()
        if epochs < 1:
            raise UserError(f"Expected at least one epoch. Received: epochs={epochs}")
        self.epochs = epochs

    def on_train_begin(self, logs=None):
        optimizer = self._optimizer()
        if not isinstance(optimizer, Tuned) or not optimizer.restarts:
            raise UserError(
                "Expected an optimizer of cskd_tf.optimizers, made with restarts=True, beside FrozenBackbone. "
                f"Received: {type(optimizer).__name__}"
            )
        if not self.model.optimizer.built:
            self.model.optimizer.build(self.model.trainable_variables)

    def on_epoch_begin(self, epoch, logs=None):
        if epoch < self.epochs:
            self._freeze()
        else:
            thaw(self.model)
            if self._optimizer().awaits_restart:  # in the first such epoch, also where a training goes on with it
                self._optimizer().restart()

    def on_train_end(self, logs=None):
        thaw(self.model)

    def _optimizer(self) -> keras.optimizers.Optimizer:
        return getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)

    def _freeze(self) -> None:
        if not self.model._state.frozen:
            layers = backbone_layers(self.model)
            # A layer that is trained again trains all of its variables, also those frozen alone, such as LoRA's kernel.
            parts = [*layers, *(variable for layer in layers for variable in layer.variables)]
            self.model._state.frozen = [(part, part.trainable) for part in parts]
            _set((part, False) for part in parts)
            self.model.make_train_function(force=True)


def thaw(model: keras.Model) -> None:
    """Gives the layers of a `SelfDistiller` back what they were before `FrozenBackbone` froze them."""
    if model._state.frozen:
        _set(model._state.frozen)
        model._state.frozen = []
        model.make_train_function(force=True)


@contextlib.contextmanager
def as_before(model: keras.Model) -> Iterator[None]:
    """The same for a block: a file of the model is of one that is frozen for some epochs, and not for good."""
    _set(model._state.frozen)
    try:
        yield
    finally:
        _set((part, False) for part, _ in model._state.frozen)


def _set(trainable: Iterable[tuple[keras.layers.Layer | keras.Variable, bool]]) -> None:
    for part, value in trainable:
        part.trainable = value


def backbone_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers of a `SelfDistiller`'s network that do not hold its classifier, the outer ones first."""
    classifier = find_classifier(model.network, input_shape=model._image_shape, embedding_layer=model.embedding_layer)
    return [
        layer
        for layer in layers_of(model.network)
        if layer is not classifier and all(inner is not classifier for inner in layers_of(layer))
    ]
