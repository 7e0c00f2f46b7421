"""An option of which no data set takes notice is refused, before anything is read or downloaded."""

import dataclasses
import os

import pytest

from cskd_tf.data import SourceOptions, SplitOptions
from cskd_tf.data.catalogue.datasets import DATASETS, TAKEN_BY_ALL, refuse_ignored
from tests.helpers import load_splits

VALUES = {"path": "/nowhere", "archive": "nope", "class_levels": 3, "train": "nope", "val": "nope", "test": "nope"}
TAKERS = {
    "path": set(DATASETS) - {"digits", "fonts"},
    "archive": {"tiny_imagenet", "mit67"},
    "class_levels": {"image_folder"},
    **dict.fromkeys(("train", "val", "test"), set(DATASETS) - {"digits", "fashion_mnist", "fonts"}),
}
IGNORED = [(name, key) for name in DATASETS for key in VALUES if name not in TAKERS[key]]


def options(name, **changes):
    source = {key: value for key, value in changes.items() if key in SourceOptions.__dataclass_fields__}
    split = {key: value for key, value in changes.items() if key not in source}
    return SourceOptions(name=name, **source), SplitOptions(**split)


@pytest.mark.parametrize(("name", "key"), [*IGNORED, ("tfds:beans", "archive"), ("tfds:beans", "class_levels")])
def test_what_a_data_set_ignores_is_refused(name, key):
    with pytest.raises(ValueError, match=rf"^Expected data\..*{key}=.* with {name}, which .*Received: data\..*{key}="):
        load_splits(name, channels=1, **{key: VALUES[key]})


@pytest.mark.parametrize(("key", "name"), [(key, name) for key in TAKERS for name in sorted(TAKERS[key])])
def test_what_a_data_set_takes_is_not(key, name):
    refuse_ignored([name], *options(name, **{key: VALUES[key]}))


def test_every_option_that_is_ignored_is_named():
    with pytest.raises(ValueError, match=r"class_levels=1, data.split.val='' with digits.*class_levels=3, .*val='dev'"):
        refuse_ignored(["digits"], *options("digits", class_levels=3, val="dev"))


def test_an_option_is_of_all_sets_or_of_some():
    keys = {field.name for kind in (SourceOptions, SplitOptions) for field in dataclasses.fields(kind)}
    assert TAKEN_BY_ALL | set(VALUES) == keys
    assert not TAKEN_BY_ALL & set(VALUES)


def test_of_joined_sets_one_that_takes_an_option_is_enough(tmp_path):
    names = ["tiny_imagenet", "cifar10"]
    refuse_ignored(names, *options("+".join(names), archive="nope"))
    with pytest.raises(ValueError, match="class_levels=1 with tiny_imagenet and cifar10, which takes no others"):
        load_splits("+".join(names), class_levels=2)
    with pytest.raises(ValueError, match="data.source.archive to name a file. Received: data.source.archive='nope'"):
        load_splits("+".join(names), archive="nope", path=str(tmp_path))


def test_of_joined_sets_an_entry_of_its_own_is_refused_by_one_that_takes_none():
    entries = os.pathsep.join(["", "nope"])
    with pytest.raises(ValueError, match="an empty entry for cifar10 in data.source.archive.*Received: 'nope' in"):
        load_splits("tiny_imagenet+cifar10", archive=entries)


@pytest.mark.parametrize(("fraction", "said"), [(0.3, True), (0.2, False)])
@pytest.mark.thorough
def test_a_fraction_of_no_effect_is_said(fraction, said, image_folder, caplog):
    with caplog.at_level("WARNING"):
        load_splits("image_folder", path=str(image_folder), test_fraction=fraction)
    assert ("image_folder brings its test images: data.split.test_fraction=0.3 takes none" in caplog.text) == said
