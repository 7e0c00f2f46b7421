"""Trains, evaluates, exports, reports and draws: `python train_main.py [--config=FILE] [--workdir=DIR] [--mode=MODE]`.

`python train_main.py launch --workers=N [...]` trains by N processes of this machine.
"""

import pathlib
import sys
from typing import Any

from absl import app, flags
from ml_collections import config_flags

from configs import command_line, launch

DEFAULT = pathlib.Path(command_line.__file__).parent / "digits.py"
MODES = ["train", "evaluate", "export", "report", "figures", "import", "doctor"]
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; by default workdirs/<name of the config file>.")
MODE = flags.DEFINE_enum("mode", "train", MODES, "What to do.")
WORKERS = flags.DEFINE_integer("workers", None, "Processes that `launch` starts, here.", lower_bound=1)
CHECKPOINT = flags.DEFINE_string("checkpoint", None, "PyTorch's file, for --mode=import.")


def parse_flags(argv):
    with command_line.one_line():
        return flags.FLAGS(argv)


def main(argv):
    words = argv[1:]
    if words not in ([], ["launch"]):
        raise app.UsageError(f"Expected flags only, or launch. Received: {words}")
    config: Any = flags.FLAGS["config"]
    file, _, experiment = config_flags.get_config_filename(config).partition(".py:")
    workdir = WORKDIR.value or str(pathlib.Path("workdirs", pathlib.Path(file).stem, experiment))
    if words or WORKERS.value:
        with command_line.one_line():
            given = {"workers": WORKERS.value, "mode": MODE.value, "strategy": config.value.get("strategy")}
            sys.exit(launch.run(words, workdir=workdir, **given))
    command_line.leave_at_sigterm()
    with command_line.one_line(), command_line.quiet():
        from cskd_tf.runs import cli
    config_given = bool(config.present or config_flags.get_override_values(config))
    with cli.one_line_for_users():
        cli.run(MODE.value, config.value, workdir=workdir, config_given=config_given, checkpoint=CHECKPOINT.value)


def run():
    """What `python train_main.py` and the command `cskd-tf` do."""
    with command_line.one_line():
        config_flags.DEFINE_config_file("config", str(DEFAULT), "What to run.")
    if __name__ != "__main__":  # absl takes what --help shows from the main module, which is the command's script here
        sys.modules["__main__"].__doc__ = __doc__
        for flag in ("config", "workdir", "mode", "workers", "checkpoint"):
            flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[flag])
    app.run(main, flags_parser=parse_flags)


if __name__ == "__main__":
    run()
