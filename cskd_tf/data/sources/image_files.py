"""Files that are to be images: how large they are, and which of them cannot be used."""

import os
import stat
from collections.abc import Sequence

import tensorflow as tf

from cskd_tf.data.sources.reading import read_and_decode
from cskd_tf.errors import UserError

_ENDS = ((b"\xff\xd8\xff", b"\xff\xd9"), (b"\x89PNG\r\n\x1a\n", b"IEND"))  # first and last bytes of JPEG and PNG


def sizes_of_files(paths: Sequence[str], *, names: Sequence[str] | None = None) -> list[int]:
    """Bytes of each file. Refuses what is none, such as a pipe or a device, from which reading might never end.

    Args:
        paths: of the files.
        names: what each of them is called in the error; the paths where left out.

    Raises:
        UserError: how many there are that are no files, and the names of the first ten.
    """
    stats = [os.stat(path) if os.path.exists(path) else None for path in paths]
    are_files = [each is not None and stat.S_ISREG(each.st_mode) for each in stats]
    if others := [name for name, is_file in zip(names or paths, are_files, strict=True) if not is_file]:
        raise UserError(f"Expected files of images. Received: {len(others)} that are no files: {others[:10]}")
    return [each.st_size for each in stats if each]


def check_image_files(paths: Sequence[str], *, channels: int, names: Sequence[str] | None = None) -> list[int]:
    """Bytes of each file. Refuses files that are no images, or cut off; only suspicious ones are decoded here.

    Args:
        paths: of the files.
        channels: 3 (colour) or 1 (grey).
        names: what each of them is called in the error; the paths where left out.

    Raises:
        UserError: how many there are that are no whole images, and the names of the first ten.
    """
    sizes = [_size_of_image(path, channels=channels) for path in paths]
    if broken := [name for name, size in zip(names or paths, sizes, strict=True) if size is None]:
        raise UserError(f"Expected JPEG or PNG files. Received: {len(broken)} that are not whole images: {broken[:10]}")
    return [size for size in sizes if size is not None]


def _size_of_image(path: str, *, channels: int) -> int | None:
    """Bytes of one file; None if it is no whole image. A file that begins and ends like one is not decoded."""
    try:
        # Opening a pipe would wait for somebody who writes into it.
        with open(path, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return None
            start = file.read(8)
            size = file.seek(0, 2)
            file.seek(max(size - 64, 0))
            end = file.read()
    except OSError:  # a link to itself or to nothing
        return None
    for first_bytes, last_bytes in _ENDS:
        if start.startswith(first_bytes):
            whole = last_bytes in end or not read_and_decode(lambda: tf.io.read_file(path), channels=channels).problem
            return size if whole else None
    return None
