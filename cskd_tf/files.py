"""Files that are whole or not there: a reader never sees half of one, and a failed write leaves what there was."""

import contextlib
import os
import pathlib
from collections.abc import Iterator


@contextlib.contextmanager
def written_whole(path: str | pathlib.Path) -> Iterator[pathlib.Path]:
    """The path to write to, beside `path`, whose place it takes when the block ends; after an error it is removed.

    Example: `with written_whole("log.json") as partial: partial.write_text("{}")`.
    """
    path = pathlib.Path(path)
    # The suffix stays, because some writers add their own to a name without it.
    partial = path.with_name(f"{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
