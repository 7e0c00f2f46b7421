"""Files that are whole or not there: a reader never sees half of one, and a failed write leaves what there was."""

import contextlib
import errno
import fcntl
import os
import pathlib
import platform
import re
import shutil
import time
import zipfile
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
from absl import logging

from cskd_tf.errors import UserError

DEEPEST = 200  # folders within folders: pathlib makes them by recursion
_HOST = re.sub(r"\W+", "-", platform.node())[:40]
FULL = (errno.ENOSPC, errno.EDQUOT)  # of a disk, or of a user's share of one
ONCE_THERE_IS_ROOM = (
    "What was saved before is whole: once there is room, the same command goes on from it, or begins anew where "
    "nothing was"
)
_PARTIAL = re.compile(r"\.(\d+)(?:@([\w-]*)-[0-9a-f]{6})?\.partial(\.|$)")  # which process writes, and on which host
_OLD = 3600.0  # seconds after which what a process of another host, whom nobody can ask, was writing is left over


@contextlib.contextmanager
def written_whole(path: str | pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives another path beside `path` to write to, and moves that file to `path` when the block ends.

    After an error the file beside it is removed, and `path` stays as it was. What it says has reached the disk before
    the old file goes: also after a loss of power there is the one or the other.

    Example:
        >>> with written_whole("log.json") as partial:
        ...     _ = partial.write_text("{}")
        ...     pathlib.Path("log.json").exists()
        False
        >>> pathlib.Path("log.json").read_text()
        '{}'

    Args:
        path: of the file, in a folder that exists.

    Yields:
        The path to write to.
    """
    path = pathlib.Path(path)
    # The suffix stays, because some writers add their own to a name without it.
    partial = path.with_name(f"{path.stem}{partial_mark()}{path.suffix}")
    try:
        yield partial
        to_disk(partial)
        os.replace(partial, path)
        with contextlib.suppress(OSError):  # of file systems that cannot do so with folders
            to_disk(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def to_disk(path: pathlib.Path) -> None:
    """Returns when what a file says, or which files a folder has, will outlast a loss of power."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


@contextlib.contextmanager
def one_at_a_time(path: str | pathlib.Path) -> Iterator[None]:
    """Waits for other processes that are in such a block for the same file, which is made where it is not there.

    Where a file system has no locks, it does not wait, and a warning says so.

    Example:
        >>> with one_at_a_time(".lock"):
        ...     pathlib.Path(".lock").read_bytes()
        b''
    """
    with open(path, "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            logging.warning("%s cannot be locked (%s): let no second process do the same", path, error)
        yield


def is_partial(path: pathlib.Path) -> bool:
    """Whether a file or folder is one that is being written, or was when its process was killed.

    Example:
        >>> is_partial(pathlib.Path("config.4711.partial.json")), is_partial(pathlib.Path("config.json"))
        (True, False)
    """
    return _PARTIAL.search(path.name) is not None


def partial_mark() -> str:
    """In the name of what is being written: by it later processes know it, if this one is killed.

    Another each time, as containers of one folder may have the same numbers of processes.
    """
    return f".{os.getpid()}@{_HOST}-{os.urandom(3).hex()}.partial"


def remove_leftovers(folder: pathlib.Path) -> None:
    """Removes what processes that no longer run have left half written in a folder; not below it."""
    for path in list(folder.iterdir()) if folder.is_dir() else ():
        match = _PARTIAL.search(path.name)
        if match and _is_left_over(path, process=int(match[1]), host=match[2]):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def full_disk(error: BaseException) -> int | None:
    """The number of an error that says that a disk, or a user's share of one, is full; None of any other error.

    Example:
        >>> full_disk(RuntimeError("/tmp/x/variables; Disk quota exceeded")) == errno.EDQUOT, full_disk(ValueError())
        (True, None)
    """
    return next((number for number in FULL if os.strerror(number) in f"{getattr(error, 'strerror', '')}{error}"), None)


@contextlib.contextmanager
def full_disk_named(*folders: str | pathlib.Path, room: int = 0) -> Iterator[None]:
    """Makes of whatever a full disk lets a block raise an `OSError` whose `filename` is the folder that is full.

    Libraries say it in words of their own, or not at all: a converter's stream just fails. Then a disk is full that has
    less than `room` left, since a writer may have removed again what it could not finish.

    Example:
        >>> with full_disk_named("/tmp"):
        ...     raise RuntimeError("/tmp/x/variables; No space left on device")
        Traceback (most recent call last):
        OSError: [Errno 28] No space left on device: '/tmp'

    Args:
        *folders: to which the block writes.
        room: bytes that it needs in each; 0: it always says that a disk is full.

    Raises:
        OSError: a disk is full. All other errors stay as they are.
    """
    try:
        yield
    except Exception as error:
        number = full_disk(error)
        free = {str(folder): shutil.disk_usage(nearest_folder(folder)).free for folder in folders}
        least = min(free, key=free.__getitem__)
        if number is None and not free[least] < room:
            raise
        named = (folder for folder in free if folder in str(error))
        number = number or errno.ENOSPC
        raise OSError(number, os.strerror(number), next(named, least)) from error


def nearest_folder(path: str | pathlib.Path) -> pathlib.Path:
    """The path itself where it is there, or what is nearest above it: where it would be made.

    Example:
        >>> str(nearest_folder("/proc/nowhere/run"))
        '/proc'
    """
    path = pathlib.Path(path).absolute()
    return next(folder for folder in (path, *path.parents) if folder.exists())


PATTERN = frozenset("*?[\\")  # signs by which TensorFlow takes the path of a checkpoint for a pattern


def check_path(path: str | pathlib.Path, *, name: str) -> None:
    """Raises UserError for an address, as of a bucket (as a path it would be that of a local folder, `gs:`), for
    folders within folders beyond what Python makes.

    Example:
        >>> check_path("gs://bucket/run", name="workdir")
        Traceback (most recent call last):
        cskd_tf.errors.UserError: Expected a path; mount a bucket to use it. Received: workdir=gs://bucket/run
    """
    if "://" in str(path):
        raise UserError(f"Expected a path; mount a bucket to use it. Received: {name}={path}")
    if len(parts := pathlib.Path(path).parts) > DEEPEST:
        raise UserError(f"Expected a path of at most {DEEPEST} folders. Received: {name}, of {len(parts)}")


def check_readable(path: str | pathlib.Path, *, name: str) -> None:
    r"""As `check_path`; refuses signs too by which TensorFlow may not find again what it wrote to the path.

    Example:
        >>> check_readable("a[1]", name="workdir")
        Traceback (most recent call last):
        cskd_tf.errors.UserError: Expected a path without * ? [ \, TensorFlow's patterns. Received: workdir=a[1]
    """
    check_path(path, name=name)
    if PATTERN & set(str(path)):
        raise UserError(f"Expected a path without * ? [ \\, TensorFlow's patterns. Received: {name}={path}")


def read_arrays(path: str | pathlib.Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Arrays of an `.npz` file, which may have been made by anybody: what is pickled in it is refused, not executed.

    Example:
        >>> np.savez("labels.npz", labels=np.arange(3))
        >>> read_arrays("labels.npz", ["labels"])
        {'labels': array([0, 1, 2])}

    Args:
        path: of the file.
        names: of the arrays.

    Raises:
        UserError: a file that is none of numpy's, is damaged, or lacks an array.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in names}
    except (ValueError, TypeError, LookupError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"Expected a file of numpy with the arrays {list(names)}. Received: {path} ({why})") from error


def _is_left_over(path: pathlib.Path, *, process: int, host: str | None) -> bool:
    if host in (None, _HOST):  # of before there were hosts in names
        return not _runs(process)
    try:
        return time.time() - path.stat().st_mtime > _OLD
    except FileNotFoundError:  # whole by now
        return False


def _runs(process: int) -> bool:
    if process == os.getpid():
        return False  # what this process was writing when it was last interrupted, or had this number before
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        return True
    return True
