"""Trains, evaluates, exports and reports: `python train_main.py [--config=FILE] [--workdir=DIR] [--mode=MODE]`."""

import pathlib
import sys
from typing import Any

from absl import app, flags
from ml_collections import config_flags

from configs import command_line

DEFAULT = pathlib.Path(command_line.__file__).parent / "digits.py"
MODES = ["train", "evaluate", "export", "report", "import", "doctor"]
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; by default workdirs/<name of the config file>.")
MODE = flags.DEFINE_enum("mode", "train", MODES, "What to do.")
CHECKPOINT = flags.DEFINE_string("checkpoint", None, "PyTorch's file, for --mode=import.")


def parse_flags(argv):
    with command_line.one_line():
        return flags.FLAGS(argv)


def main(argv):
    command_line.leave_at_sigterm()
    with command_line.one_line(), command_line.quiet():
        from cskd_tf.runs import cli
    if argv[1:]:
        raise app.UsageError(f"Expected flags only. Received: {argv[1:]}")
    config: Any = flags.FLAGS["config"]
    given = config.present or config_flags.get_override_values(config)
    file, _, experiment = config_flags.get_config_filename(config).partition(".py:")
    workdir = WORKDIR.value or str(pathlib.Path("workdirs", pathlib.Path(file).stem, experiment))
    with cli.one_line_for_users():
        cli.run(MODE.value, config.value, workdir=workdir, config_given=bool(given), checkpoint=CHECKPOINT.value)


def run():
    """What `python train_main.py` and the command `cskd-tf` do."""
    with command_line.one_line():
        config_flags.DEFINE_config_file("config", str(DEFAULT), "What to run.")
    if __name__ != "__main__":  # absl takes what --help shows from the main module, which is the command's script here
        sys.modules["__main__"].__doc__ = __doc__
        for flag in ("config", "workdir", "mode", "checkpoint"):
            flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[flag])
    app.run(main, flags_parser=parse_flags)


if __name__ == "__main__":
    run()
