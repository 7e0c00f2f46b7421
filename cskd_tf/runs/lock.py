"""One process alone in a folder."""

import contextlib
import fcntl
import os
import pathlib
import time
from typing import IO

from absl import logging

from cskd_tf.errors import UserError

LOCK = ".lock"  # empty
_ATTEMPTS = 10  # to lock it, where another process removes the folder that it has made and not claimed
_PATIENCE = 0.2  # seconds, in which a process that only looks whether it is locked has looked


def is_locked(folder: pathlib.Path) -> bool:
    """Whether a process has the lock of a folder; it is taken for a moment to see. Nothing is made.

    Where a file system has no locks, none has it.
    """
    try:
        with open(folder / LOCK, "r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


class FolderLock:
    """Keeps out of a folder all processes that ask for its lock. It goes with its process, whatever ends that.

    Args:
        folder: whose lock it is.
    """

    def __init__(self, folder: pathlib.Path):
        self._folder = folder
        self._path = folder / LOCK
        self._file: IO | None = None

    @property
    def held(self) -> bool:
        return self._file is not None

    def take(self) -> None:
        """Makes the folder where it is not there, and locks the file in it, unless that is done.

        Raises:
            UserError: another process has it, or the folder cannot be written to.
        """
        attempts, begun = 0, time.monotonic()
        while self._file is None:
            attempts += 1
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                file = open(self._path, "a")  # noqa: SIM115
            except OSError as error:
                if isinstance(error, FileNotFoundError) and attempts < _ATTEMPTS:
                    continue
                received = f"{self._folder} ({error})"
                raise UserError(f"Expected a workdir that can be written to. Received: {received}") from None
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                if time.monotonic() < begun + _PATIENCE:
                    time.sleep(0.02)
                    continue
                raise UserError(
                    f"Expected a workdir that no other process works in. Received: {self._folder}, in which one does"
                ) from None
            except OSError as error:  # of file systems without locks
                logging.warning("%s cannot be locked (%s): start no second run there", self._folder, error)
            # The file can be gone, with who had it. Not all file systems can tell.
            if self._is_there(file) or attempts >= _ATTEMPTS:
                self._file = file
            else:
                file.close()

    def _is_there(self, file: IO) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(file.fileno()), os.stat(self._path))
        return False

    def release(self) -> None:
        """Lets others have it; its file stays."""
        if self._file is not None:
            self._file.close()
            self._file = None
