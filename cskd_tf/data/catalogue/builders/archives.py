"""What the builders share: an archive that is found or fetched, checked, and read without being unpacked."""

import contextlib
import dataclasses
import hashlib
import lzma
import pathlib
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

import tensorflow_datasets as tfds

from cskd_tf.errors import UserError

PUBLISHED = "published"
MOST_BYTES = 2**28  # of a member that is read, unpacked
# Of archives that are none, cut off, damaged, locked with a password or packed in a way that Python does not know.
_DAMAGE = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError,
)  # fmt: skip


@dataclasses.dataclass(kw_only=True, eq=False)
class ArchiveConfig(tfds.core.BuilderConfig):
    """Which archive a builder reads.

    Attributes:
        archive: path of an archive in the layout of the published one, such as a part of it; empty: the published one.
    """

    archive: str = ""


def config_of(archive: str, *, lists: Sequence[str] = ()) -> ArchiveConfig | str:
    """The published archive, or another, which is named after its content so that the two never mix.

    Args:
        archive: its path; empty: the published one.
        lists: names of files beside it that belong to its content.

    Returns:
        What TFDS takes as the config of a builder.

    Raises:
        UserError: no such file.
    """
    if not archive:
        return PUBLISHED
    path = pathlib.Path(archive).expanduser()
    if not path.is_file():
        raise UserError(f"Expected data.source.archive to name a file. Received: data.source.archive={archive!r}")
    files = [path, *(path.with_name(name) for name in lists if path.with_name(name).is_file())]
    content = "".join(checksum(file, "sha256") for file in files)
    return ArchiveConfig(name=f"archive_{hashlib.sha256(content.encode()).hexdigest()[:12]}", archive=str(path))


class ArchiveBuilder:
    """What our builders have in common: encoded images as they are in an archive, their class and their name.

    It stands before TFDS' `GeneratorBasedBuilder` among their bases. TFDS takes every class that derives from that for
    a data set, which this is not.

    Attributes:
        HOMEPAGE: where the data set is described.
        URLS: of the published files, the archive and what belongs beside it.
        LISTS: names of the files that belong beside the archive.
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

    def published(
        self, download_manager: tfds.download.DownloadManager, url: str, *, algorithm: str = "", expected: str = ""
    ) -> pathlib.Path:
        """A published file, from the manual folder or by download, after its checksum was compared.

        Args:
            download_manager: of TFDS.
            url: of the file.
            algorithm: of the checksum, as `hashlib` calls it.
            expected: the checksum in hexadecimal digits; empty: any.

        Raises:
            UserError: another checksum.
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
    """What a file is called that a URL leads to.

    Example:
        >>> file_name("http://host/folder/List.txt")
        'List.txt'
    """
    return url.rsplit("/", 1)[-1]


def check_labels(
    *, train: Iterable[str], evaluation: Iterable[str], path: str | pathlib.Path, source: str
) -> list[str]:
    """The classes of the training images, sorted.

    Example:
        >>> check_labels(train=["dog", "cat", "dog"], evaluation=["cat"], path="photos.zip", source="TestImages.txt")
        ['cat', 'dog']

    Args:
        train: the class of each training image.
        evaluation: the class of each validation or test image.
        path: of the archive, for errors.
        source: the file that names the validation or test images, for errors.

    Raises:
        UserError: no image in one of the splits, or a class that has no training image.
    """
    classes, evaluation_classes = sorted(set(train)), set(evaluation)
    if not classes or not evaluation_classes:
        raise UserError(f"Expected at least one image in each split. Received: {path}, and none by {source}")
    if unknown := sorted(evaluation_classes - set(classes)):
        raise UserError(
            f"Expected {source} to name images of the training classes. Received: {path}, with {unknown[:10]}"
        )
    return classes


def checksum(path: str | pathlib.Path, algorithm: str) -> str:
    """The digest of a file in hexadecimal digits; `algorithm` is what `hashlib` calls it, such as `sha256`."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def refuse_outside(names: list[str], archive: str | pathlib.Path) -> None:
    """Refuses an archive with members that would lie outside of its folder.

    Example:
        >>> refuse_outside(["photos/1.jpg", "../evil.jpg"], "photos.tar")
        Traceback (most recent call last):
        cskd_tf.errors.UserError: Expected an archive that stays within its folder. Received: ... with ['../evil.jpg']

    Args:
        names: of the members.
        archive: its path, for the error.

    Raises:
        UserError: which members.
    """
    outside = [name for name in names if name.startswith(("/", "\\")) or ".." in pathlib.PurePosixPath(name).parts]
    if outside:
        raise UserError(f"Expected an archive that stays within its folder. Received: {archive} with {outside[:10]}")


def refuse_large(sizes: Mapping[str, int], archive: str | pathlib.Path) -> None:
    """Refuses an archive with members that are larger than any image or list is.

    Example:
        >>> refuse_large({"photos/1.jpg": 2**40}, "photos.zip")
        Traceback (most recent call last):
        cskd_tf.errors.UserError: Expected members of at most 268,435,456 bytes. Received: ... with ['photos/1.jpg']

    Args:
        sizes: bytes of each member, unpacked, as the archive has them.
        archive: its path, for the error.

    Raises:
        UserError: which members.
    """
    if large := [name for name, size in sizes.items() if size > MOST_BYTES]:
        raise UserError(f"Expected members of at most {MOST_BYTES:,} bytes. Received: {archive} with {large[:10]}")


@contextlib.contextmanager
def whole(archive: str | pathlib.Path, kind: str) -> Iterator[None]:
    """Says which archive it was, where the standard library says only what is wrong with it.

    Args:
        archive: its path.
        kind: of archive, `zip` or `tar`.

    Raises:
        UserError: for whatever an archive that is none, or is damaged, raises inside.
    """
    try:
        yield
    except UserError:
        raise
    except _DAMAGE as error:
        why = str(error) or type(error).__name__
        raise UserError(f"Expected a whole {kind} archive. Received: {archive} ({why})") from None


def refuse_missing(wanted: set[str], present: set[str], archive: str | pathlib.Path, source: str) -> None:
    """Refuses an archive that lacks files which its annotations name.

    Args:
        wanted: the names of the files.
        present: the names of the archive's members.
        archive: its path, for the error.
        source: the file with the annotations, for the error.

    Raises:
        UserError: how many files are missing, and the names of the first ten.
    """
    if missing := sorted(wanted - present):
        raise UserError(
            f"Expected every file that {source} names to be in {archive}. "
            f"Received: {len(missing)} that are missing: {missing[:10]}"
        )
