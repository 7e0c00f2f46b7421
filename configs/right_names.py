"""The right names of what a command line says, and the nearest one to a wrong one; nothing here loads TensorFlow."""

import ast
import difflib
import itertools
import json
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from configs.published import PUBLISHED

METRICS = ("top1_error", "top5_error", "nll", "ece", "aurc", "group_error", "recall_at_1")  # to choose by


def configs() -> tuple[list[str], list[str]]:
    """The names of the configs that there are: those that stand for one experiment, and those of several."""
    single: list[str] = []
    several: list[str] = []
    for path in sorted(pathlib.Path(__file__).parent.glob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name == "get_config" and path.stem != "base":
                (several if node.args.args else single).append(path.stem)
    return single, several


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The keys of a config, dotted, and their values."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, (ConfigDict, dict)) else {f"{prefix}{key}": value}
    return found


def check_words(words: Sequence[str], *, given: Sequence[str]) -> None:
    """Refuses words between the flags, but for `launch`, and `predict` with its paths and its own flags, of `given`."""
    predicts = words[:1] == ["predict"]
    wrong = [f"--{name}" for name in given if (name not in _OF_PREDICT if predicts else name == "output")]
    if not wrong and (predicts or words in ([], ["launch"])):
        return
    others = ["launch", "predict"]
    modes = getattr(flags.FLAGS["mode"].parser, "enum_values", ())
    close = nearest(words[0], [*others, *modes]) if words and not predicts else ""
    hint = {"": "", **{other: f"\nDid you mean {other}?" for other in others}}.get(
        close, f"\nDid you mean --mode={close}?"
    )
    expected = "flags only, launch, or predict PATH ... with --workdir, --config, --output and --format"
    raise ValueError(f"Expected {expected}. Received: {[*words, *wrong]}{hint}")


def check_workdir(workdir: str | None) -> None:
    """Refuses an address: what makes folders beside or below it would make them of a local folder, `gs:`.

    Nothing at all is what a shell makes of `--workdir=$DIR` without DIR, and not the default.
    """
    if workdir == "":
        raise ValueError("Expected a path. Received: --workdir=")
    if workdir and "://" in workdir:
        raise ValueError(f"Expected a path; mount a bucket to use it. Received: --workdir={workdir}")


_OF_PREDICT = ("workdir", "config", "output", "format")


def with_config_of_run(arguments: Sequence[str]) -> list[str]:
    """A command line without a config that trains in a run's folder, or changes keys there, with the run's own.

    A sweep is not of the run in its folder.

    Raises:
        ValueError: the config names code to be called as its network; a folder may come from anybody.
    """
    flags_given = list(itertools.takewhile(lambda each: each != "--", arguments))
    values = {name: _values(name, flags_given) for name in ("config", "workdir", "mode")}
    changes = any(re.match(r"--?(?:no)?config[.\[]", each) for each in flags_given)
    trains = "predict" not in arguments[1:2] and {*values["mode"]} <= {"train"}
    if values["config"] or not values["workdir"] or "sweep" in values["mode"] or not (changes or trains):
        return list(arguments)
    saved = pathlib.Path(values["workdir"][-1], "config.json")
    try:
        network = json.loads(saved.read_text())["network"]["name"]
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        RecursionError,
    ):  # no run's, or damaged, as whoever opens it says
        return list(arguments)
    if not isinstance(network, str):
        return list(arguments)
    own = ":" in network and not network.startswith("keras.applications:")
    if own and not _values(r"config\.network\.name", flags_given):
        raise ValueError(
            "Expected --config=FILE of the run as well, because its network is no part of this package or of Keras, "
            f"and a folder alone may not say what is called. Received: network.name={network!r} in {saved.parent}"
        )
    config = f"--config={pathlib.Path(__file__).with_name('saved.py')}:{saved}"
    first = next(place for place, each in enumerate(arguments) if place and each.startswith("-"))  # behind `launch`
    return [*arguments[:first], config, *arguments[first:]]


def _values(flag: str, arguments: Sequence[str]) -> list[str]:
    """What a flag is given on a command line, as `--flag=value` or as two words, in order."""
    found = []
    for place, argument in enumerate(arguments):
        if match := re.fullmatch(rf"--?{flag}=(.*)", argument, re.DOTALL):
            found.append(match[1])
        elif place and re.fullmatch(rf"--?{flag}", arguments[place - 1]):
            found.append(argument)
    return found


def with_config_files(arguments: Sequence[str]) -> list[str]:
    """A command line whose config files are there: `configs/NAME.py` is ours, where the folder here has none.

    Raises:
        ValueError: a config file that is not there, or a file that is none.
    """
    found = list(arguments)
    for place, argument in enumerate(arguments):
        if match := re.fullmatch(rf"(--?({_OF_CONFIGS}))=(.*)", argument):
            found[place] = f"{match[1]}={_config_file(match[2], match[3])}"
        elif place and (match := re.fullmatch(rf"--?({_OF_CONFIGS})", arguments[place - 1])):
            found[place] = _config_file(match[1], argument)
    return found


_OF_CONFIGS = "config|on|against"


def _config_file(flag: str, value: str) -> str:
    file, experiment, asked = value.partition(".py:")
    path, ours = pathlib.Path(f"{file}.py" if experiment else file), pathlib.Path(__file__).parent
    if path.parent == pathlib.Path(ours.name) and not path.exists():  # whatever folder the command is given in
        path = ours / path.name
    if not path.exists() or path.is_dir():
        close = nearest(path.stem, [name for kind in configs() for name in kind])
        hint = f"\nDid you mean --{flag}=configs/{close}.py?" if close else ""
        raise ValueError(f"Expected a config file that is there. Received: --{flag}={value}{hint}")
    if path.suffix != ".py":
        raise ValueError(f"Expected a config file, a .py file with get_config. Received: --{flag}={value}")
    return f"{path}:{asked}" if experiment else str(path)


def check_tables(names: Iterable[str]) -> None:
    """Refuses tables that are none of the papers'."""
    known = [*PUBLISHED, "all"]
    if unknown := [name for name in names if name not in known]:
        hint = _hint("--table=", unknown[0], known)
        raise ValueError(f"Unknown table; expected some of {known}. Received: --table={','.join(unknown)}{hint}")


def check_config(config: Any) -> None:
    """Refuses a flag whose config file makes something else than a config."""
    if config.present and not isinstance(config.value, (ConfigDict, dict)):
        file = config_flags.get_config_filename(config)
        raise ValueError(f"Expected get_config() of {file} to return a ConfigDict. Received: {config.value!r}")


def check_grid(texts: Iterable[str], *, config: ConfigDict) -> None:
    """Refuses axes of keys that the config does not have; what methods and optimizers are given, these know."""
    known = [key for key in flat(config) if not key.startswith("sweep.")]
    for text in texts:
        for key in (part.strip() for part in text.partition("=")[0].split(",")):
            if key not in known and not re.match(r"methods[.\[]|optimizer\.arguments(\.|$)", key):
                raise ValueError(
                    "Expected --grid=KEY=VALUE,VALUE with keys of configs/base.py, such as --grid=seed=0,1,2. "
                    f"Received: --grid={text}{_hint('--grid=', key, known)}"
                )


def nearest(word: str, known: Iterable[str]) -> str:
    """The name that a word is most like; empty where it is like none.

    Example:
        >>> nearest("evalute", ["train", "evaluate"]), nearest("xyz", ["train", "evaluate"])
        ('evaluate', '')
    """
    return next(iter(difflib.get_close_matches(word, list(known), n=1)), "")


def _hint(before: str, word: str, known: Iterable[str]) -> str:
    close = nearest(word, known)
    return f"\nDid you mean {before}{close}?" if close else ""


def did_you_mean(message: str) -> str:
    """The nearest value of a flag, in a line of its own, by absl's message, which lists them; empty where none is."""
    if match := re.search(r"flag --(\w+)=(.*?): value should be one of <(.*?)>", message):
        flag, value, known = match.groups()
        return _hint(f"--{flag}=", value, known.split("|"))
    return ""
