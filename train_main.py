"""Trains, evaluates, exports and reports: `python train_main.py [--config=FILE] [--workdir=DIR] [--mode=MODE]`."""

import contextlib
import os
import pathlib
import sys
import traceback

from absl import app, flags
from ml_collections import config_flags

from configs import base

CHECKED = {pathlib.Path(base.__file__).parents[1] / "cskd_tf", pathlib.Path(config_flags.__file__).parents[1]}
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; by default workdirs/<name of the config file>.")
MODE = flags.DEFINE_enum("mode", "train", ["train", "evaluate", "export", "report", "import", "doctor"], "What to do.")
CHECKPOINT = flags.DEFINE_string("checkpoint", None, "PyTorch's file, for --mode=import.")


@contextlib.contextmanager
def clear_errors():
    """One line instead of a traceback for the errors that our checks, or ml_collections', raise on purpose."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit("Interrupted; the same command continues from the last finished epoch.")
    except Exception as error:
        origin = pathlib.Path(traceback.extract_tb(error.__traceback__)[-1].filename).parents
        ours = CHECKED & set(origin) or isinstance(error, OSError)
        if not ours or os.environ.get("CSKD_TF_TRACEBACK"):
            raise
        if isinstance(error, AttributeError) and isinstance(error.args[0], KeyError):  # of ml_collections
            error = f"Expected a key of configs/base.py. Received: {error.args[0].args[0]}"
        elif isinstance(error, (KeyError, IndexError)):  # of --config.methods[0].KEY
            error = f"Expected what the config's list holds, or the whole of it: --config.methods=... Received: {error}"
        sys.exit(f"error: {error}\n(CSKD_TF_TRACEBACK=1 shows where it was raised.)")


@contextlib.contextmanager
def quiet():
    """Keeps the start-up lines of TensorFlow's C++ parts off the screen; TF_CPP_MIN_LOG_LEVEL=0 shows them."""
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2") != "0":
        os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)


def main(argv):
    with quiet():
        from cskd_tf import cli
    if argv[1:]:
        raise app.UsageError(f"Expected flags only. Received: {argv[1:]}")
    config = flags.FLAGS["config"]
    given = config.present or config_flags.get_override_values(config)
    file, _, experiment = config_flags.get_config_filename(config).partition(".py:")
    workdir = WORKDIR.value or str(pathlib.Path("workdirs", pathlib.Path(file).stem, experiment))
    options = {"workdir": workdir, "config_given": bool(given), "checkpoint": CHECKPOINT.value}
    cli.run(MODE.value, config.value, reference=base.get_config(), **options)


if __name__ == "__main__":
    with clear_errors():
        config_flags.DEFINE_config_file("config", base.__file__.replace("base.py", "digits.py"), "What to run.")
        app.run(main)
