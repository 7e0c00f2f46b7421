"""Images by their numbers, whichever form their source has them in."""

import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.data import ArraySource
from cskd_tf.data.batches.loading import load_images, transformed
from cskd_tf.data.images.transforms import Normalize
from cskd_tf.data.sources.encoded import Encoded
from tests.data.helpers import seeds

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 3, 5, 3), np.uint8)
LABELS = [0, 1, 1, 0]
CONTENTS = [tf.io.encode_png(image).numpy() for image in PIXELS]
ARRAYS = ArraySource(PIXELS, LABELS)
FILES = Encoded(
    tf.constant(CONTENTS), LABELS, class_names=["a", "b"], channels=3, sizes=list(map(len, CONTENTS)), locate=str
)


@pytest.mark.parametrize("source", [ARRAYS, FILES], ids=["pixels", "encoded"])
def test_images_are_loaded_by_number_as_float32(source):
    images = load_images(source, tf.constant([2, 0, 2], tf.int64), seeds(3), transform=None)
    assert images.dtype == tf.float32
    np.testing.assert_array_equal(images, PIXELS[[2, 0, 2]])


@pytest.mark.parametrize("source", [ARRAYS, FILES], ids=["pixels", "encoded"])
def test_images_are_transformed_by_their_own_seeds(source):
    def shift(images, seeds):
        assert images.dtype == tf.float32  # which is what a transform of one's own gets
        return images + tf.cast(seeds[:, :1, None, None] % 7, tf.float32)

    numbers = tf.constant([[8, 0], [0, 0]], tf.int32)
    images = load_images(source, tf.constant([1, 3], tf.int64), numbers, transform=shift)
    np.testing.assert_array_equal(images, PIXELS[[1, 3]] + np.float32([1, 0])[:, None, None, None])


def test_a_source_of_pixels_knows_their_shape_inside_a_graph():
    load = tf.function(lambda indices: load_images(ARRAYS, indices, tf.zeros([2, 2], tf.int32), transform=None))
    spec = tf.TensorSpec([None], tf.int64)
    assert load.get_concrete_function(spec).output_shapes == [None, 3, 5, 3]


def test_encoded_images_are_told_by_their_type():
    normalize = Normalize((0.5,) * 3, (0.25,) * 3)
    expected = (PIXELS / 255 - 0.5) / 0.25
    for images in (tf.constant(PIXELS), tf.constant(CONTENTS)):
        np.testing.assert_allclose(transformed(images, seeds(4), transform=normalize, channels=3), expected, atol=1e-5)
    grey = transformed(tf.constant(CONTENTS), seeds(4), transform=None, channels=1)
    assert grey.shape == (4, 3, 5, 1)
