"""The error that says what a user can change."""


class UserError(ValueError):
    """Raised on purpose, for input that cannot be used: its message says what was expected, and what came instead.

    `train_main.py` shows its message alone; any other error is a fault of this package, shown with its traceback.

    Example:
        >>> raise UserError("Expected temperature above 0. Received: temperature=0")
        Traceback (most recent call last):
        cskd_tf.errors.UserError: Expected temperature above 0. Received: temperature=0
    """


def installing(extras: str) -> str:
    """The command that installs the packages of extras. It names a folder, as no index has this package.

    Example:
        >>> installing("onnx,web")
        "pip install '.[onnx,web]' in the project's folder"
    """
    return f"pip install '.[{extras}]' in the project's folder"
