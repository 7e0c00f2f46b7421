import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from cskd_tf.data.images.colours import ColorJitter, Lighting
from cskd_tf.data.images.random_draws import draws
from tests.data.helpers import seeds


def test_colour_jitter_equals_its_three_steps_in_either_order():
    def grey(pixels):
        return (pixels * [0.299, 0.587, 0.114]).sum(axis=-1, keepdims=True)

    def brightness(pixels, factor):
        return factor * pixels

    def contrast(pixels, factor):
        return factor * pixels + (1 - factor) * grey(pixels).mean()

    def saturation(pixels, factor):
        return factor * pixels + (1 - factor) * grey(pixels)

    images = np.random.default_rng(0).uniform(0, 255, (40, 5, 7, 3))
    image_seeds = seeds(40)
    measured = ColorJitter(0.4)(tf.constant(images, tf.float32), image_seeds).numpy()
    factors = 1 + 0.4 * (2 * draws(image_seeds, first=2000, count=3).numpy().astype("float64") - 1)
    assert (factors.min(axis=0) < 0.7).all()
    assert (factors.max(axis=0) > 1.3).all()
    steps = list(zip((brightness, contrast, saturation), range(3), strict=True))
    for order in (steps, steps[::-1], [steps[1], steps[0], steps[2]]):
        for image, expected, numbers in zip(images, measured, factors, strict=True):
            for step, number in order:
                image = step(image, numbers[number])
            np.testing.assert_allclose(expected, image, atol=1e-3)
    np.testing.assert_allclose(ColorJitter(0.0)(tf.constant(images, tf.float32), image_seeds), images, atol=1e-3)


def test_lighting_adds_a_normal_colour_along_the_components():
    images = tf.zeros((5000, 2, 2, 3))
    noise = Lighting(0.1)(images, seeds(5000)).numpy()
    assert (noise == noise[:, :1, :1]).all()
    amounts = np.linalg.solve(Lighting.VECTORS.astype("float64"), noise[:, 0, 0].T / 255).T / Lighting.VALUES
    for column in amounts.T:
        assert scipy.stats.kstest(column / 0.1, "norm").pvalue > 1e-3
    assert np.abs(np.corrcoef(amounts.T) - np.eye(3)).max() < 0.06
    np.testing.assert_allclose(255 * 0.1 * Lighting.VALUES[0] * Lighting.VECTORS[0, 0], -3.147, atol=1e-3)


def test_lighting_is_finite_for_the_largest_draw():
    """One of 16 million draws is 1 less half a unit of float32, which a half more would round to 1."""
    largest = tf.constant([[964380616, 781871160]], tf.int32)
    np.testing.assert_array_equal(draws(largest, first=3000, count=3)[0, 1], 1 - 2.0**-24)
    noise = Lighting(0.1)(tf.zeros((1, 1, 1, 3)), largest).numpy().ravel()
    amount = np.linalg.solve(Lighting.VECTORS, noise / 255)[1] / Lighting.VALUES[1] / 0.1
    assert amount == pytest.approx(scipy.stats.norm.ppf(1 - 2.0**-25), rel=1e-4)
