"""Training, validation and test images of a data set: the splits it brings, and those that are made of it."""

import dataclasses
import itertools
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.data.batches.pairing import ClassBuckets
from cskd_tf.data.batches.pipeline import paired_dataset
from cskd_tf.data.catalogue.datasets import SourceOptions, SplitOptions
from cskd_tf.data.catalogue.splits import brings_validation, first_of_each_class, split_by_class
from tests.data.helpers import HALVES, write, write_classes
from tests.helpers import load_splits

DIGITS = {
    "channels": 1,
    "test_fraction": 0.65,
    "validation_fraction": 0.5,
    "train_per_class": 30,
    "seed": 0,
}


def test_split_takes_its_share_of_every_class():
    labels = np.repeat([0, 1, 2], [10, 20, 2])
    kept, gone = split_by_class(labels, fraction=0.2, seed=0, name="test")
    assert np.bincount(labels[gone]).tolist() == [2, 4, 1]
    assert sorted([*kept, *gone]) == list(range(32))
    again, other = (split_by_class(labels, fraction=0.2, seed=seed, name="test")[1] for seed in (0, 1))
    np.testing.assert_array_equal(again, gone)
    assert not np.array_equal(other, gone)


def test_a_class_of_one_image_keeps_it():
    kept, gone = split_by_class(np.array([0, 0, 1]), fraction=0.5, seed=0, name="validation")
    assert 2 in kept
    assert len(gone) == 1


@pytest.mark.thorough
def test_classes_of_one_image_are_named_once(tmp_path, caplog):
    write_classes(tmp_path, {"cat": 6, "owl": 1, "dog": 6, "bat": 2})
    with caplog.at_level("WARNING"):
        splits = load_splits("image_folder", path=str(tmp_path), test_fraction=0.3, validation_fraction=0.3)
        paired_dataset(splits["train"], batch_size=4, seed=0)
    assert {name: len(images.labels) for name, images in splits.items()} == {"train": 8, "val": 2, "test": 5}
    assert caplog.messages == [
        "Classes of a single training image, its own partner where a method pairs images: 2 of 4 (bat, owl); "
        "absent from val: 2; absent from test: 1"
    ]


@pytest.mark.thorough
def test_splits_that_are_too_small_are_shown_where_sizes_are_not_checked(tmp_path):
    write_classes(tmp_path, {"cat": 1, "dog": 1})
    with pytest.raises(ValueError, match=r"Received: test_fraction=0\..*, and single images of each class left"):
        load_splits("image_folder", path=str(tmp_path))
    splits = load_splits("image_folder", path=str(tmp_path), check_sizes=False)
    assert {name: len(images.labels) for name, images in splits.items()} == {"train": 2}


@pytest.mark.parametrize(
    ("labels", "fraction", "message"),
    [
        ([0, 1], 0.5, "single images of each class left"),
        ([0, 0], 0.0, "test_fraction=0.0"),
        ([0, 0], 1.0, "test_fraction=1.0"),
    ],
)
def test_impossible_splits_are_refused(labels, fraction, message):
    with pytest.raises(ValueError, match=message):
        split_by_class(np.array(labels), fraction=fraction, seed=0, name="test")


def naive_split(labels, *, fraction, seed):
    """Class by class: the first `fraction` of the images in a shuffled order go."""
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    gone = []
    for label in np.unique(labels):
        members = [index for index in shuffled if labels[index] == label]
        gone += members[: min(max(round(fraction * len(members)), 1), len(members) - 1)]
    return sorted(gone)


def test_splits_equal_the_naive_ones_class_by_class():
    labels = np.random.default_rng(3).permutation(np.repeat(np.arange(5), [10, 1, 2, 7, 30]))
    for fraction, seed in itertools.product((0.1, 0.5, 0.9), (0, 1)):
        kept, gone = split_by_class(labels, fraction=fraction, seed=seed, name="test")
        assert gone.tolist() == naive_split(labels, fraction=fraction, seed=seed)
        assert kept.tolist() == sorted(set(range(50)) - set(gone))
    shuffled = np.random.default_rng(0).permutation(50)
    firsts = [[index for index in shuffled if labels[index] == label][:3] for label in range(5)]
    assert first_of_each_class(labels, count=3, seed=0).tolist() == sorted(itertools.chain(*firsts))


def test_100_000_classes():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(100_000), 3))
    kept, gone = split_by_class(labels, fraction=0.1, seed=0, name="test")
    assert (np.bincount(labels[gone]) == 1).all()
    assert (np.bincount(labels[kept]) == 2).all()
    assert np.array_equal(
        np.sort(labels[first_of_each_class(labels, count=2, seed=0)]), np.repeat(np.arange(100_000), 2)
    )
    buckets = ClassBuckets(labels, num_classes=100_000)
    assert (buckets.counts.numpy() == 3).all()
    assert np.array_equal(labels[buckets.order], np.sort(labels))
    partners = buckets.partners(tf.range(300_000, dtype=tf.int64), draw_key=tf.constant([1, 2, 3], tf.uint32))
    assert np.array_equal(labels[partners], labels)


def test_digits_are_split_by_class_without_overlap():
    splits = load_splits("digits", **DIGITS)
    assert np.bincount(splits["train"].labels).tolist() == [30] * 10
    assert {len(source.class_names) for source in splits.values()} == {10}
    everything = [
        source.load(tf.range(len(source.labels), dtype=tf.int64)).numpy().reshape(-1, 64) for source in splits.values()
    ]
    images = np.concatenate(everything)
    assert images.max() == 255
    assert len(np.unique(images, axis=0)) == len(images)  # no digit stands in two splits


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("cifar", {}, "Unknown data set; expected one of .*'cifar10'.*tfds:NAME.*Received: data.source.name='cifar'"),
        ("digits", {"channels": 3}, "images of 3 channels. Received: digits with 1"),
        ("image_folder", {}, "data.source.path=''"),
        ("image_folder", {"path": "/nowhere"}, "no folder /nowhere"),
        ("digits", {"validation_fraction": 1.5}, "validation_fraction=1.5"),
    ],
)
def test_unknown_and_missing_data_are_named(name, changes, message):
    with pytest.raises(ValueError, match=message):
        load_splits(name, **{**DIGITS, **changes})


def test_without_a_validation_fraction_all_images_are_trained_on():
    options = {"channels": 1, "test_fraction": 0.5}
    whole = load_splits("digits", **options, validation_fraction=0)
    parts = load_splits("digits", **options, validation_fraction=0.1)
    assert list(whole) == ["train", "test"]
    assert list(parts) == ["train", "val", "test"]
    counts = [np.bincount(splits["train"].labels) for splits in (whole, parts)]
    np.testing.assert_array_equal(counts[0], counts[1] + np.bincount(parts["val"].labels))
    np.testing.assert_array_equal(whole["test"].labels, parts["test"].labels)
    with pytest.raises(ValueError, match="test_fraction between 0 and 1. Received: test_fraction=0"):
        load_splits("digits", channels=1, test_fraction=0)
    with pytest.raises(ValueError, match="validation_fraction between 0 and 1. Received: validation_fraction=-0.1"):
        load_splits("digits", channels=1, validation_fraction=-0.1)


def test_a_validation_split_that_the_data_bring_is_kept(image_folder):
    (image_folder / "test").rename(image_folder / "val")
    splits = load_splits("image_folder", path=str(image_folder), validation_fraction=0)
    assert {name: len(source.labels) for name, source in splits.items()} == {"train": 10, "val": 6, "test": 2}


def test_a_folder_brings_its_splits(image_folder, caplog):
    load = lambda **more: load_splits("image_folder", path=str(image_folder), **HALVES, **more)  # noqa: E731
    assert {name: len(source.labels) for name, source in load().items()} == {"train": 6, "test": 6, "val": 6}
    (image_folder / "test").rename(image_folder / "val")
    assert {name: len(source.labels) for name, source in load().items()} == {"train": 6, "test": 6, "val": 6}
    splits = load(train="val", val="train")
    assert {name: len(source.labels) for name, source in splits.items()} == {"train": 2, "test": 4, "val": 12}
    for twice in ({"test": "train"}, {"test": "val"}, {"train": "val"}):
        with pytest.raises(
            ValueError, match="Expected images of their own in train, val and test, as data.split names"
        ):
            load(**twice)
    (image_folder / "held_out").symlink_to(image_folder / "train")
    with pytest.raises(
        ValueError, match=r"Expected images of their own .*Received: \{'train': '(.*photos/train)', .*\1'\}"
    ):
        load(test="held_out")
    (image_folder / "held_out").unlink()
    (image_folder / "extra").mkdir()
    load()
    assert f"{image_folder}: folders beside ['train', 'val', 'test'] are left out: ['extra']" in caplog.text
    with pytest.raises(ValueError, match=r"data.split.test to name a folder in .*photos. Received: 'held_out'"):
        load(test="held_out")


def test_a_folder_of_classes_is_split(two_classes):
    for number in range(3, 9):
        write(two_classes / "cat" / f"{number}.jpg")
        write(two_classes / ("dog" if number < 5 else "cat") / f"more_{number}.jpg")
    splits = load_splits("image_folder", path=str(two_classes), **HALVES, memory=0)
    # Of 12 cats and 4 dogs, half are for testing; of the 6 and 2 left, half for validation.
    assert {name: np.bincount(source.labels).tolist() for name, source in splits.items()} == {
        "train": [3, 1],
        "val": [3, 1],
        "test": [6, 2],
    }


def test_one_class_is_refused(two_classes):
    for path in (two_classes / "dog").iterdir():
        path.rename(two_classes / "cat" / f"dog_{path.name}")
    (two_classes / "dog").rmdir()
    with pytest.raises(ValueError, match=r"at least two classes. Received: \['cat'\]"):
        load_splits("image_folder", path=str(two_classes), **HALVES)


def test_a_split_of_one_image_is_refused(image_folder):
    for path in sorted((image_folder / "train" / "cat").iterdir())[1:]:
        path.unlink()
    with pytest.raises(ValueError, match="at least two images in each split.*Received: one in val"):
        load_splits("image_folder", path=str(image_folder))


@pytest.mark.parametrize(
    ("folders", "received"),
    [
        (("train", "validation"), r"\['validation'\]"),
        (("training", "testing"), r"\['testing', 'training'\]"),
        (("Train", "Test"), r"\['Test', 'Train'\]"),
    ],
)
def test_splits_under_other_names_are_neither_overlooked_nor_classes(folders, received, tmp_path):
    for folder in folders:
        for name in ("cat", "dog"):
            write(tmp_path / folder / name / "1.jpg")
    with pytest.raises(ValueError, match=f"to be called .*data.split.train.*Received: {received}"):
        load_splits("image_folder", path=str(tmp_path))


def test_the_seed_of_the_split_decides_which_images_of_a_class_are_trained_on(image_folder):
    """Also where the data bring their own test images, so that it decides nothing else."""
    chosen = []
    for seed in (0, 0, 1):
        train = load_splits(
            "image_folder", path=str(image_folder), validation_fraction=0.0, train_per_class=2, seed=seed
        )["train"]
        chosen.append([train.locate(index) for index in range(len(train.labels))])
    assert chosen[0] == chosen[1] != chosen[2]
    assert len(chosen[0]) == 4


def test_whether_validation_images_are_the_datas_own(image_folder):
    source = SourceOptions(name="image_folder", path=str(image_folder))
    assert not brings_validation(source, SplitOptions())
    shutil.copytree(image_folder / "test", image_folder / "val")
    assert brings_validation(source, SplitOptions())
    joined = dataclasses.replace(source, name="image_folder+digits", path=f"{image_folder}{os.pathsep}", channels=1)
    assert not brings_validation(joined, SplitOptions())  # of one alone
