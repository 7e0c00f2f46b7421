import numpy as np
import pytest

from cskd_tf.data import ArraySource, ImageFolder
from cskd_tf.data.sources.thumbnails import thumbnails
from tests.data.helpers import as_pil, encoded, photo, write


def test_small_images_stay_as_they_are():
    images = np.random.default_rng(0).integers(0, 256, (5, 6, 6, 3), np.uint8)
    source = ArraySource(images, [0, 1, 0, 1, 0])
    np.testing.assert_array_equal(thumbnails(source, np.array([3, 1]), size=8), images[[3, 1]])
    as_floats = ArraySource(images + np.float32(0.3), [0, 1, 0, 1, 0])
    np.testing.assert_array_equal(thumbnails(as_floats, np.array([3, 1]), size=8), images[[3, 1]])


def test_large_ones_are_whole_in_the_middle_of_white_squares(tmp_path):
    wide, high = photo(height=30, width=60), photo(height=60, width=30, seed=1)
    write(tmp_path / "a" / "wide.png", encoded(wide, "PNG"))
    write(tmp_path / "b" / "high.png", encoded(high, "PNG"))
    first, second = thumbnails(ImageFolder(tmp_path), np.array([0, 1]), size=20)
    assert first.shape == second.shape == (20, 20, 3)
    np.testing.assert_allclose(first[5:15], wide.resize((20, 10), resample=2), atol=1)
    np.testing.assert_allclose(second[:, 5:15], high.resize((10, 20), resample=2), atol=1)
    assert (first[[0, 4, 15, 19]] == 255).all()
    assert (second[:, [0, 4, 15, 19]] == 255).all()
    assert as_pil(encoded(wide, "PNG")).shape == (30, 60, 3)


@pytest.mark.parametrize("size", [1, 7])
def test_one_pixel_is_the_least(size):
    source = ArraySource(np.zeros((2, 40, 2, 1), np.uint8), [0, 1])
    assert thumbnails(source, np.array([0]), size=size).shape == (1, size, size, 1)
