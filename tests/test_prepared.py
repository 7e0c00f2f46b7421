"""Small archives in the layout of each published one, read by TFDS' builders and by ours."""

import errno
import hashlib
import io
import os
import tarfile
import zipfile

import numpy as np
import PIL.Image
import pytest
import requests
import scipy.io
import tensorflow as tf
import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.core.download import checksums, downloader
from tensorflow_datasets.core.utils import shard_utils
from tensorflow_datasets.image_classification import omniglot

from cskd_tf.data import EncodedSource
from cskd_tf.data.catalogue import prepared
from cskd_tf.data.catalogue.builders import mit67, tiny_imagenet
from cskd_tf.data.sources import tfrecords as records
from tests.helpers import load_splits

# Every image has one grey, its number: two training images and a test image of each of two classes.
TRAIN = ((0, 10), (0, 20), (1, 30), (1, 40))
TEST = ((0, 50), (1, 60))


def image(number, *, kind="JPEG", mode="L", size=(8, 8)):
    if mode == "1":  # as many white pixels as make the mean
        pixels = PIL.Image.fromarray(np.arange(size[0] * size[1]).reshape(size) < number / 255 * size[0] * size[1])
    else:
        pixels = PIL.Image.new(mode, size, number)
    file = io.BytesIO()
    pixels.save(file, kind, **({"quality": 100} if kind == "JPEG" else {}))
    return file.getvalue()


def pixels_of(source, index):
    if isinstance(source, EncodedSource):
        return source.decode_one(index).numpy()
    return source.load(tf.constant([index], tf.int64)).numpy()[0]


def number_of(source, index):
    return round(pixels_of(source, index)[..., 0].mean())


def contents(*sources):
    """(class name, number) of every image, sorted."""
    return sorted((s.class_names[label], number_of(s, i)) for s in sources for i, label in enumerate(s.labels))


def named(images, names):
    return sorted((names[label], number) for label, number in images)


def tar_of(files, *, mode="w"):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def pack(path, files):
    """Writes a zip or tar of `{name: content}`."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        path.write_bytes(tar_of(files, mode="w:gz" if path.suffix in (".gz", ".tgz") else "w"))


# --- One writer a data set: puts its archives into a folder, and returns the names of the two classes. ---


def write_tiny_imagenet(folder, *, annotations=None, without=(), more=None):
    names, root = ("n01443537", "n01629819"), "tiny-imagenet-200"
    files = {f"{root}/wnids.txt": "\n".join(names[::-1]), f"{root}/words.txt": "n01443537\tgoldfish\n"}
    for label, number in TRAIN:
        files[f"{root}/train/{names[label]}/{names[label]}_boxes.txt"] = ""
        files[f"{root}/train/{names[label]}/images/{names[label]}_{number}.JPEG"] = image(number)
    for label, number in TEST:
        files[f"{root}/val/images/val_{label}.JPEG"] = image(number)
    lines = [f"val_{label}.JPEG\t{names[label]}\t0\t32\t44\t62\n" for label, _ in TEST]
    files[f"{root}/val/val_annotations.txt"] = "".join(lines) if annotations is None else annotations
    files[f"{root}/test/images/test_0.JPEG"] = image(0)
    files = {name: content for name, content in files.items() if name not in without}
    pack(folder / "tiny-imagenet-200.zip", files | (more or {}))
    return names


def write_mit67(folder, *, lists=None, more=None):
    names = ("airport_inside", "bar")
    files, lines = {}, {"TrainImages.txt": [], "TestImages.txt": []}
    for file, images in zip(lines, (TRAIN, TEST), strict=True):
        for label, number in images:
            lines[file].append(f"{names[label]}/{names[label]}_{number}.jpg")
            files[f"Images/{lines[file][-1]}"] = image(number)
    files["Images/bar/in_neither_list.jpg"] = image(0)
    pack(folder / "indoorCVPR_09.tar", files | (more or {}))
    for file, text in ({name: "\r\n".join(each) for name, each in lines.items()} | (lists or {})).items():
        if text is not None:
            (folder / file).write_bytes(text.encode())
    return names


def cifar_rows(images, *, coarse=b""):
    """Rows of the binary layout: label, then all of red, of green, of blue; the second pixel is 100 brighter."""
    rows = b""
    for label, number in images:
        planes = np.broadcast_to(np.arange(3, dtype=np.uint8)[:, None] + number, (3, 1024)).copy()
        planes[:, 1] += 100
        rows += coarse + bytes([3 + label]) + planes.tobytes()
    return rows


def write_cifar10(folder):
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    files = {"batches.meta.txt": "\n".join(names).encode() + b"\n\n", "test_batch.bin": cifar_rows(TEST)}
    files |= {f"data_batch_{number}.bin": cifar_rows(TRAIN[number - 1 : number]) for number in range(1, 6)}
    files["../../outside.txt"] = b"no"
    pack(folder / "cifar-10-binary.tar.gz", {f"cifar-10-batches-bin/{name}": each for name, each in files.items()})
    return names[3:5]


def write_cifar100(folder):
    fine, coarse = ([f"{kind}_{number:02d}" for number in range(count)] for kind, count in (("fine", 100), ("c", 20)))
    files = {"fine_label_names.txt": "\n".join(fine).encode(), "coarse_label_names.txt": "\n".join(coarse).encode()}
    files |= {"train.bin": cifar_rows(TRAIN, coarse=b"\x07"), "test.bin": cifar_rows(TEST, coarse=b"\x07")}
    pack(folder / "cifar-100-binary.tar.gz", {f"cifar-100-binary/{name}": each for name, each in files.items()})
    return fine[3:5]


def write_caltech_birds2011(folder):
    folders = ("001.Black_footed_Albatross", "002.Laysan_Albatross")
    files, masks, lists = {}, {}, {"images": "", "train_test_split": "", "bounding_boxes": ""}
    for place, (label, number) in enumerate(TRAIN + TEST, start=1):
        name = f"{folders[label]}/Albatross_{number:04d}_{place}"
        files[f"CUB_200_2011/images/{name}.jpg"] = image(number, mode="L" if place == 1 else "RGB", size=(8, 6))
        masks[f"segmentations/{name}.png"] = image(0, kind="PNG", size=(8, 6))
        lists["images"] += f"{place} {name}.jpg\n"
        lists["train_test_split"] += f"{place} {int((label, number) in TRAIN)}\n"
        lists["bounding_boxes"] += f"{place} 1.0 1.0 4.0 3.0\n"
    files |= {f"CUB_200_2011/{name}.txt": text.encode() for name, text in lists.items()}
    pack(folder / "CUB_200_2011.tgz", files)
    pack(folder / "segmentations.tgz", masks)
    return "0", "1"


def write_stanford_dogs(folder):
    names = [f"n{20 + number:08d}-Dog_{number}" for number in range(120)]
    files = {"train": [f"{name}/{name[:9]}_1.jpg" for name in names[2:]], "test": []}
    images, annotations = {}, {}
    for split, part in (("train", TRAIN), ("test", TEST)):
        for label, number in part:
            name = f"{names[label]}/{names[label][:9]}_{number}"
            files[split].append(f"{name}.jpg")
            images[f"Images/{name}.jpg"] = image(number)
            annotations[f"Annotation/{name}"] = (
                b"<annotation><size><width>8</width><height>8</height></size><object><bndbox><xmin>1</xmin>"
                b"<ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox></object></annotation>"
            )
    lists = {}
    for split, lines in {**files, "file": files["train"] + files["test"]}.items():
        cells = np.empty((len(lines), 1), object)
        cells[:, 0] = lines
        mat = io.BytesIO()
        scipy.io.savemat(mat, {"file_list": cells})
        lists[f"{split}_list.mat"] = mat.getvalue()
    pack(folder / "images.tar", images)
    pack(folder / "annotation.tar", annotations)
    pack(folder / "lists.tar", lists)
    return [name.lower() for name in names[:2]]


def write_omniglot(folder):
    # One class is in the background set and one in the evaluation set, as there; training takes both.
    everything = TRAIN + TEST
    for archive, root, label, name in (
        ("images_background", "images_background", 0, "Greek"),
        ("images_background_small1", "images_background_small1", 0, "Greek"),
        ("images_background_small2", "images_background_small2", 0, "Greek"),
        ("images_evaluation", "images_evaluation", 1, "Atlantean"),
    ):
        files = {
            f"{root}/{name}/character01/{label + 1:04d}_{number:02d}.png": image(
                number, kind="PNG", mode="1", size=(105, 105)
            )
            for each, number in everything
            if each == label
        }
        pack(folder / f"{archive}.zip", files)
    return "Greek_0", "Atlantean_0"


def write_imagenet2012(folder):
    names = ("n01751748", "n09193705")  # of the first two validation images, says TFDS
    train = {
        f"{name}.tar": tar_of({f"{name}_{number}.JPEG": image(number) for each, number in TRAIN if each == label})
        for label, name in enumerate(names)
    }
    pack(folder / "ILSVRC2012_img_train.tar", train)
    validation = {f"ILSVRC2012_val_{place:08d}.JPEG": image(number) for place, (_, number) in enumerate(TEST, start=1)}
    pack(folder / "ILSVRC2012_img_val.tar", validation)
    return names


WRITERS = {
    "tiny_imagenet": write_tiny_imagenet,
    "mit67": write_mit67,
    "cifar10": write_cifar10,
    "cifar100": write_cifar100,
    "caltech_birds2011": write_caltech_birds2011,
    "stanford_dogs": write_stanford_dogs,
    "omniglot": write_omniglot,
    "imagenet2012": write_imagenet2012,
}
OURS = ("tiny_imagenet", "mit67")
HALVES = {"test_fraction": 1 / 3, "validation_fraction": 0.5, "memory": 0}


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(url, **_):
        raise requests.ConnectionError(f"no network for {url}")

    monkeypatch.setattr(downloader, "_open_url", refuse)


@pytest.fixture
def manual(tmp_path):
    folder = tmp_path / "downloads" / "manual"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def by_hand(manual, monkeypatch):
    """Puts a data set's archives into the manual folder, and has their checksums expected; returns class names."""

    def put(name):
        class_names = WRITERS[name](manual)
        if name in OURS:
            monkeypatch.setattr(tiny_imagenet, "SHA256", digest(manual / "tiny-imagenet-200.zip", "sha256"))
            monkeypatch.setattr(mit67, "SHA1", digest(manual / "indoorCVPR_09.tar", "sha1"))
            return class_names
        builder_class = tfds.builder_cls(name)
        if builder_class.url_infos:
            expected = {
                url: checksums.compute_url_info(manual / info.filename)
                for url, info in builder_class.url_infos.items()
                if info.filename and (manual / info.filename).exists()
            }
            monkeypatch.setattr(builder_class, "url_infos", expected)
        if name == "omniglot":
            monkeypatch.setattr(omniglot, "_NUM_CLASSES", 2)
            monkeypatch.setattr(omniglot, "_NUM_ALPHABETS", 2)
        return class_names

    return put


@pytest.fixture
def tiny(tmp_path):
    """The arguments with which a small TinyImageNet is loaded, and its class names."""
    names = write_tiny_imagenet(tmp_path)
    return {"path": str(tmp_path / "data"), "archive": str(tmp_path / "tiny-imagenet-200.zip"), **HALVES}, names


@pytest.fixture
def indoor(tmp_path):
    names = write_mit67(tmp_path)
    return {"path": str(tmp_path / "data"), "archive": str(tmp_path / "indoorCVPR_09.tar"), **HALVES}, names


def digest(path, algorithm):
    return hashlib.new(algorithm, path.read_bytes()).hexdigest() if path.exists() else ""


def prepared_folders(root):
    return [path for path in root.rglob("*") if path.name == "dataset_info.json" or "incomplete" in path.name]


# --- Every data set in its original layout ---


@pytest.mark.parametrize("name", WRITERS)
def test_archives_in_the_manual_folder_are_prepared_once(name, tmp_path, manual, by_hand, monkeypatch):
    names = by_hand(name)
    splits = load_splits(name, path=str(tmp_path), **HALVES)
    assert splits["train"].class_names == sorted(names, key=list(names).index)
    assert splits["train"].image_shape == (None, None, 3)
    if name == "omniglot":  # all 1623 characters are for training, and the splits are taken from them
        assert contents(*splits.values()) == named(TRAIN + TEST, names)
        assert [len(splits[split].labels) for split in ("train", "val", "test")] == [2, 2, 2]
    else:
        assert contents(splits["train"], splits["val"]) == named(TRAIN, names)
        assert contents(splits["test"]) == named(TEST, names)
        assert [len(splits[split].labels) for split in ("train", "val", "test")] == [2, 2, 2]
    for path in manual.iterdir():
        path.unlink()
    monkeypatch.setattr(prepared, "_prepare", None)  # which would fail, if it was called
    again = load_splits(name, path=str(tmp_path), **HALVES)
    assert {split: contents(source) for split, source in again.items()} == {
        split: contents(source) for split, source in splits.items()
    }


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifars_planes_become_channels(name, tmp_path, by_hand):
    by_hand(name)
    test = load_splits(name, path=str(tmp_path), **HALVES)["test"]
    pixels = pixels_of(test, 0)
    number = int(pixels[0, 0, 0])
    assert pixels.shape == (32, 32, 3)
    assert pixels[0, 1].tolist() == [number + 100, number + 101, number + 102]
    assert pixels[1, 0].tolist() == pixels[31, 31].tolist() == [number, number + 1, number + 2]


def test_tfds_leaves_out_members_outside_of_the_archives_folder(tmp_path, by_hand):
    by_hand("cifar10")  # which has one
    load_splits("cifar10", path=str(tmp_path), **HALVES)
    assert not list(tmp_path.rglob("outside.txt"))


@pytest.mark.parametrize("name", OURS)
def test_another_archive_is_prepared_once_for_its_content(name, tmp_path, monkeypatch):
    names = WRITERS[name](tmp_path)
    (archive,) = [path for path in tmp_path.iterdir() if path.suffix in (".zip", ".tar")]
    arguments = {"path": str(tmp_path / "data"), "archive": str(archive), **HALVES}
    splits = load_splits(name, **arguments)
    assert contents(splits["train"], splits["val"]) == named(TRAIN, names)
    assert contents(splits["test"]) == named(TEST, names)
    archive.rename(tmp_path / "moved")
    with monkeypatch.context() as patch:
        patch.setattr(prepared, "_prepare", None)
        load_splits(name, **{**arguments, "archive": str(tmp_path / "moved")})
    more = "tiny-imagenet-200/train/n01443537/images/more.JPEG" if name == OURS[0] else "Images/bar/more.jpg"
    if name == "mit67":
        WRITERS[name](tmp_path, more={more: image(70)})
        (tmp_path / "TrainImages.txt").write_text((tmp_path / "TrainImages.txt").read_text() + "\nbar/more.jpg\n")
    else:
        WRITERS[name](tmp_path, more={more: image(70)})
    splits = load_splits(name, **arguments)
    assert 70 in [number for _, number in contents(splits["train"], splits["val"])]


def test_other_lists_beside_mit67_are_read_anew(indoor, tmp_path):
    arguments, _ = indoor
    assert len(load_splits("mit67", **arguments)["test"].labels) == 2
    lines = (tmp_path / "TestImages.txt").read_text()
    (tmp_path / "TestImages.txt").write_text(f"{lines}\nbar/in_neither_list.jpg")
    assert len(load_splits("mit67", **arguments)["test"].labels) == 3


def test_images_are_described_by_their_name_and_split(tiny):
    test = load_splits("tiny_imagenet", **tiny[0])["test"]
    (index,) = np.flatnonzero(test.labels == 1)
    assert test.locate(index).startswith("tiny-imagenet-200/val/images/val_1.JPEG of tiny_imagenet/archive_")
    assert test.locate(index).endswith("1.0.0, validation")


def test_loading_leaves_the_log_as_loud_as_it_was(tiny, caplog):
    with caplog.at_level("INFO", logger="absl"):
        load_splits("tiny_imagenet", **{**tiny[0], "memory": 1})
        load_splits("tiny_imagenet", **{**tiny[0], "memory": 1})
    assert sum("Preparing tiny_imagenet/archive_" in message for message in caplog.messages) == 1
    assert sum("test: 2 images decoded in memory" in message for message in caplog.messages) == 2


def test_any_of_tfds_sets_by_name(tmp_path, by_hand):
    names = by_hand("cifar10")
    splits = load_splits("tfds:cifar10", path=str(tmp_path), **HALVES)
    assert contents(splits["test"]) == named(TEST, names)  # which it has, as it has no validation split
    assert contents(splits["train"], splits["val"]) == named(TRAIN, names)


def test_validation_images_of_untrained_classes_are_left_out(tmp_path, manual, by_hand, caplog):
    names = by_hand("imagenet2012")
    more = {f"ILSVRC2012_val_{place:08d}.JPEG": image(number) for place, number in ((1, 50), (2, 60), (3, 70))}
    pack(manual / "ILSVRC2012_img_val.tar", more)
    with caplog.at_level("WARNING"):
        splits = load_splits("imagenet2012", path=str(tmp_path), **HALVES)
    assert contents(splits["test"]) == named(TEST, names)
    assert "validation: 1 images of classes without a training image are left out" in caplog.text


def test_images_without_labels_are_refused(tmp_path, manual, by_hand):
    by_hand("imagenet2012")
    pack(manual / "ILSVRC2012_img_test.tar", {"ILSVRC2012_test_00000001.JPEG": image(0)})
    with pytest.raises(ValueError, match="Expected images with labels. Received: imagenet2012.*, test, with 1 that"):
        load_splits("imagenet2012", path=str(tmp_path), test="test", **HALVES)


# --- Records ---


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
    return [(each["image"], each["label"]) for each in read.as_numpy_iterator()]


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
        each for each, _ in expected
    ]
    assert splits["val"].labels.tolist() == [label for _, label in expected]


def test_labels_are_read_once(tiny, monkeypatch):
    first = load_splits("tiny_imagenet", **tiny[0])
    monkeypatch.setattr(records, "_places", None)  # which would fail, if it was called
    again = load_splits("tiny_imagenet", **tiny[0])
    assert contents(again["train"]) == contents(first["train"])


def test_labels_that_cannot_be_kept_are_read_again(tiny, tmp_path, monkeypatch, caplog):
    def full(file, **_):
        file.write(b"half")
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


# --- What cannot be used ---


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
        ({"name": "cifar10"}, "Expected data.source.archive for tiny_imagenet or mit67 only. Received: cifar10 with"),
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
def test_missing_archives_are_named_with_their_place(name, files, tmp_path):
    with pytest.raises(ValueError) as error:
        load_splits(name, path=str(tmp_path))
    for expected in (*files, f"put them into {tmp_path / 'downloads' / 'manual'}:"):
        assert expected in str(error.value)
    assert not prepared_folders(tmp_path)


@pytest.mark.parametrize("file", ["ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"])
def test_a_half_of_imagenet_is_not_taken_for_all(file, tmp_path, manual, by_hand):
    names = by_hand("imagenet2012")
    (manual / file).rename(tmp_path / "later.tar")
    with pytest.raises(ValueError, match=rf"(?s)put them into .*manual:.*{file}"):
        load_splits("imagenet2012", path=str(tmp_path), **HALVES)
    (tmp_path / "later.tar").rename(manual / file)
    splits = load_splits("imagenet2012", path=str(tmp_path), **HALVES)
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
def test_archives_of_another_checksum_are_refused(name, message, tmp_path, manual):
    WRITERS[name](manual)
    with pytest.raises(ValueError, match=message):
        load_splits(name, path=str(tmp_path))
    assert not prepared_folders(tmp_path)


@pytest.mark.parametrize("file", ["ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"])
@pytest.mark.parametrize("content", [b"no tar", image(0), "cut"])
def test_archives_of_imagenet_that_are_no_whole_tar_are_refused(file, content, tmp_path, manual, by_hand):
    by_hand("imagenet2012")
    whole = (manual / file).read_bytes()
    (manual / file).write_bytes(whole[:700] if content == "cut" else content)
    with pytest.raises(ValueError, match=file):
        load_splits("imagenet2012", path=str(tmp_path))
    assert not prepared_folders(tmp_path)


ROOT = "tiny-imagenet-200"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"without": [f"{ROOT}/val/val_annotations.txt"]}, "with 4 training images and no annotations"),
        ({"annotations": "gone.JPEG\tn01443537\t0\n"}, rf"1 that are missing: \['{ROOT}/val/images/gone.JPEG'\]"),
        ({"annotations": "val_0.JPEG\tn09\t0\n"}, r"images of the training classes. Received: .*zip, with \['n09'\]"),
        ({"annotations": "val_0.JPEG n01443537\n"}, "val_annotations.txt"),
        ({"annotations": ""}, "at least one image.*val_annotations.txt"),
        ({"more": {"../evil.JPEG": b""}}, r"stays within its folder. Received: .*\['../evil.JPEG'\]"),
        ({"more": {f"{ROOT}/../../evil.JPEG": b""}}, "stays within its folder"),
        ({"more": {"/evil.JPEG": b""}}, r"\['/evil.JPEG'\]"),
    ],
)
def test_wrong_tiny_imagenets_are_refused(changes, message, tmp_path):
    write_tiny_imagenet(tmp_path, **changes)
    archive = str(tmp_path / "tiny-imagenet-200.zip")
    with pytest.raises(ValueError, match=message):
        load_splits("tiny_imagenet", path=str(tmp_path / "data"), archive=archive, **HALVES)
    assert not prepared_folders(tmp_path)
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lists": {"TestImages.txt": None}}, "list of the test images beside .*Received: no file .*TestImages.txt"),
        ({"lists": {"TrainImages.txt": "bar/gone.jpg"}}, r"1 that are missing: \['Images/bar/gone.jpg'\]"),
        ({"lists": {"TestImages.txt": "bar/bar_30.jpg"}}, r"no image in both lists.*1 in both: \['Images/bar/bar_30"),
        ({"lists": {"TestImages.txt": "spa/1.jpg"}, "more": {"Images/spa/1.jpg": b""}}, r"training classes.*\['spa'\]"),
        ({"lists": {"TestImages.txt": ""}}, "at least one image.*TestImages.txt"),
        ({"more": {"../evil.jpg": b""}}, r"stays within its folder. Received: .*\['../evil.jpg'\]"),
        ({"more": {"/evil.jpg": b""}}, "stays within its folder"),
    ],
)
def test_wrong_mit67s_are_refused(changes, message, tmp_path):
    write_mit67(tmp_path, **changes)
    archive = str(tmp_path / "indoorCVPR_09.tar")
    with pytest.raises(ValueError, match=message):
        load_splits("mit67", path=str(tmp_path / "data"), archive=archive, **HALVES)
    assert not prepared_folders(tmp_path)
    assert not list(tmp_path.rglob("evil*"))


def write_cut(path):
    write_tiny_imagenet(path.parent) if path.suffix == ".zip" else write_mit67(path.parent)
    path.write_bytes(path.read_bytes()[: -len(path.read_bytes()) // 2 + 100])


def write_with_other_layout(path):
    pack(path, {"photos/a/1.JPEG": image(0), "photos/b/1.JPEG": image(0)})


def write_with_flipped_bit(path):
    """Changes a pixel of one image, which a zip's checksums tell and a tar has none for."""
    write_tiny_imagenet(path.parent)
    content = path.read_bytes()
    place = content.index(image(20)) + 300
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])


@pytest.mark.parametrize(
    ("name", "file", "write", "message"),
    [
        ("tiny_imagenet", "tiny-imagenet-200.zip", lambda path: path.write_bytes(b"no zip"), "a zip archive. Received"),
        ("tiny_imagenet", "tiny-imagenet-200.zip", write_cut, "a zip archive. Received: .*tiny-imagenet-200.zip"),
        ("tiny_imagenet", "tiny-imagenet-200.zip", write_with_other_layout, "0 training images and no annotations"),
        ("tiny_imagenet", "tiny-imagenet-200.zip", write_with_flipped_bit, "tiny-imagenet-200.zip.*n01443537_20.JPEG"),
        ("mit67", "indoorCVPR_09.tar", lambda path: path.write_bytes(b"no tar"), "a tar archive. Received"),
        ("mit67", "indoorCVPR_09.tar", write_cut, "indoorCVPR_09.tar"),
        ("mit67", "indoorCVPR_09.tar", write_with_other_layout, "4 that are missing"),
    ],
)
def test_wrong_archives_are_refused(name, file, write, message, tmp_path):
    if name == "mit67":
        write_mit67(tmp_path)
    write(tmp_path / file)
    with pytest.raises(ValueError, match=message):
        load_splits(name, path=str(tmp_path / "data"), archive=str(tmp_path / file), **HALVES)
    assert not prepared_folders(tmp_path)


def test_an_image_in_an_archive_that_is_neither_jpeg_nor_png_is_named(tiny, tmp_path):
    arguments, _ = tiny
    write_tiny_imagenet(tmp_path, more={f"{ROOT}/val/images/val_1.JPEG": image(60, kind="GIF")})
    with pytest.raises(ValueError, match=r"1 of test that cannot be decoded: \['tiny-imagenet-200/val/images/val_1"):
        load_splits("tiny_imagenet", **{**arguments, "memory": 1})


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_what_was_half_prepared_is_prepared_anew(error, tiny, tmp_path, monkeypatch):
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
    assert not prepared_folders(tmp_path)
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


# --- Several data sets as one ---


@pytest.fixture
def mixed(tmp_path):
    names = {"tiny_imagenet": write_tiny_imagenet(tmp_path), "mit67": write_mit67(tmp_path)}
    archives = [str(tmp_path / file) for file in ("tiny-imagenet-200.zip", "indoorCVPR_09.tar")]
    return {"path": str(tmp_path / "data"), "archive": os.pathsep.join(archives), **HALVES}, [
        f"{group}/{name}" for group, each in names.items() for name in each
    ]


def test_data_sets_are_joined_with_their_names_as_groups(mixed):
    arguments, names = mixed
    splits = load_splits("tiny_imagenet+mit67", **arguments)
    for source in splits.values():
        assert source.class_names == names
        assert source.class_groups == ["tiny_imagenet", "tiny_imagenet", "mit67", "mit67"]
        assert np.bincount(source.labels).tolist() == [1, 1, 1, 1]
    both = lambda images: named([*images, *((label + 2, number) for label, number in images)], names)  # noqa: E731
    assert contents(splits["train"], splits["val"]) == both(TRAIN)
    assert contents(splits["test"]) == both(TEST)


def test_joined_data_sets_are_read_in_any_order(mixed):
    arguments, _ = mixed
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


def test_few_training_images_of_each_class_beside_whole_test_sets(mixed):
    arguments, names = mixed
    arguments = {**arguments, "val": "", "train_per_class": 1, "validation_fraction": 0.25}
    splits = load_splits("tiny_imagenet+mit67", **arguments)
    assert np.bincount(splits["train"].labels).tolist() == [1, 1, 1, 1]
    assert len(splits["test"].labels) == 4
    assert splits["train"].class_groups == ["tiny_imagenet"] * 2 + ["mit67"] * 2
    shown = contents(splits["train"])
    assert [name for name, _ in shown] == sorted(names)


def test_the_same_data_set_twice_keeps_two_names(mixed, tmp_path):
    archive = os.pathsep.join([str(tmp_path / "indoorCVPR_09.tar")] * 2)
    test = load_splits("mit67+mit67", **{**mixed[0], "archive": archive})["test"]
    assert test.class_names == ["mit67/airport_inside", "mit67/bar", "mit67_2/airport_inside", "mit67_2/bar"]


def test_only_encoded_images_of_one_kind_are_joined(tiny):
    with pytest.raises(ValueError, match="images of 3 channels. Received: digits with 1"):
        load_splits("digits+tiny_imagenet", **{**tiny[0], "archive": f"{os.pathsep}{tiny[0]['archive']}"})
