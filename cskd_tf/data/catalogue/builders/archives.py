"""What the builders share: an archive that is found or fetched, checked, and read without being unpacked."""

import dataclasses
import hashlib
import pathlib
from collections.abc import Iterable, Sequence
from typing import ClassVar

import tensorflow_datasets as tfds

from cskd_tf.errors import UserError

PUBLISHED = "published"


@dataclasses.dataclass(kw_only=True, eq=False)
class ArchiveConfig(tfds.core.BuilderConfig):
    """Which archive a builder reads.

    Attributes:
        archive: path of an archive in the layout of the published one, a part of it say; empty: the published one.
    """

    archive: str = ""


def config_of(archive: str, *, lists: Sequence[str] = ()) -> ArchiveConfig | str:
    """The published archive, or another, which is named after its content so that the two never mix.

    Args:
        archive: its path; empty: the published one.
        lists: names of files beside it that belong to the content.

    Raises:
        ValueError: no such file.
    """
    if not archive:
        return PUBLISHED
    path = pathlib.Path(archive).expanduser()
    if not path.is_file():
        raise UserError(f"Expected data.source.archive to name a file. Received: data.source.archive={archive!r}")
    files = [path, *(path.with_name(name) for name in lists if path.with_name(name).is_file())]
    content = "".join(checksum(file, "sha256") for file in files)
    return ArchiveConfig(name=f"archive_{hashlib.sha256(content.encode()).hexdigest()[:12]}", archive=str(path))


class ArchiveBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Base of our builders: encoded images as they are in an archive, their class and their name.

    Attributes:
        HOMEPAGE: where the data set is described.
        URLS: the published files.
        LISTS: names of those of them that belong beside the archive.
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar = [ArchiveConfig(name=PUBLISHED)]
    HOMEPAGE: ClassVar[str]
    URLS: ClassVar[tuple[str, ...]]
    LISTS: ClassVar[tuple[str, ...]] = ()

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(),
            "file_name": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            homepage=self.HOMEPAGE,
        )

    def published(self, download_manager, url: str, *, algorithm: str = "", expected: str = "") -> pathlib.Path:
        """The published file, from the manual folder or by download, after its checksum was compared.

        Raises:
            ValueError: another checksum.
        """
        path = pathlib.Path(download_manager.download_dir) / "manual" / file_name(url)
        if not path.is_file():
            path = pathlib.Path(download_manager.download(url))
        if expected and (actual := checksum(path, algorithm)) != expected:
            raise UserError(
                f"Expected {url}, with {algorithm} {expected}; another archive of the same layout can be given as "
                f"data.source.archive. Received: {path}, with {actual}"
            )
        return path


def file_name(url: str) -> str:
    """Example: `http://host/folder/List.txt` is `List.txt`."""
    return url.rsplit("/", 1)[-1]


def check_labels(*, train: Iterable[str], other: Iterable[str], path: str | pathlib.Path, source: str) -> list[str]:
    """The classes of the training images, sorted; `source` is what names those of the other split.

    Raises:
        ValueError: no image in one of the splits, or classes in the other that have no training image.
    """
    classes, others = sorted(set(train)), set(other)
    if not classes or not others:
        raise UserError(f"Expected at least one image in each split. Received: {path}, and none by {source}")
    if unknown := sorted(others - set(classes)):
        raise UserError(
            f"Expected {source} to name images of the training classes. Received: {path}, with {unknown[:10]}"
        )
    return classes


def checksum(path: str | pathlib.Path, algorithm: str) -> str:
    """The hexadecimal digest of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def refuse_outside(names: list[str], archive: str | pathlib.Path) -> None:
    """Raises ValueError where an archive has members that would lie outside of its folder."""
    outside = [name for name in names if name.startswith(("/", "\\")) or ".." in pathlib.PurePosixPath(name).parts]
    if outside:
        raise UserError(f"Expected an archive that stays within its folder. Received: {archive} with {outside[:10]}")


def refuse_missing(wanted: set[str], present: set[str], archive: str | pathlib.Path, source: str) -> None:
    """Raises ValueError where `source` (annotations) names files that the archive lacks."""
    if missing := sorted(wanted - present):
        raise UserError(
            f"Expected every file that {source} names to be in {archive}. "
            f"Received: {len(missing)} that are missing: {missing[:10]}"
        )
