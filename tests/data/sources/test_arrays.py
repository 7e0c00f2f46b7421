"""Sources of arrays: what they hold, and which arrays are refused."""

import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.data import ArraySource, evaluation_dataset, paired_dataset
from cskd_tf.data.sources.arrays import as_source
from tests.selection import few

IMAGES, LABELS = np.zeros((4, 2, 2, 1), np.uint8), np.array([0, 1, 1, 0])


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES, [0.5, 1.0, 1.0, 0.0], r"labels to be integers \[N\]. Received: float64"),
        (IMAGES, [0.0, 1.0, np.inf, 0.0], r"labels to be integers \[N\]. Received: float64"),
        (IMAGES, [0, 1, 1], "4 images and 3 labels"),
        (IMAGES, [0, 1, -1, 0], r"labels from 0 to 1. Received: \[-1\]"),
        (IMAGES, [0, 2, 2, 0], r"each of the 3 classes. Received: none of \[1\]"),
        (IMAGES, [[0, 1], [1, 0], [1, 1], [0, 1]], r"or one-hot \[N, C\]. Received: a row \[1, 1\]"),
        (IMAGES, [0, 1, 0.5, 1], r"integers \[N\]. Received: float64 of shape \(4,\) with 0.5"),
        (IMAGES, ["a", "b", "b", "a"], r"Received: <U1 of .*; np.unique\(labels, return_inverse=True\) makes numbers"),
        (IMAGES, np.ma.array([0, 1, 1, 0], mask=[0, 1, 0, 0]), "a label for each image. Received: 1 that are masked"),
        (IMAGES, np.zeros((4, 1, 1), int), r"shape \(4, 1, 1\)"),
        (IMAGES[..., 0], LABELS, r"Received: uint8 of shape \(4, 2, 2\)"),
        (IMAGES.astype(str), LABELS, "images to be numbers"),
        (np.where(np.arange(4)[:, None, None, None] == 2, np.nan, IMAGES), LABELS, r"NaN or infinity in images \[2\]"),
        (IMAGES[:0], np.zeros(0, int), "at least one image"),
        (IMAGES[:, :0], LABELS, r"Received: uint8 of shape \(4, 0, 2, 1\)"),
        ([np.zeros((2, 2, 1)), np.zeros((3, 2, 1))], [0, 1], "Expected images of one shape"),
        (IMAGES, iter(LABELS), "Received: .*iterator"),
        (IMAGES, [0, 1, 1, 10**12], r"from 0 to 2147483647. Received: 1000000000000"),  # and no terabytes for counts
        (IMAGES, np.array([0, 1, 1, 2**64 - 1], np.uint64), "from 0 to 2147483647. Received: 18446744073709551615"),
        (IMAGES, [0, 1, 1, 2 * 10**9], r"the 2000000001 classes. Received: none of \[2, 3, 4, 5, 6, 7, 8, 9, 10, 11\]"),
    ],
)
def test_arrays_that_cannot_be_used_are_refused(images, labels, message):
    with pytest.raises(ValueError, match=message):
        ArraySource(images, labels)


def test_class_names_fix_the_number_of_classes():
    assert ArraySource(IMAGES, LABELS).class_names == ["0", "1"]
    with pytest.raises(ValueError, match=r"labels from 0 to 0. Received: \[1\]"):
        ArraySource(IMAGES, LABELS, class_names=["only"])
    with pytest.raises(ValueError, match=r"none of \[2\]"):
        ArraySource(IMAGES, LABELS, class_names=["a", "b", "c"])


@pytest.mark.parametrize("images", ["folder", {"image": IMAGES}, object()])
def test_what_is_neither_a_source_nor_an_array_is_refused(images):
    with pytest.raises(ValueError, match="Expected images as an array.*or as a source"):
        paired_dataset(images, LABELS, batch_size=2, seed=0)


@pytest.mark.parametrize(
    ("options", "message"),
    few(
        [
            ({"seed": 2**64}, "Expected a seed of at most 64 bits. Received: seed=18446744073709551616"),
            ({"epochs": 1.5}, "Expected epochs to be an integer. Received: epochs=1.5"),
            pytest.param(
                {"epochs": None}, "Expected epochs to be an integer. Received: epochs=None", marks=pytest.mark.thorough
            ),
            ({"epochs": 2**62}, r"Expected fewer than 2\*\*63 steps"),
            ({"epochs": 0}, "Expected epochs of at least 1"),
        ],
        2,
    ),
)
def test_numbers_that_no_training_can_have_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        paired_dataset(IMAGES, LABELS, **{"batch_size": 2, "seed": 0, **options})
    assert paired_dataset(IMAGES, LABELS, batch_size=2, seed=2**64 - 1).steps_per_epoch == 2


def test_arrays_are_no_source_for_evaluation():
    with pytest.raises(ValueError, match="Expected a cskd_tf.data.Source, such as ImageFolder. Received: ndarray"):
        evaluation_dataset(IMAGES, batch_size=2)


def test_labels_belong_to_arrays():
    source = ArraySource(IMAGES, LABELS)
    assert as_source(source) is source
    with pytest.raises(ValueError, match="labels=None"):
        as_source(IMAGES)
    with pytest.raises(ValueError, match="no labels beside a source"):
        as_source(source, LABELS)


def test_one_hot_labels_say_how_many_classes_there_are():
    source = ArraySource(np.zeros((2, 4, 4, 1)), [[1, 0, 0], [0, 1, 0]], complete=False)
    assert source.class_names == ["0", "1", "2"]


def test_a_tensor_is_not_copied():
    images = tf.zeros([2, 4, 4, 1])
    assert ArraySource(images, [0, 1])._images is images
