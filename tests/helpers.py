"""What several test files build."""

import dataclasses

import keras

from cskd_tf import data
from cskd_tf.methods import CSKD
from cskd_tf.training.distiller import SelfDistiller
from cskd_tf.training.optimizers import SGD

EVALUATION_LOGS = ["val_top1_error", "val_top5_error", "val_nll", "val_ece", "val_recall_at_1", "val_aurc"]


def compiled(network, methods=(), *, learning_rate=0.1, momentum=0.0, weight_decay=0.0, **kwargs):
    """A `SelfDistiller` around `network` with plain SGD."""
    model = SelfDistiller(network, methods, **kwargs)
    model.compile(SGD(learning_rate, momentum=momentum, weight_decay=weight_decay))
    return model


def trainable_model(network, **settings):
    """CS-KD around `network`, with the variables of its optimizer, as checkpoints need them."""
    model = SelfDistiller(network, [CSKD()])
    model.compile(SGD(**{"learning_rate": 0.05, **settings}))
    model.optimizer.build(model.trainable_variables)
    return model


def staged_network(shape, *, classes):
    """A small classifier with three stages: of the image's size, and twice of one pixel; an embedding of 5."""
    inputs = keras.Input(shape)
    first = keras.layers.Identity(name="stage1")(keras.layers.Dense(3, activation="tanh")(inputs))
    hidden = keras.layers.Dense(4, activation="tanh")(keras.layers.Flatten()(first))
    second = keras.layers.Identity(name="stage2")(keras.layers.Reshape((1, 1, 4))(hidden))
    third = keras.layers.Identity(name="stage3")(keras.layers.Dense(5, activation="tanh")(second))
    return keras.Model(inputs, keras.layers.Dense(classes)(keras.layers.Flatten()(third)))


def load_splits(name, *, check_files=True, **options):
    """`data.load_splits` of the options of either kind, by their names."""
    kinds = {field.name: kind for kind in (data.SourceOptions, data.SplitOptions) for field in dataclasses.fields(kind)}
    source, split = (
        kind(**{key: value for key, value in {"name": name, **options}.items() if kinds[key] is kind})
        for kind in (data.SourceOptions, data.SplitOptions)
    )
    return data.load_splits(source, split, check_files=check_files)
