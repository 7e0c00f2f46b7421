"""Trains, evaluates, exports and reports: `python train_main.py [--config=FILE] [--workdir=DIR] [--mode=MODE]`."""

import contextlib
import os
import pathlib
import sys
import traceback

from absl import app, flags
from ml_collections import config_flags

ROOT = pathlib.Path(__file__).resolve().parent
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; by default workdirs/<name of the config file>.")
MODE = flags.DEFINE_enum("mode", "train", ["train", "evaluate", "export", "report"], "What to do.")


@contextlib.contextmanager
def clear_errors():
    """One line instead of a traceback for the errors that our checks, or ml_collections', raise on purpose."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit("Interrupted; the same command continues from the last finished epoch.")
    except Exception as error:
        origin = pathlib.Path(traceback.extract_tb(error.__traceback__)[-1].filename).parts
        if not {"cskd_tf", "ml_collections"} & set(origin) or os.environ.get("CSKD_TF_TRACEBACK"):
            raise
        unknown = "Expected a key of configs/base.py. Received: " if isinstance(error, AttributeError) else ""
        while error.args and isinstance(error.args[0], Exception):
            error = error.args[0]  # ml_collections wraps a KeyError, which would print quoted twice
        text = error.args[0] if error.args else error
        sys.exit(f"error: {unknown}{text}\n(CSKD_TF_TRACEBACK=1 shows where it was raised.)")


@contextlib.contextmanager
def quiet():
    """Keeps the start-up lines of TensorFlow's C++ parts off the screen; TF_CPP_MIN_LOG_LEVEL=0 shows them."""
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2") == "0":
        yield
        return
    sys.stderr.flush()
    stderr = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Expected flags only. Received: {argv[1:]}")
    with quiet():
        from cskd_tf import cli
    from configs import base

    flag = flags.FLAGS["config"]
    given = bool(flag.present or config_flags.get_override_values(flag))
    name = pathlib.Path(config_flags.get_config_filename(flag)).stem
    workdir = WORKDIR.value or f"workdirs/{name}"
    cli.run(MODE.value, flag.value, reference=base.get_config(), workdir=workdir, config_given=given)


if __name__ == "__main__":
    with clear_errors():
        config_flags.DEFINE_config_file("config", str(ROOT / "configs" / "digits.py"), "What to run.")
        app.run(main)
