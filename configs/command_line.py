"""What `train_main.py` needs around its flags; no config, and nothing that imports TensorFlow before it is muted."""

import contextlib
import os
import pathlib
import re
import signal
import sys

from absl import flags
from ml_collections import config_flags

from configs import base, right_names

TRACEBACK = "(CSKD_TF_TRACEBACK=1 shows where it was raised.)"


@contextlib.contextmanager
def quiet():
    """Keeps the start-up lines of TensorFlow's C++ parts off the screen; TF_CPP_MIN_LOG_LEVEL=0 shows them."""
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    # They also print as errors what are none; those that are, Python raises.
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") != "0":
        os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


@contextlib.contextmanager
def one_line():
    """One line in place of a traceback for what flags, config files and imports raise, which can be anything.

    Where that is no mistake on the command line, a second line says how to see the traceback.
    """
    try:
        yield
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted.\n")
        sys.exit(128 + signal.SIGINT)
    except Exception as error:
        if os.environ.get("CSKD_TF_TRACEBACK"):
            raise
        if message := _renamed(sys.argv) or _impossible(sys.argv) or _mistake(error):
            sys.exit(f"error: {_joined(message)}{right_names.did_you_mean(str(error))}")
        sys.exit(f"error: {_joined(_unexpected(error))}\n{TRACEBACK}")


def _joined(text: str) -> str:
    r"""One line of several, but for a hint: a config file or what was typed may have made a message of many.

    Example:
        >>> _joined('Received: a\nb\nDid you mean "c"?')
        'Received: a b\nDid you mean "c"?'
    """
    message, *hint = text.split("\nDid you mean ")
    return "\nDid you mean ".join(" ".join(part.splitlines()) for part in (message, *hint))


def leave_at_sigterm(*, goes_on=True):
    """Ends this process at once when it gets SIGTERM, with one line and 143, as shells have it; training waits.

    One of several workers by no exception: TensorFlow would wait for the others, or print where it was raised.
    """
    line = b"Terminated; the same command goes on from what is saved.\n" if goes_on else b"Terminated.\n"

    def leave(number, frame):
        with contextlib.suppress(OSError):  # where nobody reads any more
            os.write(2, line)
        if os.environ.get("TF_CONFIG"):
            os._exit(128 + number)
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, leave)


def file_and_experiment(config):
    """`("configs/cskd_paper.py", "cifar100,resnet18,cskd")` of the flag `--config`; the second empty where it is."""
    file, _, experiment = config_flags.get_config_filename(config).partition(".py:")
    return (f"{file}.py" if experiment else file), experiment


def default_workdir(config, *, mode):
    """Folder of a run by default; a sweep's is one above, in which each experiment has its own."""
    file, experiment = file_and_experiment(config)
    return str(pathlib.Path("workdirs", pathlib.Path(file).stem, "" if mode == "sweep" else experiment))


def _mistake(error: Exception) -> str:
    """What is wrong with a command line, or with what its config file was asked for; empty where it is neither."""
    cause, text = error.args[0] if error.args else None, str(error).rstrip()
    if isinstance(error, AttributeError) and isinstance(cause, KeyError):  # as ConfigDict raises it
        return f"Expected a key of configs/base.py. Received: {cause.args[0]}"
    if isinstance(error, LookupError) and any("config.methods[" in argument for argument in sys.argv):
        return f"Expected what the config's list holds, or the whole of it: --config.methods=... Received: {error}"
    if isinstance(error, KeyError) and any(argument.startswith(("--config.", "-config.")) for argument in sys.argv):
        return f"Expected a key of configs/base.py. Received: {cause}"
    if "Traceback" in text:  # ml_collections makes a config file's traceback the message
        text = text.splitlines()[-1].removeprefix("ValueError: ")
    elif isinstance(error, flags.Error):
        return _wrong_value(text)
    # By its name, as cskd_tf.errors loads TensorFlow; a sweep's says first which run it is about.
    ours = text.startswith("Expected") or type(error).__name__ == "UserError"
    ours |= isinstance(error, ValueError) and text.startswith("Unknown")
    return text if ours else ""


def _wrong_value(text: str) -> str:
    """What absl says of a flag's value, as what was expected and what came; as it is where it is about no value."""
    for reason, expected in _WRONG_VALUES.items():
        if match := re.fullmatch(f"flag (--[^=]+=.*?): {reason}", text, re.DOTALL):
            return f"Expected {match.expand(expected)}. Received: {match[1]}"
    return text


_WRONG_VALUES = {  # in absl's and ml_collections' words
    r"invalid literal for int\(\) .*": "a whole number",
    r"could not convert string to float: .*": "a number",
    r"\('Non-boolean argument to boolean flag', .*": "True or False",
    r"Failed to parse .* as a ConfigDict: .*": "keys and values, such as {'beta_2': 0.98}",
    r"Error while parsing string: .* as tuple.*": "a tuple, such as (0.5, 0.75)",
    r"value should be one of <(.*)>": r"one of \2",
    r"-?[\d.]+ is not (an? .*)": r"\2",
}


def _unexpected(error: Exception) -> str:
    """One line of what no command line is to blame for."""
    text = str(error).rstrip()
    if "Traceback" in text:  # of a config file; what was raised stands in its last line
        text = text.splitlines()[-1]
        return text if ":" in text else f"Expected a config file that makes a config. Received: {text}"
    return text if isinstance(error, (ValueError, AttributeError)) else f"{type(error).__name__}: {text}"


def _keys(arguments: list[str]) -> list[str]:
    """What stands between `--config.` and `=` on a command line."""
    return [match[1] for each in arguments if (match := re.match(r"--?(?:no)?config\.([^=]*)", each))]


def _impossible(arguments: list[str]) -> str:
    """Keys on a command line that no config can have; empty where there are none."""
    wrong = [key for key in _keys(arguments) if not re.fullmatch(r"[a-z]\w*(\.[a-z]\w*|\[-?\d+\])*", key, re.ASCII)]
    return f"Expected a key of configs/base.py, such as --config.data.augment.flip. Received: {wrong}" if wrong else ""


def _renamed(arguments: list[str]) -> str:
    """What keys on a command line are called now; empty where none was renamed."""
    unknown = set(_keys(arguments)) - set(right_names.flat(base.get_config()))
    if not any(re.fullmatch(r"data\.\w+", key) for key in unknown):  # as all of them were called
        return ""
    try:
        with quiet():
            from cskd_tf.runs.earlier_configs import RENAMED
    except ImportError:  # of which the same command says more once its flags are right
        return ""
    news = [f"--config.{RENAMED[key]} instead of --config.{key}" for key in _keys(arguments) if key in RENAMED]
    return f"Some keys were renamed; expected {', '.join(news)}" if news else ""
