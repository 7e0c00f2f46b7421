"""Every data set by name, and its training, validation and test splits."""

import dataclasses
import os
import pathlib

import numpy as np
import sklearn.datasets
from absl import logging

from cskd_tf.data.sources.arrays import ArraySource
from cskd_tf.data.sources.base import Source
from cskd_tf.data.sources.caching import GIB, in_memory
from cskd_tf.data.sources.encoded import Concatenation
from cskd_tf.data.sources.folders import ImageFolder
from cskd_tf.errors import UserError


@dataclasses.dataclass(frozen=True)
class Request:
    """What a config asks of a data set; the fields are its keys.

    Attributes:
        path: folder of the data set.
        archive: see configs/base.py.
        channels: 3 or 1.
        class_levels: levels of folders that make a class.
        check_files: whether files that are no images are refused at once.
        split_names: for `train`, `val` and `test` the name that the data set gives them, empty for its default.
    """

    path: str
    archive: str
    channels: int
    class_levels: int
    split_names: dict[str, str]
    check_files: bool


def digits(request: Request) -> dict[str, Source]:
    """scikit-learn's handwritten digits, 1,797 grey images of 8 x 8 pixels and 17 shades, as uint8."""
    bunch = sklearn.datasets.load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    return {"train": ArraySource(images, bunch.target, class_names=[str(name) for name in bunch.target_names])}


def image_folder(request: Request) -> dict[str, Source]:
    """`PATH/train/<class>/*.jpg|png`, with `PATH/val` and `PATH/test` where they are there, or `PATH/<class>/*`."""
    if not request.path:
        raise UserError("Expected data.path to name a folder with train/<class>/*.jpg|png. Received: data.path=''")
    root = pathlib.Path(request.path).expanduser()
    folders = {split: root / (name or split) for split, name in request.split_names.items()}
    if not root.is_dir():
        raise UserError(f"Expected data.path to name a folder. Received: no folder {root}")
    for split, name in request.split_names.items():
        if name and not folders[split].is_dir():
            raise UserError(f"Expected data.{split}_split to name a folder in {root}. Received: {name!r}")
    present = {split: folder for split, folder in folders.items() if folder.is_dir()}
    if not present:
        present = {"train": root}  # a folder of classes, not of splits
    if request.archive:
        raise UserError(f"Expected data.archive for tiny_imagenet or mit67 only. Received: {request.archive!r}")
    _refuse_other_split_names(root, known=[folder.name for folder in folders.values()])
    options = {"channels": request.channels, "levels": request.class_levels, "check_files": request.check_files}
    splits = {"train": ImageFolder(present.get("train", folders["train"]), **options)}
    for split in present.keys() - {"train"}:
        splits[split] = ImageFolder(present[split], **options, class_names=splits["train"].class_names)
    return splits


def _refuse_other_split_names(root: pathlib.Path, *, known: list[str]) -> None:
    """A folder `validation` beside `train` must be neither overlooked nor taken for a class."""
    names = {entry.name for entry in root.iterdir() if entry.is_dir()} - set(known)
    if similar := sorted(name for name in names if name.casefold() in SPLIT_NAMES):
        raise UserError(
            f"Expected the splits in {root} to be called {known}, or as data.train_split, data.val_split and "
            f"data.test_split say. Received: {similar}"
        )


@dataclasses.dataclass(frozen=True)
class FromTfds:
    """A data set of TFDS, or one of ours in TFDS' form.

    Attributes:
        name: in TFDS' catalogue, or one of `tfds.OURS`.
        train: split, in TFDS' notation.
        val: the same; empty: taken from the training images; None: `validation`, if the data set has it.
        test: the same with `test`.
    """

    name: str
    train: str = "train"
    val: str | None = ""
    test: str | None = "test"

    def __call__(self, request: Request) -> dict[str, Source]:
        # TFDS takes half a second to import, which only its users should wait for.
        from cskd_tf.data.catalogue import tfds

        defaults = {"train": self.train, "val": self.val, "test": self.test}
        names = {split: request.split_names[split] or default for split, default in defaults.items()}
        return tfds.load(
            self.name, path=request.path, archive=request.archive, channels=request.channels, split_names=names
        )


DATASETS = {
    "digits": digits,
    "image_folder": image_folder,
    "cifar10": FromTfds("cifar10"),
    "cifar100": FromTfds("cifar100"),
    "tiny_imagenet": FromTfds("tiny_imagenet", test="validation"),
    "caltech_birds2011": FromTfds("caltech_birds2011"),
    "stanford_dogs": FromTfds("stanford_dogs"),
    "mit67": FromTfds("mit67"),
    "imagenet2012": FromTfds("imagenet2012", test="validation"),
    "omniglot": FromTfds("omniglot", train="train+test", test=""),
}
TFDS_PREFIX = "tfds:"
SPLITS = ("train", "val", "test")
SPLIT_NAMES = {"train", "training", "val", "valid", "validation", "test", "testing"}


def load_splits(
    name: str,
    *,
    path: str = "",
    archive: str = "",
    channels: int = 3,
    class_levels: int = 1,
    train_split: str = "",
    val_split: str = "",
    test_split: str = "",
    test_fraction: float = 0.2,
    validation_fraction: float = 0.1,
    train_per_class: int = 0,
    split_seed: int = 0,
    memory: float = 4.0,
    check_files: bool = True,
) -> dict[str, Source]:
    """`{"train", "val", "test"}` of a data set. Arguments as in configs/base.py; `check_files`: see `ImageFolder`.

    What the data set does not bring itself is taken from the training images, by class, from the seed. With a
    `validation_fraction` of 0 no image is taken for validation, and there is no `"val"` where none is brought.

    Raises:
        ValueError: an unknown data set (the known ones are listed), or data that cannot be used.
    """
    names = name.split("+")
    split_names = {"train": train_split, "val": val_split, "test": test_split}
    parts = {}
    for number, part in enumerate(names):
        request = Request(
            path=_part_of(path, number, key="path", count=len(names)),
            archive=_part_of(archive, number, key="archive", count=len(names)),
            channels=channels,
            class_levels=class_levels,
            split_names=split_names,
            check_files=check_files,
        )
        unique = part if part not in parts else f"{part}_{number + 1}"
        parts[unique] = _load_part(
            part, request, test_fraction=test_fraction, validation_fraction=validation_fraction, seed=split_seed
        )
    (splits, *others) = parts.values()
    if any(set(part) != set(splits) for part in others):
        without = [each for each, part in parts.items() if "val" not in part]
        raise UserError(
            "Expected validation images of each data set or of none; a data.validation_fraction above 0 takes them. "
            f"Received: validation_fraction=0, and none of {without}"
        )
    if others:
        splits = {split: Concatenation({each: part[split] for each, part in parts.items()}) for split in splits}
    if train_per_class:
        chosen = first_of_each_class(splits["train"].labels, count=train_per_class, seed=split_seed)
        splits["train"] = splits["train"].subset(chosen)
    if len(splits["train"].class_names) < 2:
        raise UserError(f"Expected at least two classes. Received: {splits['train'].class_names}")
    for split, source in splits.items():
        if len(source.labels) < 2:
            raise UserError(
                f"Expected at least two images in each split, for R@1 to find neighbours. Received: one in {split}"
            )
    left = int(memory * GIB)
    for split, source in splits.items() if memory else ():
        splits[split], taken = in_memory(source, budget=left, name=split)
        left -= taken
    return splits


def _part_of(value: str, number: int, *, key: str, count: int) -> str:
    """The entry of one of `count` data sets in a key that holds one for all, or one each, separated as in PATH."""
    values = value.split(os.pathsep) if count > 1 else [value]
    if len(values) not in (1, count):
        raise UserError(
            f"Expected data.{key} to hold one entry, or {count} with {os.pathsep!r} between, one a data set. "
            f"Received: {len(values)} in data.{key}={value!r}"
        )
    return values[number if len(values) > 1 else 0]


def _load_part(
    name: str, request: Request, *, test_fraction: float, validation_fraction: float, seed: int
) -> dict[str, Source]:
    """All splits of one data set."""
    if name.startswith(TFDS_PREFIX):
        load = FromTfds(name.removeprefix(TFDS_PREFIX), val=None, test=None)
    elif name in DATASETS:
        load = DATASETS[name]
    else:
        raise UserError(
            f"Unknown data set; expected one of {sorted(DATASETS)}, {TFDS_PREFIX}NAME for any of TensorFlow Datasets', "
            f"or several joined by +. Received: data.name={name!r}"
        )
    splits = load(request)
    if splits["train"].image_shape[2] != request.channels:
        raise UserError(
            f"Expected images of {request.channels} channels. Received: {name} with {splits['train'].image_shape[2]}"
        )
    for split, fraction in (("test", test_fraction), ("val", validation_fraction)):
        if split not in splits and (split == "test" or fraction != 0):
            long_name = {"test": "test", "val": "validation"}[split]
            kept, gone = split_by_class(splits["train"].labels, fraction=fraction, seed=seed, name=long_name)
            splits[split] = splits["train"].subset(gone)
            splits["train"] = splits["train"].subset(kept)
    return {split: splits[split] for split in SPLITS if split in splits}


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
        raise UserError(f"Expected {name}_fraction between 0 and 1. Received: {name}_fraction={fraction}")
    order, ranks = _shuffled_by_class(labels, seed=seed)
    counts = np.bincount(labels)
    shares = np.minimum(np.maximum(np.round(fraction * counts), 1), counts - 1).clip(0)
    single = np.flatnonzero(counts == 1)
    if not shares.any():
        raise UserError(f"Expected a class of two images to take the {name} split from. Received: single images alone")
    if len(single):
        examples = single[:10].tolist()
        logging.warning("%d classes have a single image, and none in the %s split: %s", len(single), name, examples)
    goes = ranks < shares[labels[order]]
    return np.sort(order[~goes]), np.sort(order[goes])


def first_of_each_class(labels: np.ndarray, *, count: int, seed: int) -> np.ndarray:
    """`count` random images of each class, or all of them where it has fewer, as sorted indices."""
    order, ranks = _shuffled_by_class(labels, seed=seed)
    return np.sort(order[ranks < count])


def _shuffled_by_class(labels: np.ndarray, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The images sorted by class, shuffled within each, and the rank of each within its class."""
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    order = shuffled[np.argsort(labels[shuffled], kind="stable")]
    ranks = np.arange(len(labels)) - np.searchsorted(labels[order], labels[order])
    return order, ranks
