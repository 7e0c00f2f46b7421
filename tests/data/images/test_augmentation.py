"""From a config's settings to transforms, and settings that cannot be meant."""

import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.data.images.augmentation import Augmentation, build_transforms
from cskd_tf.data.images.colours import ColorJitter, Lighting
from tests.data.helpers import seeds

SETTINGS = {
    "crop": "pad_crop",
    "image_size": 8,
    "short_side": 0,
    "padding": 1,
    "flip": True,
    "mean": (0.5,),
    "std": (0.5,),
}  # fmt: skip


@pytest.mark.parametrize("crop", ["none", "pad_crop", "random_resized_crop"])
def test_config_transforms_give_the_size_and_evaluation_is_fixed(crop):
    training, evaluation = build_transforms(Augmentation(**{**SETTINGS, "crop": crop}))
    images = tf.random.stateless_uniform((3, 12, 10, 1), [0, 1], maxval=255.0)
    assert training(images, seeds(3)).shape == evaluation(images, seeds(3)).shape == (3, 8, 8, 1)
    np.testing.assert_array_equal(evaluation(images, seeds(3)), evaluation(images, seeds(3, start=1)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"crop": "centre"}, r"Unknown crop; expected one of \['none', 'pad_crop', 'random_resized_crop'\]"),
        ({"image_size": 0}, "image_size=0"),
        ({"padding": -1}, "padding=-1"),
        ({"short_side": 4}, "short_side=4"),
        ({"std": (0.0,)}, "stds above 0"),
        ({"std": (1e-30,)}, r"Expected mean and std of pixels from 0 to 1, .*std=\(1e-30,\)"),
        ({"mean": (123.7,)}, r"means of at most 10 .*mean=\(123.7,\)"),
        ({"mean": (0.5, 0.5)}, "as many means as stds"),
    ],
)
def test_bad_settings_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**{**SETTINGS, **arguments})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"color_jitter": 1.5}, "color_jitter to be at most 1. Received: color_jitter=1.5"),
        ({"lighting": -0.1}, "lighting to be at least 0. Received: lighting=-0.1"),
        ({"lighting": 0.1, "mean": (0.5,), "std": (0.5,)}, "colour images.*1 channels"),
    ],
)
def test_colours_that_cannot_be_changed_are_refused(options, message):
    base = {
        "crop": "none",
        "image_size": 8,
        "short_side": 0,
        "padding": 0,
        "flip": True,
        "mean": [0] * 3,
        "std": [1] * 3,
    }
    with pytest.raises(ValueError, match=message):
        Augmentation(**{**base, **options})


def test_keras_layers_come_before_normalisation_and_only_in_training():
    darker = {"name": "RandomBrightness", "factor": (-1.0, -1.0)}  # by 255
    settings = {**SETTINGS, "crop": "none", "flip": False, "layers": (darker,)}
    training, evaluation = build_transforms(Augmentation(**settings))
    images = tf.fill((2, 8, 8, 1), tf.constant(255, tf.uint8))
    np.testing.assert_allclose(training(images, seeds(2)), np.full((2, 8, 8, 1), -1.0))  # (0 / 255 - 0.5) / 0.5
    np.testing.assert_allclose(evaluation(images, seeds(2)), np.full((2, 8, 8, 1), 1.0))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("RandAugment", r"a mapping for each Keras layer.*Received: data.augment.layers=\('RandAugment',\)"),
        ({"name": "RandAugmnt"}, r"Unknown layer; expected one of Keras' \['AugMix', .*Received: name='RandAugmnt'"),
        ({"name": "MixUp"}, "Unknown layer; .*Received: name='MixUp'"),
        ({"name": "Dense", "units": 3}, "Unknown layer; .*Received: name='Dense'"),
        (
            {"name": "RandAugment", "ops": 2},
            r"Unknown argument of RandAugment; expected some of \['value_range', 'num_ops', .*Received: \['ops'\]",
        ),
        ({"name": "RandomZoom"}, r"Expected RandomZoom with \['height_factor'\]"),
        ({"name": "RandomErasing", "value_range": [0, 1]}, r"value_range=\(0, 255\): .*Received: value_range=\[0, 1\]"),
    ],
)
def test_layers_that_are_none_are_refused_before_one_is_built(layer, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**{**SETTINGS, "layers": (layer,)})


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"name": "RandomRotation", "factor": "much"}, "arguments that keras.layers.RandomRotation takes. Received: "),
        ({"name": "RandomCrop", "height": 4, "width": 4}, r"keep images of shape \(8, 8, 1\). Received: \(4, 4, 1\)"),
        (
            {"name": "RandomHue", "factor": 0.5},
            r"Keras layers that take images of shape \(8, 8, 1\); .*Received: .*hue",
        ),
    ],
)
def test_layers_that_do_not_work_on_the_images_are_refused_before_any_is_read(layer, message):
    with pytest.raises(ValueError, match=message):
        build_transforms(Augmentation(**{**SETTINGS, "layers": (layer,)}))


def test_colours_are_changed_behind_layers_and_before_normalisation():
    contrast = {"name": "RandomContrast", "factor": 0.1}
    options = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "color_jitter": 0.4, "lighting": 0.1, "layers": (contrast,)}
    training, _ = build_transforms(Augmentation(image_size=8, **options))
    kinds = [type(each).__name__ for each in training.transforms]
    assert kinds == ["CentreCrop", "PadCrop", "Flip", "KerasLayers", "ColorJitter", "Lighting", "Normalize"]
    assert training.transforms[-3:-1] == (ColorJitter(0.4), Lighting(0.1))
