"""The stages of a network as a model of their own."""

import keras
import numpy as np
import pytest

from cskd_tf import networks
from cskd_tf.methods import CSKD
from cskd_tf.networks.backbone import Backbone
from cskd_tf.training.distiller import SelfDistiller
from tests.helpers import staged_network

# One network a family, at its narrowest: the first of the levels, and channels of each.
LEVELS = {
    "preact_resnet10": (0, [2, 4, 8, 16]),
    "resnext29_8x64d": (0, [8, 16, 32]),
    "resnet10": (2, [2, 4, 8, 16]),
}


@pytest.mark.thorough
@pytest.mark.parametrize("name", LEVELS)
def test_levels_are_named_by_their_size_and_hold_the_stages(name):
    first, channels = LEVELS[name]
    network = networks.build(name, num_classes=3, input_shape=(32, 32, 1), width=2)
    backbone = networks.backbone(network)
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 1)).astype("float32")
    levels, stages = backbone(images), networks.NetworkOutputs(network)(images)["stages"]
    assert list(levels) == list(backbone.pyramid_outputs) == [f"P{first + number}" for number in range(len(channels))]
    for (level, values), stage in zip(levels.items(), stages, strict=True):
        np.testing.assert_array_equal(values, stage)
        assert values.shape[1] == 32 // 2 ** int(level[1:])
    assert [values.shape[-1] for values in levels.values()] == channels
    shapes = [values.shape[1:3] for values in backbone(np.tile(images, (1, 1, 2, 1))).values()]
    assert shapes == [(stage.shape[1], 2 * stage.shape[1]) for stage in stages]


@pytest.mark.thorough
def test_a_backbone_of_a_runs_file_is_saved_and_loaded(tmp_path):
    network = networks.build("preact_resnet10", num_classes=3, input_shape=(8, 8, 1), width=2)
    SelfDistiller(network, [CSKD()]).classifier().save(tmp_path / "classifier.keras")
    backbone = networks.backbone(keras.models.load_model(tmp_path / "classifier.keras").network)
    backbone.save(tmp_path / "backbone.keras")
    loaded = keras.models.load_model(tmp_path / "backbone.keras")
    assert isinstance(loaded, Backbone)
    assert list(loaded.pyramid_outputs) == ["P0", "P1", "P2", "P3"]
    images = np.ones((1, 24, 24, 1), "float32")
    for one, two in zip(loaded(images).values(), networks.backbone(network)(images).values(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_training_reaches_the_networks_own_layers():
    network = networks.build("preact_resnet10", num_classes=3, input_shape=(8, 8, 1), width=2)
    own = {id(weight) for weight in network.trainable_weights}
    weights = networks.backbone(network).trainable_weights
    assert {id(weight) for weight in weights} == own - {id(each) for each in network.get_layer("classifier").weights}


class Subclassed(keras.Model):
    def call(self, images, training=False):
        return images


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Subclassed(name="mine"), "Expected a functional network.*'mine', which is not functional"),
        (lambda: keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten()]), "stage1.* without any"),
        (
            lambda: staged_network((4, 4, 1), classes=2),
            r"times as small as the image.*a stage of \[\(1, 1\), \(1, 1\)\] pixels",
        ),
    ],
)
def test_what_has_no_levels_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        networks.backbone(make())


def test_of_two_stages_of_one_size_the_later_is_the_level():
    images = keras.Input((32, 32, 1))
    first = keras.layers.Conv2D(2, 3, strides=2, padding="same", name="stage1")(images)
    second = keras.layers.Conv2D(3, 3, padding="same", name="stage2")(first)
    network = keras.Model(images, keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(second)))
    levels = networks.backbone(network)(np.zeros((1, 32, 32, 1)))
    assert {name: tuple(values.shape) for name, values in levels.items()} == {"P1": (1, 16, 16, 3)}


def test_a_stage_a_third_of_the_images_size_is_refused():
    images = keras.Input((33, 33, 1))
    third = keras.layers.MaxPooling2D(3, name="stage1")(images)  # of 256 and 512 pixels 85 and 170, the whole thirds
    network = keras.Model(images, keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(third)))
    with pytest.raises(ValueError, match=r"Expected stages that are 1, 2, 4, 8 .* with a stage of \[\(85, 85\), "):
        networks.backbone(network)
