import itertools
import math
import time
import tracemalloc

import numpy as np
import pytest

from cskd_tf.evaluation import neighbours
from cskd_tf.evaluation.distances import Entries
from cskd_tf.evaluation.metrics import summarize
from cskd_tf.evaluation.neighbours import alone_in_class, recall_at_k
from tests.selection import few, quick


def squared_distances(embeddings):
    embeddings = np.asarray(embeddings, np.float64)
    return np.stack([np.square(embeddings - row).sum(axis=1) for row in embeddings])


def exact_recall(embeddings, labels, k=1):
    """In float64 by direct differences; ties by counting the draws that find no mate."""
    labels, shares = np.asarray(labels), []
    for image, distances in enumerate(squared_distances(embeddings)):
        other = np.arange(len(labels)) != image
        own = other & (labels == labels[image])
        if not own.any():
            continue
        last = np.sort(distances[other])[k - 1]
        nearer, tied = other & (distances < last), other & (distances == last)
        places, images, mates = k - nearer.sum(), tied.sum(), (tied & own).sum()
        missed = math.comb(images - mates, places) / math.comb(images, places)
        shares.append(1 if (nearer & own).any() else 1 - missed)
    return np.mean(shares)


def expansion_recall(embeddings, labels):
    """R@1 by `x^2 - 2xy + y^2` in float32."""
    embeddings = embeddings.astype("float32")
    squares = np.square(embeddings).sum(axis=1)
    distances = squares[:, None] - 2 * embeddings @ embeddings.T + squares
    np.fill_diagonal(distances, np.inf)
    return np.mean(labels[distances.argmin(axis=1)] == labels)


def test_by_hand():
    # The third image is alone in its class: left out, and still a neighbour.
    assert recall_at_k([[0.0], [1.0], [3.0]], [0, 0, 1]) == 1.0
    assert recall_at_k([[0.0], [3.0], [1.0]], [0, 0, 1]) == 0.0
    assert recall_at_k([[0.0], [1.0], [-1.0], [9.0]], [0, 0, 1, 1]) == 0.375
    assert recall_at_k([[5.0]] * 4, [0, 0, 0, 0]) == 1.0
    # Two copies of each other's class only, and two of one class.
    assert recall_at_k([[5.0], [5.0], [9.0], [9.0]], [0, 1, 2, 2]) == 1.0
    # Four copies: each finds its mate in one order of three, the lone fifth is left out.
    assert recall_at_k([[5.0]] * 4 + [[9.0]], [0, 0, 1, 1, 2]) == pytest.approx(1 / 3)
    assert recall_at_k([[5.0]] * 4 + [[9.0]], [0, 0, 1, 1, 2], k=2) == pytest.approx(2 / 3)


def test_a_perfect_embedding_with_lone_images_is_perfect():
    embeddings, labels = [[0.0], [0.1], [5.0], [5.1], [50.0], [90.0]], [0, 0, 1, 1, 2, 3]
    assert recall_at_k(embeddings, labels) == 1.0
    assert alone_in_class(labels) == 2


def test_without_class_mates_it_is_undefined():
    assert math.isnan(recall_at_k(np.arange(3.0)[:, None], [0, 1, 2]))
    assert alone_in_class([0, 1, 2]) == 3
    assert alone_in_class([4, 4]) == 0


def test_one_image():
    with pytest.raises(ValueError, match="k from 1 to 0, the number of other images. Received: k=1"):
        recall_at_k([[1.0]], [0])
    summary = summarize([[1.0, 0.0]], [0], [[1.0]])
    assert math.isnan(summary["recall_at_1"])
    assert (summary["top1_error"], summary["top5_error"]) == (0.0, 0.0)


def test_images_at_equal_distance_count_as_the_mean_over_all_orders():
    generator = np.random.default_rng(0)
    for _ in range(40):
        embeddings, labels = generator.integers(0, 3, (6, 2)), generator.integers(0, 3, 6)
        distances = squared_distances(embeddings)
        for k in range(1, 6):
            found = []
            for image in range(6):
                others = np.delete(np.arange(6), image)
                if not (labels[others] == labels[image]).any():
                    continue
                for order in itertools.permutations(others):
                    nearest = sorted(order, key=lambda other, image=image: distances[image, other])[:k]
                    found.append((labels[nearest] == labels[image]).any())
            measured = recall_at_k(embeddings, labels, k=k)
            assert measured == pytest.approx(np.mean(found)) if found else math.isnan(measured)


def collapsed(name, *, size=600):
    generator = np.random.default_rng(1)
    noise, labels = generator.normal(size=(size, 16)), generator.integers(0, 4, size)
    clusters = generator.integers(0, 5, size)
    embeddings = {
        "offset": lambda: 1e6 + 1e-3 * noise,
        "offset float32": lambda: (1e3 + 3e-3 * noise).astype("float32"),
        "float16": lambda: (10_000 + 40 * noise).astype("float16"),
        "clusters of mixed classes": lambda: 1e3 * np.eye(16)[clusters] + 1e-6 * noise,
        "clusters of mixed classes float32": lambda: (1e3 * np.eye(16)[clusters] + 1e-3 * noise).astype("float32"),
        # Beyond the digits of products in float64 too.
        "clusters closer yet": lambda: 1e3 * np.eye(16)[clusters] + 1e-10 * noise,
        "one image far away": lambda: np.concatenate([noise[1:], np.full((1, 16), 1e9)]),
    }
    return embeddings[name](), labels


@pytest.mark.parametrize(
    "name",
    few(
        [
            "offset",
            "offset float32",
            "float16",
            "clusters of mixed classes",
            "clusters of mixed classes float32",
            "clusters closer yet",
            "one image far away",
        ],
        4,
    ),
)
def test_no_digit_is_lost_on_collapsed_embeddings(name):
    embeddings, labels = collapsed(name)
    assert expansion_recall(embeddings, labels) != pytest.approx(exact_recall(embeddings, labels), abs=1e-3)
    for k in (1, 5):
        assert recall_at_k(embeddings, labels, k=k) == pytest.approx(exact_recall(embeddings, labels, k), abs=1e-12)


def test_tight_clusters_of_one_class_each_are_decided_at_once(monkeypatch):
    """Neural collapse: all candidates have the same verdict, so no difference is taken."""
    monkeypatch.setattr(Entries, "distances", None)
    labels = np.arange(400) % 8
    embeddings = 1e3 * np.eye(8)[labels] + 1e-7 * np.random.default_rng(0).normal(size=(400, 8))
    assert recall_at_k(embeddings, labels) == recall_at_k(embeddings, labels, k=5) == 1.0


@pytest.mark.parametrize("scale", [2.0**-900, 2.0**900])
def test_huge_and_tiny_values(scale):
    generator = np.random.default_rng(0)
    embeddings, labels = generator.normal(size=(80, 3)), generator.integers(0, 5, 80)
    assert recall_at_k(scale * embeddings, labels) == exact_recall(embeddings, labels)


@pytest.mark.parametrize("block", quick([1, 7, 64], 7, 64))
@pytest.mark.parametrize("k", few([1, 2, 9, 299], 2))
def test_blocks_of_any_size(block, k, monkeypatch):
    monkeypatch.setattr("cskd_tf.evaluation.distances.BLOCK", block)
    monkeypatch.setattr(neighbours, "SCORES", 40 * block)
    monkeypatch.setattr("cskd_tf.evaluation.distances.DIFFERENCES", 10 * block)
    generator = np.random.default_rng(block)
    labels = generator.integers(0, 40, 300)
    for embeddings in (generator.normal(size=(300, 5)), generator.integers(0, 2, (300, 5))):
        assert recall_at_k(embeddings, labels, k=k) == pytest.approx(exact_recall(embeddings, labels, k), abs=1e-12)


def test_thousands_of_equal_embeddings():
    labels = np.arange(20_000) % 10
    embeddings = np.full((20_000, 256), 0.3, "float32")
    embeddings[:4] = -0.3
    tracemalloc.start()
    start = time.process_time()
    measured = recall_at_k(embeddings, labels)
    assert time.process_time() - start < 20
    assert tracemalloc.get_traced_memory()[1] < 40e6
    tracemalloc.stop()
    # Of four classes one image is apart, among three others: 1999 of each look among 19,995 others, 1998 their own.
    assert measured == pytest.approx((4 * 1999 * 1998 / 19_995 + 6 * 2000 * 1999 / 19_995) / 20_000)
    assert recall_at_k(embeddings, labels, k=20) > 0.85


@pytest.mark.thorough
def test_memory_does_not_grow_with_the_square(monkeypatch):
    monkeypatch.setattr("cskd_tf.evaluation.distances.BLOCK", 256)
    monkeypatch.setattr(neighbours, "SCORES", 2**18)
    monkeypatch.setattr("cskd_tf.evaluation.distances.DIFFERENCES", 2**14)
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 9, 3000)
    # Two tight clusters of all classes: every image has half of the others for candidates.
    embeddings = (np.eye(8)[labels % 2] + 1e-7 * generator.normal(size=(3000, 8))).astype("float32")
    labels = generator.permutation(labels)
    tracemalloc.start()
    measured = recall_at_k(embeddings, labels)
    assert tracemalloc.get_traced_memory()[1] < 12e6  # all distances in float32 are 36e6
    tracemalloc.stop()
    assert measured == pytest.approx(exact_recall(embeddings, labels), abs=1e-12)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "uint64", "int64"])
def test_labels_of_every_integer_type(dtype):
    assert recall_at_k([[0.0], [1.0], [5.0], [6.0]], np.array([0, 0, 1, 1], dtype)) == 1.0


@pytest.mark.parametrize(
    ("embeddings", "labels", "message"),
    [
        ([[0.0], [1.0]], [0.0, 0.0], "integer labels. Received: float64"),
        ([[0.0], [1.0]], [[0], [0]], r"labels \[N\]. Received: shapes \(2, 1\) and \(2, 1\)"),
        ([0.0, 1.0], [0, 0], "shapes"),
        (np.zeros((2, 0)), [0, 0], "shapes"),
        ([[0.0], [np.inf]], [0, 0], "finite embeddings"),
    ],
)
def test_bad_input_is_named(embeddings, labels, message):
    with pytest.raises(ValueError, match=message):
        recall_at_k(embeddings, labels)


@pytest.mark.parametrize("k", [0, 2])
def test_k_out_of_range(k):
    with pytest.raises(ValueError, match=f"k from 1 to 1, the number of other images. Received: k={k}"):
        recall_at_k([[0.0], [1.0]], [0, 0], k=k)


def test_zeros_of_either_sign_are_one_embedding():
    assert recall_at_k(np.array([[0.0], [-0.0], [0.0]]), [0, 0, 1]) == 0.5
