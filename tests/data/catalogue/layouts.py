"""Small archives in the layout of each published data set, for TFDS' builders and ours.

A writer puts the archives of its data set into a folder, and returns the names of the two classes.
"""

import dataclasses
import io
from collections.abc import Callable, Sequence

import numpy as np
import scipy.io
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import checksums
from tensorflow_datasets.image_classification import omniglot

from cskd_tf.data.catalogue.builders import archives, mit67, tiny_imagenet
from tests.data.grey_images import TEST, TRAIN, image, pack, tar_of


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


def expect_tiny_imagenet(folder, monkeypatch):
    monkeypatch.setattr(tiny_imagenet, "SHA256", archives.checksum(folder / "tiny-imagenet-200.zip", "sha256"))


def expect_mit67(folder, monkeypatch):
    monkeypatch.setattr(mit67, "SHA1", archives.checksum(folder / "indoorCVPR_09.tar", "sha1"))


def of_tfds(name):
    """Has a builder of TFDS expect the checksums of what lies in the folder."""

    def expect(folder, monkeypatch):
        builder_class = tfds.builder_cls(name)
        expected = {
            url: checksums.compute_url_info(folder / info.filename)
            for url, info in builder_class.url_infos.items()
            if info.filename and (folder / info.filename).exists()
        }
        monkeypatch.setattr(builder_class, "url_infos", expected)

    return expect


def expect_omniglot(folder, monkeypatch):
    of_tfds("omniglot")(folder, monkeypatch)
    monkeypatch.setattr(omniglot, "_NUM_CLASSES", 2)
    monkeypatch.setattr(omniglot, "_NUM_ALPHABETS", 2)


@dataclasses.dataclass(frozen=True)
class Layout:
    """A published data set.

    Attributes:
        write: puts its archives into a folder, and returns the names of the two classes.
        expect: has the checksums of the archives in a folder expected.
        images: which lie in which splits.
    """

    write: Callable
    expect: Callable
    images: Sequence = ((("train", "val"), TRAIN), (("test",), TEST))


LAYOUTS = {
    "tiny_imagenet": Layout(write_tiny_imagenet, expect_tiny_imagenet),
    "mit67": Layout(write_mit67, expect_mit67),
    "cifar10": Layout(write_cifar10, of_tfds("cifar10")),
    "cifar100": Layout(write_cifar100, of_tfds("cifar100")),
    "caltech_birds2011": Layout(write_caltech_birds2011, of_tfds("caltech_birds2011")),
    "stanford_dogs": Layout(write_stanford_dogs, of_tfds("stanford_dogs")),
    # All 1623 characters are for training, and the splits are taken from them.
    "omniglot": Layout(write_omniglot, expect_omniglot, images=((("train", "val", "test"), TRAIN + TEST),)),
    # Without checksums, because nobody can download it without an account.
    "imagenet2012": Layout(write_imagenet2012, lambda folder, monkeypatch: None),
}
