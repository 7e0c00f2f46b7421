import numpy as np
import scipy.stats
import tensorflow as tf

from cskd_tf.data.images.random_draws import draws
from tests.data.helpers import seeds


def test_draws_are_uniform_and_independent_over_images_and_numbers():
    # Seeds as different as the pipeline's, and as alike as consecutive numbers.
    counted = tf.stack([tf.range(4000), tf.zeros([4000], tf.int32)], axis=1)
    for image_seeds in (seeds(4000), counted):
        numbers = draws(image_seeds, first=0, count=24).numpy()
        assert numbers.min() >= 0
        assert numbers.max() < 1
        assert scipy.stats.kstest(numbers.ravel(), "uniform").pvalue > 1e-3
        between = np.corrcoef(numbers.T) - np.eye(24)
        assert np.abs(between).max() < 0.08  # 276 pairs, standard deviation 0.016
        assert np.abs([np.corrcoef(column[:-1], column[1:])[0, 1] for column in numbers.T]).max() < 0.07
        np.testing.assert_array_equal(draws(image_seeds, first=5, count=2), numbers[:, 5:7])


def test_draws_are_what_they_have_always_been():
    # Other numbers would change every run.
    numbers = draws(tf.constant([[1, 2], [-3, 4]]), first=1000, count=2).numpy()
    assert (numbers * 2**24).astype(int).tolist() == [[14175164, 3192184], [13014314, 1696914]]
