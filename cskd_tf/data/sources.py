"""Where images and labels come from. A source knows its labels and loads any vector of indices."""

import pathlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import sklearn.datasets
import tensorflow as tf
from absl import logging

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


class Source(Protocol):
    """What the pipeline asks of a source.

    Attributes:
        labels: int32 `[N]`, every class of `class_names` at least once.
        class_names: C names.
        image_shape: `(H, W, C)`, H and W None where they differ from image to image; `load` is then asked for one
            image at a time.
    """

    labels: np.ndarray
    class_names: list[str]
    image_shape: tuple[int | None, int | None, int]

    def load(self, indices: tf.Tensor) -> tf.Tensor:
        """Inside the tf.data graph: int64 `[n]` to images `[n, H, W, C]`, pixels from 0 to 255."""
        ...


def check_labels(labels, *, num_classes: int | None = None) -> np.ndarray:
    """Labels as int32 `[N]`.

    Raises:
        ValueError: not a vector of integers, a label outside the classes, or a class without an image.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"Expected labels to be integers [N]. Received: {labels.dtype} of shape {labels.shape}")
    if not len(labels):
        raise ValueError("Expected at least one image. Received: no labels")
    classes = int(labels.max()) + 1 if num_classes is None else num_classes
    outside = labels[(labels < 0) | (labels >= classes)]
    if len(outside):
        raise ValueError(f"Expected labels from 0 to {classes - 1}. Received: {sorted(set(outside.tolist()))[:10]}")
    empty = np.flatnonzero(np.bincount(labels, minlength=classes) == 0)
    if len(empty):
        raise ValueError(
            f"Expected at least one image of each of the {classes} classes. Received: none of {empty[:10].tolist()}"
        )
    return labels.astype(np.int32)


class ArraySource:
    """Images in memory.

    Args:
        images: `[N, H, W, C]`, uint8 or float, pixels from 0 to 255 where the transforms normalise them.
        labels: int `[N]`.
        class_names: one a class; the numbers where left out.

    Raises:
        ValueError: wrong rank or length, NaN, or labels that do not fit.
    """

    def __init__(self, images, labels, *, class_names: Sequence[str] | None = None):
        images = np.asarray(images)
        if images.ndim != 4 or images.dtype.kind not in "uif":
            raise ValueError(
                "Expected images to be numbers of shape [N, height, width, channels]. "
                f"Received: {images.dtype} of shape {images.shape}"
            )
        if len(images) != len(labels):
            raise ValueError(
                f"Expected as many labels as images. Received: {len(images)} images and {len(labels)} labels"
            )
        if images.dtype.kind == "f" and not np.isfinite(images).all():
            broken = np.flatnonzero(~np.isfinite(images).all(axis=(1, 2, 3)))
            raise ValueError(f"Expected finite pixels. Received: NaN or infinity in images {broken[:10].tolist()}")
        self.labels = check_labels(labels, num_classes=len(class_names) if class_names is not None else None)
        self.class_names = list(class_names or map(str, range(int(self.labels.max()) + 1)))
        self.image_shape = images.shape[1:]
        self._images = tf.constant(images)

    def load(self, indices: tf.Tensor) -> tf.Tensor:
        return tf.gather(self._images, indices)


class ImageFolder:
    """JPEG and PNG files in one folder a class; the classes are numbered in the order of their sorted names.

    Args:
        folder: holds one folder a class.
        channels: 3 (colour) or 1 (grey); files of the other kind are converted.
        class_names: the expected classes, where another split has set them.

    Raises:
        ValueError: a missing folder, a class without images, other classes than expected, or files that are not
            images (named).
    """

    def __init__(self, folder: str | pathlib.Path, *, channels: int = 3, class_names: Sequence[str] | None = None):
        folder = pathlib.Path(folder)
        if not folder.is_dir():
            raise ValueError(f"Expected a folder with one folder of images a class. Received: no folder {folder}")
        found = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
        if not found:
            raise ValueError(f"Expected one folder a class. Received: {folder}, without folders")
        if class_names is not None and found != list(class_names):
            differ = sorted(set(found) ^ set(class_names))
            raise ValueError(f"Expected the classes of the training images in {folder}. Received: {differ[:10]} differ")
        paths, labels = [], []
        for label, name in enumerate(found):
            files = sorted(path for path in (folder / name).iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
            if not files:
                raise ValueError(
                    f"Expected at least one image ({', '.join(IMAGE_SUFFIXES)}) a class. "
                    f"Received: none in {folder / name}"
                )
            paths += map(str, files)
            labels += [label] * len(files)
        self.labels = np.asarray(labels, np.int32)
        self.class_names = found
        self.image_shape = (None, None, channels)
        self._paths = tf.constant(paths)
        _check_image_files(paths)

    def load(self, indices: tf.Tensor) -> tf.Tensor:
        contents = tf.io.read_file(tf.gather(self._paths, indices[0]))
        channels = self.image_shape[2]
        return tf.io.decode_image(contents, channels=channels, expand_animations=False)[None]


def _check_image_files(paths: Sequence[str]) -> None:
    """Refuses files that are no images, or cut off; a file that starts and ends as it should is not decoded here."""
    broken = [path for path in paths if not _is_image(path)]
    if broken:
        raise ValueError(
            f"Expected JPEG or PNG files. Received: {len(broken)} that are not whole images: {broken[:10]}"
        )


def _is_image(path: str) -> bool:
    with open(path, "rb") as file:
        start = file.read(8)
        file.seek(max(file.seek(0, 2) - 64, 0))
        end = file.read()
    for magic, last in ((b"\xff\xd8\xff", b"\xff\xd9"), (b"\x89PNG\r\n\x1a\n", b"IEND")):
        if start.startswith(magic):
            return last in end or _decodes(path)
    return False


def _decodes(path: str) -> bool:
    try:
        tf.io.decode_image(tf.io.read_file(path), expand_animations=False)
    except tf.errors.InvalidArgumentError:
        return False
    return True


class Subset:
    """Some images of another source, under new indices.

    Args:
        source: where the images are.
        indices: int `[n]`, which of them.
    """

    def __init__(self, source: Source, indices: np.ndarray):
        self.labels = source.labels[indices]
        self.class_names = source.class_names
        self.image_shape = source.image_shape
        self._source = source
        self._indices = tf.constant(indices, tf.int64)

    def load(self, indices: tf.Tensor) -> tf.Tensor:
        return self._source.load(tf.gather(self._indices, indices))


def split_by_class(labels: np.ndarray, *, fraction: float, seed: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Takes `fraction` of each class away, at random, at least one image and leaving at least one.

    A class of a single image keeps it, which is logged.

    Example: 10 images of each of 3 classes and fraction 0.2 give 24 that stay and 6 that go, 2 of each class.

    Args:
        labels: int `[N]`.
        fraction: above 0 and below 1.
        seed: the same seed takes the same images.
        name: of the part that goes, for the error.

    Returns:
        Sorted indices of the images that stay and of those that go.

    Raises:
        ValueError: a fraction out of range, or no class of two images.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"Expected {name}_fraction between 0 and 1. Received: {name}_fraction={fraction}")
    generator = np.random.default_rng(seed)
    gone, single = [], []
    for label in range(int(labels.max()) + 1):
        members = generator.permutation(np.flatnonzero(labels == label))
        if len(members) > 1:
            gone.append(members[: min(max(round(fraction * len(members)), 1), len(members) - 1)])
        else:
            single.append(label)
    if not gone:
        raise ValueError(f"Expected a class of two images to take the {name} split from. Received: single images alone")
    if single:
        logging.warning("%d classes have a single image, and none in the %s split: %s", len(single), name, single[:10])
    gone = np.sort(np.concatenate(gone))
    return np.setdiff1d(np.arange(len(labels)), gone), gone


def digits(**_) -> dict[str, Source]:
    """scikit-learn's handwritten digits, 1,797 grey images of 8 x 8 pixels and 17 shades, as uint8."""
    bunch = sklearn.datasets.load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    return {"train": ArraySource(images, bunch.target, class_names=[str(name) for name in bunch.target_names])}


def image_folder(*, path: str, channels: int) -> dict[str, Source]:
    """`path/train/<class>/*.jpg|png`, with `path/val` and `path/test` where they are there."""
    if not path:
        raise ValueError("Expected data.path to name a folder with train/<class>/*.jpg|png. Received: data.path=''")
    root = pathlib.Path(path)
    splits = {"train": ImageFolder(root / "train", channels=channels)}
    for name in ("val", "test"):
        if (root / name).is_dir():
            splits[name] = ImageFolder(root / name, channels=channels, class_names=splits["train"].class_names)
    return splits


DATASETS = {"digits": digits, "image_folder": image_folder}


def load_splits(
    name: str,
    *,
    path: str,
    channels: int,
    test_fraction: float,
    validation_fraction: float,
    train_per_class: int,
    split_seed: int,
) -> dict[str, Source]:
    """`{"train", "val", "test"}` of a data set. Arguments as in configs/base.py.

    What the data set does not bring itself is taken from the training images, by class, from the seed.

    Raises:
        ValueError: an unknown data set (the known ones are listed), or data that cannot be used.
    """
    if name not in DATASETS:
        raise ValueError(f"Unknown data set; expected one of {sorted(DATASETS)}. Received: name={name!r}")
    splits = DATASETS[name](path=path, channels=channels)
    if splits["train"].image_shape[2] != channels:
        raise ValueError(
            f"Expected images of {channels} channels. Received: {name} with {splits['train'].image_shape[2]}"
        )
    for split, fraction in (("test", test_fraction), ("val", validation_fraction)):
        if split not in splits:
            long_name = {"test": "test", "val": "validation"}[split]
            kept, gone = split_by_class(splits["train"].labels, fraction=fraction, seed=split_seed, name=long_name)
            splits[split] = Subset(splits["train"], gone)
            splits["train"] = Subset(splits["train"], kept)
    if train_per_class:
        splits["train"] = Subset(
            splits["train"], _first_of_each_class(splits["train"].labels, count=train_per_class, seed=split_seed)
        )
    for split, source in splits.items():
        if len(source.labels) < 2:
            raise ValueError(
                f"Expected at least two images in each split, for R@1 to find neighbours. Received: one in {split}"
            )
    return splits


def _first_of_each_class(labels: np.ndarray, *, count: int, seed: int) -> np.ndarray:
    """`count` random images of each class, or all of them where it has fewer."""
    order = np.random.default_rng(seed).permutation(len(labels))
    return np.sort(np.concatenate([order[labels[order] == label][:count] for label in range(int(labels.max()) + 1)]))
