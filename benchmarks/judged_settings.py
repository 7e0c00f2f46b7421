"""What becomes of a command line of `train_main.py`: it is refused before anything is written, or a step is trained."""

import contextlib
import io
import pathlib
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence

from absl import flags

from cskd_tf.runs import train
from cskd_tf.runs.experiment import Experiment
from cskd_tf.runs.screen import Screen
from cskd_tf.runs.workdir import Workdir

MAIN = pathlib.Path(__file__).resolve().parent.parent / "train_main.py"
MOST_PIXELS = 2**22  # of a batch in the step that is trained here
REFUSED = "error: "


class _Trained(BaseException):
    """In place of a training: what was asked for can be trained."""


def _train_a_step(experiment: Experiment, workdir: Workdir, screen: Screen) -> None:
    config = experiment.config
    if config.batch_size * config.data.augment.image_size**2 <= MOST_PIXELS:
        experiment.model.train_step(next(iter(experiment.training_data())))
    raise _Trained


def judge(arguments: Sequence[str], files: Mapping[str, bytes], *, as_command: bool) -> dict:
    """Runs a command line in a folder of its own, where a training is a step.

    Args:
        arguments: of `train_main.py`.
        files: that are there, by their names.
        as_command: whether to run what is refused once more, as a process.

    Returns:
        `problem`, the line that refuses it, empty where it is not; and `faults`, a list of what should not be.
    """
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for name, content in files.items():
            pathlib.Path(name).parent.mkdir(exist_ok=True)
            pathlib.Path(name).write_bytes(content)
        before = _state()
        problem, fault = _run(arguments)
        faults = [fault] if fault else []
        if problem and (changed := sorted(set(_state().items()) ^ set(before.items()))):
            faults.append(f"refused, but it has written {sorted({name for name, _ in changed})}")
        if problem and not faults and as_command:
            finished = subprocess.run([sys.executable, str(MAIN), *arguments], capture_output=True, check=False)
            said = finished.stderr.decode(errors="replace") + finished.stdout.decode(errors="replace")
            if finished.returncode != 1 or "Traceback" in said:
                faults.append(f"as a command it ends with {finished.returncode}: {said.strip()[-300:]}")
    return {"problem": problem, "faults": faults}


def _state() -> dict[str, bytes]:
    paths = sorted(path for path in pathlib.Path().rglob("*") if "__pycache__" not in path.parts)
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in paths}


def _run(arguments: Sequence[str]) -> tuple[str, str]:
    """The line by which a command line is refused, and what is wrong with it; either empty."""
    defined, printed = set(flags.FLAGS), io.StringIO()
    argv, path, trained = sys.argv, list(sys.path), train._train_run
    sys.argv = [str(MAIN), *arguments]
    train._train_run = _train_a_step
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            runpy.run_path(str(MAIN), run_name="__main__")
        return "", "it ends without training, and without a word"
    except _Trained:
        return "", ""
    except SystemExit as leaving:
        return _judged_exit(leaving.code, printed.getvalue())
    except BaseException as error:
        return "", f"{type(error).__name__}: {error}"[:500]
    finally:
        sys.argv, sys.path[:], train._train_run = argv, path, trained
        for name in set(flags.FLAGS) - defined:
            delattr(flags.FLAGS, name)
        for name in [
            name for name in sys.modules if name.startswith("config_")
        ]:  # as ml_collections calls config files
            del sys.modules[name]


def _judged_exit(code: object, printed: str) -> tuple[str, str]:
    """As `_run`, of a command that has ended."""
    said = code if isinstance(code, str) else printed.strip()
    if code in (0, None):
        return "", ""  # --help, or a report
    if "Traceback" in said:
        return said, f"a traceback: {said[-300:]}"
    if isinstance(code, str) and code.startswith(REFUSED):
        first, *others = code.removeprefix(REFUSED).split("\n(CSKD_TF_TRACEBACK")[0].splitlines() or [""]
        if len(first) < 10 or len(others) > 12:
            return code, f"no clear line: {code[:300]!r}"
    elif not said:
        return "?", f"ends with {code!r} and says nothing"
    return said, ""
