"""The error that says what a user can change."""


class UserError(ValueError):
    """Raised on purpose, for input that cannot be used: what was expected, and what came.

    `train_main.py` shows its message alone; any other error is a fault of ours, and is shown with its traceback.

    Example: `UserError("Expected temperature above 0. Received: temperature=0")`.
    """
