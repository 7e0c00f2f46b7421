"""TFDS data sets: downloaded or found, prepared once, then opened by split."""

import contextlib
import functools
import json
import pathlib
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from typing import Any

import requests
import tensorflow as tf
import tensorflow_datasets as tfds
from absl import logging
from tensorflow_datasets.core import naming
from tensorflow_datasets.core.download import download_manager, downloader, extractor, util

from cskd_tf.data.catalogue.builders import archives
from cskd_tf.data.catalogue.builders.mit67 import Mit67
from cskd_tf.data.catalogue.builders.tiny_imagenet import TinyImagenet
from cskd_tf.data.sources.base import Source
from cskd_tf.data.sources.tfrecords import Records
from cskd_tf.errors import UserError
from cskd_tf.files import one_at_a_time

DEFAULT_FOLDER = "~/tensorflow_datasets"
MISSING_FILES = (
    util.DownloadError,
    download_manager.NonMatchingChecksumError,
    extractor.ExtractError,
    requests.RequestException,
    tarfile.TarError,
    zipfile.BadZipFile,
    tf.errors.NotFoundError,
    tf.errors.OutOfRangeError,  # of a file that is cut off
    AssertionError,  # of ImageNet's builder
    FileNotFoundError,
)
OURS = {"tiny_imagenet": TinyImagenet, "mit67": Mit67}
# Splits without which a data set is of no use. ImageNet's builder prepares what it finds, and says nothing of the rest.
NEEDED = {"imagenet2012": ("train", "validation")}
# In features.json, what TFDS takes for a class that it imports.
_CLASS_KEYS = ("type", "proto_cls", "python_class_name", "pythonClassName")
USUAL_SPLITS = {"val": "validation", "test": "test"}


def load(name: str, *, path: str, archive: str, channels: int, split_names: dict[str, str | None]) -> dict[str, Source]:
    """The splits of a TFDS data set, which is prepared in `path` if it is not there yet.

    Args:
        name: in TFDS' catalogue, as `name/config:version`, or one of `OURS`.
        path: folder where TFDS keeps data sets; empty: `~/tensorflow_datasets`.
        archive: for our builders, path of another archive than the published one; empty: the published one. Other data
            sets have none.
        channels: 3 (colour) or 1 (grey).
        split_names: for `train`, `val` and `test` what TFDS calls them. A split with an empty name is left out; None
            stands for the usual name (`USUAL_SPLITS`), if the data set has a split of that name.

    Returns:
        A source for each of the splits that are not left out.

    Raises:
        UserError: an unknown data set, split or archive, or files that have to be fetched by hand (which ones, and
            where to put them).
    """
    folder = pathlib.Path(path or DEFAULT_FOLDER).expanduser()
    manual = folder / "downloads" / "manual"
    make = functools.partial(_builder, name, folder=folder, archive=archive)
    with _errors_only(), _temporary_files_removed():
        builder = make()
    if not builder.is_prepared():
        folder.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(folder / ".lock"):  # several workers of one machine begin together
            with _errors_only(), _temporary_files_removed():
                builder = make()
            if not builder.is_prepared():
                logging.info("Preparing %s in %s, once", builder.info.full_name, builder.data_dir)
                with _errors_only():
                    _prepare(builder, manual)
    names = {split: _usual_name(builder, split) if name is None else name for split, name in split_names.items()}
    train = Records(builder, names["train"], channels=channels)
    splits: dict[str, Source] = {"train": train}
    for split in ("val", "test"):
        if names[split]:
            splits[split] = Records(
                builder,
                names[split],
                channels=channels,
                classes=train.classes,
                class_groups=train.class_groups,
            )
    return splits


def _usual_name(builder: tfds.core.DatasetBuilder, split: str) -> str:
    """What data sets usually call a split; empty if this one does not."""
    return USUAL_SPLITS[split] if USUAL_SPLITS[split] in builder.info.splits else ""


@contextlib.contextmanager
def _errors_only() -> Iterator[None]:
    """Without TFDS' warnings that a data set is new, or has a config of ours."""
    logger = logging.get_absl_logger()
    before = logger.level
    logger.setLevel("ERROR")
    try:
        yield
    finally:
        logger.setLevel(before)


@contextlib.contextmanager
def _temporary_files_removed() -> Iterator[None]:
    """TFDS makes a temporary folder for each builder of a data set that is not prepared, and leaves it there, empty."""
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder
        try:
            yield
        finally:
            tempfile.tempdir = before


def _builder(name: str, *, folder: pathlib.Path, archive: str) -> tfds.core.DatasetBuilder:
    """What prepares and describes a data set: one of our builders, or TFDS' own."""
    if builder_class := OURS.get(name):
        return builder_class(config=archives.config_of(archive, lists=builder_class.LISTS), data_dir=folder)
    try:
        parsed, _ = naming.parse_builder_name_kwargs(name)
        if parsed.namespace:
            raise UserError(
                f"Expected a data set that comes with TFDS, because those of others are code that TFDS would download. "
                f"Received: {name!r}"
            )
        _refuse_foreign_features(folder / parsed.name)
        return tfds.builder(name, data_dir=folder)
    except UserError:
        raise
    except (ValueError, AssertionError) as error:  # of an unknown name, config or version
        raise UserError(f"Unknown data set of TFDS. Received: {name!r} ({str(error).splitlines()[0]})") from None


def _refuse_foreign_features(folder: pathlib.Path) -> None:
    """Refuses a prepared data set whose files name classes outside of TFDS, which TFDS would import to read it."""

    def classes(part: Any) -> Iterator[str]:
        below = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
        if isinstance(part, dict):
            yield from (str(part[key]) for key in _CLASS_KEYS if key in part)
        for each in below:
            yield from classes(each)

    for file in sorted(folder.rglob("features.json")):
        foreign = {
            name for name in classes(json.loads(file.read_text())) if not name.startswith("tensorflow_datasets.")
        }
        if foreign:
            raise UserError(f"Expected features of TFDS' own classes. Received: {file} with {sorted(foreign)}")


def _prepare(builder: tfds.core.DatasetBuilder, manual: pathlib.Path) -> None:
    """Downloads and prepares, whole or not at all: TFDS writes beside the final folder, and renames at the end.

    Raises:
        UserError: files that could not be fetched or are damaged.
    """
    manual.mkdir(parents=True, exist_ok=True)
    options = tfds.download.DownloadConfig(manual_dir=manual)
    downloader.MAX_RETRIES = 4  # with TFDS' 10 a machine without network waits for minutes
    try:
        builder.download_and_prepare(download_dir=manual.parent, download_config=options)
        if missing := [split for split in NEEDED.get(builder.name, ()) if split not in builder.info.splits]:
            shutil.rmtree(builder.data_dir)
            raise FileNotFoundError(f"no images for {missing}")
    except MISSING_FILES as error:
        raise UserError(
            f"Expected the files of {builder.info.full_name}; if they cannot be downloaded, put them into {manual}:\n"
            f"{_files_of(builder)}\nReceived: {type(error).__name__}: {error}"
        ) from error


def _files_of(builder: tfds.core.DatasetBuilder) -> str:
    """What to download by hand, one line per file."""
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        return builder.MANUAL_DOWNLOAD_INSTRUCTIONS.strip()
    if isinstance(builder, archives.ArchiveBuilder):
        files = {url: archives.file_name(url) for url in builder.URLS}
    else:
        files = {url: info.filename for url, info in builder.url_infos.items()}
    return "\n".join(f"  {file} from {url}" for url, file in files.items())
