"""Data sets that are read once and held: which images have which numbers, and what cannot be held."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.data import paired_dataset
from cskd_tf.data.sources.gathering import gathered
from tests.data.helpers import encoded, photo
from tests.data.sources.test_examples import Batches

IMAGES = np.arange(12, dtype=np.float32)[:, None, None, None] * np.ones((1, 2, 2, 1), np.float32)
LABELS = np.arange(12) % 3


def data_of(labels=LABELS, *weights):
    return tf.data.Dataset.from_tensor_slices((IMAGES, labels, *weights))


def held(data, **options):
    """The labels, and the first pixel of each image."""
    source, weights = gathered(data, **{"memory": 1.0, "channels": 1, **options})
    pixels = source.load(tf.range(len(source.labels), dtype=tf.int64)).numpy()[:, 0, 0, 0]
    return source, pixels.astype(int).tolist(), weights


FORMS = {
    "integers": LABELS.astype(np.uint8),
    "a column": LABELS[:, None],
    "a column of floats": LABELS[:, None].astype(np.float32),
    "one-hot": np.eye(3, dtype=np.float32)[LABELS],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("change", [lambda data: data, lambda data: data.batch(5), lambda data: data.shuffle(12)])
def test_every_form_of_labels_and_every_order_give_the_same_numbers(form, change):
    source, pixels, weights = held(change(data_of(FORMS[form])))
    assert source.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert (np.array(pixels) % 3 == source.labels).all()
    assert sorted(pixels) == list(range(12))
    assert pixels == held(data_of())[1]
    assert source.class_names == ["0", "1", "2"]
    assert weights is None


def test_a_pydataset_and_weights():
    parts = IMAGES[:6], LABELS[:6], np.arange(6) / 10
    _, pixels, weights = held(Batches(*parts))
    np.testing.assert_allclose(weights, np.array(pixels) / 10, rtol=1e-6)
    assert weights.dtype == np.float32
    data = paired_dataset(Batches(*parts), batch_size=4, seed=0)
    for batch, labels, of_batch in data:
        np.testing.assert_allclose(of_batch, batch["image"][:, 0, 0, 0] / 10, rtol=1e-6)
        np.testing.assert_array_equal(batch["image"][:, 0, 0, 0].numpy() % 3, labels)


def test_encoded_images_stay_encoded(caplog):
    contents = [encoded(photo(9 + number, 8, seed=number)) for number in range(4)]
    with caplog.at_level("INFO", logger="absl"):
        source, _ = gathered(tf.data.Dataset.from_tensor_slices((contents, [0, 1, 0, 1])), memory=1.0, channels=3)
    assert sorted(source.decode_one(index).shape[0] for index in range(4)) == [9, 10, 11, 12]
    assert source.sizes.sum() == sum(map(len, contents))
    assert "4 images gathered in memory, 0.00 GiB: partners are uniform over all images of a class" in caplog.text


def test_a_folder_as_keras_reads_it_keeps_its_names(image_folder):
    read = {"image_size": (8, 8), "batch_size": 4, "verbose": False}
    for mode in ("int", "categorical", "binary"):
        data = keras.utils.image_dataset_from_directory(image_folder / "train", label_mode=mode, **read)
        source, _ = gathered(data, memory=1.0, channels=3)
        assert source.class_names == ["cat", "dog"]
        assert source.labels.tolist() == [0] * 6 + [1] * 6
        assert (source.image_shape, source.load([0]).dtype) == ((8, 8, 3), tf.float32)
    again = keras.utils.image_dataset_from_directory(image_folder / "train", seed=7, **read)
    np.testing.assert_array_equal(gathered(again, memory=1.0, channels=3)[0].load(range(12)), source.load(range(12)))
    without = keras.utils.image_dataset_from_directory(image_folder / "train", labels=None, **read)
    with pytest.raises(ValueError, match=r"Expected data of \(image, label\).*Received: elements TensorSpec"):
        gathered(without, memory=1.0, channels=3)


def counted(data):
    """The data set, and how many elements have been read of it."""
    read = []

    def note(number):
        read.append(int(number))
        return number

    numbers = tf.data.Dataset.range(int(data.cardinality())).map(
        lambda number: tf.ensure_shape(tf.numpy_function(note, [number], tf.int64), [])
    )
    return tf.data.Dataset.zip(data, numbers).map(lambda example, _: example), read


def test_what_does_not_fit_is_refused_before_it_is_read():
    message = r"at most memory=[14]e-08 GiB.*cskd_tf.data.paired_stream.*Received: 0.00 GiB or more"
    single, read = counted(data_of())
    with pytest.raises(ValueError, match=message):
        held(single, memory=1e-8)
    assert read == []
    batches, read = counted(data_of().batch(1))
    with pytest.raises(ValueError, match=message):
        held(batches, memory=4e-8)  # two images
    assert 0 < len(read) < 5  # tf.data itself reads ahead


def test_data_of_unknown_length_are_read_no_further_than_they_fit():
    endless = data_of().repeat().filter(lambda image, label: True)
    with pytest.raises(ValueError, match="Expected data of at most memory="):
        held(endless, memory=1e-6)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (data_of().repeat(), "Expected data that end; cskd_tf.data.paired_stream"),
        (Batches(IMAGES, LABELS, count=None), "Expected data that end"),
        (data_of().take(0), "at least one image. Received: an empty data set"),
        (data_of(np.full((12, 3), 1 / 3)), r"or one-hot \[N, C\]. Received: a row \[0.333"),
        (data_of(np.array([[1, 1, 0]] * 12)), r"or one-hot \[N, C\]. Received: a row \[1, 1, 0\]"),
        (data_of(LABELS + 0.5), "labels to be integers"),
        (data_of(LABELS - 1), r"labels from 0 to 1. Received: \[-1\]"),
        (data_of(2 * LABELS), r"each of the 5 classes. Received: none of \[1, 3\]"),
    ],
)
def test_what_cannot_be_held_or_has_no_partners_is_refused(data, message):
    with pytest.raises(ValueError, match=message):
        gathered(data, memory=1.0, channels=1)


def test_images_of_several_sizes_are_refused():
    images = tf.ragged.constant([[[[1.0]]], [[[1.0], [2.0]]]], ragged_rank=2)
    data = tf.data.Dataset.from_tensor_slices((images, [0, 1])).map(
        lambda image, label: (tf.ensure_shape(image.to_tensor(), [None, None, 1]), label)
    )
    with pytest.raises(ValueError, match=r"images of one size.*Received: images of \[\(1, 1, 1\), \(1, 2, 1\)\]"):
        gathered(data, memory=1.0, channels=1)


def test_labels_beside_a_data_set_are_refused():
    with pytest.raises(ValueError, match="no labels beside a data set"):
        paired_dataset(data_of(), LABELS, batch_size=2, seed=0)
