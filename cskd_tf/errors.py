"""The error that says what a user can change."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Raised on purpose, for input that cannot be used: its message says what was expected, and what came instead.

    `train_main.py` shows its message alone; any other error is a fault of this package, shown with its traceback.

    Example:
        >>> raise UserError("Expected temperature above 0. Received: temperature=0")
        Traceback (most recent call last):
        cskd_tf.errors.UserError: Expected temperature above 0. Received: temperature=0
    """


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the one that it is most like; empty where it is like none.

    Example:
        >>> did_you_mean("CSKDD", ["CSKD", "PSKD"]), did_you_mean("xyz", ["CSKD"])
        ('. Did you mean CSKD?', '')
    """
    close = difflib.get_close_matches(str(word), list(known), n=1)
    return f". Did you mean {close[0]}?" if close else ""


def installing(extras: str) -> str:
    """The command that installs the packages of extras. It names a folder, as no index has this package.

    Example:
        >>> installing("onnx,web")
        "pip install '.[onnx,web]' in the project's folder"
    """
    return f"pip install '.[{extras}]' in the project's folder"
