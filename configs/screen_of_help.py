"""What `train_main.py --help` shows: one screen of 24 lines, which leads to everything else."""

import sys
import textwrap
from collections.abc import Mapping, Sequence

from configs import base, right_names

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
    first, *others = (f"{mode:10}{words}" for mode, words in modes.items())
    return [
        "Usage: train_main.py [--config=FILE] [--config.KEY=VALUE ...] [--workdir=DIR]",
        "       train_main.py launch --workers=N ...    by N processes of this machine",
        "       train_main.py predict PATH ... --workdir=DIR [--output=FILE --format=csv]",
        "Without flags: CS-KD and cross-entropy on handwritten digits, one minute.",
        f"--mode={first}",
        *(f"       {line}" for line in others),
        *_wrapped(f"--config=configs/NAME.py, or a file of your own: {', '.join(single)}"),
        *_wrapped(f"--config=configs/NAME.py:EXPERIMENT, which each file lists: {', '.join(several)}"),
        *_wrapped(f"--config.KEY=VALUE, which configs/base.py explains: {', '.join(keys)}"),
        "--helpfull: every flag, and every key of the config with its value",
    ]


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)
