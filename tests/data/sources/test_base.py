"""Labels, and parts of a source."""

import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.data import ArraySource, EncodedSource, ImageFolder
from cskd_tf.data.sources.base import check_labels
from cskd_tf.data.sources.encoded import Concatenation, Encoded, Files


def test_labels_may_be_a_column_as_keras_data_sets_have_them():
    labels = check_labels(np.array([[0], [1], [1], [0]], "uint8"))
    assert labels.dtype == np.int32
    assert labels.tolist() == [0, 1, 1, 0]


def test_classes_without_an_image_are_refused_unless_the_labels_may_be_incomplete():
    assert check_labels([0, 2], num_classes=4, complete=False).tolist() == [0, 2]
    with pytest.raises(ValueError, match=r"each of the 4 classes. Received: none of \[1, 3\]"):
        check_labels([0, 2], num_classes=4)
    with pytest.raises(ValueError, match=r"labels from 0 to 1. Received: \[2\]"):
        check_labels([0, 2], num_classes=2, complete=False)


def test_a_subset_renumbers():
    source = ArraySource(np.arange(4, dtype=np.uint8)[:, None, None, None], np.array([0, 1, 1, 0]))
    subset = source.subset(np.array([1, 2, 3])).subset(np.array([2, 0]))
    assert subset.labels.tolist() == [0, 1]
    assert [subset.locate(index) for index in (0, 1)] == ["image 3", "image 1"]
    assert subset.load(tf.constant([0, 1], tf.int64)).numpy().ravel().tolist() == [3, 1]


def test_a_subset_of_encoded_images_is_encoded(image_folder):
    source = ImageFolder(image_folder / "train")
    subset = source.subset([7, 2])
    assert isinstance(subset, EncodedSource)
    assert subset.labels.tolist() == [1, 0]
    assert subset.sizes.tolist() == source.sizes[[7, 2]].tolist()
    assert subset.locate(1) == source.locate(2)
    np.testing.assert_array_equal(subset.decode_one(0), source.decode_one(7))


def test_what_is_held_in_memory_is_counted_once():
    pixels = ArraySource(np.zeros([6, 4, 4, 1], np.uint8), [0, 1] * 3)
    encoded = Encoded(["a", "bc"], [0, 1], class_names=["x", "y"], sizes=[1, 2], channels=1, locate=str)
    files = Files(["a.png", "b.png"], [0, 1], class_names=["x", "y"], sizes=[5, 5], channels=1)
    parts = pixels.subset([0, 1, 2]), pixels.subset([3, 4, 5]).subset([0, 1])
    assert pixels.held_bytes() == {**parts[0].held_bytes(), **parts[1].held_bytes()}
    assert list(pixels.held_bytes().values()) == [6 * 16]
    joined = Concatenation({"memory": encoded.subset([1]), "disk": files})
    assert list(joined.held_bytes().values()) == [3]
    assert files.held_bytes() == {}
