"""TFRecords that TFDS wrote, in any order: bytes, labels, parts of a split, and the index that is kept of them."""

import errno

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from tensorflow_datasets.core.utils import shard_utils

from tests.data.grey_images import TEST, contents, named
from tests.helpers import load_splits


@pytest.fixture
def in_three_files(monkeypatch):
    monkeypatch.setattr(
        shard_utils.ShardConfig, "get_number_shards", lambda _, size, examples, *__, **___: min(3, examples)
    )


def sequential(folder, *, split):
    """Encoded images and labels as TFDS reads them."""
    (info,) = folder.rglob("dataset_info.json")
    read = tfds.builder_from_directory(info.parent).as_dataset(
        split=split, decoders={"image": tfds.decode.SkipDecoding()}
    )
    return [(example["image"], example["label"]) for example in read.as_numpy_iterator()]


def test_records_in_any_order_equal_the_sequential_ones(tiny, tmp_path, in_three_files):
    train = load_splits("tiny_imagenet", val="validation", **tiny[0])["train"]
    expected = sequential(tmp_path, split="train")
    assert len(expected) == 4
    assert train.labels.tolist() == [label for _, label in expected]
    for order in ([3, 0, 2, 1], [2], [1, 1, 0]):
        read = train.read(tf.constant(order, tf.int64)).numpy()
        assert read.tolist() == [expected[index][0] for index in order]


@pytest.mark.parametrize("part", ["train[:50%]", "train[50%:]", "train[1:3]", "train[:1]+train[3:]", "train[-3:]"])
def test_parts_of_a_split_are_tfds_parts(part, tiny, tmp_path, in_three_files):
    splits = load_splits("tiny_imagenet", train="train", val=part, **tiny[0])
    expected = sequential(tmp_path, split=part)
    assert len(expected) < 4
    assert splits["val"].read(tf.range(len(expected), dtype=tf.int64)).numpy().tolist() == [
        content for content, _ in expected
    ]
    assert splits["val"].labels.tolist() == [label for _, label in expected]


def test_images_are_described_by_their_name_and_split(tiny):
    test = load_splits("tiny_imagenet", **tiny[0])["test"]
    (index,) = np.flatnonzero(test.labels == 1)
    assert test.locate(index).startswith("tiny-imagenet-200/val/images/val_1.JPEG of tiny_imagenet/archive_")
    assert test.locate(index).endswith("1.0.0, validation")


def test_labels_are_read_once(tiny, monkeypatch):
    first = load_splits("tiny_imagenet", **tiny[0])
    monkeypatch.setattr("cskd_tf.data.sources.tfrecords._places", None)  # which would fail, if it was called
    again = load_splits("tiny_imagenet", **tiny[0])
    assert contents(again["train"]) == contents(first["train"])


def test_labels_that_cannot_be_kept_are_read_again(tiny, tmp_path, monkeypatch, caplog):
    def full(file, **_):
        file.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, caplog.at_level("WARNING"):
        patch.setattr(np, "savez", full)
        splits = load_splits("tiny_imagenet", **tiny[0])
    assert "The labels will be read again at the next start: [Errno 28] No space left on device" in caplog.text
    assert contents(splits["test"]) == named(TEST, tiny[1])
    assert not list(tmp_path.rglob("cskd_tf_index_*"))
    load_splits("tiny_imagenet", **tiny[0])
    assert len(list(tmp_path.rglob("cskd_tf_index_*.npz"))) == 2


def test_records_that_are_cut_off_are_refused(tiny, tmp_path):
    load_splits("tiny_imagenet", **tiny[0])
    (file,) = tmp_path.rglob("*validation.tfrecord*")
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(ValueError, match="Expected whole TFRecords. Received: .*validation.tfrecord.*cut off"):
        load_splits("tiny_imagenet", **tiny[0])
