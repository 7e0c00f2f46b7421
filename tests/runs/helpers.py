"""Small configs, by the keys in which they differ from the default."""

import functools

import keras
import tensorflow as tf

from configs import digits
from cskd_tf.networks.layers import Pieces, classifier
from cskd_tf.runs.config import Config

SMALL = {
    "deterministic": False, "baseline": False, "epochs": 4, "batch_size": 16, "verbose": 0, "network.width": 2,
    "data.augment.image_size": 8, "data.split.train_per_class": 4, "data.split.test_fraction": 0.9,
}  # fmt: skip


def config_of(changes, *, folder="") -> Config:
    """The default config at toy size with `changes`, where PHOTOS stands for `folder`."""
    config = digits.get_config()
    for key, value in {**SMALL, **changes}.items():
        *groups, last = key.split(".")
        group = functools.reduce(getattr, groups, config)
        group[last] = value.replace("PHOTOS", str(folder)) if isinstance(value, str) else value
    return Config.read(config)


def small_network(*, num_classes, input_shape, width=4, synchronized=False):
    """One convolution, batch norm and a dense layer, for runs that are about something else than the network."""
    pieces = Pieces(synchronized=synchronized)
    images = keras.Input(input_shape)
    features = pieces.convolution(images, width, kernel_size=3, stride=2, name="conv")
    return keras.Model(images, classifier(pieces.batch_norm_relu(features, name="bn"), num_classes=num_classes))


def events_in(folder):
    """The step and the tags of every event of TensorBoard, of all files of a folder."""
    found = []
    for file in sorted(folder.glob("*tfevents*")):
        for record in tf.data.TFRecordDataset(str(file)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            found += [(event.step, value.tag) for value in event.summary.value]
            found += [(event.step, "graph")] * (event.WhichOneof("what") == "graph_def")
    return found
