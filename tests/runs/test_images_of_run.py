"""A run goes on, is evaluated and exported with the images that it was begun with, and with no others."""

import json
import shutil

import numpy as np
import pytest

from cskd_tf.data import ImageFolder
from cskd_tf.errors import UserError
from cskd_tf.runs import evaluate, train
from cskd_tf.runs.images_of_run import check_images, note_images
from cskd_tf.runs.workdir import IMAGES, Workdir
from tests.data.helpers import encoded, photo, write
from tests.helpers import files, load_splits
from tests.runs.helpers import config_of
from tests.selection import quick

FOLDER = {
    "network.name": "tests.runs.helpers:small_network", "data.source.name": "image_folder",
    "data.source.path": "PHOTOS", "data.split.train_per_class": 0, "batch_size": 4, "epochs": 1,
    "export.enabled": False,
}  # fmt: skip


def splits_of(folder, **options):
    return load_splits("image_folder", path=str(folder), **options)


def replaced(path):
    write(path, encoded(photo(), "PNG"))


CHANGES = {
    "a class called otherwise": (
        lambda photos: (photos / "train" / "cat").rename(photos / "train" / "zebra"),
        r"classes \['cat'\] then, \['zebra'\] now",
    ),
    "another image": (
        lambda photos: replaced(photos / "train" / "cat" / "new.png"),
        r"train: \d+ images then, \d+ now",
    ),
    "one image in another's place": (
        lambda photos: replaced(photos / "test" / "dog" / "0.png"),
        "test: 6 images, but others",
    ),
}


@pytest.mark.parametrize("memory", [0.0, pytest.param(4.0, marks=pytest.mark.slow)])
@pytest.mark.parametrize("change", quick(CHANGES, "one image in another's place"))
def test_other_images_are_named(change, memory, image_folder, tmp_path):
    shutil.copytree(image_folder, tmp_path / "kept")
    workdir = Workdir(tmp_path / "run")
    workdir.path.mkdir()
    note_images(workdir, splits_of(image_folder))
    check_images(workdir, splits_of(tmp_path / "kept", memory=memory))  # wherever they lie, and however they are held
    alter, message = CHANGES[change]
    alter(image_folder)
    if change == "a class called otherwise":
        (image_folder / "test" / "cat").rename(image_folder / "test" / "zebra")
    with pytest.raises(UserError, match=f"Expected the images that the run in .*Received: .*{message}"):
        check_images(workdir, splits_of(image_folder, memory=memory))


@pytest.mark.thorough
def test_a_subset_and_what_is_read_as_it_is_needed_have_the_same_fingerprint(image_folder):
    source, chosen = ImageFolder(image_folder / "train"), np.array([1, 4, 7])
    held = splits_of(image_folder, validation_fraction=0.0)["train"]
    assert held.fingerprint() == source.fingerprint()
    assert held.subset(chosen).fingerprint() == source.subset(chosen).fingerprint() != source.fingerprint()


@pytest.mark.thorough
def test_a_run_of_a_version_that_noted_none_is_known_by_its_classes(image_folder, tmp_path):
    workdir, splits = Workdir(tmp_path / "run"), splits_of(image_folder)
    workdir.path.mkdir()
    check_images(workdir, splits)
    workdir.write_classes(["cat", "dog"], None)
    check_images(workdir, splits)
    workdir.write_classes(["ape", "dog"], None)
    with pytest.raises(UserError, match=r"classes \['ape'\] then, \['cat'\] now"):
        check_images(workdir, splits)
    workdir.write_classes(["dog", "cat"], None)
    with pytest.raises(UserError, match="classes in another order"):
        check_images(workdir, splits)
    for damaged in ('{"classes": ["cat", "dog"], "splits": 3}', '{"classes": ["cat", "dog"], "splits": {"test": 3}}'):
        (workdir.path / IMAGES).write_text(damaged)
        with pytest.raises(UserError, match="Expected the images that a run was begun with in .*images.json"):
            check_images(workdir, splits)


@pytest.mark.thorough
def test_images_that_have_moved_are_known_and_others_refused(image_folder, tmp_path):
    workdir = Workdir(tmp_path / "run")
    train.train(config_of(FOLDER, folder=image_folder), workdir)
    image_folder.rename(tmp_path / "elsewhere")
    elsewhere = config_of(FOLDER, folder=tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"choose another --workdir.*data\.source\.path: '.*elsewhere' here"):
        train.train(elsewhere, workdir)  # which would leave it as it is, whatever these images are
    workdir.check_owner(elsewhere, images_compared=True)
    assert evaluate.load_run(workdir, config=elsewhere).splits["train"].class_names == ["cat", "dog"]
    replaced(tmp_path / "elsewhere" / "test" / "dog" / "0.png")
    with pytest.raises(UserError, match="test: 6 images, but others"):
        evaluate.load_run(workdir, config=elsewhere)
    (workdir.path / "metrics.json").unlink()
    with pytest.raises(UserError, match="test: 6 images, but others"):
        train.train(elsewhere, workdir)
    (workdir.path / IMAGES).unlink()  # as of a version that noted none
    with pytest.raises(UserError, match=r"choose another --workdir.*data\.source\.path: '.*elsewhere' here"):
        workdir.check_owner(elsewhere, images_compared=True)


@pytest.mark.slow
def test_a_run_is_neither_gone_on_with_nor_evaluated_with_other_images(image_folder, tmp_path):
    config, workdir = config_of(FOLDER, folder=image_folder), Workdir(tmp_path / "run")
    train.train(config, workdir)
    assert json.loads((workdir.path / IMAGES).read_text())["splits"]["test"]["images"] == 6
    assert evaluate.load_run(workdir).splits["train"].class_names == ["cat", "dog"]
    for split in ("train", "test"):
        (image_folder / split / "cat").rename(image_folder / split / "zebra")
    before = files(workdir.path)
    with pytest.raises(UserError, match="classes .*zebra.* now"):
        evaluate.evaluate(workdir)
    assert files(workdir.path) == before
    (workdir.path / "metrics.json").unlink()
    before = files(workdir.path)
    with pytest.raises(UserError, match="classes .*zebra.* now"):
        train.train(config, workdir)
    assert files(workdir.path) == before
