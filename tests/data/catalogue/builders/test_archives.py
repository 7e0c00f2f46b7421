"""What the builders share: an archive is prepared once for its content, and a damaged one is refused by name."""

import gzip
import struct
import zipfile

import pytest

from cskd_tf.data.catalogue.builders import archives
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


def bomb(path):
    """Adds an image of a megabyte of zeros, which are packed in a thousandth of it."""
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tiny-imagenet-200/train/n01443537/images/bomb.JPEG", bytes(2**20))


def hidden_bomb(path):
    """The same, of which the archive says that it has 9 bytes."""
    bomb(path)
    content = path.read_bytes()
    size = struct.pack("<I", 2**20)
    assert content.count(size) == 2
    path.write_bytes(content.replace(size, struct.pack("<I", 9)))


def lock(path):
    """Says of all members that they have a password."""
    content = bytearray(path.read_bytes())
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = content.find(signature)
        while start >= 0:
            content[start + place] |= 1
            start = content.find(signature, start + 4)
    path.write_bytes(content)


def pack_as_nobody_does(path):
    content = bytearray(path.read_bytes())
    start = content.find(b"PK\x01\x02")
    while start >= 0:
        content[start + 10 : start + 12] = struct.pack("<H", 77)
        start = content.find(b"PK\x01\x02", start + 4)
    path.write_bytes(content)


def claim_a_gigabyte(path):
    """For an image of the lists."""
    content = path.read_bytes()
    place = content.index(b"Images/bar/")
    header = bytearray(content[place : place + 512])
    header[124:136] = b"%011o\0" % 2**30
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path.write_bytes(content[:place] + bytes(header) + content[place + 512 :])


def cut_gzip(path):
    packed = gzip.compress(path.read_bytes())
    path.write_bytes(packed[: len(packed) // 2])


@pytest.mark.parametrize(
    ("name", "file", "write", "damage", "message"),
    [
        ("tiny_imagenet", ZIP, write_tiny_imagenet, bomb, "at most 100,000 bytes. Received: .*bomb.JPEG"),
        ("tiny_imagenet", ZIP, write_tiny_imagenet, hidden_bomb, "whole zip archive. Received: .*bomb.JPEG"),
        ("tiny_imagenet", ZIP, write_tiny_imagenet, lock, "whole zip archive. Received: .*password required"),
        ("tiny_imagenet", ZIP, write_tiny_imagenet, pack_as_nobody_does, "whole zip archive. Received: .*compression"),
        ("mit67", TAR, write_mit67, claim_a_gigabyte, "whole tar archive. Received: .*end of data"),
        ("mit67", TAR, write_mit67, cut_gzip, "whole tar archive. Received: "),
        ("tiny_imagenet", ZIP, write_tiny_imagenet, write_text, "a whole zip archive. Received"),
        ("tiny_imagenet", ZIP, write_tiny_imagenet, cut, "a whole zip archive. Received: .*tiny-imagenet-200.zip"),
        ("tiny_imagenet", ZIP, write_tiny_imagenet, write_another_layout, "0 training images and no annotations"),
        ("tiny_imagenet", ZIP, write_tiny_imagenet, flip_a_bit, "tiny-imagenet-200.zip.*n01443537_20.JPEG"),
        ("mit67", TAR, write_mit67, write_text, "a whole tar archive. Received"),
        ("mit67", TAR, write_mit67, cut, "indoorCVPR_09.tar"),
        ("mit67", TAR, write_mit67, write_another_layout, "4 that are missing"),
    ],
)
def test_wrong_archives_are_refused(name, file, write, damage, message, tmp_path, prepared_folders, monkeypatch):
    monkeypatch.setattr(archives, "MOST_BYTES", 100_000)
    write(tmp_path)
    damage(tmp_path / file)
    with pytest.raises(ValueError, match=message):
        load_splits(name, path=str(tmp_path / "data"), archive=str(tmp_path / file), **THIRDS)
    assert not prepared_folders()


@pytest.mark.parametrize(
    ("name", "file", "write"), [("tiny_imagenet", ZIP, write_tiny_imagenet), ("mit67", TAR, write_mit67)]
)
def test_members_that_are_too_large_for_images_are_refused(name, file, write, tmp_path, prepared_folders, monkeypatch):
    monkeypatch.setattr(archives, "MOST_BYTES", 100)
    write(tmp_path)
    with pytest.raises(ValueError, match=f"members of at most 100 bytes. Received: .*{file} with "):
        load_splits(name, path=str(tmp_path / "data"), archive=str(tmp_path / file), **THIRDS)
    assert not prepared_folders()
