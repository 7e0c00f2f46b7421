"""Whether all workers do the same: by one config, on the same images, in one and the same folder."""

import contextlib
import json
import pathlib
import secrets
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from cskd_tf.errors import UserError
from cskd_tf.runs.workdir import Workdir
from cskd_tf.training.workers import Workers

PATIENCE = 60.0  # seconds, for which a client of NFS may believe what it knew of a folder
_BETWEEN = 0.2  # seconds between two looks
_FILE = ".shared"  # there as long as they look


def check_alike(values: Mapping[str, Any], workers: Workers, *, what: str) -> None:
    """Raises UserError, on all workers, where one of them has other values than the first.

    All workers have to call it. Each makes its own part of every batch by what it was told: by another seed, say, some
    images would be trained on twice, and others never.

    Args:
        values: of this worker, plain ones by their names.
        workers: to compare with.
        what: they are.
    """
    if workers.count == 1:
        return
    first, *others = map(json.loads, workers.texts(json.dumps(values)))
    for number, other in enumerate(others, start=1):
        differ = sorted(name for name in first.keys() | other.keys() if first.get(name) != other.get(name))
        if differ:
            said = ", ".join(f"{name}: {first.get(name)!r} and {other.get(name)!r}" for name in differ[:5])
            with contextlib.suppress(tf.errors.OpError):  # of those that have gone on to say so
                # Until all have the values: one that leaves before takes the others along.
                workers.gather(np.zeros(1, np.int32))
            raise UserError(f"Expected the same {what} of all workers. Received of workers 0 and {number}: {said}")


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
