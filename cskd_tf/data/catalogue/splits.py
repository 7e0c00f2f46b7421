"""Every data set by name, and its training, validation and test splits."""

import dataclasses
import os
import pathlib
from typing import Annotated, Literal

import numpy as np
import sklearn.datasets
from absl import logging

from cskd_tf.data.sources.arrays import ArraySource
from cskd_tf.data.sources.base import Source
from cskd_tf.data.sources.caching import GIB, in_memory
from cskd_tf.data.sources.encoded import Concatenation
from cskd_tf.data.sources.folders import ImageFolder
from cskd_tf.errors import UserError
from cskd_tf.settings import Within, check


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """Which data set, from where. Of several, joined by `+` in `name`, `path` and `archive` hold one entry or one each.

    Attributes:
        name: one of `DATASETS`, `tfds:NAME`, or several joined by `+`.
        path: of an image folder, or of the folder where TFDS keeps data sets (empty: `~/tensorflow_datasets`).
        archive: for `tiny_imagenet` and `mit67`, another one than the published.
        channels: 3 colour, 1 grey.
        class_levels: levels of an image folder's folders that make a class.
        memory: GiB at most for images held in memory; what does not fit is read as it is needed.
    """

    name: str
    path: str = ""
    archive: str = ""
    channels: Literal[1, 3] = 3
    class_levels: Annotated[int, Within(1)] = 1
    memory: Annotated[float, Within(0)] = 4.0

    def __post_init__(self):
        check(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """Which images are for training, validation and test.

    Attributes:
        train: the data set's own name of its training images; empty: the usual one.
        val: the same of its validation images.
        test: the same of its test images.
        seed: of the splits that the data set does not bring itself, and of `train_per_class`.
        test_fraction: of each class, taken where there is no test split.
        validation_fraction: of each class of the training images, taken where there is no validation split; 0: none.
        train_per_class: keep this many training images per class; 0: all.
    """

    train: str = ""
    val: str = ""
    test: str = ""
    seed: Annotated[int, Within(0)] = 0
    test_fraction: float = 0.2
    validation_fraction: float = 0.1
    train_per_class: Annotated[int, Within(0)] = 0

    def __post_init__(self):
        check(self)

    @property
    def names(self) -> dict[str, str]:
        """The data set's own names of `train`, `val` and `test`."""
        return {"train": self.train, "val": self.val, "test": self.test}


def digits(source: SourceOptions, split: SplitOptions, *, check_files: bool) -> dict[str, Source]:
    """scikit-learn's handwritten digits, 1,797 grey images of 8 x 8 pixels and 17 shades, as uint8."""
    bunch = sklearn.datasets.load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    return {"train": ArraySource(images, bunch.target, class_names=[str(name) for name in bunch.target_names])}


def image_folder(source: SourceOptions, split: SplitOptions, *, check_files: bool) -> dict[str, Source]:
    """`PATH/train/<class>/*.jpg|png`, with `PATH/val` and `PATH/test` where they are there, or `PATH/<class>/*`."""
    if not source.path:
        raise UserError(
            "Expected data.source.path to name a folder with train/<class>/*.jpg|png. Received: data.source.path=''"
        )
    root = pathlib.Path(source.path).expanduser()
    folders = {part: root / (name or part) for part, name in split.names.items()}
    if not root.is_dir():
        raise UserError(f"Expected data.source.path to name a folder. Received: no folder {root}")
    for part, folder in folders.items():
        if (name := split.names[part]) and not folder.is_dir():
            raise UserError(f"Expected data.split.{part} to name a folder in {root}. Received: {name!r}")
    present = {part: folder for part, folder in folders.items() if folder.is_dir()}
    if not present:
        present = {"train": root}  # a folder of classes, not of splits
    if source.archive:
        raise UserError(f"Expected data.source.archive for tiny_imagenet or mit67 only. Received: {source.archive!r}")
    _refuse_other_split_names(root, known=[folder.name for folder in folders.values()])
    options = {"channels": source.channels, "levels": source.class_levels, "check_files": check_files}
    splits = {"train": ImageFolder(present.get("train", folders["train"]), **options)}
    for part in present.keys() - {"train"}:
        splits[part] = ImageFolder(present[part], **options, class_names=splits["train"].class_names)
    return splits


def _refuse_other_split_names(root: pathlib.Path, *, known: list[str]) -> None:
    """A folder `validation` beside `train` must be neither overlooked nor taken for a class."""
    names = {entry.name for entry in root.iterdir() if entry.is_dir()} - set(known)
    if similar := sorted(name for name in names if name.casefold() in SPLIT_NAMES):
        raise UserError(
            f"Expected the splits in {root} to be called {known}, or as data.split.train, data.split.val and "
            f"data.split.test say. Received: {similar}"
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

    def __call__(self, source: SourceOptions, split: SplitOptions, *, check_files: bool) -> dict[str, Source]:
        # TFDS takes half a second to import, which only its users should wait for.
        from cskd_tf.data.catalogue import tfds

        defaults = {"train": self.train, "val": self.val, "test": self.test}
        names = {part: split.names[part] or default for part, default in defaults.items()}
        return tfds.load(
            self.name, path=source.path, archive=source.archive, channels=source.channels, split_names=names
        )


# Each takes SourceOptions, SplitOptions and check_files, and returns the splits that the data set brings itself.
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
    source: SourceOptions, split: SplitOptions | None = None, *, check_files: bool = True
) -> dict[str, Source]:
    """`{"train", "val", "test"}` of a data set, or of several side by side.

    What the data set does not bring itself is taken from the training images, by class, from the seed. With a
    `validation_fraction` of 0 no image is taken for validation, and there is no `"val"` where none is brought.

    Example:
        >>> splits = load_splits(SourceOptions(name="digits", channels=1), SplitOptions(validation_fraction=0.0))
        >>> {name: len(source.labels) for name, source in splits.items()}
        {'train': 1438, 'test': 359}

    Args:
        source: which data set.
        split: how it is split; by default `SplitOptions()`.
        check_files: see `ImageFolder`.

    Raises:
        UserError: an unknown data set (the known ones are listed), or data that cannot be used.
    """
    split = SplitOptions() if split is None else split
    parts = {}
    for number, part in enumerate(_parts_of(source)):
        unique = part.name if part.name not in parts else f"{part.name}_{number + 1}"
        parts[unique] = _load_part(part, split, check_files=check_files)
    splits = _side_by_side(parts)
    if split.train_per_class:
        chosen = first_of_each_class(splits["train"].labels, count=split.train_per_class, seed=split.seed)
        splits["train"] = splits["train"].subset(chosen)
    if len(splits["train"].class_names) < 2:
        raise UserError(f"Expected at least two classes. Received: {splits['train'].class_names}")
    for name, images in splits.items():
        if len(images.labels) < 2:
            raise UserError(
                f"Expected at least two images in each split, for R@1 to find neighbours. Received: one in {name}"
            )
    left = int(source.memory * GIB)
    for name, images in splits.items() if left else ():
        splits[name], taken = in_memory(images, budget=left, name=name)
        left -= taken
    return splits


def _parts_of(source: SourceOptions) -> list[SourceOptions]:
    """Each of the data sets that `name` joins by `+`, with its own path and archive."""
    names = source.name.split("+")
    return [
        dataclasses.replace(
            source,
            name=name,
            path=_entry_of(source.path, number, key="path", count=len(names)),
            archive=_entry_of(source.archive, number, key="archive", count=len(names)),
        )
        for number, name in enumerate(names)
    ]


def _entry_of(value: str, number: int, *, key: str, count: int) -> str:
    """The entry of one of `count` data sets in a key that holds one for all, or one each, separated as in PATH."""
    values = value.split(os.pathsep) if count > 1 else [value]
    if len(values) not in (1, count):
        raise UserError(
            f"Expected data.source.{key} to hold one entry, or {count} with {os.pathsep!r} between, one per data set. "
            f"Received: {len(values)} in data.source.{key}={value!r}"
        )
    return values[number if len(values) > 1 else 0]


def _side_by_side(parts: dict[str, dict[str, Source]]) -> dict[str, Source]:
    """The splits of one data set, or those of several joined."""
    (first, *others) = parts.values()
    if any(set(part) != set(first) for part in others):
        without = [name for name, part in parts.items() if "val" not in part]
        raise UserError(
            "Expected validation images of each data set or of none; a data.split.validation_fraction above 0 takes "
            f"them. Received: validation_fraction=0, and none of {without}"
        )
    if not others:
        return dict(first)
    return {split: Concatenation({name: part[split] for name, part in parts.items()}) for split in first}


def _load_part(source: SourceOptions, split: SplitOptions, *, check_files: bool) -> dict[str, Source]:
    """All splits of one data set."""
    if source.name.startswith(TFDS_PREFIX):
        load = FromTfds(source.name.removeprefix(TFDS_PREFIX), val=None, test=None)
    elif source.name in DATASETS:
        load = DATASETS[source.name]
    else:
        raise UserError(
            f"Unknown data set; expected one of {sorted(DATASETS)}, {TFDS_PREFIX}NAME for any of TensorFlow Datasets', "
            f"or several joined by +. Received: data.source.name={source.name!r}"
        )
    splits = load(source, split, check_files=check_files)
    if (channels := splits["train"].image_shape[2]) != source.channels:
        raise UserError(f"Expected images of {source.channels} channels. Received: {source.name} with {channels}")
    fractions = {"test": ("test", split.test_fraction), "val": ("validation", split.validation_fraction)}
    for part, (long_name, fraction) in fractions.items():
        if part not in splits and (part == "test" or fraction != 0):
            kept, gone = split_by_class(splits["train"].labels, fraction=fraction, seed=split.seed, name=long_name)
            splits[part] = splits["train"].subset(gone)
            splits["train"] = splits["train"].subset(kept)
    return {part: splits[part] for part in SPLITS if part in splits}


def split_by_class(labels: np.ndarray, *, fraction: float, seed: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Takes `fraction` of each class away, at random, at least one image and leaving at least one.

    A class of a single image keeps it, which is logged.

    Example: 10 images of each of 3 classes, of which 2 go.
        >>> labels = np.repeat([0, 1, 2], 10)
        >>> stay, go = split_by_class(labels, fraction=0.2, seed=0, name="test")
        >>> len(stay), np.bincount(labels[go]).tolist()
        (24, [2, 2, 2])

    Args:
        labels: int `[N]`.
        fraction: above 0 and below 1.
        seed: the same seed takes the same images.
        name: of the part that goes, for the error.

    Returns:
        Sorted indices of the images that stay and of those that go.

    Raises:
        UserError: a fraction out of range, or no class of two images.
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
