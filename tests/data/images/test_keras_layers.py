"""Keras' layers as transforms: what they draw follows from each image's seed, and from nothing else."""

import random

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.data.images.keras_layers import LAYERS, KerasLayers, as_transform, build_layers
from cskd_tf.data.images.transforms import Compose, Flip
from tests.data.helpers import photo, seeds

IMAGES = np.stack([np.asarray(photo(12, 12), np.float32)] * 5)
NEEDED = {
    "CenterCrop": {"height": 8, "width": 8},
    "RandomBrightness": {"factor": 0.5},
    "RandomColorDegeneration": {"factor": 0.5},
    "RandomContrast": {"factor": 0.5},
    "RandomCrop": {"height": 8, "width": 8},
    "RandomHue": {"factor": 0.5},
    "RandomPosterization": {"factor": 4},
    "RandomRotation": {"factor": 0.2},
    "RandomSaturation": {"factor": 0.9},
    "RandomSharpness": {"factor": 0.9},
    "RandomTranslation": {"height_factor": 0.3, "width_factor": 0.3},
    "RandomZoom": {"height_factor": 0.3},
    "RandomShear": {"x_factor": 0.3},
    "RandomColorJitter": {"brightness_factor": 0.5},
    "RandomGaussianBlur": {"factor": 1.0},
    "RandomElasticTransform": {"factor": 1.0, "scale": 1.0},
    "RandomPerspective": {"factor": 1.0},
    "Resizing": {"height": 8, "width": 8},
    "Solarization": {"threshold_factor": 0.5},
}
FIXED = {"AutoContrast", "ContrastLimitedAdaptiveHistogramEqualization", "CenterCrop", "Equalization", "Resizing"}


QUICK = {"RandomColorJitter", "RandomCrop", "RandomErasing", "RandomFlip", "RandomHue", "RandomRotation"}


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in LAYERS]
)
def test_what_a_layer_draws_follows_from_the_seed_alone(name):
    layers = build_layers([{"name": name, **NEEDED.get(name, {})}])
    five = seeds(5)
    changed = tf.function(layers)(tf.constant(IMAGES), five).numpy()
    assert changed.dtype == np.float32
    assert changed.shape[1:] == layers.output_shape((12, 12, 3))
    assert np.isfinite(changed).all()
    again = layers(tf.constant(IMAGES[2:4]), five[2:4])  # in another batch, and without a graph
    np.testing.assert_allclose(again, changed[2:4], atol=1e-3)
    assert (len({image.tobytes() for image in changed}) > 1) == (name not in FIXED)


def test_neither_the_layers_state_nor_pythons_is_moved():
    layer = keras.layers.RandomFlip()
    state, pythons = layer.generator.state.numpy(), random.getstate()
    KerasLayers(layer)(tf.constant(IMAGES[:1]), seeds(1))
    np.testing.assert_array_equal(layer.generator.state.numpy(), state)
    assert random.getstate() == pythons


@pytest.mark.thorough
def test_what_is_chosen_in_python_differs_from_image_to_image():
    chosen = []

    class Chosen(keras.layers.Layer):
        def call(self, images):
            chosen.append(random.choice([0.0, 1.0, 2.0]))
            return 0 * images + chosen[-1]

    def shown(layers):
        return tf.function(layers)(tf.zeros([40, 1, 1, 1]), seeds(40)).numpy().ravel()

    layers = KerasLayers(Chosen())
    first = shown(layers)
    assert set(first) == {0.0, 1.0, 2.0}
    traced = len(chosen)
    np.testing.assert_array_equal(shown(layers), first)
    np.testing.assert_array_equal(shown(KerasLayers(Chosen())), first)  # as in another process
    assert len(chosen) == 2 * traced


@pytest.mark.parametrize("inside", [keras.Sequential, keras.layers.Pipeline, list])
def test_layers_one_after_the_other_draw_apart(inside):
    layers = as_transform(inside([keras.layers.RandomTranslation(0.4, 0), keras.layers.RandomTranslation(0, 0.4)]))
    image = np.zeros((1, 10, 10, 1), np.float32)
    image[0, 5, 5] = 1.0
    shown = layers(tf.constant(np.repeat(image, 64, axis=0)), seeds(64)).numpy()[..., 0]
    down, right = (shown.sum(axis=axis).argmax(axis=1) for axis in (2, 1))
    assert len(set(down)) > 4
    assert abs(np.corrcoef(down, right)[0, 1]) < 0.4  # 1 if both drew the same numbers


def test_a_layers_own_seed_means_nothing():
    one, two = (KerasLayers(keras.layers.RandomFlip(seed=seed))(tf.constant(IMAGES), seeds(5)) for seed in (1, 2))
    np.testing.assert_array_equal(one, two)


class Drawn(keras.layers.Layer):
    """Adds a number that `draw` returns."""

    def __init__(self, draw, **kwargs):
        super().__init__(**kwargs)
        self.draw = draw

    def call(self, images):
        return images + self.draw([])


STATEFUL = {
    "tensorflow": (lambda: Drawn(tf.random.uniform), "with RandomUniform"),
    "a generator": (lambda: Drawn(tf.random.Generator.from_seed(0).uniform), "with RngReadAndSkip"),
    "keras' own seed": (lambda: Drawn(keras.random.uniform), "with variables that they assign"),
    "batch norm": (keras.layers.BatchNormalization, "with variables that they assign"),
    "a function": (lambda: lambda images: images + tf.random.normal([]), "<lambda>, with RandomStandardNormal"),
    "keras in a function": (lambda: lambda images: images + keras.random.uniform([]), "<lambda>, with Assign"),
}


@pytest.mark.parametrize("kind", STATEFUL)
def test_randomness_that_follows_from_no_seed_is_refused(kind):
    make, found = STATEFUL[kind]
    keras.random.uniform([])  # so that its generator is there
    with pytest.raises(ValueError, match=f"randomness follows from seeds: .*Received: .*{found}"):
        as_transform(make())(tf.constant(IMAGES), seeds(5))


@pytest.mark.parametrize("make", [keras.layers.MixUp, lambda: keras.Sequential([keras.layers.CutMix()])])
def test_layers_that_mix_labels_are_refused(make):
    with pytest.raises(ValueError, match="change images alone; cskd_tf.methods has Mixup and CutMix"):
        as_transform(make())


def test_lists_hold_whatever_augment_takes():
    transform = as_transform([Flip(), lambda images: images / 255, lambda images, seeds: -images])
    assert isinstance(transform, Compose)
    np.testing.assert_allclose(
        transform(tf.constant(IMAGES), seeds(5)), -Flip()(tf.constant(IMAGES), seeds(5)) / 255, rtol=1e-6
    )
    with pytest.raises(ValueError, match="a Keras layer, .*Received: 'RandAugment'"):
        as_transform("RandAugment")


def test_layers_come_one_after_the_other():
    darker, lighter = ({"name": "RandomBrightness", "factor": (by, by)} for by in (-1.0, 0.2))
    images = tf.fill((2, 4, 4, 1), 100.0)
    np.testing.assert_allclose(build_layers([darker, lighter])(images, seeds(2)), 51.0, atol=1e-3)
    np.testing.assert_allclose(build_layers([lighter, darker])(images, seeds(2)), 0.0, atol=1e-3)
