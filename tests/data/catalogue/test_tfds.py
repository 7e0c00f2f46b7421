"""Data sets of TFDS' catalogue and of our builders: found, prepared once and whole, opened by split, or refused."""

import contextlib
import errno
import os

import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from etils import epath

from cskd_tf.data.catalogue import tfds as tfds_catalogue
from tests.data.catalogue.layouts import LAYOUTS
from tests.data.grey_images import TEST, THIRDS, TRAIN, contents, image, named, pack, pixels_of
from tests.helpers import load_splits
from tests.selection import few


@pytest.mark.parametrize("name", few(LAYOUTS, 3))
def test_archives_in_the_manual_folder_are_prepared_once(name, tmp_path, manual, by_hand, monkeypatch):
    names = by_hand(name)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    splits = load_splits(name, path=str(tmp_path), **THIRDS)
    assert splits["train"].class_names == sorted(names, key=list(names).index)
    assert splits["train"].image_shape == (None, None, 3)
    for parts, images in LAYOUTS[name].images:
        assert contents(*(splits[part] for part in parts)) == named(images, names)
    assert [len(splits[split].labels) for split in ("train", "val", "test")] == [2, 2, 2]
    assert list((tmp_path / "temporary").glob("*tfds*")) == []
    for path in manual.iterdir():
        path.unlink()
    monkeypatch.setattr("cskd_tf.data.catalogue.tfds._prepare", None)  # which would fail, if it was called
    again = load_splits(name, path=str(tmp_path), **THIRDS)
    assert {split: contents(source) for split, source in again.items()} == {
        split: contents(source) for split, source in splits.items()
    }


def test_what_another_process_prepares_meanwhile_is_not_prepared_again(tmp_path, by_hand, monkeypatch):
    by_hand("cifar10")
    wait = tfds_catalogue.one_at_a_time

    @contextlib.contextmanager
    def while_another_prepares(path):
        monkeypatch.setattr(tfds_catalogue, "one_at_a_time", wait)
        load_splits("cifar10", path=str(tmp_path), **THIRDS)
        monkeypatch.setattr(tfds_catalogue, "_prepare", None)  # which would fail, if it was called
        with wait(path):
            yield

    monkeypatch.setattr(tfds_catalogue, "one_at_a_time", while_another_prepares)
    splits = load_splits("cifar10", path=str(tmp_path), **THIRDS)
    assert [len(splits[split].labels) for split in ("train", "val", "test")] == [2, 2, 2]


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifars_planes_become_channels(name, tmp_path, by_hand):
    by_hand(name)
    test = load_splits(name, path=str(tmp_path), **THIRDS)["test"]
    pixels = pixels_of(test, 0)
    number = int(pixels[0, 0, 0])
    assert pixels.shape == (32, 32, 3)
    assert pixels[0, 1].tolist() == [number + 100, number + 101, number + 102]
    assert pixels[1, 0].tolist() == pixels[31, 31].tolist() == [number, number + 1, number + 2]


def test_coarse_labels_are_the_groups_of_classes(tmp_path, by_hand):
    by_hand("cifar100")  # whose images are all of coarse label 7
    splits = load_splits("cifar100", path=str(tmp_path), **THIRDS)
    assert [splits[split].class_groups for split in ("train", "val", "test")] == [["c_07"] * 2] * 3
    by_hand("cifar10")
    assert load_splits("cifar10", path=str(tmp_path), **THIRDS)["train"].class_groups is None


def test_tfds_leaves_out_members_outside_of_the_archives_folder(tmp_path, by_hand):
    by_hand("cifar10")  # which has one
    load_splits("cifar10", path=str(tmp_path), **THIRDS)
    assert not list(tmp_path.rglob("outside.txt"))


@pytest.mark.thorough
def test_loading_leaves_the_log_as_loud_as_it_was(tiny, caplog):
    with caplog.at_level("INFO", logger="absl"):
        load_splits("tiny_imagenet", **{**tiny[0], "memory": 1})
        load_splits("tiny_imagenet", **{**tiny[0], "memory": 1})
    assert sum("Preparing tiny_imagenet/archive_" in message for message in caplog.messages) == 1
    assert sum("test: 2 images decoded in memory" in message for message in caplog.messages) == 2


def test_any_of_tfds_sets_by_name(tmp_path, by_hand):
    names = by_hand("cifar10")
    splits = load_splits("tfds:cifar10", path=str(tmp_path), **THIRDS)
    assert contents(splits["test"]) == named(TEST, names)  # which it has, as it has no validation split
    assert contents(splits["train"], splits["val"]) == named(TRAIN, names)


def test_validation_images_of_untrained_classes_are_left_out(tmp_path, manual, by_hand, caplog):
    names = by_hand("imagenet2012")
    more = {f"ILSVRC2012_val_{place:08d}.JPEG": image(number) for place, number in ((1, 50), (2, 60), (3, 70))}
    pack(manual / "ILSVRC2012_img_val.tar", more)
    with caplog.at_level("WARNING"):
        splits = load_splits("imagenet2012", path=str(tmp_path), **THIRDS)
    assert contents(splits["test"]) == named(TEST, names)
    assert "validation: 1 images of classes without a training image are left out" in caplog.text


def test_images_without_labels_are_refused(tmp_path, manual, by_hand):
    by_hand("imagenet2012")
    pack(manual / "ILSVRC2012_img_test.tar", {"ILSVRC2012_test_00000001.JPEG": image(0)})
    with pytest.raises(ValueError, match="Expected images with labels. Received: imagenet2012.*, test, with 1 that"):
        load_splits("imagenet2012", path=str(tmp_path), test="test", **THIRDS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": "training"}, r"expected one of \['train', 'validation'\], or a part.*Received: 'training'"),
        ({"test": "test"}, r"Unknown split of tiny_imagenet/archive_.*Received: 'test'"),
        ({"val": "train[:50"}, r"Unknown split.*Received: 'train\[:50'"),
        ({"train": "train[:0]"}, "at least one image"),
        (
            {"archive": "nowhere.zip"},
            "Expected data.source.archive to name a file. Received: data.source.archive='nowhere.zip'",
        ),
        ({"channels": 1, "name": "digits+tiny_imagenet"}, "'digits': 'arrays', 'tiny_imagenet': 'JPEG or PNG'"),
        ({"name": "tiny_imagenet+mit67", "archive": os.pathsep * 2}, "one entry, or 2 with ':' between.*Received: 3"),
        ({"name": "tfds:no_such_set", "archive": ""}, "Unknown data set of TFDS. Received: 'no_such_set'"),
        ({"name": "tfds:cifar100:9.9.9", "archive": ""}, "Unknown data set of TFDS. Received: 'cifar100:9.9.9'"),
        ({"name": "tfds:cifar100/foo", "archive": ""}, "Unknown data set of TFDS. Received: 'cifar100/foo'"),
    ],
)
def test_wrong_names_are_refused(changes, message, tiny):
    arguments = {"name": "tiny_imagenet", **tiny[0], **changes}
    with pytest.raises(ValueError, match=message):
        load_splits(**arguments)


def test_sets_that_are_no_images_with_a_class_are_refused(tmp_path):
    class Sentences(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = tfds.features.FeaturesDict({"sentence": tfds.features.Text()})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {"train": iter([(0, {"sentence": "a"})])}

        def _generate_examples(self):
            raise NotImplementedError

    with pytest.raises(ValueError, match=r"supervised keys are.*sentences/1.0.0 with no supervised.*\['sentence'\]"):
        load_splits("tfds:sentences", path=str(tmp_path))


@pytest.mark.parametrize(
    ("name", "files"),
    {
        "tiny_imagenet": ["tiny-imagenet-200.zip from http://cs231n.stanford.edu/tiny-imagenet-200.zip"],
        "mit67": [
            "indoorCVPR_09.tar from http://groups.csail.mit.edu/vision/LabelMe/NewImages/indoorCVPR_09.tar",
            "TrainImages.txt from http://web.mit.edu/torralba/www/TrainImages.txt",
            "TestImages.txt from http://web.mit.edu/torralba/www/TestImages.txt",
        ],
        "cifar10": ["cifar-10-binary.tar.gz from https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"],
        "cifar100": ["cifar-100-binary.tar.gz from https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"],
        "caltech_birds2011": [
            "CUB_200_2011.tgz from https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz?download=1",
            "segmentations.tgz from https://data.caltech.edu/records/w9d68-gec53/files/segmentations.tgz?download=1",
        ],
        "stanford_dogs": [
            f"{file}.tar from http://vision.stanford.edu/aditya86/ImageNetDogs/{file}.tar"
            for file in ("images", "lists", "annotation")
        ],
        "omniglot": [
            f"images_{part}.zip from https://github.com/brendenlake/omniglot/raw/master/python/images_{part}.zip"
            for part in ("background", "evaluation", "background_small1", "background_small2")
        ],
        "imagenet2012": ["ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "https://image-net.org/download-images"],
    }.items(),
)
def test_missing_archives_are_named_with_their_place(name, files, tmp_path, prepared_folders):
    with pytest.raises(ValueError) as error:
        load_splits(name, path=str(tmp_path))
    for expected in (*files, f"put them into {tmp_path / 'downloads' / 'manual'}:"):
        assert expected in str(error.value)
    assert not prepared_folders()


@pytest.mark.parametrize("file", ["ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"])
def test_a_half_of_imagenet_is_not_taken_for_all(file, tmp_path, manual, by_hand):
    names = by_hand("imagenet2012")
    (manual / file).rename(tmp_path / "later.tar")
    with pytest.raises(ValueError, match=rf"(?s)put them into .*manual:.*{file}"):
        load_splits("imagenet2012", path=str(tmp_path), **THIRDS)
    (tmp_path / "later.tar").rename(manual / file)
    splits = load_splits("imagenet2012", path=str(tmp_path), **THIRDS)
    assert contents(splits["train"], splits["val"]) == named(TRAIN, names)
    assert contents(splits["test"]) == named(TEST, names)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "tiny_imagenet",
            r"tiny-imagenet-200.zip, with sha256 6198c.*data.source.archive. Received: .*manual/tiny.*zip, with",
        ),
        (
            "mit67",
            r"indoorCVPR_09.tar, with sha1 0b252.*data.source.archive. Received: .*manual/indoorCVPR_09.tar, with",
        ),
        ("cifar10", "(?s)Received: NonMatchingChecksumError: .*manual/cifar-10-binary.tar.gz, has wrong checksum"),
        ("caltech_birds2011", "(?s)Received: NonMatchingChecksumError: .*manual/CUB_200_2011.tgz, has wrong checksum"),
        ("stanford_dogs", "(?s)Received: NonMatchingChecksumError: .*tar, has wrong checksum"),
        ("omniglot", "(?s)Received: NonMatchingChecksumError: .*zip, has wrong checksum"),
    ],
)
def test_archives_of_another_checksum_are_refused(name, message, tmp_path, manual, prepared_folders):
    LAYOUTS[name].write(manual)
    with pytest.raises(ValueError, match=message):
        load_splits(name, path=str(tmp_path))
    assert not prepared_folders()


@pytest.mark.parametrize("file", ["ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"])
@pytest.mark.parametrize("damage", [lambda whole: b"no tar", lambda whole: image(0), lambda whole: whole[:700]])
def test_archives_of_imagenet_that_are_no_whole_tar_are_refused(
    file, damage, tmp_path, manual, by_hand, prepared_folders
):
    by_hand("imagenet2012")
    (manual / file).write_bytes(damage((manual / file).read_bytes()))
    with pytest.raises(ValueError, match=file):
        load_splits("imagenet2012", path=str(tmp_path))
    assert not prepared_folders()


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_what_was_half_prepared_is_prepared_anew(error, tiny, tmp_path, monkeypatch, prepared_folders):
    class FullDisk(tf.io.TFRecordWriter):
        written = 0

        def write(self, record):
            FullDisk.written += 1
            if FullDisk.written > 5:  # the training images, and one for validation
                raise error
            super().write(record)

    with monkeypatch.context() as patch:
        patch.setattr(tf.io, "TFRecordWriter", FullDisk)
        with pytest.raises(type(error)):
            load_splits("tiny_imagenet", **tiny[0])
    assert FullDisk.written == 6
    assert not prepared_folders()
    splits = load_splits("tiny_imagenet", **tiny[0])
    assert contents(splits["train"], splits["val"]) == named(TRAIN, tiny[1])
    assert contents(splits["test"]) == named(TEST, tiny[1])


def test_what_a_killed_process_left_is_not_taken_for_whole(tiny, tmp_path, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(epath.Path()), "rename", killed)
        patch.setattr(type(epath.Path()), "rmtree", lambda *_, **__: None)  # a killed process clears nothing away
        with pytest.raises(KeyboardInterrupt):
            load_splits("tiny_imagenet", **tiny[0])
    assert len(list(tmp_path.rglob("incomplete*/*.tfrecord*"))) == 2
    splits = load_splits("tiny_imagenet", **tiny[0])
    assert contents(splits["train"], splits["val"]) == named(TRAIN, tiny[1])
    assert contents(splits["test"]) == named(TEST, tiny[1])


def test_data_sets_are_kept_in_the_home_folder_where_no_other_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ValueError, match=f"put them into {tmp_path}/tensorflow_datasets/downloads/manual:"):
        load_splits("mit67")
