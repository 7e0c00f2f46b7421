import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from cskd_tf.data.pairing import ClassBuckets, image_seeds, key, shuffled, uniform

LABELS = np.repeat([2, 0, 1, 0, 2], [4, 3, 1, 7, 9])


def test_partners_share_the_class_and_are_uniform_over_it():
    buckets = ClassBuckets(LABELS, num_classes=3)
    indices = tf.range(len(LABELS), dtype=tf.int64)
    draws = np.stack([buckets.partners(indices, draw_key=key(1, epoch)) for epoch in range(3000)])
    for index, label in enumerate(LABELS):
        members = np.flatnonzero(label == LABELS)
        counts = np.bincount(draws[:, index], minlength=len(LABELS))
        assert counts.sum() == counts[members].sum() == 3000
        if len(members) > 1:
            # 24 images are tested, so one in 24 falls below 1 / 24; a partner left out gives 1e-30.
            assert scipy.stats.chisquare(counts[members]).pvalue > 1e-4


def test_partners_are_independent_of_each_other():
    buckets = ClassBuckets(np.zeros(5, int), num_classes=1)
    pair = tf.constant([1, 2], tf.int64)
    table = np.zeros((5, 5))
    for epoch in range(2500):
        first, second = buckets.partners(pair, draw_key=key(0, epoch)).numpy()
        table[first, second] += 1
    assert scipy.stats.chi2_contingency(table).pvalue > 1e-3


def test_worked_example_of_the_buckets():
    buckets = ClassBuckets(np.array([1, 0, 1]), num_classes=2)
    assert buckets.order.numpy().tolist() == [1, 0, 2]
    assert buckets.offsets.numpy().tolist() == [0, 1]
    assert buckets.counts.numpy().tolist() == [1, 2]


@pytest.mark.parametrize("size", [1, 2, 37, 1000])
def test_an_order_is_a_permutation(size):
    order = shuffled(tf.range(size, dtype=tf.int64), size=size, order_key=key(0, 7))
    assert sorted(order.numpy()) == list(range(size))


def test_orders_of_following_epochs_do_not_resemble_each_other():
    # Under counted instead of drawn keys these p-values are below 1e-20.
    size, epochs = 300, 2000
    positions = tf.constant([0, 1, 150], tf.int64)
    orders = np.stack([shuffled(positions, size=size, order_key=key(0, epoch)) for epoch in range(epochs)])
    for column in range(3):
        assert scipy.stats.chisquare(np.bincount(orders[:, column] // 30, minlength=10)).pvalue > 1e-3
    table = np.zeros((10, 10))
    np.add.at(table, (orders[:-1, 0] // 30, orders[1:, 0] // 30), 1)
    assert scipy.stats.chi2_contingency(table).pvalue > 1e-3


def test_uniform_numbers_over_indices_and_over_keys():
    over_indices = uniform(tf.range(20000, dtype=tf.int64), draw_key=key(0, 1)).numpy()
    assert scipy.stats.kstest(over_indices, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(over_indices[:-1], over_indices[1:])[0, 1]) < 0.03
    pair = tf.constant([4, 5], tf.int64)
    over_keys = np.stack([uniform(pair, draw_key=key(0, epoch)) for epoch in range(3000)])
    assert scipy.stats.kstest(over_keys[:, 0], "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(over_keys.T)[0, 1]) < 0.07
    assert over_indices.min() >= 0
    assert over_indices.max() < 1


def test_image_seeds_differ_between_images_epochs_and_streams():
    indices = tf.range(500, dtype=tf.int64)
    seeds = np.concatenate([image_seeds(indices, draw_key=key(0, *counters)) for counters in ((0, 0), (0, 1), (1, 0))])
    assert len(np.unique(seeds, axis=0)) == 1500
    assert abs(np.corrcoef(seeds.T)[0, 1]) < 0.1


def test_keys_depend_on_every_counter():
    keys = [tuple(key(seed, *counters).numpy()) for seed in (0, 1) for counters in ((0,), (1,), (0, 1), (1, 0))]
    assert len(set(keys)) == 8
