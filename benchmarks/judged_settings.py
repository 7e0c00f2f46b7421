"""What becomes of a command line of `train_main.py`: it is refused before anything is written, or it trains."""

import contextlib
import io
import json
import pathlib
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from unittest import mock

from absl import flags

from configs.command_line import TRACEBACK
from cskd_tf.runs import train
from cskd_tf.runs.experiment import Experiment
from cskd_tf.runs.workdir import Workdir
from cskd_tf.serving import saved_model

MAIN = pathlib.Path(__file__).resolve().parent.parent / "train_main.py"
MOST_PIXELS = 2**22  # of a batch in the step that is trained here
MOST_STEPS = 20  # of a training to the end
NOWHERE = ("/proc", "/sys")  # where nothing can be written: an export may be sent there
REFUSED = "error: "
# What only a step can show, after the run has its folder; all else has to be refused before.
LATE = ("error: Expected enough memory", "error: The loss became")


class _Trained(BaseException):
    """In place of the rest of a training: what was asked for can be trained."""


def _fit_a_step(experiment: Experiment, workdir: Workdir, *, more=()) -> None:
    """In place of `train.fit`, once the run has its folder."""
    config = experiment.config
    if config.batch_size * config.data.augment.image_size**2 <= MOST_PIXELS:
        experiment.model.train_step(next(iter(experiment.training_data())))
    raise _Trained


def _fit_what_is_small(experiment: Experiment, workdir: Workdir, *, more=()):
    """`train.fit` of a run that is short, and that exports to where it harms nobody."""
    config = experiment.config
    directory, here = pathlib.Path(config.export.directory).resolve(), pathlib.Path.cwd().resolve()
    harmless = directory.is_relative_to(here) or any(directory.is_relative_to(root) for root in NOWHERE)
    if experiment.steps_per_epoch * config.epochs > MOST_STEPS or not harmless:
        _fit_a_step(experiment, workdir)
    return _fit(experiment, workdir, more=more)


_fit = train.fit


def judge(arguments: Sequence[str], files: Mapping[str, bytes], *, as_command: bool, to_the_end: bool = False) -> dict:
    """Runs a command line in a folder of its own, where a training is a step.

    Args:
        arguments: of `train_main.py`.
        files: that are there, by their names.
        as_command: whether to run what is refused once more, as a process.
        to_the_end: whether a short training is whole: with its evaluation and its export, which no other process loads.

    Returns:
        `problem`, the line that refuses it, empty where it is not; and `faults`, a list of what should not be.
    """
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for name, content in files.items():
            pathlib.Path(name).parent.mkdir(exist_ok=True)
            pathlib.Path(name).write_bytes(content)
        before = _state()
        problem, fault = _run(arguments, to_the_end=to_the_end)
        faults = [fault] if fault else []
        changed = sorted(set(_state().items()) ^ set(before.items())) if problem else []
        if changed and not problem.startswith(LATE):
            faults.append(f"refused, but it has written {sorted({name for name, _ in changed})}: {problem[:300]}")
        if problem and not faults and as_command:
            finished = subprocess.run([sys.executable, str(MAIN), *arguments], capture_output=True, check=False)
            said = (finished.stdout + finished.stderr).decode(errors="replace")
            if finished.returncode != 1 or (fault := _unclear(_without_log(said))):
                faults.append(f"as a command it ends with {finished.returncode}: {said.strip()[-300:]}")
    return {"problem": problem, "faults": faults}


def _without_log(said: str) -> str:
    """What a process printed, but for the lines of its log, which tell what it does until it is refused."""
    return "".join(line for line in said.splitlines(keepends=True) if not line.startswith(("INFO: ", "WARNING: ")))


def _state() -> dict[str, bytes]:
    paths = sorted(path for path in pathlib.Path().rglob("*") if "__pycache__" not in path.parts)
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in paths}


@contextlib.contextmanager
def _as_process(arguments: Sequence[str]) -> Iterator[None]:
    """What a command changes in its process is as it was afterwards."""
    defined, argv, path = set(flags.FLAGS), sys.argv, list(sys.path)
    sys.argv = [str(MAIN), *arguments]
    try:
        yield
    finally:
        sys.argv, sys.path[:] = argv, path
        for name in set(flags.FLAGS) - defined:
            delattr(flags.FLAGS, name)
        for name in [name for name in sys.modules if name.startswith("config_")]:  # as ml_collections calls them
            del sys.modules[name]


def _run(arguments: Sequence[str], *, to_the_end: bool) -> tuple[str, str]:
    """What a command line is refused with, and what is wrong with it; either empty."""
    printed = io.StringIO()
    try:
        with (
            _as_process(arguments),
            mock.patch.object(train, "fit", _fit_what_is_small if to_the_end else _fit_a_step),
            mock.patch.object(saved_model, "difference_in_fresh_process", return_value=0.0),
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
        ):
            runpy.run_path(str(MAIN), run_name="__main__")
        return "", "it ends without training, and without a word"
    except _Trained:
        return "", ""
    except SystemExit as leaving:
        if leaving.code in (0, None):  # --help, a report, or a whole run
            return "", _missing_export() if to_the_end else ""
        said = printed.getvalue() + (f"{leaving.code}\n" if isinstance(leaving.code, str) else "")
        # The doctor's lines are what it was asked for.
        return said.strip() or "?", "" if "--mode=doctor" in arguments and "Traceback" not in said else _unclear(said)
    except BaseException as error:
        return "", f"{type(error).__name__}: {error}"[:500]


def _missing_export() -> str:
    """What is wrong with the export of the run that has ended; empty where nothing is."""
    metrics = pathlib.Path("run/metrics.json")
    exported = json.loads(metrics.read_text()).get("saved_model") if metrics.exists() else None
    if exported is not None and not (pathlib.Path(exported) / "saved_model.pb").is_file():
        return f"metrics.json has a SavedModel that is not there: {exported}"
    return ""


def _unclear(said: str) -> str:
    r"""What is wrong with all that a refused command printed: more than a line, or less; empty: nothing.

    Behind its line may stand which name was meant, and how to see a traceback.

    Example:
        >>> _unclear("error: Expected a seed. Received: x\n")
        ''
        >>> _unclear("error: Expected a seed.\nReceived: x\n")
        "not one clear line: 'error: Expected a seed.\\nReceived: x\\n'"
    """
    if "Traceback" in said:
        return f"a traceback: {said[-300:]}"
    first, *others = said.removesuffix("\n").split("\n")
    if others[-1:] == [TRACEBACK]:
        others.pop()
    if others and others[-1].startswith("Did you mean "):
        others.pop()
    if not first.startswith(REFUSED) or len(first) < len(REFUSED) + 10 or others or "\r" in first:
        return f"not one clear line: {said[:300]!r}"
    return ""
