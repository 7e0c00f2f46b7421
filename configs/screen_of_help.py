"""What `train_main.py --help` shows: one screen, which leads to everything else."""

import sys
import textwrap
from collections.abc import Mapping, Sequence

from absl import flags

from configs import base, right_names

SHOWN = (
    "workdir",
    "grid",
    "choose",
    "jobs",
    "table",
    "format",
    "output",
    "split",
    "with",
    "on",
    "against",
    "check_labels",
    "checkpoint",
)
WIDTH = 79


def is_asked(argv: Sequence[str]) -> bool:
    """Whether a command line asks for this screen; `--helpfull` asks for absl's."""
    flags_given = argv[1 : argv.index("--")] if "--" in argv else argv[1:]
    return any(word in ("-h", "-?", "-help", "--help", "-helpshort", "--helpshort") for word in flags_given)


def show(modes: Mapping[str, str]) -> int:
    """Prints it; `modes` are the words for each mode. Returns the exit code."""
    sys.stdout.write("\n".join(lines(modes)) + "\n")
    return 0


def lines(modes: Mapping[str, str]) -> list[str]:
    """The lines of the screen."""
    single, several = right_names.configs()
    keys = [f"{key}.*" if hasattr(value, "keys") else key for key, value in base.get_config().items()]
    return [
        "Usage: train_main.py [--config=FILE] [--config.KEY=VALUE ...] [--workdir=DIR]",
        "                     [--mode=MODE] [FLAGS]",
        "       train_main.py launch --workers=N ...    by N processes of this machine",
        "       train_main.py predict PATH ... --workdir=DIR    classes of image files",
        "Without flags it trains CS-KD and cross-entropy on handwritten digits: a minute.",
        "",
        "--mode=",
        *(f"  {mode:12}{words}" for mode, words in modes.items()),
        "Flags:",
        *(_line(name) for name in SHOWN),
        "--config=configs/NAME.py, or a file of your own:",
        *_wrapped(single),
        "--config=configs/NAME.py:EXPERIMENT, of which each file says what there are:",
        *_wrapped(several),
        "--config.KEY=VALUE: configs/base.py explains every key (docs/runs.md)",
        *_wrapped(keys),
        "--helpfull: every flag, and every key of the config with its value",
    ]


def _line(name: str) -> str:
    """A flag and what it is for, without what absl puts around that where there is no room."""
    words = (flags.FLAGS[name].help or "").partition(";\n")[0]
    lead = f"  {f'--{name}':16}"
    return lead + (words if len(lead + words) <= WIDTH else words.rpartition(">: ")[2])


def _wrapped(names: Sequence[str]) -> list[str]:
    """Names, with commas between them, in lines that are not too long."""
    return textwrap.wrap(", ".join(names), WIDTH, initial_indent="  ", subsequent_indent="  ")
