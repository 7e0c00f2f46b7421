"""What `train_main.py` needs around its flags; no config, and nothing that imports TensorFlow before it is muted."""

import contextlib
import os
import re
import sys

from absl import flags


@contextlib.contextmanager
def quiet():
    """Keeps the start-up lines of TensorFlow's C++ parts off the screen; TF_CPP_MIN_LOG_LEVEL=0 shows them."""
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    # Of several workers it also prints as errors what are none; those that are, Python raises.
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3" if os.environ.get("TF_CONFIG") else "2") != "0":
        os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


@contextlib.contextmanager
def one_line():
    """One line in place of a traceback for what flags, config files and imports raise of what users can change."""
    try:
        yield
    except (flags.Error, AttributeError, ImportError, LookupError, OSError, TypeError, ValueError) as error:
        if os.environ.get("CSKD_TF_TRACEBACK"):
            raise
        sys.exit(f"error: {_renamed(sys.argv) or _message(error)}\n(CSKD_TF_TRACEBACK=1 shows where it was raised.)")


def _message(error: Exception) -> str:
    if isinstance(error, AttributeError) and isinstance(error.args[0], KeyError):  # as ConfigDict raises it
        return f"Expected a key of configs/base.py. Received: {error.args[0].args[0]}"
    if isinstance(error, LookupError):  # of --config.methods[0].KEY
        return f"Expected what the config's list holds, or the whole of it: --config.methods=... Received: {error}"
    text = str(error).rstrip()
    # ml_collections makes a config file's traceback the message; what was raised stands in its last line.
    return text.splitlines()[-1] if "Traceback" in text else text


def _renamed(arguments: list[str]) -> str:
    """What keys on a command line are called now; empty where none was renamed."""
    try:
        with quiet():
            from cskd_tf.runs.config import RENAMED
    except ImportError:  # of which the same command says more once its flags are right
        return ""
    keys = [match[1] for each in arguments if (match := re.match(r"--?(?:no)?config\.([^=]+)", each))]
    news = [f"--config.{RENAMED[key]} instead of --config.{key}" for key in keys if key in RENAMED]
    return f"Some keys were renamed; expected {', '.join(news)}" if news else ""
