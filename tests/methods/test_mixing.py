"""Mixup, CutMix and Cutout on whole batches, against numpy and by hand; what PS-KD makes of them."""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from cskd_tf.data import ArraySource, Distribution, Needs, paired_dataset
from cskd_tf.methods import CSKD, Composition, CutMix, Cutout, Mixup
from cskd_tf.methods.cutmix import _box
from cskd_tf.methods.mixing import beta, permutation
from tests.selection import few

COUNT, SIDE, CLASSES = 12, 16, 3


@pytest.fixture
def batch():
    """Images that are their own number everywhere, so that every pixel says where it is from."""
    numbers = np.arange(1, COUNT + 1, dtype="float32")[:, None, None, None]
    image = np.broadcast_to(numbers, (COUNT, SIDE, SIDE, 2))
    return {"image": tf.constant(image), "partner": tf.constant(image + 100), "index": tf.range(COUNT)}


TARGETS = np.eye(COUNT, dtype="float32")  # one class per image, so that the targets name the images


def mixed(method, batch, seed=1):
    made, targets = method.mix(batch, tf.constant(TARGETS), seed=tf.constant([seed, 2]))
    return {name: values.numpy() for name, values in made.items()}, targets.numpy()


def test_mixup_mixes_images_partners_and_targets_alike(batch):
    made, targets = mixed(Mixup(alpha=1.0), batch)
    numbers = TARGETS @ np.arange(1, COUNT + 1)
    for view, offset in (("image", 0), ("partner", 100)):
        expected = targets @ (numbers + offset)
        np.testing.assert_allclose(
            made[view], np.broadcast_to(expected[:, None, None, None], made[view].shape), rtol=1e-5
        )
    share = np.diag(targets)[np.diag(targets) < 1][0]
    assert 0 < share < 1
    own = targets.argmax(axis=1) if share > 0.5 else targets.argsort(axis=1)[:, -2]
    moved = np.diag(targets) < 1
    np.testing.assert_allclose(np.diag(targets)[moved], share, rtol=1e-6)  # one share per batch
    np.testing.assert_array_equal(own[moved], np.arange(COUNT)[moved])
    np.testing.assert_allclose(targets.sum(axis=0), 1, rtol=1e-5)  # one permutation
    assert made["mixed"].tolist() == [1.0] * COUNT
    np.testing.assert_array_equal(made["index"], np.arange(COUNT))


def test_cutmix_pastes_one_box_and_weighs_targets_by_its_area(batch):
    seen = set()
    for seed in range(30):
        made, targets = mixed(CutMix(alpha=1.0), batch, seed)
        image = made["image"][..., 0]
        own = image == np.arange(1, COUNT + 1)[:, None, None]
        moved = ~own.all(axis=(1, 2))
        for number in np.flatnonzero(moved):
            inside = ~own[number]
            np.testing.assert_array_equal(inside, ~own[np.flatnonzero(moved)[0]])  # one box per batch
            rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
            assert inside.sum() == len(rows) * len(columns) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
            (other,) = set(image[number][inside].astype(int) - 1)
            assert targets[number, number] == pytest.approx(1 - inside.mean(), abs=1e-6)
            assert targets[number, other] == pytest.approx(inside.mean(), abs=1e-6)
            seen.add((len(rows), len(columns)))
        np.testing.assert_array_equal(made["partner"] - 100, made["image"])
    assert len(seen) > 10


@pytest.mark.thorough
def test_the_box_of_cutmix_has_the_share_that_beta_draws():
    method, areas = CutMix(alpha=1.0), []
    image = tf.zeros((2, 64, 64, 1)) + tf.constant([0.0, 1.0])[:, None, None, None]
    for seed in range(400):
        made, _ = method.mix({"image": image}, tf.eye(2), seed=tf.constant([seed, 0]))
        areas.append(float(tf.reduce_mean(tf.abs(made["image"] - image))))
    areas = np.array([area for area in areas if area])  # half of the permutations move nothing
    # An area of uniform share u = 1 - l, centred anywhere: of a side sqrt(u), 1 - sqrt(u) / 4 is inside on average.
    u = np.linspace(0, 1, 10001)
    assert areas.mean() == pytest.approx((u * (1 - np.sqrt(u) / 4) ** 2).mean(), abs=0.05)


@pytest.mark.thorough
@pytest.mark.parametrize("probability", [0.0, 0.3, 0.5, 1.0])
def test_one_coin_mixes_a_whole_batch_or_none_of_it(probability, batch):
    method, heads, images = CutMix(probability=probability), 0, []
    for seed in range(200):
        made, targets = mixed(method, batch, seed)
        assert made["mixed"].tolist() in ([0.0] * COUNT, [1.0] * COUNT)
        heads += made["mixed"][0] == 1
        moved = np.diag(targets) < 1
        images.append(moved.sum())
        if not made["mixed"][0]:
            np.testing.assert_array_equal(targets, TARGETS)
            for view in ("image", "partner"):
                np.testing.assert_array_equal(made[view], batch[view])
    assert method.mixes_all == (probability == 1)
    assert heads / 200 == pytest.approx(probability, abs=0.11)  # deviation at most .035
    # Of a batch that is mixed all images but those that the permutation leaves, one on average, change; where the box
    # has no pixel none does.
    changed = [count for count in images if count]
    if changed:
        assert np.mean(changed) == pytest.approx(COUNT - 1, abs=0.6)
        assert len(changed) <= heads


def test_an_unknown_coin_is_refused():
    assert CutMix().coin == "batch"
    with pytest.raises(ValueError, match="coin to be one of .'batch', 'image'.. Received: coin='pixel'"):
        CutMix(coin="pixel")


def boxes_of_cutmix(size, side):
    draw = tf.function(lambda seed: _box(tf.constant([size, size]), tf.constant(1 - (side / size) ** 2), seed=seed))
    return np.array([draw(tf.constant([seed, 0])) for seed in range(1000)])


def holes_of_cutout(size, side):
    images = tf.ones((1000, size, size, 1))
    return Cutout(size=side).mix({"image": images}, images[:, 0, 0], seed=[3, 1])[0]["image"].numpy()[..., 0] == 0


@pytest.mark.parametrize(("draw", "side"), [(boxes_of_cutmix, 2), (holes_of_cutout, 3)])
def test_boxes_lie_around_any_pixel_alike(draw, side):
    """Each of 4 rows and columns is the centre as often, also the first and the last one."""
    size, boxes = 4, draw(4, side)
    # Of an even side the centre is the first row of the lower half.
    centred = np.arange(size)[:, None] + np.arange(-(side // 2), side - side // 2)
    expected = np.array([(centred == row).any(axis=1).mean() for row in range(size)])
    for axis in (1, 2):
        covered = boxes.any(axis=axis)
        assert covered.sum(axis=1).max() == side
        np.testing.assert_allclose(covered.mean(axis=0), expected, atol=4 * 0.5 / np.sqrt(1000))


@pytest.mark.parametrize("method", few([CutMix(probability=0.5, coin="image"), Cutout(size=6, probability=0.5)], 1))
def test_half_of_the_images_are_chosen_one_by_one(method, batch):
    counts = []
    for seed in range(40):
        made, targets = mixed(method, batch, seed)
        changed = (made["image"] != batch["image"].numpy()).any(axis=(1, 2, 3))
        assert not (changed & (made["mixed"] == 0)).any()
        np.testing.assert_array_equal(targets[made["mixed"] == 0], TARGETS[made["mixed"] == 0])
        counts.append(made["mixed"].sum())
    assert np.mean(counts) == pytest.approx(COUNT / 2, abs=1)  # deviation .27
    assert np.std(counts) == pytest.approx(np.sqrt(COUNT) / 2, abs=0.7)


def test_cutout_cuts_a_square_of_its_own_from_each_view(batch):
    made, targets = mixed(Cutout(size=6), {**batch, "clean": batch["image"]})
    np.testing.assert_array_equal(targets, TARGETS)
    np.testing.assert_array_equal(made["clean"], batch["image"])
    holes = {view: (made[view] == 0).all(axis=-1) for view in ("image", "partner")}
    assert (holes["image"] != holes["partner"]).any(axis=(1, 2)).sum() > COUNT / 2
    for hole in np.concatenate(list(holes.values())):
        rows, columns = np.flatnonzero(hole.any(axis=1)), np.flatnonzero(hole.any(axis=0))
        assert hole.sum() == len(rows) * len(columns)
        for places in (rows, columns):
            assert np.ptp(places) + 1 == len(places)
            at_an_edge = places[0] == 0 or places[-1] == SIDE - 1
            assert len(places) == 6 or (at_an_edge and 3 <= len(places) < 6)


def test_an_image_that_any_method_mixed_is_marked(batch):
    made, _ = Mixup().mix(batch, tf.constant(TARGETS), seed=tf.constant([1, 2]))
    for method in (Cutout(probability=0.0), CutMix(probability=0.0)):
        again, _ = method.mix(made, tf.constant(TARGETS), seed=tf.constant([1, 2]))
        assert again["mixed"].numpy().tolist() == [1.0] * COUNT


@pytest.mark.thorough
def test_draws_are_uniform_and_beta():
    orders = np.array([permutation(tf.constant(4), seed=tf.constant([seed, 0])).numpy() for seed in range(400)])
    assert (np.sort(orders) == np.arange(4)).all()
    for place in range(4):
        assert np.abs(np.bincount(orders[:, place], minlength=4) - 100).max() < 40  # deviation 8.7
    for alpha in (0.05, 1.0, 3.0):
        draws = np.array([float(beta(alpha, seed=tf.constant([seed, 1]))) for seed in range(600)])
        assert ((draws >= 0) & (draws <= 1)).all()
        assert draws.mean() == pytest.approx(0.5, abs=0.07)
        assert draws.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.25)


@pytest.mark.thorough
def test_one_replica_and_many_see_the_same_mixture():
    images = np.random.default_rng(0).normal(size=(22, 8, 8, 1)).astype("float32")
    labels = np.arange(22) % CLASSES
    needs = Needs(views=("partner",), mixing=(Mixup(), Cutout(size=3)))
    options = {"batch_size": 8, "seed": 5, "epochs": 2, "needs": needs}
    whole = list(paired_dataset(images, labels, **options))
    halves = [Distribution(worker=worker, num_workers=2) for worker in (0, 1)]
    parts = [list(paired_dataset(images, labels, **options, distribution=half)) for half in halves]
    for step, (batch, _) in enumerate(whole):
        for key, values in batch.items():
            halves = [part[step][0][key] for part in parts]
            np.testing.assert_array_equal(np.concatenate(halves), values)
    again = list(paired_dataset(images, labels, **options, first_step=2))
    np.testing.assert_array_equal(again[0][0]["image"], whole[2][0]["image"])


def test_pairs_of_a_batch_are_not_mixed():
    with pytest.raises(ValueError, match=r"Received: \['CSKD'\] in pairs, \['Mixup'\] mixing"):
        Composition([CSKD(in_batch=True), Mixup()])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Mixup(alpha=0), "alpha to be a finite number above 0. Received: alpha=0"),
        (lambda: CutMix(probability=1.5), r"probability in \[0, 1\]. Received: probability=1.5"),
        (lambda: Cutout(size=0), "size to be an integer of at least 1. Received: size=0"),
        (lambda: Cutout(size=8.0), "Received: size=8.0"),
    ],
)
def test_arguments_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


CHAINS = {
    "Mixup": (Mixup(),),
    "CutMix": (CutMix(),),
    "CutMix of some": (CutMix(coin="image", probability=0.5),),
    "Cutout": (Cutout(size=3),),
    "a chain": (Mixup(), Cutout(size=3), CutMix(coin="image", probability=0.5)),
}


@pytest.mark.thorough
@pytest.mark.parametrize(
    "chain",
    [
        "CutMix",
        "a chain",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("Mixup", "CutMix of some", "Cutout")),
    ],
)
def test_a_worker_reads_its_images_and_those_that_are_mixed_into_them(chain):
    """Where each image is a class of its own, the targets name the images that a worker cannot do without."""
    read = []

    class Recording(ArraySource):
        def load(self, indices):
            return tf.numpy_function(lambda i: (read.extend(i), images[i])[1], [indices], tf.float32)

    count, workers = 24, 4
    images = np.random.default_rng(0).normal(size=(count, 8, 8, 1)).astype("float32")
    options = {"batch_size": count, "seed": 3, "needs": Needs(views=("partner",), mixing=CHAINS[chain])}
    ((whole, _),) = paired_dataset(images, np.arange(count), **options)
    rows = np.array_split(np.arange(count), workers)
    for worker, own in enumerate(rows):
        read.clear()
        distribution = Distribution(worker=worker, num_workers=workers)
        ((batch, _),) = paired_dataset(Recording(images, np.arange(count)), distribution=distribution, **options)
        for key, values in batch.items():
            np.testing.assert_array_equal(values, whole[key].numpy()[own])
        contributing = np.flatnonzero(whole["targets"].numpy()[own].sum(axis=0))
        assert sorted(read) == sorted([*contributing, *contributing])  # as images, and as their own partners
        assert len(contributing) < count


def test_methods_of_a_chain_draw_apart():
    seeds = []

    class Recorder:
        def others(self, count, *, seed):
            return tf.range(count)

        def mix(self, batch, targets, *, seed):
            return {**batch, f"seed_{len(seeds)}": seeds.append(seed) or tf.repeat(seed[None], 4, axis=0)}, targets

    needs = Needs(mixing=(Recorder(), Recorder()))
    images = np.zeros((8, 2, 2, 1), np.float32)
    drawn = [
        tuple(tuple(value.numpy()[0].tolist()) for key, value in batch.items() if key.startswith("seed_"))
        for batch, _ in paired_dataset(images, np.arange(8) % 2, batch_size=4, seed=3, needs=needs)
    ]
    assert [len(of_step) for of_step in drawn] == [2, 2]
    assert len({seed for of_step in drawn for seed in of_step}) == 4  # of each method and step


@pytest.mark.parametrize("alpha", [0.4, 3.0])
def test_the_share_of_mixup_is_of_its_alpha(alpha):
    method, images = Mixup(alpha=alpha), {"image": tf.zeros((2, 1, 1, 1))}
    draw = tf.function(lambda seed: method.mix(images, tf.eye(2), seed=seed)[1][0, 0])
    shares = np.array([draw(tf.constant([seed, 0])) for seed in range(800)])
    assert scipy.stats.kstest(shares[shares < 1], scipy.stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_the_box_of_cutmix_is_of_its_alpha():
    images = tf.zeros((2, 32, 32, 1)) + tf.constant([0.0, 1.0])[:, None, None, None]
    draw = tf.function(lambda seed: CutMix(alpha=1000.0).mix({"image": images}, tf.eye(2), seed=seed)[1][0, 0])
    shares = np.array([draw(tf.constant([seed, 0])) for seed in range(100)])
    assert 0.45 < shares[shares < 1].min() < 0.6  # half, and more where a part of the box lies outside
