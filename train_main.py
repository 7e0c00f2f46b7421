"""Trains, evaluates, exports and reports: `python train_main.py [--config=FILE] [--workdir=DIR] [--mode=MODE]`."""

import contextlib
import os
import pathlib
import sys

from absl import app, flags
from ml_collections import config_flags

from configs import base

MODES = ["train", "evaluate", "export", "report", "import", "doctor"]
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; by default workdirs/<name of the config file>.")
MODE = flags.DEFINE_enum("mode", "train", MODES, "What to do.")
CHECKPOINT = flags.DEFINE_string("checkpoint", None, "PyTorch's file, for --mode=import.")


def parse_flags(argv):
    """As absl does, but with one line for what ml_collections raises of keys and values that a config lacks."""
    try:
        return app.parse_flags_with_usage(argv)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        if os.environ.get("CSKD_TF_TRACEBACK"):
            raise
        message = str(error)
        if isinstance(error, AttributeError) and isinstance(error.args[0], KeyError):
            message = f"Expected a key of configs/base.py. Received: {error.args[0].args[0]}"
        elif isinstance(error, (KeyError, IndexError)):  # of --config.methods[0].KEY
            message = f"Expected what the config's list holds, or all of it: --config.methods=... Received: {error}"
        sys.exit(f"error: {message}\n(CSKD_TF_TRACEBACK=1 shows where it was raised.)")


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
        from cskd_tf.runs import cli
    if argv[1:]:
        raise app.UsageError(f"Expected flags only. Received: {argv[1:]}")
    config = flags.FLAGS["config"]
    given = config.present or config_flags.get_override_values(config)
    file, _, experiment = config_flags.get_config_filename(config).partition(".py:")
    workdir = WORKDIR.value or str(pathlib.Path("workdirs", pathlib.Path(file).stem, experiment))
    with cli.one_line_for_users():
        cli.run(
            MODE.value,
            config.value,
            reference=base.get_config(),
            workdir=workdir,
            config_given=bool(given),
            checkpoint=CHECKPOINT.value,
        )


def run():
    """What `python train_main.py` and the command `cskd-tf` do."""
    config_flags.DEFINE_config_file("config", base.__file__.replace("base.py", "digits.py"), "What to run.")
    if __name__ != "__main__":  # absl takes what --help shows from the main module, which is the command's script here
        sys.modules["__main__"].__doc__ = __doc__
        for flag in ("config", "workdir", "mode", "checkpoint"):
            flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[flag])
    app.run(main, flags_parser=parse_flags)


if __name__ == "__main__":
    run()
