"""Folders of images, good and bad: which classes and files are found, and which are refused by name."""

import os
import shutil
import unicodedata

import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.data import ImageFolder
from tests.data.helpers import HALVES, paths, write
from tests.data.image_files import BROKEN
from tests.helpers import load_splits


def test_a_folder_gives_sorted_classes_and_decoded_images(image_folder):
    source = ImageFolder(image_folder / "train")
    assert source.class_names == ["cat", "dog"]
    assert source.class_groups is None
    assert source.labels.tolist() == [0] * 6 + [1] * 6
    assert source.sizes.tolist() == [os.path.getsize(path) for path in paths(source)]
    image = source.decode_one(8)
    assert image.shape == (22, 22, 3)
    assert image.dtype == tf.uint8
    assert ImageFolder(image_folder / "train", channels=1).decode_one(0).shape == (20, 24, 1)


def test_folders_that_cannot_be_used_are_refused(image_folder):
    train = image_folder / "train"
    with pytest.raises(ValueError, match="no folder .*nowhere"):
        ImageFolder(image_folder / "nowhere")
    with pytest.raises(ValueError, match="cat, without folders"):
        ImageFolder(train / "cat")
    with pytest.raises(ValueError, match="train, without 2 levels of folders"):
        ImageFolder(train, levels=2)
    with pytest.raises(ValueError, match=r"Received: without \['bird'\]$"):
        ImageFolder(train, class_names=["bird", "cat", "dog"])
    with pytest.raises(ValueError, match=r"Received: \['dog'\] in place of \['DOG'\], which look alike: rename one"):
        ImageFolder(train, class_names=["DOG", "cat"])
    (train / "empty").mkdir()
    with pytest.raises(ValueError, match="Received: none in .*train/empty"):
        ImageFolder(train)


@pytest.mark.thorough
def test_levels_of_folders_and_their_groups(tmp_path):
    for name in ("greek/beta", "greek/alpha", "latin/a"):
        for number in range(4):
            write(tmp_path / name / "deeper" / f"{number}.jpg")
    one, two = (ImageFolder(tmp_path, levels=levels) for levels in (1, 2))
    assert (one.class_names, one.class_groups, one.labels.tolist()) == (["greek", "latin"], None, [0] * 8 + [1] * 4)
    assert two.class_names == ["greek/alpha", "greek/beta", "latin/a"]
    assert two.class_groups == ["greek", "greek", "latin"]
    assert np.bincount(two.labels).tolist() == [4, 4, 4]
    splits = load_splits("image_folder", path=str(tmp_path), class_levels=2, **HALVES)
    assert splits["test"].class_groups == ["greek", "greek", "latin"]


def test_unicode_and_spaces_in_names(tmp_path):
    files = [write(tmp_path / name / file) for name in ("Ärger 猫", "two  words") for file in ("a b.JPG", "Ünï 1.jpeg")]
    source = ImageFolder(tmp_path)
    assert source.class_names == ["two  words", "Ärger 猫"]
    assert sorted(paths(source)) == sorted(map(str, files))
    assert source.decode_one(3).shape == (45, 61, 3)


@pytest.mark.parametrize(
    "names",
    [("cat", "Cat"), ("straße", "STRASSE"), tuple(unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))],
)
def test_classes_that_would_be_one_on_other_systems_are_refused(names, tmp_path):
    for name in (*names, "other"):
        write(tmp_path / name / "1.jpg")
    with pytest.raises(ValueError, match="differ by more than case.*Received: ") as error:
        ImageFolder(tmp_path)
    assert str(sorted(names)) in str(error.value)


def test_hidden_files_and_other_kinds_are_left_out(two_classes, caplog):
    for name in (
        "cat/.hidden.jpg",
        "cat/notes.txt",
        "cat/more.TXT",
        "dog/3.txt",
        "dog/1.gif",
        "dog/2.gif",
        "dog/README",
        ".git/a.jpg",
    ):
        write(two_classes / name)
    with caplog.at_level("WARNING"):
        source = ImageFolder(two_classes)
    assert source.class_names == ["cat", "dog"]
    assert [os.path.basename(path) for path in paths(source)] == ["1.jpg", "2.jpg"] * 2
    assert "neither JPEG nor PNG are left out: 1 without a suffix, 2 .gif, 3 .txt" in caplog.text


@pytest.mark.parametrize("levels", [1, 2])
def test_images_beside_the_folders_of_the_classes_are_told(levels, tmp_path, caplog):
    folder = tmp_path if levels == 1 else tmp_path / "greek"
    for name in ("alpha/1.jpg", "beta/1.jpg", "stray.JPG", "another.png", ".hidden.png", "notes.txt"):
        write(folder / name)
    with caplog.at_level("WARNING"):
        source = ImageFolder(tmp_path, levels=levels)
    assert len(source.labels) == 2
    assert f"Images beside the folders of the classes are left out: 2, such as {folder / 'another.png'}" in caplog.text


def test_links_are_followed_once(two_classes, tmp_path):
    outside = write(tmp_path / "elsewhere" / "bird" / "1.jpg")
    (two_classes / "bird").symlink_to(outside.parent)
    (two_classes / "cat" / "linked.jpg").symlink_to(outside)
    (two_classes / "cat" / "again").symlink_to(two_classes / "cat")
    (two_classes / "dog" / "up").symlink_to(two_classes / "dog" / "down")
    (two_classes / "dog" / "down").symlink_to(two_classes / "dog" / "up")
    source = ImageFolder(two_classes)
    assert source.class_names == ["bird", "cat", "dog"]
    assert [os.path.basename(path) for path in paths(source)] == [
        "1.jpg",
        "1.jpg",
        "2.jpg",
        "linked.jpg",
        "1.jpg",
        "2.jpg",
    ]
    assert source.decode_one(0).shape == (45, 61, 3)


@pytest.mark.parametrize("target", ["loop", ".", ".."])
def test_class_folders_that_are_links_in_a_circle_are_refused(target, two_classes):
    (two_classes / "loop").symlink_to(target)  # itself, the folder of the classes, and the one above
    with pytest.raises(ValueError, match="two/loop"):
        ImageFolder(two_classes)


def test_a_class_that_is_a_link_to_nothing_is_named(two_classes):
    (two_classes / "fox").symlink_to("unmounted")
    with pytest.raises(ValueError, match="Expected links to folders that are there. Received: .*two/fox, to unmounted"):
        ImageFolder(two_classes)


def test_a_folder_of_images_that_begins_with_a_dot_is_told(two_classes, caplog):
    write(two_classes / "..d" / "1.jpg")
    write(two_classes / ".git" / "index")
    with caplog.at_level("WARNING"):
        assert ImageFolder(two_classes).class_names == ["cat", "dog"]
    assert "..d: a folder whose name begins with a dot is left out, with its images" in caplog.text
    assert ".git:" not in caplog.text


def test_a_folder_within_a_class_that_begins_with_a_dot_is_left_out_and_told(two_classes, caplog):
    """Where network drives put their thumbnails."""
    before = ImageFolder(two_classes).fingerprint()
    write(two_classes / "cat" / ".@__thumb" / "1.jpg")
    write(two_classes / "dog" / ".Trash-1000" / "files" / "1.jpg")
    write(two_classes / "cat" / ".git" / "index")
    with caplog.at_level("WARNING"):
        assert ImageFolder(two_classes).fingerprint() == before
    for name in ("cat/.@__thumb", "dog/.Trash-1000"):
        assert f"{name}: a folder whose name begins with a dot is left out, with its images" in caplog.text
    assert ".git:" not in caplog.text


def test_a_class_whose_name_is_no_unicode_is_refused(two_classes):
    try:
        os.rename(two_classes / "cat", os.fsencode(two_classes) + b"/caf\xe9")
    except OSError:
        pytest.skip("this file system takes no names but in UTF-8")
    with pytest.raises(ValueError, match=r"Expected names of classes in UTF-8. Received: \['caf\\udce9'\] in .*two"):
        ImageFolder(two_classes)


def test_a_link_within_a_class_to_what_holds_the_classes_is_refused(two_classes):
    (two_classes / "cat" / "up").symlink_to("..")
    with pytest.raises(ValueError, match="no link to a folder that holds it. Received: .*two/cat/up"):
        ImageFolder(two_classes)


def test_two_links_to_one_folder_count_once(two_classes, tmp_path):
    outside = write(tmp_path / "elsewhere" / "1.jpg").parent
    for name in ("one", "two"):
        (two_classes / "cat" / name).symlink_to(outside)
    assert np.bincount(ImageFolder(two_classes).labels).tolist() == [3, 2]


def test_names_in_another_encoding_than_unicode_are_read(two_classes):
    name = os.fsdecode(b"\xe9.png")
    shutil.copy(write(two_classes / "dog" / "a.png"), os.path.join(two_classes, "cat", name))
    source = ImageFolder(two_classes)
    index = len(os.listdir(two_classes / "cat")) - 1
    assert source.locate(index).endswith("cat/\\xe9.png")
    assert source.decode_one(index).shape[2] == 3


@pytest.mark.parametrize("target", ["loop.jpg", "gone.jpg"])
def test_files_that_are_links_to_nothing_are_named(target, two_classes):
    (two_classes / "cat" / "loop.jpg").symlink_to(two_classes / "cat" / target)
    with pytest.raises(ValueError, match=r"1 that are not whole images: \['.*cat/loop.jpg'\]"):
        ImageFolder(two_classes)


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_broken_files_are_refused_by_name(kind, suffix, two_classes):
    write(two_classes / "dog" / f"broken.{suffix}", BROKEN[kind])
    with pytest.raises(ValueError, match=rf"1 that are not whole images: \['.*dog/broken.{suffix}'\]"):
        ImageFolder(two_classes)


def test_all_broken_files_are_counted(two_classes):
    for number, content in enumerate(BROKEN.values()):
        write(two_classes / "dog" / f"broken_{number:02d}.jpg", content)
    with pytest.raises(ValueError, match=rf"{len(BROKEN)} that are not whole images: \['.*_00.jpg', .*_09.jpg'\]"):
        ImageFolder(two_classes)


@pytest.mark.parametrize("names", [["config.json", "log.jsonl"], ["saved_model.pb"]])
def test_a_run_among_the_classes_is_no_class(names, image_folder):
    """Whose figures would be images of it."""
    run = image_folder / "train" / "runs" / "mine"
    (run / "figures").mkdir(parents=True)
    shutil.copy(image_folder / "train/cat/0.png", run / "figures/reliability_val.png")
    (image_folder / "train/cat/log.jsonl").touch()  # of somebody else
    ImageFolder(image_folder / "train")
    for name in names:
        (run / name).touch()
    with pytest.raises(ValueError, match=rf"runs and exports belong somewhere else.* Received: .*/runs, .* {run}"):
        ImageFolder(image_folder / "train")


def test_classes_that_hold_folders_of_images_are_told_of(image_folder, caplog):
    folder = image_folder / "train"
    for name in ("cat", "dog"):  # as unpacked from some archives: cat/images/0.png
        (folder / name).rename(image_folder / "images")
        (folder / name).mkdir()
        (image_folder / "images").rename(folder / name / "images")
    assert ImageFolder(folder).class_names == ["cat", "dog"]
    assert "class_levels" not in caplog.text
    shutil.copytree(folder / "cat/images", folder / "cat/more")
    assert ImageFolder(folder).class_names == ["cat", "dog"]
    assert "the images of 1 classes, such as cat, lie in several folders each. All of them are one class" in caplog.text
