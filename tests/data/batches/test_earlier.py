"""What a batch shows of the one before it, on any step of any order."""

import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.data import paired_dataset
from cskd_tf.data.batches.earlier import places_before, positions
from cskd_tf.data.batches.pairing import BatchOrder, ClassBuckets, Pairing
from cskd_tf.data.batches.views import Needs
from tests.selection import few

LABELS = np.arange(17) % 3


@pytest.mark.parametrize(
    ("batch_size", "shards", "options"),
    few(
        [
            (5, 1, {}),
            (17, 1, {}),
            (5, 1, {"static_shapes": True}),
            pytest.param(6, 1, {"pairs_adjacent": True}, marks=pytest.mark.thorough),
            (6, 2, {"pairing": Pairing(replica_local=True)}),
            pytest.param(5, 1, {"pairing": Pairing(balanced=True)}, marks=pytest.mark.thorough),
        ],
        1,
    ),
    ids=str,
)
def test_every_place_comes_again_a_batch_size_later(batch_size, shards, options):
    order = BatchOrder(ClassBuckets(LABELS, num_classes=3, shards=shards), batch_size=batch_size, seed=1, **options)

    def of_step(step):
        places = order.at(step)
        before = places_before(order, step, places=places)
        assert before.indices.shape == before.draws.shape == places.indices.shape
        return places, before, positions(order, step, count=tf.shape(places.indices)[0])

    steps = list(tf.data.Dataset.range(2 * order.steps_per_epoch + 1).map(of_step).as_numpy_iterator())
    shown, draws = (np.concatenate([getattr(places, name) for places, _, _ in steps]) for name in ("indices", "draws"))
    np.testing.assert_array_equal(np.concatenate([numbers for *_, numbers in steps]), np.arange(len(shown)))
    counters = np.concatenate([np.full(len(places.indices), places.counter) for places, _, _ in steps])
    for _, before, numbers in steps[1:]:
        earlier = numbers - batch_size
        np.testing.assert_array_equal(before.indices, shown[earlier])
        np.testing.assert_array_equal(before.draws, draws[earlier])
        assert set(counters[earlier]) == {before.counter}


def test_the_view_is_of_the_batch_before_and_augmented_anew():
    images = np.arange(17, dtype=np.uint8).reshape(17, 1, 1, 1)
    needs = Needs(views=("previous",), extras=("position", "previous_position"))

    def augment(images, seeds):
        return images + tf.cast(seeds[:, :1] % 1000, tf.float32)[:, None, None] / 1e4

    batches = [batch for batch, _ in paired_dataset(images, LABELS, batch_size=5, seed=0, epochs=2, needs=needs)]
    for step in (1, 2):
        np.testing.assert_array_equal(batches[step]["previous"], batches[step - 1]["image"])
    np.testing.assert_array_equal(batches[3]["previous"], batches[2]["image"][:2])
    behind = np.concatenate([batches[2]["image"][2:], batches[3]["image"]])  # of a last batch of two
    np.testing.assert_array_equal(batches[4]["previous"], behind)
    for step, batch in enumerate(batches):
        np.testing.assert_array_equal(batch["previous_position"], batch["position"] - 5)
        assert (batch["previous_position"].numpy() < 0).all() == (step == 0)
    changed = paired_dataset(images, LABELS, batch_size=5, seed=0, epochs=2, needs=needs, augment=augment)
    first, second = (batch for batch, _ in changed.take(2))
    np.testing.assert_allclose(np.floor(second["previous"]), np.floor(first["image"]))
    assert (second["previous"].numpy() != first["image"].numpy()).all()


def test_a_batch_larger_than_a_method_takes_is_refused():
    needs = Needs(largest_batch=4)
    paired_dataset(np.zeros([17, 1, 1, 1]), LABELS, batch_size=4, seed=0, needs=needs)
    with pytest.raises(ValueError, match="batch_size of at most 4, the largest_batch of a method.*batch_size=5"):
        paired_dataset(np.zeros([17, 1, 1, 1]), LABELS, batch_size=5, seed=0, needs=needs)
