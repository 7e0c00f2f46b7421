"""What the builders share: an archive is prepared once for its content, and a damaged one is refused by name."""

import pytest

from tests.data.catalogue.layouts import write_mit67, write_tiny_imagenet
from tests.data.grey_images import TEST, THIRDS, TRAIN, contents, image, named, pack
from tests.helpers import load_splits

ZIP, TAR = "tiny-imagenet-200.zip", "indoorCVPR_09.tar"


def add_to_tiny_imagenet(folder):
    write_tiny_imagenet(folder, more={"tiny-imagenet-200/train/n01443537/images/more.JPEG": image(70)})


def add_to_mit67(folder):
    write_mit67(folder, more={"Images/bar/more.jpg": image(70)})
    (folder / "TrainImages.txt").write_text((folder / "TrainImages.txt").read_text() + "\nbar/more.jpg\n")


@pytest.mark.parametrize(
    ("name", "file", "write", "add"),
    [
        ("tiny_imagenet", ZIP, write_tiny_imagenet, add_to_tiny_imagenet),
        ("mit67", TAR, write_mit67, add_to_mit67),
    ],
)
def test_another_archive_is_prepared_once_for_its_content(name, file, write, add, tmp_path, monkeypatch):
    names = write(tmp_path)
    arguments = {"path": str(tmp_path / "data"), "archive": str(tmp_path / file), **THIRDS}
    splits = load_splits(name, **arguments)
    assert contents(splits["train"], splits["val"]) == named(TRAIN, names)
    assert contents(splits["test"]) == named(TEST, names)
    (tmp_path / file).rename(tmp_path / "moved")
    with monkeypatch.context() as patch:
        patch.setattr("cskd_tf.data.catalogue.tfds._prepare", None)  # which would fail, if it was called
        load_splits(name, **{**arguments, "archive": str(tmp_path / "moved")})
    add(tmp_path)
    splits = load_splits(name, **arguments)
    assert 70 in [number for _, number in contents(splits["train"], splits["val"])]


def write_text(path):
    path.write_bytes(b"no archive")


def cut(path):
    path.write_bytes(path.read_bytes()[: -len(path.read_bytes()) // 2 + 100])


def write_another_layout(path):
    pack(path, {"photos/a/1.JPEG": image(0), "photos/b/1.JPEG": image(0)})


def flip_a_bit(path):
    """Changes a pixel of one image, which a zip's checksums tell and a tar has none for."""
    content = path.read_bytes()
    place = content.index(image(20)) + 300
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])


@pytest.mark.parametrize(
    ("name", "file", "write", "damage", "message"),
    [
        ("tiny_imagenet", ZIP, write_tiny_imagenet, write_text, "a zip archive. Received"),
        ("tiny_imagenet", ZIP, write_tiny_imagenet, cut, "a zip archive. Received: .*tiny-imagenet-200.zip"),
        ("tiny_imagenet", ZIP, write_tiny_imagenet, write_another_layout, "0 training images and no annotations"),
        ("tiny_imagenet", ZIP, write_tiny_imagenet, flip_a_bit, "tiny-imagenet-200.zip.*n01443537_20.JPEG"),
        ("mit67", TAR, write_mit67, write_text, "a tar archive. Received"),
        ("mit67", TAR, write_mit67, cut, "indoorCVPR_09.tar"),
        ("mit67", TAR, write_mit67, write_another_layout, "4 that are missing"),
    ],
)
def test_wrong_archives_are_refused(name, file, write, damage, message, tmp_path, prepared_folders):
    write(tmp_path)
    damage(tmp_path / file)
    with pytest.raises(ValueError, match=message):
        load_splits(name, path=str(tmp_path / "data"), archive=str(tmp_path / file), **THIRDS)
    assert not prepared_folders()
