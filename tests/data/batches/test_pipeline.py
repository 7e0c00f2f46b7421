import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.data import ArraySource, Distribution, ImageFolder, Needs, Pairing, evaluation_dataset, paired_dataset
from cskd_tf.data.images.transforms import Compose, Flip

SIZE, CLASSES = 22, 3
PARTNER, PAIRS = Needs(views=("partner",)), Needs(pairs_adjacent=True)
LABELS = np.repeat([0, 1, 2], [6, 7, 9])
# Every pixel of an image is its number, so that batches can be read.
IMAGES = np.broadcast_to(np.arange(SIZE, dtype=np.uint8)[:, None, None, None], (SIZE, 2, 2, 1))


def numbers(images):
    return images.numpy()[:, 0, 0, 0].astype(int)


class WithReverse:
    """Mixes each image with the one as far from the batch's other end."""

    def others(self, count, *, seed):
        return tf.range(count)[::-1]

    def mix(self, batch, targets, *, seed):
        views = {name: (rows + rows[::-1]) / 2 for name, rows in batch.items()}
        return {**views, "seed": tf.tile(seed[None], [tf.shape(targets)[0], 1])}, (targets + targets[::-1]) / 2


def batches(**arguments):
    return list(paired_dataset(IMAGES, LABELS, **{"batch_size": 8, "seed": 0, **arguments}))


def test_each_epoch_shows_each_image_once_beside_its_class():
    dataset = paired_dataset(IMAGES, LABELS, batch_size=8, seed=0, epochs=3)
    assert dataset.cardinality() == 9
    assert dataset.steps_per_epoch == 3
    seen = list(dataset)
    assert [len(labels) for _, labels in seen] == [8, 8, 6] * 3
    orders, partners = [], []
    for epoch in range(3):
        part = seen[3 * epoch : 3 * epoch + 3]
        orders.append(np.concatenate([numbers(batch["image"]) for batch, _ in part]))
        partners.append(np.concatenate([numbers(batch["partner"]) for batch, _ in part]))
        labels = np.concatenate([labels for _, labels in part])
        assert sorted(orders[-1]) == list(range(SIZE))
        np.testing.assert_array_equal(LABELS[orders[-1]], labels)
        np.testing.assert_array_equal(LABELS[partners[-1]], labels)
    by_image = [partner[np.argsort(order)] for order, partner in zip(orders, partners, strict=True)]
    assert not np.array_equal(orders[0], orders[1])
    assert not np.array_equal(by_image[0], by_image[1])


def test_pixels_pass_unchanged_as_float32():
    ((batch, labels),) = batches(batch_size=SIZE)
    assert set(batch) == {"image", "partner"}
    assert batch["image"].dtype == batch["partner"].dtype == tf.float32
    assert labels.dtype == tf.int32
    np.testing.assert_array_equal(batch["image"], IMAGES[numbers(batch["image"])])


def test_the_seed_decides_and_the_start_does_not():
    whole = batches(epochs=3)
    for first_step in (1, 4, 8):
        rest = batches(epochs=3, first_step=first_step)
        assert len(rest) == 9 - first_step
        for (batch, labels), (expected, expected_labels) in zip(rest, whole[first_step:], strict=True):
            np.testing.assert_array_equal(batch["image"], expected["image"])
            np.testing.assert_array_equal(batch["partner"], expected["partner"])
            np.testing.assert_array_equal(labels, expected_labels)
    assert not np.array_equal(batches(seed=1)[0][1], whole[0][1])


@pytest.mark.thorough
def test_the_batch_size_does_not_change_an_images_partner_and_augmentation():
    def shown(batch_size):
        seen = {}
        for batch, _ in batches(batch_size=batch_size, augment=jitter):
            for index, partner, image in zip(
                numbers(batch["image"]), numbers(batch["partner"]), batch["image"].numpy(), strict=True
            ):
                seen[index] = (partner, image[1, 1, 0])
        return seen

    def jitter(images, seeds):
        noise = tf.cast(seeds[:, :1] % 1000, tf.float32) / 1000
        corner = tf.tensor_scatter_nd_update(tf.zeros([2, 2]), [[1, 1]], [1.0])
        return images + corner[None, :, :, None] * noise[:, :, None, None]

    assert shown(8) == shown(5)


def test_views_of_one_image_are_augmented_apart():
    needs = Needs(views=("partner", "second_view", "clean"))
    data = batches(batch_size=SIZE, needs=needs, augment=lambda x, s: x + tf.cast(s[:, :1, None, None], tf.float32),
                   clean=lambda x, s: -x)  # fmt: skip
    ((batch, labels),) = data
    clean = -numbers(batch["clean"])
    np.testing.assert_array_equal(LABELS[clean], labels)
    assert (batch["image"].numpy() != batch["second_view"].numpy()).all()


def test_indices_are_given_on_request():
    for batch, _ in batches(needs=Needs(extras=("index",))):
        np.testing.assert_array_equal(batch["index"], numbers(batch["image"]))


def test_further_partners_are_drawn_independently():
    views = ("partner", "partner_2", "partner_3")
    (batch, labels), *_ = batches(needs=Needs(views), batch_size=SIZE)
    partners = [numbers(batch[view]) for view in views]
    for of_view in partners:
        np.testing.assert_array_equal(LABELS[of_view], labels)
    assert len({tuple(of_view) for of_view in partners}) == 3
    np.testing.assert_array_equal(partners[0], numbers(batches(batch_size=SIZE)[0][0]["partner"]))


def test_an_image_is_not_its_own_partner_on_request():
    for batch, _ in batches(pairing=Pairing(exclude_self=True), epochs=20):
        assert (numbers(batch["image"]) != numbers(batch["partner"])).all()


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("needs", "pairing"),
    [
        (PARTNER, Pairing()),
        (PARTNER, Pairing(replica_local=True)),
        (PARTNER, Pairing(balanced=True)),
        (PAIRS, Pairing()),
    ],
)
@pytest.mark.parametrize("mixed", [False, True])
def test_workers_make_the_parts_of_one_batch(needs, pairing, mixed):
    mixing = (WithReverse(),) if mixed else ()
    options = {"needs": dataclasses.replace(needs, mixing=mixing), "pairing": pairing, "epochs": 2}
    whole = batches(**options, distribution=Distribution(num_replicas=2))
    distributions = [Distribution(num_replicas=2, worker=worker, num_workers=2) for worker in range(2)]
    parts = [batches(**options, distribution=distribution) for distribution in distributions]
    for (batch, labels), *halves in zip(whole, *parts, strict=True):
        assert abs(len(halves[0][1]) - len(halves[1][1])) <= 1
        np.testing.assert_array_equal(np.concatenate([half for _, half in halves]), labels)
        for view, images in batch.items():
            np.testing.assert_array_equal(np.concatenate([half[view] for half, _ in halves]), images)


def test_sharded_batches_pair_within_the_shard():
    two_replicas = Distribution(num_replicas=2)
    for batch, labels in batches(pairing=Pairing(replica_local=True), distribution=two_replicas, epochs=3):
        first = (len(labels) + 1) // 2
        shard = [0] * first + [1] * (len(labels) - first)
        np.testing.assert_array_equal(numbers(batch["image"]) % 2, shard)
        np.testing.assert_array_equal(numbers(batch["partner"]) % 2, shard)


def test_a_start_at_a_step_reads_nothing_before_it():
    read = []

    class Recording(ArraySource):
        def load(self, indices):
            return tf.numpy_function(lambda i: (read.extend(i), IMAGES[i])[1], [indices], tf.uint8)

    source = Recording(IMAGES, LABELS)
    order = np.concatenate([numbers(batch["image"]) for batch, _ in batches()])
    next(iter(paired_dataset(source, batch_size=8, seed=0, first_step=1, needs=Needs())))
    assert set(read) <= set(order[8:])
    assert set(order[8:16]) <= set(read)


def test_adjacent_pairs():
    options = {"needs": Needs(pairs_adjacent=True, extras=("index",)), "epochs": 4}
    seen = batches(**options)
    assert len(seen) == 12
    anchors = []
    for batch, labels in seen:
        assert labels.shape == (8,)
        np.testing.assert_array_equal(labels[::2], labels[1::2])
        np.testing.assert_array_equal(LABELS[batch["index"]], labels)
        anchors.append(batch["index"][::2].numpy())
    anchors = np.concatenate(anchors)  # 48 anchors: two whole passes over 22 images, and 4 more
    assert sorted(anchors[:SIZE]) == sorted(anchors[SIZE : 2 * SIZE]) == list(range(SIZE))
    assert anchors[:SIZE].tolist() != anchors[SIZE : 2 * SIZE].tolist()
    later = batches(**options, first_step=7)
    np.testing.assert_array_equal(later[0][0]["index"], seen[7][0]["index"])


def test_mixing_sees_the_whole_batch_and_a_seed_of_the_step():
    seen = batches(needs=Needs(("partner",), mixing=(WithReverse(),)), epochs=2)
    for batch, labels in seen:
        onehot = np.eye(CLASSES)[labels]
        np.testing.assert_allclose(batch["targets"], (onehot + onehot[::-1]) / 2)
    assert len({tuple(batch["seed"][0].numpy()) for batch, _ in seen}) == 6


def test_a_smaller_last_batch_is_left_out_only_on_request(caplog):
    with caplog.at_level("INFO", logger="absl"):
        static = Distribution(static_shapes=True)
        dataset = paired_dataset(IMAGES, LABELS, batch_size=8, seed=0, epochs=2, distribution=static)
    assert "last 6 images of each epoch are left out" in caplog.text
    assert dataset.cardinality() == 4
    assert dataset.element_spec[0]["image"].shape == (8, 2, 2, 1)
    assert paired_dataset(IMAGES, LABELS, batch_size=8, seed=0).element_spec[0]["image"].shape == (None, 2, 2, 1)


def test_two_replicas_get_the_halves_of_each_batch(two_replicas):
    data = two_replicas.experimental_distribute_dataset(paired_dataset(IMAGES, LABELS, batch_size=8, seed=0))
    for (batch, _), (whole, _) in zip(data, batches(), strict=True):
        halves = two_replicas.experimental_local_results(batch["image"])
        assert len(halves[0]) == len(halves[1])
        np.testing.assert_array_equal(np.concatenate(halves), whole["image"])


@pytest.mark.thorough
def test_image_folders_of_mixed_sizes(image_folder):
    source = ImageFolder(image_folder / "train")
    resize = lambda images, seeds: tf.image.resize(images, (8, 8))  # noqa: E731
    for batch, labels in paired_dataset(source, batch_size=5, seed=0, augment=resize):
        means = batch["partner"].numpy().mean(axis=(1, 2, 3))
        np.testing.assert_array_equal(means > 128, labels == 1)  # dogs are the bright ones
        assert batch["image"].shape[1:] == (8, 8, 3)


def test_a_flip_moves_half_of_the_images():
    images = np.zeros((400, 1, 2, 1), np.uint8)
    images[:, :, 1] = 1
    ((batch, _),) = paired_dataset(
        images, np.zeros(400, int) + np.arange(400) % 2, batch_size=400, seed=0, augment=Flip()
    )
    flipped = [batch[view].numpy()[:, 0, 0, 0] for view in ("image", "partner")]
    assert [160 < of_view.sum() < 240 for of_view in flipped] == [True, True]
    assert 0.4 < (flipped[0] == flipped[1]).mean() < 0.6


@pytest.mark.parametrize("wrapped", [lambda transform: transform, lambda transform: Compose([transform])])
def test_a_transform_of_ones_own_may_branch_on_tensors(wrapped):
    def inverted_where_dark(images, seeds):
        if tf.reduce_mean(images) < 100:
            return 255.0 - images
        return images

    images = np.repeat(np.array([[50], [200]], np.uint8), 2, axis=0).reshape(4, 1, 1, 1)
    data = evaluation_dataset(ArraySource(images, [0, 1, 0, 1]), batch_size=2, transform=wrapped(inverted_where_dark))
    assert [float(batch[0, 0, 0, 0]) for batch, _ in data] == [205, 200]


def test_evaluation_keeps_order_and_every_image():
    source = ArraySource(IMAGES, LABELS)
    seen = list(evaluation_dataset(source, batch_size=8))
    assert [len(labels) for _, labels in seen] == [8, 8, 6]
    np.testing.assert_array_equal(np.concatenate([numbers(images) for images, _ in seen]), np.arange(SIZE))
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in seen]), LABELS)
    assert len(list(evaluation_dataset(source, batch_size=100))) == 1


def test_a_single_image_pairs_with_itself_and_is_reported_once(caplog):
    labels = np.array([0, 0, 1])
    with caplog.at_level("WARNING"):
        data = paired_dataset(IMAGES[:3], labels, batch_size=3, seed=0, epochs=5)
    for batch, seen in data:
        np.testing.assert_array_equal(numbers(batch["partner"])[seen == 1], [2])
    assert [record.message for record in caplog.records] == [
        "Classes of a single training image, its own partner where a method pairs images: 1 of 2 (1)"
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size from 1 to 22, the number of images. Received: batch_size=0"),
        ({"batch_size": 23}, "Received: batch_size=23"),
        ({"batch_size": 8.0}, "Received: batch_size=8.0"),
        ({"epochs": 0}, "epochs=0"),
        ({"first_step": -1}, "first_step=-1"),
        ({"first_step": 4}, "first_step from 0 to 3. Received: epochs=1, first_step=4"),
        ({"seed": 0.7}, "seed to be an integer. Received: seed=0.7"),
        ({"needs": Needs(views=("clean",))}, "transform for the view 'clean'"),
        (
            {"batch_size": 6, "needs": PAIRS, "distribution": Distribution(num_replicas=2)},
            "a multiple of 4 as batch size, for whole pairs on each of 2 replica",
        ),
        ({"batch_size": 7, "distribution": Distribution(num_replicas=2)}, "which leaves 1 of 22 images"),
        ({"batch_size": 7, "distribution": Distribution(num_workers=2)}, "which leaves 1 of 22 images"),
        ({"batch_size": 10, "distribution": Distribution(num_replicas=4)}, "an image for each of 4 .* leaves 2 of 22"),
        (
            {"batch_size": 6, "distribution": Distribution(num_replicas=4, static_shapes=True)},
            "Expected a multiple of 4 as batch size, .* Received: batch_size=6",
        ),
        (
            {"pairing": Pairing(replica_local=True), "distribution": Distribution(num_replicas=3)},
            "shards that divide the batch size.*Received: shards=3, batch_size=8",
        ),
        ({"needs": PAIRS, "pairing": Pairing(balanced=True)}, "only one of shards.*balanced=True, pairs_adjacent=True"),
        (
            {"pairing": Pairing(balanced=True, replica_local=True), "distribution": Distribution(num_replicas=2)},
            "only one of shards.*shards=2, batch_size=8, balanced=True",
        ),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        paired_dataset(IMAGES, LABELS, **{"batch_size": 8, "seed": 0, **arguments})
