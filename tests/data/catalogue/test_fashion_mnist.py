"""Four IDX files as their authors publish them, here with three images of each class."""

import gzip
import itertools
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.data.catalogue.fashion_mnist import CLASS_NAMES
from tests.data.idx_files import idx, write_fashion_mnist
from tests.helpers import load_splits

TRAIN_IMAGES, TEST_LABELS = "train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"
SPLIT = {"channels": 1, "validation_fraction": 0.3}


def load(path=""):
    return load_splits("fashion_mnist", path=str(path), **SPLIT)


def test_images_and_labels_are_those_of_the_files(tmp_path):
    written = write_fashion_mnist(tmp_path, per_class=3)
    splits = load(tmp_path)
    assert splits["test"].class_names == list(CLASS_NAMES)
    images, labels = written["t10k"]
    np.testing.assert_array_equal(splits["test"].labels, labels)
    np.testing.assert_array_equal(splits["test"].load(tf.constant([4, 0], tf.int64))[..., 0], images[[4, 0]])
    assert {name: len(source.labels) for name, source in splits.items()} == {"train": 20, "val": 10, "test": 30}
    assert splits["test"].locate(4) == f"image 4 of {tmp_path}, test"


@pytest.mark.slow
def test_kerass_download_is_taken_where_no_folder_is_named(tmp_path):
    write_fashion_mnist(tmp_path / "datasets" / "fashion-mnist", per_class=3)
    program = "from tests.data.catalogue.test_fashion_mnist import load; print(len(load()['test'].labels))"
    environment = {**os.environ, "KERAS_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "30\n"


def test_without_network_the_other_way_is_named(monkeypatch):
    def load_data():
        raise Exception("URL fetch failure on https://...: None -- no network")

    monkeypatch.setattr(keras.datasets.fashion_mnist, "load_data", load_data)
    with pytest.raises(ValueError, match=r"network, or data.source.path.*dataset-fashion-mnist.*Received: URL fetch f"):
        load()


@pytest.mark.parametrize(
    ("name", "content", "received"),
    [
        (TRAIN_IMAGES, None, "No such file"),
        (TRAIN_IMAGES, b"\x89PNG", "Not a gzipped file"),
        (TRAIN_IMAGES, idx(30, 28, 28)[:-9], "ended before"),
        (TRAIN_IMAGES, idx(30, 28, 28)[:12] + b"\xff" * 40, "Error -3"),
        (TRAIN_IMAGES, idx(30, 28, 28, kind=13), "bytes of another form"),
        (TRAIN_IMAGES, idx(30, 28, 28, values=bytes(7)), "23 bytes of another form"),
        (TRAIN_IMAGES, idx(2**31, 2**31, 4, values=bytes(7)), "23 bytes of another form"),
        (TRAIN_IMAGES, gzip.compress(b"\0\0\x08\x03\0"), "5 bytes of another form"),
        (TRAIN_IMAGES, gzip.compress(b""), "0 bytes of another form"),
        (TRAIN_IMAGES, idx(2**27), "67108864 bytes of another form"),  # 130 KB that are 134 MB
        (TRAIN_IMAGES, idx(29, 28, 28), r"images \(29, 28, 28\) and labels \(30,\)"),
        (TEST_LABELS, idx(30), r".*labels \(30,\) from 0 to 0"),
        (TEST_LABELS, idx(30, 1), r"labels \(30, 1\)"),
        (TEST_LABELS, idx(0), r"labels \(0,\)"),
    ],
    ids=itertools.count(),
)
def test_other_files_are_refused(tmp_path, name, content, received):
    write_fashion_mnist(tmp_path, per_class=3)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"^Expected .*{tmp_path}.*Received: .*{received}"):
        load(tmp_path)


def test_debians_package_is_the_whole_set():
    package = pathlib.Path("/usr/share/datasets/fashion-mnist")
    if not package.is_dir():
        pytest.skip("Debian's dataset-fashion-mnist is not installed")
    splits = load_splits("fashion_mnist", path=str(package), channels=1, validation_fraction=0.01)
    assert [len(splits[part].labels) for part in ("train", "val", "test")] == [59400, 600, 10000]


def test_classes_are_numbered_as_their_authors_number_them():
    published = "T-shirt/top, Trouser, Pullover, Dress, Coat, Sandal, Shirt, Sneaker, Bag, Ankle boot"
    assert ", ".join(CLASS_NAMES).casefold() == published.casefold()
