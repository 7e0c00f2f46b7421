"""Trains, evaluates, sweeps, exports, reports and draws: `python train_main.py [--config=FILE] [--workdir=DIR]`.

`python train_main.py launch --workers=N [...]` trains by N processes of this machine.
`python train_main.py predict --workdir=DIR PATH ...` predicts images, by a run or a SavedModel.
"""

import pathlib
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from configs import command_line, right_names, screen_of_help, start

DEFAULT = pathlib.Path(command_line.__file__).parent / "digits.py"
MODES = {
    "train": "the default; the same command continues an interrupted run",
    "sweep": "train many: --grid=KEY=A,B ... --choose=METRIC --jobs=N",
    "evaluate": "metrics: --split=PART --with=DIR --on=CONFIG --against=CONFIG",
    "export": "write the next version of the SavedModel",
    "report": "tables of all runs below DIR: --table=cvpr1 --format=FORMAT",
    "figures": "draw the papers' figures of the same runs",
    "import": "make a finished run of a PyTorch file: --checkpoint=FILE",
    "doctor": "examine the data and time some steps: --check_labels=N",
}
flags.DEFINE_string("workdir", None, "Folder of the run; by default workdirs/NAME_OF_THE_CONFIG.")
flags.DEFINE_enum("mode", "train", list(MODES), "What to do.")
flags.DEFINE_integer("workers", None, "Processes that `launch` starts, here.", lower_bound=1)
flags.DEFINE_multi_string("grid", [], "KEY=A,B of --mode=sweep, as seed=0,1,2; any number of these.")
flags.DEFINE_enum("choose", None, right_names.METRICS, "--mode=sweep trains what is best by it on all images.")
flags.DEFINE_integer("jobs", 1, "Runs of --mode=sweep at a time.", lower_bound=1)
flags.DEFINE_list("table", [], "The papers' tables, of --mode=report, as cvpr1,pskd3; or all.")
flags.DEFINE_enum("format", None, ["text", "markdown", "latex", "csv", "jsonl"], "Of those tables, or of predictions.")
flags.DEFINE_string("output", None, "File that `predict` writes; by default the screen.")
flags.DEFINE_enum("split", None, ["train", "val", "test", "all"], "Which images --mode=evaluate assesses.")
flags.DEFINE_list("with", None, "Workdirs or SavedModels of an ensemble (--mode=evaluate).")
flags.DEFINE_integer("check_labels", None, "Of how many images at most (--mode=doctor); 0: none.", lower_bound=0)
flags.DEFINE_string("checkpoint", None, "PyTorch's file, for --mode=import.")


def parse_flags(argv):
    if screen_of_help.is_asked(argv):
        sys.exit(screen_of_help.show(MODES))
    with command_line.one_line():
        return flags.FLAGS(argv)


def run():
    """What `python train_main.py` and the command `cskd-tf` do."""
    # ml_collections warns of a config file that returns nothing, which is refused a moment later.
    logging.get_absl_logger().addFilter(lambda record: "get_config() returned None" not in record.getMessage())
    with command_line.one_line():
        if not screen_of_help.is_asked(sys.argv):  # as flags are defined, ml_collections looks for its own in sys.argv
            sys.argv = right_names.with_config_files(right_names.with_config_of_run(sys.argv))
        config_flags.DEFINE_config_file("config", str(DEFAULT), "What to run.")
        config_flags.DEFINE_config_file("on", None, "Whose images of the same classes --mode=evaluate assesses.")
        config_flags.DEFINE_config_file("against", None, "Whose images --mode=evaluate is to tell from its own.")
    app.run(start.main, flags_parser=parse_flags)


if __name__ == "__main__":
    run()
