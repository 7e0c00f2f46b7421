"""Which form the data of somebody else's loop have."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.data.sources.examples import examples_of

IMAGES, LABELS = np.zeros((6, 4, 5, 3), np.uint8), np.arange(6) % 3


class Batches(keras.utils.PyDataset):
    """Two batches of three, or endless ones."""

    def __init__(self, *parts, count=2):
        super().__init__()
        self.parts, self.count, self.told = parts, count, []

    @property
    def num_batches(self):
        return self.count

    def __getitem__(self, index):
        return tuple(part[3 * (index % 2) : 3 * (index % 2) + 3] for part in self.parts)

    def on_epoch_begin(self):
        self.told.append("begin")

    def on_epoch_end(self):
        self.told.append("end")


def test_one_by_one_and_in_batches_is_seen_from_the_form():
    single = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS))
    for data, batched in ((single, False), (single.batch(2), True), (Batches(IMAGES, LABELS), True)):
        examples = examples_of(data)
        assert examples.batched == batched
        assert (examples.image_spec.shape, examples.image_bytes) == ((4, 5, 3), 60)
        assert [len(labels) for _, labels in examples.batches(4)] == [4, 2]
    encoded = examples_of(tf.data.Dataset.from_tensor_slices((["a", "b"], [0, 1])))
    assert (encoded.batched, encoded.image_bytes) == (False, None)


def test_classes_are_known_from_names_and_one_hot_labels():
    one_hot = tf.data.Dataset.from_tensor_slices((IMAGES, np.eye(3)[LABELS]))
    assert [examples_of(each).num_classes for each in (one_hot, one_hot.batch(2))] == [3, 3]
    column = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS[:, None])).batch(2)
    assert examples_of(column).num_classes is None
    column.class_names = ["a", "b"]
    assert examples_of(column).num_classes == 2


def test_a_pydataset_is_told_of_its_epochs():
    data = Batches(IMAGES, LABELS)
    dataset = examples_of(data).dataset
    assert [len(list(dataset)) for _ in range(2)] == [2, 2]
    assert data.told == ["begin", "end"] * 2
    assert dataset.cardinality() == 2
    assert examples_of(Batches(IMAGES, LABELS, count=None)).dataset.cardinality() == tf.data.INFINITE_CARDINALITY


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (tf.data.Dataset.from_tensor_slices(IMAGES), r"not paired yet.*Received: elements TensorSpec"),
        (tf.data.Dataset.from_tensor_slices(({"image": IMAGES}, LABELS)), "not paired yet.*Received: elements"),
        (tf.data.Dataset.from_tensor_slices((IMAGES[..., 0], LABELS)), r"Received: uint8 of shape \(4, 5\)"),
        (tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(2).batch(2), r"shape \(None, None, 4, 5, 3\)"),
        (Batches(IMAGES), "not paired yet"),
        (IMAGES, "arrays are for cskd_tf.data.paired_dataset. Received: ndarray"),
        (tf.data.Dataset.from_tensor_slices((IMAGES, list("abcdef"))), "labels that are integers.*string"),
    ],
)
def test_other_forms_are_refused(data, message):
    with pytest.raises(ValueError, match=message):
        examples_of(data)
