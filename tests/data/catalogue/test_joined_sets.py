"""Several data sets as one, in the order of their names, which become the groups of the classes."""

import dataclasses
import os

import numpy as np
import pytest
import tensorflow as tf

from configs import mixed
from cskd_tf import data
from cskd_tf.data.catalogue.datasets import DATASETS, Dataset
from cskd_tf.data.sources.encoded import Encoded
from cskd_tf.runs.config import Config
from tests.data.catalogue.layouts import write_mit67, write_tiny_imagenet
from tests.data.grey_images import TEST, THIRDS, TRAIN, contents, named, number_of
from tests.helpers import load_splits


@pytest.fixture
def two_sets(tmp_path):
    names = {"tiny_imagenet": write_tiny_imagenet(tmp_path), "mit67": write_mit67(tmp_path)}
    archives = [str(tmp_path / file) for file in ("tiny-imagenet-200.zip", "indoorCVPR_09.tar")]
    return {"path": str(tmp_path / "data"), "archive": os.pathsep.join(archives), **THIRDS}, [
        f"{group}/{name}" for group, each in names.items() for name in each
    ]


def test_data_sets_are_joined_with_their_names_as_groups(two_sets):
    arguments, names = two_sets
    splits = load_splits("tiny_imagenet+mit67", **arguments)
    for source in splits.values():
        assert source.class_names == names
        assert source.class_groups == ["tiny_imagenet", "tiny_imagenet", "mit67", "mit67"]
        assert np.bincount(source.labels).tolist() == [1, 1, 1, 1]
    both = lambda images: named([*images, *((label + 2, number) for label, number in images)], names)  # noqa: E731
    assert contents(splits["train"], splits["val"]) == both(TRAIN)
    assert contents(splits["test"]) == both(TEST)


def test_joined_data_sets_are_read_in_any_order(two_sets):
    arguments, _ = two_sets
    test = load_splits("tiny_imagenet+mit67", **arguments)["test"]
    encoded = [test.read(tf.constant([index], tf.int64)).numpy()[0] for index in range(4)]
    assert all(size >= len(each) for size, each in zip(test.sizes, encoded, strict=True))
    for order in ([3, 0, 2, 1], [0, 1], [2, 2, 3], [1, 3, 1, 0, 2]):
        assert test.read(tf.constant(order, tf.int64)).numpy().tolist() == [encoded[index] for index in order]
    described = [test.locate(index) for index in range(4)]
    assert all("tiny_imagenet/" in each for each in described[:2])
    assert all("Images/" in each and "mit67/" in each for each in described[2:])
    for index in range(4):
        assert number_of(test, index) == (50, 60)[test.labels[index] % 2]


def test_few_training_images_of_each_class_beside_whole_test_sets(two_sets):
    arguments, names = two_sets
    arguments = {**arguments, "val": "", "train_per_class": 1, "validation_fraction": 0.25}
    splits = load_splits("tiny_imagenet+mit67", **arguments)
    assert np.bincount(splits["train"].labels).tolist() == [1, 1, 1, 1]
    assert len(splits["test"].labels) == 4
    assert splits["train"].class_groups == ["tiny_imagenet"] * 2 + ["mit67"] * 2
    shown = contents(splits["train"])
    assert [name for name, _ in shown] == sorted(names)


def test_the_same_data_set_twice_keeps_two_names(two_sets, tmp_path):
    archive = os.pathsep.join([str(tmp_path / "indoorCVPR_09.tar")] * 2)
    test = load_splits("mit67+mit67", **{**two_sets[0], "archive": archive})["test"]
    assert test.class_names == ["mit67/airport_inside", "mit67/bar", "mit67_2/airport_inside", "mit67_2/bar"]


def test_only_encoded_images_of_one_kind_are_joined(tiny):
    with pytest.raises(ValueError, match="images of 3 channels. Received: digits with 1"):
        load_splits("digits+tiny_imagenet", **{**tiny[0], "archive": f"{os.pathsep}{tiny[0]['archive']}"})


def repeated(classes, images):
    """A data set of as many images of each class in either split, whose encoded form is the image's number."""
    labels = np.repeat(np.arange(classes), images)
    contents = tf.strings.as_string(tf.range(len(labels)))
    names, sizes = [f"{number:03d}" for number in range(classes)], np.ones(len(labels))
    made = Encoded(contents, labels, class_names=names, channels=3, sizes=sizes, locate=str)
    return {"train": made, "test": made}


def test_data_sets_of_which_only_some_bring_validation_images_are_not_joined_without(monkeypatch):
    first = repeated(2, 5)
    monkeypatch.setitem(DATASETS, "first", Dataset(lambda *_, **__: {**first, "val": first["test"]}))
    monkeypatch.setitem(DATASETS, "second", Dataset(lambda *_, **__: repeated(3, 5)))
    with pytest.raises(ValueError, match=r"of each data set or of none.*validation_fraction=0, and none of \['second'"):
        load_splits("first+second", validation_fraction=0, memory=0)
    sizes = {name: len(source.labels) for name, source in load_splits("first+second", memory=0).items()}
    assert sizes == {"train": 10 + 12, "val": 10 + 3, "test": 10 + 15}


def test_the_mixed_set_has_thirty_training_images_of_each_of_387_classes(monkeypatch):
    # The classes of the three, and 30, 100 and 80 training images of each.
    sizes = {"caltech_birds2011": (200, 30), "stanford_dogs": (120, 100), "mit67": (67, 80)}
    for name, (classes, images) in sizes.items():
        made = repeated(classes, images)
        monkeypatch.setitem(DATASETS, name, Dataset(lambda *_, made=made, **__: made))
    config = Config.read(mixed.get_config()).data
    source = dataclasses.replace(config.source, memory=0.0)
    splits = data.load_splits(source, config.split)
    assert np.bincount(splits["train"].labels).tolist() == [30] * 387
    assert list(splits) == ["train", "test"]
    assert len(splits["test"].labels) == 200 * 30 + 120 * 100 + 67 * 80
    # Random ones of the many: all 30 of a bird, and of a room or a dog others from another seed.
    other = data.load_splits(source, dataclasses.replace(config.split, seed=1))
    one, two = (each["train"].read(tf.range(30 * 387, dtype=tf.int64)).numpy() for each in (splits, other))
    np.testing.assert_array_equal(one[:6000], two[:6000])
    assert len(set(one[6000:9600])) == 120 * 30
    assert (one[6000:] != two[6000:]).mean() > 0.9
