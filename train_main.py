"""Trains, evaluates, sweeps, exports, reports and draws: `python train_main.py [--config=FILE] [--workdir=DIR]`.

`python train_main.py launch --workers=N [...]` trains by N processes of this machine.
`python train_main.py predict --workdir=DIR PATH ...` predicts images, by a run or a SavedModel.
"""

import pathlib
import sys
from typing import Any

from absl import app, flags
from ml_collections import config_flags

from configs import command_line, launch, processes

DEFAULT = pathlib.Path(command_line.__file__).parent / "digits.py"
MODES = ["train", "sweep", "evaluate", "export", "report", "figures", "import", "doctor"]
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; by default workdirs/<name of the config file>.")
MODE = flags.DEFINE_enum("mode", "train", MODES, "What to do.")
WORKERS = flags.DEFINE_integer("workers", None, "Processes that `launch` starts, here.", lower_bound=1)
GRID = flags.DEFINE_multi_string("grid", [], "KEY=VALUE,VALUE of --mode=sweep, as seed=0,1,2; any number of these.")
CHOOSE = flags.DEFINE_string("choose", None, "Validation metric; --mode=sweep trains the best point on all images.")
JOBS = flags.DEFINE_integer("jobs", 1, "Runs of --mode=sweep at a time.", lower_bound=1)
TABLE = flags.DEFINE_list("table", [], "Tables of the papers that --mode=report makes, as cvpr1,pskd3; or all.")
FORMAT = flags.DEFINE_enum("format", None, ["text", "markdown", "latex", "csv", "jsonl"], "Of tables, or predictions.")
OUTPUT = flags.DEFINE_string("output", None, "File that `predict` writes, .csv or .jsonl; by default the screen.")
SPLIT = flags.DEFINE_enum("split", None, ["train", "val", "test", "all"], "Which images --mode=evaluate assesses.")
WITH = flags.DEFINE_list("with", None, "Further workdirs or SavedModels, of an ensemble that --mode=evaluate assesses.")
LABELS = flags.DEFINE_integer(
    "check_labels", None, "Of how many images at most, by --mode=doctor; 0: none.", lower_bound=0
)
CHECKPOINT = flags.DEFINE_string("checkpoint", None, "PyTorch's file, for --mode=import.")


def parse_flags(argv):
    with command_line.one_line():
        return flags.FLAGS(argv)


def main(argv):
    words = argv[1:]
    predicts = words[:1] == ["predict"] and not flags.FLAGS["mode"].present
    if not predicts and (words not in ([], ["launch"]) or OUTPUT.value):
        received = [*words, *(f"--{name}" for name in ("mode", "output") if flags.FLAGS[name].present)]
        raise app.UsageError(f"Expected flags only, launch, or predict PATH ... without --mode. Received: {received}")
    config: Any = flags.FLAGS["config"]
    workdir = WORKDIR.value or command_line.default_workdir(config, mode=MODE.value)
    config_given = bool(config.present or config_flags.get_override_values(config))
    if WORKERS.value or words == ["launch"]:
        with command_line.one_line():
            given = {"workers": WORKERS.value, "mode": MODE.value, "strategy": config.value.get("strategy")}
            sys.exit(launch.run(words, workdir=workdir, **given))
    command_line.leave_at_sigterm()
    processes.end_with_starter()
    if predicts:
        with command_line.one_line(), command_line.quiet():
            from cskd_tf.runs import cli
        with cli.one_line_for_users():
            given = {"workdir": workdir, "output": OUTPUT.value, "form": FORMAT.value}
            sys.exit(cli.predict(words[1:], config.value if config_given else None, **given))
    with_tables, with_sweep = TABLE.value or FORMAT.value, MODE.value == "sweep" or GRID.value or CHOOSE.value
    if with_tables or with_sweep:
        with command_line.one_line():
            with command_line.quiet():
                from configs import sweep, tables
            if with_tables:
                tables.run(workdir, mode=MODE.value, names=TABLE.value, form=FORMAT.value or "text")
                sys.exit()
            options: dict[str, Any] = {"grid": GRID.value, "choose": CHOOSE.value, "jobs": JOBS.value}
            sys.exit(sweep.run(config, workdir=workdir, mode=MODE.value, **options))
    with command_line.one_line(), command_line.quiet():
        from cskd_tf.runs import cli
    other = {name: flags.FLAGS[name].value for name in ("on", "against")}
    with cli.one_line_for_users():
        question = {"split": SPLIT.value, "members": WITH.value, **other}
        more: Any = {"checkpoint": CHECKPOINT.value, "question": question, "check_labels": LABELS.value}
        if MODE.value == "doctor":
            from configs import advice

            more["advise"] = lambda findings: advice.advise(findings, config)
        cli.run(MODE.value, config.value, workdir=workdir, config_given=config_given, **more)


def run():
    """What `python train_main.py` and the command `cskd-tf` do."""
    with command_line.one_line():
        config_flags.DEFINE_config_file("config", str(DEFAULT), "What to run.")
        config_flags.DEFINE_config_file("on", None, "Whose images of the same classes --mode=evaluate assesses.")
        config_flags.DEFINE_config_file("against", None, "Whose images --mode=evaluate is to tell from its own.")
    if __name__ != "__main__":  # absl takes what --help shows from the main module, which is the command's script here
        sys.modules["__main__"].__doc__ = __doc__
        for flag in flags.FLAGS.get_flags_for_module(__name__):
            flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
    app.run(main, flags_parser=parse_flags)


if __name__ == "__main__":
    run()
