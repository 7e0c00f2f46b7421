"""Every data set by name, and what a config may ask of one."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Collection, Iterable
from typing import Annotated, Any, Literal

import numpy as np
import sklearn.datasets

from cskd_tf.data.catalogue import split_names
from cskd_tf.data.catalogue.fashion_mnist import fashion_mnist
from cskd_tf.data.catalogue.glyphs import glyphs
from cskd_tf.data.sources.arrays import ArraySource
from cskd_tf.data.sources.base import Source
from cskd_tf.data.sources.folders import ImageFolder
from cskd_tf.data.sources.image_table import ImageTable, read_rows
from cskd_tf.errors import UserError
from cskd_tf.settings import Within, check


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """Which data set, from where. Of several, joined by `+` in `name`, `path` and `archive` hold one entry or one each.

    Attributes:
        name: one of `DATASETS`, `tfds:NAME`, or several joined by `+`.
        path: of an image folder, of a CSV file, of the folder of Fashion-MNIST's files (empty: Keras' download), or of
            the folder where TFDS keeps data sets (empty: `~/tensorflow_datasets`).
        archive: for `tiny_imagenet` and `mit67`, another one than the published.
        channels: 3 colour, 1 grey.
        class_levels: levels of an image folder's folders that make a class.
        groups: file of lines `class<TAB>group` (see `read_groups`); empty: the groups that the data set brings.
        memory: GiB at most for images held in memory; what does not fit is read as it is needed.
        licence: of the images, in the user's own words, for the card of an export; empty: that of `DATASETS`.
    """

    name: str
    path: str = ""
    archive: str = ""
    channels: Literal[1, 3] = 3
    class_levels: Annotated[int, Within(1, 100)] = 1
    groups: str = ""
    memory: Annotated[float, Within(0, 2**20)] = 4.0
    licence: str = ""

    def __post_init__(self):
        check(self)

    def of_images(self) -> "SourceOptions":
        """What says which images these are, and nothing of how they are held, converted, grouped or licensed.

        Example:
            >>> one = SourceOptions(name="image_folder", path="photos/", memory=2.0, licence="CC0")
            >>> one.of_images() == SourceOptions(name="image_folder", path="./photos").of_images()
            True
        """
        path, archive = (
            os.pathsep.join(map(_real_path, value.split(os.pathsep))) for value in (self.path, self.archive)
        )
        return dataclasses.replace(self, path=path, archive=archive, channels=3, groups="", memory=0.0, licence="")


def _real_path(path: str) -> str:
    return os.path.realpath(os.path.expanduser(path)) if path else ""


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
    train_per_class: Annotated[int, Within(0, 2**31)] = 0

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


def fonts(source: SourceOptions, split: SplitOptions, *, check_files: bool) -> dict[str, Source]:
    """50 characters in the 21 fonts of Matplotlib, 1,050 grey images of 24 x 24 pixels."""
    return {"train": glyphs()}


def garments(source: SourceOptions, split: SplitOptions, *, check_files: bool) -> dict[str, Source]:
    """Fashion-MNIST, 70,000 grey photographs of 28 x 28 pixels, from the folder PATH or Keras' download."""
    return fashion_mnist(source.path)


def image_folder(source: SourceOptions, split: SplitOptions, *, check_files: bool) -> dict[str, Source]:
    """`PATH/train/<class>/*.jpg|png`, with `PATH/val` and `PATH/test` where they are there, or `PATH/<class>/*`."""
    if not source.path:
        raise UserError(
            "Expected data.source.path to name a folder with train/<class>/*.jpg|png. Received: data.source.path=''"
        )
    root = pathlib.Path(source.path).expanduser()
    folders = {part: root / (name or part) for part, name in split.names.items()}
    if not root.is_dir():
        where = "" if root.is_absolute() else f" in {pathlib.Path.cwd()}"
        raise UserError(
            "Expected data.source.path to name a folder; --config.data.source.path=FOLDER says where images lie now. "
            f"Received: no folder {root}{where}"
        )
    for part, folder in folders.items():
        if (name := split.names[part]) and not folder.is_dir():
            raise UserError(f"Expected data.split.{part} to name a folder in {root}. Received: {name!r}")
    present = {part: folder for part, folder in folders.items() if folder.is_dir()}
    if not present:
        present = {"train": root}  # a folder of classes, not of splits
    split_names.refuse_one_for_two({part: os.path.realpath(folder) for part, folder in present.items()})
    split_names.refuse_other_split_names(root, known=[folder.name for folder in folders.values()])
    if root not in present.values():
        split_names.name_left_out(root, known=[folder.name for folder in folders.values()])
    folder_of = functools.partial(
        ImageFolder, channels=source.channels, levels=source.class_levels, check_files=check_files
    )
    splits: dict[str, Source] = {"train": folder_of(present.get("train", folders["train"]))}
    for part in present.keys() - {"train"}:
        splits[part] = folder_of(present[part], class_names=splits["train"].class_names)
    return splits


def csv(source: SourceOptions, split: SplitOptions, *, check_files: bool) -> dict[str, Source]:
    """The images that the CSV file PATH lists, by `path`, `label` and, where there is such a column, `split`."""
    if not source.path:
        raise UserError("Expected data.source.path to name a CSV file. Received: data.source.path=''")
    rows = read_rows(pathlib.Path(source.path).expanduser())
    options: dict[str, Any] = {"channels": source.channels, "check_files": check_files}
    written = {row.split for row in rows}
    if written == {""}:
        if named := {part: name for part, name in split.names.items() if name}:
            raise UserError(f"Expected a column split in {source.path} for data.split. Received: {named}")
        return {"train": ImageTable(rows, **options)}
    names = {part: name or part for part, name in split.names.items()}
    split_names.refuse_one_for_two({part: name for part, name in names.items() if name in written})
    for row in rows:
        if row.split not in names.values():
            raise UserError(
                f"Expected split to be one of {list(names.values())}, or as data.split.train, data.split.val and "
                f"data.split.test say. Received: {row.place}, {row.split!r}"
            )
    splits: dict[str, Source] = {"train": ImageTable(rows, split=names["train"], **options)}
    for part, name in names.items():
        if part != "train" and (name in written or split.names[part]):
            splits[part] = ImageTable(rows, split=name, class_names=splits["train"].class_names, **options)
    return splits


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


@dataclasses.dataclass(frozen=True)
class Dataset:
    """One data set.

    Attributes:
        load: takes SourceOptions, SplitOptions and check_files, and returns the splits that the data set brings itself.
        takes: the options that mean something to it, beside those that do to every data set (`TAKEN_BY_ALL`).
        licence: of its images, as those who publish them say; empty where they say nothing that is known here.
    """

    load: Callable[..., dict[str, Source]]
    takes: Collection[str] = ()
    licence: str = ""


TAKEN_BY_ALL = {
    "name", "channels", "groups", "memory", "licence", "seed", "test_fraction", "validation_fraction", "train_per_class"
}  # fmt: skip
_OF_TFDS = ("path", "train", "val", "test")
_OF_ARCHIVES = (*_OF_TFDS, "archive")
_IMAGENET = "ImageNet's terms of access: non-commercial research and education alone"
DATASETS = {
    "fonts": Dataset(fonts, licence="those of the font files that Matplotlib brings: DejaVu, STIX and BaKoMa"),
    "digits": Dataset(digits, licence="CC BY 4.0 (UCI Machine Learning Repository)"),
    "fashion_mnist": Dataset(garments, ("path",), licence="MIT (Zalando SE)"),
    "image_folder": Dataset(image_folder, ("path", "class_levels", "train", "val", "test")),
    "csv": Dataset(csv, ("path", "train", "val", "test")),
    "cifar10": Dataset(FromTfds("cifar10"), _OF_TFDS),
    "cifar100": Dataset(FromTfds("cifar100"), _OF_TFDS),
    "tiny_imagenet": Dataset(
        FromTfds("tiny_imagenet", test="validation"), _OF_ARCHIVES, licence=f"images of ImageNet; {_IMAGENET}"
    ),
    "caltech_birds2011": Dataset(FromTfds("caltech_birds2011"), _OF_TFDS),
    "stanford_dogs": Dataset(FromTfds("stanford_dogs"), _OF_TFDS, licence=f"images of ImageNet; {_IMAGENET}"),
    "mit67": Dataset(FromTfds("mit67"), _OF_ARCHIVES, licence="for research purposes only, say those who publish it"),
    "imagenet2012": Dataset(
        FromTfds("imagenet2012", test="validation"),
        _OF_TFDS,
        licence=_IMAGENET,
    ),
    "omniglot": Dataset(FromTfds("omniglot", train="train+test", test=""), _OF_TFDS, licence="MIT"),
}
TFDS_PREFIX = "tfds:"


def find_dataset(name: str) -> Dataset:
    """The data set of a name.

    Example:
        >>> find_dataset("tfds:beans").takes
        ('path', 'train', 'val', 'test')

    Raises:
        UserError: an unknown name; the known ones are listed.
    """
    if name.startswith(TFDS_PREFIX):
        return Dataset(FromTfds(name.removeprefix(TFDS_PREFIX), val=None, test=None), _OF_TFDS)
    if name not in DATASETS:
        raise UserError(
            f"Unknown data set; expected one of {sorted(DATASETS)}, {TFDS_PREFIX}NAME for any of TensorFlow Datasets', "
            f"or several joined by +. Received: data.source.name={name!r}"
        )
    return DATASETS[name]


def refuse_ignored(names: Iterable[str], source: SourceOptions, split: SplitOptions) -> None:
    """Refuses options that have been set, and of which none of the data sets takes any notice.

    Example:
        >>> refuse_ignored(["digits"], SourceOptions(name="digits", class_levels=3), SplitOptions(val="dev"))
        Traceback (most recent call last):
        cskd_tf.errors.UserError: Expected data.source.class_levels=1, data.split.val='' with digits, which takes no \
others. Received: data.source.class_levels=3, data.split.val='dev'

    Args:
        names: of the data sets.
        source: of all of them together.
        split: the same.

    Raises:
        UserError: which options.
    """
    names = list(names)
    taken = TAKEN_BY_ALL.union(*(find_dataset(name).takes for name in names))
    expected, received = [], []
    for group, options in (("source", source), ("split", split)):
        for field in dataclasses.fields(options):
            value = getattr(options, field.name)
            if field.name not in taken and value != field.default:
                expected.append(f"data.{group}.{field.name}={field.default!r}")
                received.append(f"data.{group}.{field.name}={value!r}")
    if received:
        raise UserError(
            f"Expected {', '.join(expected)} with {' and '.join(names)}, which takes no others. "
            f"Received: {', '.join(received)}"
        )


def load_dataset(source: SourceOptions, split: SplitOptions, *, check_files: bool) -> dict[str, Source]:
    """The splits that one data set brings itself, `train` among them.

    Raises:
        UserError: an unknown data set (the known ones are listed), images of other channels than asked for, or data
            that cannot be used.
    """
    splits = find_dataset(source.name).load(source, split, check_files=check_files)
    if (channels := splits["train"].image_shape[2]) != source.channels:
        raise UserError(f"Expected images of {source.channels} channels. Received: {source.name} with {channels}")
    return splits
