"""What the builders share: an archive that is found or fetched, checked, and read without being unpacked."""

import dataclasses
import hashlib
import pathlib
from typing import ClassVar

import tensorflow_datasets as tfds

PUBLISHED = "published"


@dataclasses.dataclass(kw_only=True, eq=False)
class ArchiveConfig(tfds.core.BuilderConfig):
    """Which archive a builder reads.

    Attributes:
        archive: path of an archive in the layout of the published one, a part of it say; empty: the published one.
        manual: folder in which the published files are looked for before they are downloaded.
    """

    archive: str = ""
    manual: str = ""


def config_of(archive: str, *, manual: str | pathlib.Path) -> ArchiveConfig:
    """The published archive, or another, which is named after its content so that the two never mix.

    Raises:
        ValueError: no such file.
    """
    if not archive:
        return ArchiveConfig(name=PUBLISHED, manual=str(manual))
    if not pathlib.Path(archive).is_file():
        raise ValueError(f"Expected data.archive to name a file. Received: data.archive={archive!r}")
    return ArchiveConfig(name=f"archive_{checksum(archive, 'sha256')[:12]}", archive=str(archive))


class ArchiveBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Base of our builders: encoded images as they are in an archive, their class and their name.

    Attributes:
        HOMEPAGE: where the data set is described.
        URLS: the published files.
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar = [ArchiveConfig(name=PUBLISHED)]
    HOMEPAGE: ClassVar[str]
    URLS: ClassVar[tuple[str, ...]]

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
        path = pathlib.Path(self.builder_config.manual) / url.rsplit("/", 1)[-1]
        if not path.is_file():
            path = pathlib.Path(download_manager.download(url))
        if expected and (found := checksum(path, algorithm)) != expected:
            raise ValueError(
                f"Expected {url}, with {algorithm} {expected}; another archive of the same layout can be given as "
                f"data.archive. Received: {path}, with {found}"
            )
        return path


def checksum(path: str | pathlib.Path, algorithm: str) -> str:
    """The hexadecimal digest of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def refuse_outside(names: list[str], archive: str | pathlib.Path) -> None:
    """Raises ValueError where an archive has members that would lie outside of its folder."""
    outside = [name for name in names if name.startswith(("/", "\\")) or ".." in pathlib.PurePosixPath(name).parts]
    if outside:
        raise ValueError(f"Expected an archive that stays within its folder. Received: {archive} with {outside[:10]}")


def refuse_missing(wanted: set[str], present: set[str], archive: str | pathlib.Path, source: str) -> None:
    """Raises ValueError where `source` (annotations) names files that the archive lacks."""
    if missing := sorted(wanted - present):
        raise ValueError(
            f"Expected every file that {source} names to be in {archive}. "
            f"Received: {len(missing)} that are missing: {missing[:10]}"
        )
