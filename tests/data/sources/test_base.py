"""Sources of arrays, and parts of a source: what they hold, and what is refused."""

import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.data import ArraySource, EncodedSource, ImageFolder, evaluation_dataset, paired_dataset

IMAGES, LABELS = np.zeros((4, 2, 2, 1), np.uint8), np.array([0, 1, 1, 0])


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES, [0.0, 1.0, 1.0, 0.0], r"labels to be integers \[N\]. Received: float64"),
        (IMAGES, [0, 1, 1], "4 images and 3 labels"),
        (IMAGES, [0, 1, -1, 0], r"labels from 0 to 1. Received: \[-1\]"),
        (IMAGES, [0, 2, 2, 0], r"each of the 3 classes. Received: none of \[1\]"),
        (IMAGES, [[0, 1], [1, 0], [1, 0], [0, 1]], r"shape \(4, 2\)"),
        (IMAGES[..., 0], LABELS, r"Received: uint8 of shape \(4, 2, 2\)"),
        (IMAGES.astype(str), LABELS, "images to be numbers"),
        (np.where(np.arange(4)[:, None, None, None] == 2, np.nan, IMAGES), LABELS, r"NaN or infinity in images \[2\]"),
        (IMAGES[:0], np.zeros(0, int), "at least one image"),
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


def test_a_subset_renumbers():
    source = ArraySource(np.arange(4, dtype=np.uint8)[:, None, None, None], LABELS)
    subset = source.subset(np.array([1, 2, 3])).subset(np.array([2, 0]))
    assert subset.labels.tolist() == [0, 1]
    assert [subset.locate(index) for index in (0, 1)] == ["image 3", "image 1"]
    assert subset.load(tf.constant([0, 1], tf.int64)).numpy().ravel().tolist() == [3, 1]


def test_labels_may_be_a_column_as_keras_data_sets_have_them():
    source = ArraySource(IMAGES, np.array([[0], [1], [1], [0]], "uint8"))
    assert source.labels.tolist() == [0, 1, 1, 0]


def test_a_subset_of_encoded_images_is_encoded(image_folder):
    source = ImageFolder(image_folder / "train")
    subset = source.subset([7, 2])
    assert isinstance(subset, EncodedSource)
    assert subset.labels.tolist() == [1, 0]
    assert subset.sizes.tolist() == source.sizes[[7, 2]].tolist()
    assert subset.locate(1) == source.locate(2)
    np.testing.assert_array_equal(subset.decode_one(0), source.decode_one(7))


@pytest.mark.parametrize("images", ["folder", tf.data.Dataset.range(3), {"image": IMAGES}, object()])
def test_what_is_neither_a_source_nor_an_array_is_refused(images):
    with pytest.raises(ValueError, match="Expected images as an array.*or as a source"):
        paired_dataset(images, LABELS, batch_size=2, seed=0)


def test_arrays_are_no_source_for_evaluation():
    with pytest.raises(ValueError, match="Expected a cskd_tf.data.Source, such as ImageFolder. Received: ndarray"):
        evaluation_dataset(IMAGES, batch_size=2)
