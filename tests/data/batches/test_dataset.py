"""What workers and replicas are given of each batch, and what they read for it."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.data import ArraySource, Needs, evaluation_dataset, paired_dataset
from cskd_tf.data.batches.dataset import split_in_turn
from tests.selection import few

IMAGES, LABELS = np.arange(22, dtype=np.uint8).reshape(22, 1, 1, 1), np.arange(22) % 3


class Counted(ArraySource):
    """Notes which images are loaded."""

    def __init__(self, *args):
        super().__init__(*args)
        self.loaded = []

    def load(self, indices):
        def note(numbers):
            self.loaded.extend(numbers.tolist())
            return numbers

        return super().load(tf.ensure_shape(tf.numpy_function(note, [indices], tf.int64), [None]))


def joined(lists):
    return list(itertools.chain.from_iterable(lists))


def numbers(batch):
    return batch["image"].numpy().ravel().astype(int).tolist()


@pytest.mark.parametrize("workers", few([2, 3], 1))
def test_a_worker_loads_the_images_of_its_own_part_alone(workers):
    source = Counted(IMAGES, LABELS)
    data = paired_dataset(source, batch_size=8, seed=0, needs=Needs(extras=("index",)))
    whole = [numbers(batch) for batch, _ in data]
    parts = []
    for worker in range(workers):
        source.loaded.clear()
        own = [numbers(batch) for batch, _ in data.shared_by(worker=worker, num_workers=workers)]
        assert sorted(source.loaded) == sorted(joined(own))
        parts.append(own)
    assert [joined(of_batch) for of_batch in zip(*parts, strict=True)] == whole


def test_a_share_of_the_evaluation_loads_its_own_batches_alone():
    source = Counted(IMAGES, LABELS)
    data = evaluation_dataset(source, batch_size=5)
    shares = []
    for worker in range(2):
        source.loaded.clear()
        own = [images.numpy().ravel().astype(int).tolist() for images, _ in data.shard(2, worker)]
        assert sorted(source.loaded) == sorted(joined(own))
        shares.append(own)
    assert shares == [
        [[0, 1, 2, 3, 4], [10, 11, 12, 13, 14], [20, 21]],
        [[5, 6, 7, 8, 9], [15, 16, 17, 18, 19]],
    ]


@pytest.mark.parametrize(("images", "parts"), [(5, 4), (8, 4), (22, 3), (7, 1)])
def test_each_replica_gets_its_part_and_none_goes_without(images, parts):
    batches = tf.data.Dataset.range(images).batch(images).map(lambda rows: ({"image": rows}, -rows))
    found = [
        (batch["image"].numpy().tolist(), (-labels).numpy().tolist())
        for batch, labels in split_in_turn(batches, parts=parts)
    ]
    assert [len(rows) for rows, _ in found] == [images // parts + (part < images % parts) for part in range(parts)]
    assert joined(rows for rows, _ in found) == list(range(images))
    assert all(rows == labels for rows, labels in found)
