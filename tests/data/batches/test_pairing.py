import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from cskd_tf.data.batches.pairing import (
    BatchOrder,
    ClassBuckets,
    Pairing,
    count_steps,
    image_seeds,
    key,
    shuffled,
    uniform,
)
from cskd_tf.data.batches.views import Distribution

LABELS = np.repeat([2, 0, 1, 0, 2], [4, 3, 1, 7, 9])
LOCAL, THREE_STATIC = Pairing(replica_local=True), Distribution(num_replicas=3, static_shapes=True)


def over_epochs(function, count):
    """`function` of the epochs from 0 to `count - 1`, stacked, in a graph: ten times as fast as one by one."""
    return next(tf.data.Dataset.range(count).map(function).batch(count).as_numpy_iterator())


def test_partners_share_the_class_and_are_uniform_over_it():
    buckets = ClassBuckets(LABELS, num_classes=3)
    indices = tf.range(len(LABELS), dtype=tf.int64)
    draws = over_epochs(lambda epoch: buckets.partners(indices, draw_key=key(1, epoch)), 3000)
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
    draws = over_epochs(lambda epoch: buckets.partners(pair, draw_key=key(0, epoch)), 2500)
    np.add.at(table, tuple(draws.T), 1)
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
    orders = over_epochs(lambda epoch: shuffled(positions, size=size, order_key=key(0, epoch)), epochs)
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
    over_keys = over_epochs(lambda epoch: uniform(pair, draw_key=key(0, epoch)), 3000)
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


def test_a_partner_other_than_the_image_is_uniform_over_the_others():
    buckets = ClassBuckets(LABELS, num_classes=3)
    indices = tf.range(len(LABELS), dtype=tf.int64)
    draws = over_epochs(lambda n: buckets.partners(indices, draw_key=key(1, n), exclude_self=True), 2000)
    for index, label in enumerate(LABELS):
        others = np.flatnonzero((label == LABELS) & (np.arange(len(LABELS)) != index))
        counts = np.bincount(draws[:, index], minlength=len(LABELS))
        if len(others):
            assert counts[others].sum() == 2000
            assert scipy.stats.chisquare(counts[others]).pvalue > 1e-4
        else:
            assert counts[index] == 2000


def test_partners_stay_in_their_shard():
    buckets = ClassBuckets(LABELS, num_classes=3, shards=2)
    indices = tf.range(len(LABELS), dtype=tf.int64)
    draws = over_epochs(lambda epoch: buckets.partners(indices, draw_key=key(2, epoch)), 500)
    for index, label in enumerate(LABELS):
        same = np.flatnonzero((label == LABELS) & (np.arange(len(LABELS)) % 2 == index % 2))
        assert set(draws[:, index]) == set(same)


def test_sixteen_bytes_an_image_at_most():
    labels = np.random.default_rng(0).integers(0, 100, 10000).astype(np.int32)
    buckets = ClassBuckets(labels, num_classes=100)
    held = [buckets.order, buckets.labels, buckets.counts, buckets.offsets]
    assert sum(tensor.numpy().nbytes for tensor in held) + labels.nbytes <= 16 * len(labels)


def batches_of(**options):
    buckets = ClassBuckets(LABELS, num_classes=3, shards=options.pop("shards", 1))
    order = BatchOrder(buckets, batch_size=8, seed=0, **options)
    return [order.at(tf.constant(step, tf.int64)) for step in range(2 * order.steps_per_epoch)]


def test_shards_keep_their_rows_of_every_batch():
    places = batches_of(shards=2)
    assert [len(batch.indices) for batch in places] == [8, 8, 8] * 2  # 24 images
    for batch in places:
        np.testing.assert_array_equal(batch.indices % 2, [0] * 4 + [1] * 4)
    for epoch in (places[:3], places[3:]):
        assert sorted(np.concatenate([batch.indices for batch in epoch])) == list(range(24))
    # 25 images in 3 shards, 6 a batch: the first shard has 9, the others 8.
    order = BatchOrder(ClassBuckets(np.zeros(25, int), num_classes=1, shards=3), batch_size=6, seed=0)
    assert [len(order.at(tf.constant(step, tf.int64)).indices) for step in range(order.steps_per_epoch)] == [6] * 4 + [
        1
    ]


def test_balanced_anchors_show_all_classes_equally_often():
    labels = np.repeat([0, 1, 2], [2, 5, 41])
    order = BatchOrder(ClassBuckets(labels, num_classes=3), batch_size=16, seed=0, pairing=Pairing(balanced=True))
    shown = np.zeros(48)
    for indices in over_epochs(lambda step: order.at(step).indices, 900).reshape(300, 48):
        assert np.bincount(labels[indices]).tolist() == [16, 16, 16]
        np.add.at(shown, indices, 1)
    for label in range(3):
        assert scipy.stats.chisquare(shown[labels == label]).pvalue > 1e-4


def test_partners_of_one_image_shown_twice_are_drawn_anew():
    order = BatchOrder(
        ClassBuckets(np.repeat([0, 1], [1, 63]), num_classes=2), batch_size=64, seed=0, pairing=Pairing(balanced=True)
    )
    places = order.at(tf.constant(0, tf.int64))
    partners = order.partners(places).numpy()
    twice = [image for image in set(places.indices.numpy()) if (places.indices == image).numpy().sum() > 1 and image]
    assert twice
    assert any(len(set(partners[places.indices == image])) > 1 for image in twice)


@pytest.mark.parametrize(
    ("arguments", "steps"),
    [
        ({"size": 10, "batch_size": 4}, 3),
        ({"size": 10, "batch_size": 4, "distribution": Distribution(static_shapes=True)}, 2),
        ({"size": 25, "batch_size": 6, "pairing": LOCAL, "distribution": Distribution(num_replicas=3)}, 5),
        ({"size": 26, "batch_size": 6, "pairing": LOCAL, "distribution": THREE_STATIC}, 4),
        ({"size": 26, "batch_size": 6, "distribution": Distribution(num_replicas=3)}, 5),
    ],
)
def test_steps_of_an_epoch(arguments, steps):
    assert count_steps(**arguments) == steps


def test_keys_are_philoxs_wherever_data_are_made():
    """By TensorFlow's own choice, so that a seed means the same on every machine and in every version."""

    def by_name(seed, counter):
        seed = tf.random.experimental.stateless_fold_in(tf.constant([seed, 0], tf.int64), counter, alg="philox")
        return tf.random.stateless_uniform([3], seed, minval=None, maxval=None, dtype=tf.uint32, alg="philox")

    counters = tf.constant([0, 7, 2**40], tf.int64)
    for seed in (0, 5, -3, 2**62):
        expected = [by_name(seed, counter).numpy().tolist() for counter in counters]
        assert [key(seed, counter).numpy().tolist() for counter in counters] == expected
        mapped = tf.data.Dataset.from_tensor_slices(counters).map(lambda counter, seed=seed: key(seed, counter))
        assert [drawn.numpy().tolist() for drawn in mapped] == expected


def test_each_shard_has_an_order_of_its_own():
    order = BatchOrder(ClassBuckets(np.zeros(24, int), num_classes=1, shards=2), batch_size=24, seed=0)
    first, second = np.split(order.at(tf.constant(0, tf.int64)).indices.numpy() // 2, 2)
    assert first.tolist() != second.tolist()


def test_partners_of_adjacent_pairs_are_drawn_anew_in_each_step():
    order = BatchOrder(ClassBuckets(np.zeros(64, int), num_classes=1), batch_size=8, seed=0, pairs_adjacent=True)
    drawn = [order.at(tf.constant(step, tf.int64)).indices[1::2].numpy().tolist() for step in range(4)]
    assert len({tuple(each) for each in drawn}) == 4
