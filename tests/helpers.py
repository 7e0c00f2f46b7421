"""What several test files build."""

import keras

from cskd_tf.distiller import SelfDistiller
from cskd_tf.optimizers import SGD


def compiled(network, methods=(), *, learning_rate=0.1, momentum=0.0, weight_decay=0.0, **kwargs):
    """A `SelfDistiller` around `network` with plain SGD."""
    model = SelfDistiller(network, methods, **kwargs)
    model.compile(SGD(learning_rate, momentum=momentum, weight_decay=weight_decay))
    return model


def staged_network(shape, *, classes):
    """A small classifier with three stages: of the image's size, and twice of one pixel; an embedding of 5."""
    inputs = keras.Input(shape)
    first = keras.layers.Identity(name="stage1")(keras.layers.Dense(3, activation="tanh")(inputs))
    hidden = keras.layers.Dense(4, activation="tanh")(keras.layers.Flatten()(first))
    second = keras.layers.Identity(name="stage2")(keras.layers.Reshape((1, 1, 4))(hidden))
    third = keras.layers.Identity(name="stage3")(keras.layers.Dense(5, activation="tanh")(second))
    return keras.Model(inputs, keras.layers.Dense(classes)(keras.layers.Flatten()(third)))
