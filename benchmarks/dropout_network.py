"""A network whose random state a run that goes on must restore; apart, so that a config can name it."""

import keras


def with_dropout(*, num_classes, input_shape, width):
    hidden = keras.layers.Dense(4 * width, activation="relu")
    parts = [keras.layers.Flatten(), hidden, keras.layers.Dropout(0.3), keras.layers.Dense(num_classes)]
    return keras.Sequential([keras.Input(input_shape), *parts])
