"""Networks that are traced in no time, in a module of their own, so that a config can name them."""

import keras


def with_dropout(*, num_classes, input_shape, width):
    """One with random state, which a run that goes on must restore."""
    hidden = keras.layers.Dense(4 * width, activation="relu")
    parts = [keras.layers.Flatten(), hidden, keras.layers.Dropout(0.3), keras.layers.Dense(num_classes)]
    return keras.Sequential([keras.Input(input_shape), *parts])


def with_stages(*, num_classes, input_shape, width):
    """One with batch norm and three stages, whose exits BYOT trains."""
    image = hidden = keras.Input(input_shape)
    for stage in range(3):
        hidden = keras.layers.Conv2D(width << stage, 3, strides=1 + (stage > 0), padding="same", use_bias=False)(hidden)
        hidden = keras.layers.BatchNormalization()(hidden)
        hidden = keras.layers.ReLU(name=f"stage{stage + 1}")(hidden)
    pooled = keras.layers.GlobalAveragePooling2D()(hidden)
    return keras.Model(image, keras.layers.Dense(num_classes)(pooled))
