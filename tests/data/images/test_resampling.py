import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from cskd_tf.data.images.resampling import resample


@pytest.mark.parametrize(
    ("shape", "box", "size"),
    [
        ((64, 64), (0, 0, 64, 64), (32, 32)),
        ((64, 64), (5, 9, 31, 40), (32, 32)),
        ((50, 71), (3, 0, 47, 71), (20, 33)),
        ((8, 8), (0, 0, 8, 8), (16, 16)),
        ((33, 20), (10, 4, 7, 9), (32, 32)),
    ],
)
def test_resample_equals_pil(shape, box, size):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    top, left, height, width = box
    crop = PIL.Image.fromarray(pixels).crop((left, top, left + width, top + height))
    expected = np.asarray(crop.resize(size[::-1], PIL.Image.Resampling.BILINEAR), np.float32)
    measured = resample(tf.constant(pixels[None], tf.float32), tf.constant([box], tf.float32), size=size)[0]
    assert np.abs(measured - expected).max() <= 1.0  # PIL rounds in between


def test_resample_by_hand():
    measured = resample(tf.constant([[[[0.0], [4.0]]]]), tf.constant([[0.0, 0.0, 1.0, 2.0]]), size=(1, 4))
    np.testing.assert_allclose(measured[0, 0, :, 0], [0.0, 1.0, 3.0, 4.0], atol=1e-6)
