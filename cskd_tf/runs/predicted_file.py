"""The file that predictions are written to: it appears whole, and until then another keeps them."""

import contextlib
import os
import pathlib
import sys
from collections.abc import Iterator
from typing import IO

from absl import logging

from cskd_tf.errors import UserError
from cskd_tf.files import check_path, full_disk_named


def unfinished(output: str) -> pathlib.Path:
    """Where the lines of a file are until all are there.

    Example:
        >>> str(unfinished("there/predictions.csv"))
        'there/predictions.unfinished.csv'
    """
    path = pathlib.Path(output)
    return path.with_name(f"{path.stem}.unfinished{path.suffix}")


def check_new(output: str) -> None:
    """Raises UserError for a file that cannot be written, or in whose place there would be no other."""
    check_path(output, name="--output")
    if os.path.lexists(output):
        why = "which is there already"
    elif not pathlib.Path(output).absolute().parent.is_dir():
        why = "whose folder is not there"
    elif os.path.lexists(unfinished(output)):
        why = (
            f"of which {unfinished(output)} is there, which another process writes, or was writing when it ended; "
            "remove it then, and the same command begins anew"
        )
    else:
        try:
            with open(unfinished(output), "x"):
                pass
            os.remove(unfinished(output))
            return
        except OSError as error:
            why = f"where nothing can be written ({error.strerror})"
    raise UserError(f"Expected --output to be a new file in a folder that is there. Received: {output}, {why}")


def _ends_with_a_line(path: pathlib.Path) -> bool:
    """Cuts off what was half written, as where a disk was full, and tells whether something is left."""
    with contextlib.suppress(FileNotFoundError):  # somebody has removed it
        os.truncate(path, whole := path.read_bytes().rfind(b"\n") + 1)
        return whole > 0
    return False


@contextlib.contextmanager
def opened(output: str | None) -> Iterator[IO[str]]:
    """The file that is written, which appears whole; or stdout, whose reader may leave before the end."""
    if output is not None:
        partial = unfinished(output)
        with full_disk_named(partial.absolute().parent), open(partial, "x", encoding="utf-8", newline="") as stream:
            try:
                yield stream
            except BaseException:  # an interruption too: what took hours stays
                begun = os.fstat(stream.fileno()).st_size > 0
                with contextlib.suppress(OSError):  # which is raised already
                    stream.close()
                if begun and _ends_with_a_line(partial):
                    words = "%s keeps what was predicted so far; remove it, and the same command begins anew"
                    logging.error(words, partial)
                else:
                    partial.unlink(missing_ok=True)
                raise
        if os.path.lexists(output):  # in all the time since it began, somebody has made it
            raise UserError(f"Expected a new file as --output; {partial} has what was predicted. Received: {output}")
        os.replace(partial, output)
        return
    try:
        yield sys.stdout
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # which Python flushes once more at its end
        raise
