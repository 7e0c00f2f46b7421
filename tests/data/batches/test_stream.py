import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from cskd_tf.data import Distribution, Needs, paired_stream
from cskd_tf.data.batches.stream import RecentImages
from cskd_tf.data.images.transforms import CentreCrop
from cskd_tf.methods import Mixup

SIZE, BUCKET = 40, 8  # images of a class, and how many of them the bucket holds
LABELS = np.repeat([0, 1], SIZE)


def partners_of(*, epochs, shuffled):
    """int `[2 SIZE, 2 SIZE]`: how often each image had which partner."""
    generator = np.random.default_rng(0)
    buckets = RecentImages(num_classes=2, bucket_size=BUCKET)
    order = generator.permutation(2 * SIZE)
    table = np.zeros((2 * SIZE, 2 * SIZE), int)
    for _ in range(epochs):
        if shuffled:
            order = generator.permutation(2 * SIZE)
        for batch in np.split(order, 8):
            np.add.at(table, (batch, buckets.pair(batch, LABELS[batch], generator.random(len(batch)))), 1)
    return table


def test_partners_in_a_shuffled_stream_are_uniform_but_for_the_image_itself():
    epochs = 2000
    table = partners_of(epochs=epochs, shuffled=True)
    assert table[:SIZE, SIZE:].sum() == table[SIZE:, :SIZE].sum() == 0
    one_class = table[:SIZE, :SIZE]
    own = one_class.trace() / (SIZE * epochs)
    assert own == pytest.approx(1 / BUCKET, abs=4 * np.sqrt(BUCKET / epochs) / SIZE)
    others = one_class[~np.eye(SIZE, dtype=bool)]
    assert scipy.stats.chisquare(others).pvalue > 1e-4
    # What the docstring says of the distance to the uniform distribution.
    distance = (own - 1 / SIZE + (SIZE - 1) * abs((1 - own) / (SIZE - 1) - 1 / SIZE)) / 2
    assert distance == pytest.approx(1 / BUCKET - 1 / SIZE, abs=0.01)


def test_partners_in_a_stream_of_fixed_order_are_neighbours():
    table = partners_of(epochs=500, shuffled=False)[:SIZE, :SIZE]
    shares = table / table.sum(axis=1, keepdims=True)
    assert np.abs(shares - 1 / SIZE).sum(axis=1).mean() / 2 == pytest.approx(1 - BUCKET / SIZE, abs=0.03)


def test_of_more_than_fit_the_last_are_kept():
    buckets = RecentImages(num_classes=2, bucket_size=2)
    images, labels = np.array([10, 20, 11, 12, 13]), np.array([0, 1, 0, 0, 0])
    seen = {
        int(partner) for draw in (0.0, 0.6) for partner in buckets.pair(images, labels, np.full(5, draw))[labels == 0]
    }
    assert seen == {12, 13}
    assert buckets.pair(np.array([21]), np.array([1]), np.array([0.0])).tolist() in ([20], [21])


def test_a_stream_becomes_batches_like_an_index():
    images = np.arange(20, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 1), np.uint8)
    examples = tf.data.Dataset.from_tensor_slices((images, np.arange(20) % 2))
    batches = list(paired_stream(examples, num_classes=2, batch_size=8, seed=0))
    assert [len(labels) for _, labels in batches] == [8, 8, 4]
    for batch, labels in batches:
        np.testing.assert_array_equal(batch["image"][:, 0, 0, 0] % 2, labels)
        np.testing.assert_array_equal(batch["partner"][:, 0, 0, 0] % 2, labels)
        assert batch["partner"].shape[1:] == (2, 2, 1)
        assert batch["partner"].dtype == tf.float32


@pytest.mark.thorough
def test_encoded_streams_are_decoded_after_pairing():
    contents = [tf.io.encode_png(np.full((4 + n, 9 - n, 3), 10 * n, np.uint8)).numpy() for n in range(4)]
    examples = tf.data.Dataset.from_tensor_slices((contents, [0, 0, 1, 1]))
    ((batch, _),) = paired_stream(examples, num_classes=2, batch_size=4, seed=0, augment=CentreCrop(4, 4))
    values = {view: np.round(images[:, 0, 0, 0], 3) for view, images in batch.items()}
    np.testing.assert_array_equal(values["image"], [0, 10, 20, 30])
    assert set(values["partner"][:2]) <= {0, 10}
    assert set(values["partner"][2:]) <= {20, 30}


def test_bad_streams_are_refused():
    examples = tf.data.Dataset.from_tensor_slices((np.zeros((4, 2, 2, 1)), [0, 1, 2, 0]))
    with pytest.raises(ValueError, match="at least 1. Received: bucket_size=0"):
        paired_stream(examples, num_classes=2, batch_size=4, seed=0, bucket_size=0)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"labels from 0 to 1. Received: \[0, 1, 2\]"):
        list(paired_stream(examples, num_classes=2, batch_size=4, seed=0))


@pytest.mark.thorough
def test_batches_may_stay_as_they_are_or_not():
    images = np.zeros((20, 2, 2, 1), np.uint8)
    examples = tf.data.Dataset.from_tensor_slices((images, np.arange(20) % 2, np.arange(20) / 10))
    own, others = (
        [len(labels) for _, labels, _ in paired_stream(examples.batch(6), num_classes=2, seed=0, batch_size=size)]
        for size in (None, 8)
    )
    assert (own, others) == ([6, 6, 6, 2], [8, 8, 4])
    ((_, _, weights),) = paired_stream(examples, num_classes=2, seed=0, batch_size=20)
    np.testing.assert_allclose(weights, np.arange(20) / 10)


@pytest.mark.thorough
def test_several_partners_are_drawn_apart():
    images = np.arange(400, dtype=np.float32)[:, None, None, None]
    examples = tf.data.Dataset.from_tensor_slices((images, np.arange(400) % 2)).batch(400)
    options = {"num_classes": 2, "seed": 0, "bucket_size": 200}
    needs = Needs(views=("partner", "partner_2", "clean"))
    ((batch, labels),) = paired_stream(examples, needs=needs, clean=lambda images: -images, **options)
    first, second, clean = (batch[view][:, 0, 0, 0].numpy() for view in needs.views)
    np.testing.assert_array_equal(first % 2, labels)
    np.testing.assert_array_equal(second % 2, labels)
    np.testing.assert_array_equal(clean, -np.arange(400))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.25
    ((alone, _),) = paired_stream(examples, **options)
    np.testing.assert_array_equal(alone["partner"][:, 0, 0, 0], first)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_classes": None}, "num_classes, which labels that are numbers do not tell"),
        ({"num_classes": "2"}, "num_classes to be an integer of at least 1. Received: num_classes='2'"),
        ({"seed": None}, "seed to be an integer. Received: seed=None"),
        ({"batch_size": None}, "batch_size for data that come one by one"),
        ({"memory": 1e-9}, "at most memory=1e-09 GiB. Received: 32 images of 0.00 GiB"),
        ({"needs": Needs(pairs_adjacent=True)}, r"needs a stream can meet.*Received: \['pairs_adjacent'\]"),
        ({"needs": Needs(views=("previous",), extras=("index",))}, r"Received: \['index', 'previous'\]"),
        ({"needs": Needs(views=("clean",))}, "transform for the view 'clean'"),
        ({"needs": Needs(largest_batch=2)}, "at most 2, the largest_batch"),
        ({"distribution": Distribution(num_replicas=2, parts=4)}, "batch_size of at least 8"),
        ({"distribution": Distribution(worker=1, num_workers=2)}, "a single worker.*num_workers=2"),
    ],
)
def test_what_a_stream_cannot_do_is_refused(change, message):
    examples = tf.data.Dataset.from_tensor_slices((np.zeros((4, 2, 2, 1)), [0, 1, 1, 0]))
    with pytest.raises(ValueError, match=message):
        paired_stream(examples, **{"num_classes": 2, "batch_size": 4, "seed": 0, **change})


def test_no_reading_repeats_the_draws_of_another():
    images = np.random.default_rng(0).integers(0, 256, (32, 2, 2, 1), np.uint8)
    examples = tf.data.Dataset.from_tensor_slices((images, np.arange(32)))
    needs = Needs(views=("partner",), mixing=(Mixup(alpha=1.0),))

    def data():
        return paired_stream(examples, num_classes=32, batch_size=8, seed=0, needs=needs)

    def shares(batches):
        return [round(float(np.max(batch["targets"], axis=1).min()), 6) for batch, _ in batches]

    stream = data()
    first, second, third = shares(stream), shares(stream), shares(stream)
    assert len({*first, *second, *third}) == 12
    again = data()
    assert [shares(again), shares(again)] == [first, second]
