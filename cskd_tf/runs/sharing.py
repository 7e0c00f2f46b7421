"""Whether all workers write to, and read from, one and the same folder."""

import contextlib
import pathlib
import secrets
import time

import numpy as np

from cskd_tf.errors import UserError
from cskd_tf.runs.workdir import Workdir
from cskd_tf.training.workers import Workers

PATIENCE = 60.0  # seconds, for which a client of NFS may believe what it knew of a folder
_BETWEEN = 0.2  # seconds between two looks
_FILE = ".shared"  # there as long as they look


def check_shared(workdir: Workdir, workers: Workers, *, patience: float = PATIENCE) -> None:
    """Raises UserError where others do not find in the folder what the first worker writes there.

    All workers have to call it. They would train together, and come to nothing as soon as one looks for a checkpoint.
    """
    path = workdir.path / _FILE
    if workers.count == 1:
        path.unlink(missing_ok=True)  # of several that were killed as they looked
        return
    number = str(workers.gather(np.array([secrets.randbits(31)], np.int32))[0])
    workers.on_chief(lambda: path.write_text(number))
    found = workers.gather(np.array([_says(path, number, patience=patience)], np.int32))
    workers.on_chief(lambda: path.unlink(missing_ok=True))
    if not found.all():
        raise UserError(
            f"Expected a workdir that all workers share. Received: {workdir.path}, in which what the first worker "
            f"writes is not found by the workers {np.flatnonzero(found == 0).tolist()}, counted from 0"
        )


def _says(path: pathlib.Path, number: str, *, patience: float) -> bool:
    """Whether the file comes to say the number."""
    until = time.monotonic() + patience
    while True:
        with contextlib.suppress(OSError):  # it is not there yet
            if path.read_text() == number:
                return True
        if time.monotonic() > until:
            return False
        time.sleep(_BETWEEN)
