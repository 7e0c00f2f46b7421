"""Files that are whole or not there: a reader never sees half of one, and a failed write leaves what there was."""

import contextlib
import os
import pathlib
from collections.abc import Iterator


@contextlib.contextmanager
def written_whole(path: str | pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives another path beside `path` to write to, and moves that file to `path` when the block ends.

    After an error the file beside it is removed, and `path` stays as it was.

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
    partial = path.with_name(f"{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
