"""What the modes of `train_main.py` do."""

import contextlib
import errno
import logging as standard_logging
import os
import pathlib
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import tensorflow as tf
from absl import logging

from cskd_tf.errors import UserError
from cskd_tf.files import FULL, ONCE_THERE_IS_ROOM, full_disk, full_disk_named
from cskd_tf.runs import (
    assess,
    doctor,
    evaluate,
    export,
    figures,
    import_checkpoint,
    report,
    strategies,
    train,
)
from cskd_tf.runs import predict as predictions
from cskd_tf.runs.classifiers import refuse_own_network
from cskd_tf.runs.config import Config
from cskd_tf.runs.termination import Terminated
from cskd_tf.runs.workdir import CONFIG, Workdir

PACKAGE = pathlib.Path(__file__).parents[1]
if strategies.num_workers() == 1:  # of several, their strategy starts them, which then wait for each other
    tf.config.list_logical_devices()  # starts the devices now, where the caller has muted what that prints

INTERRUPTED = 128 + signal.SIGINT  # exit code, as shells have it: 130
LOST_WORKER = (  # what collectives raise; the last one where a worker's host is gone and nothing comes back
    tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError,
)  # fmt: skip


class _Readable(standard_logging.Filter):
    """Lets ours and warnings pass, and each warning once: a run and its baseline, say, load the same images."""

    def __init__(self):
        super().__init__()
        self._warned: set[str] = set()

    def filter(self, record: standard_logging.LogRecord) -> bool:
        if record.levelno < standard_logging.WARNING:
            return PACKAGE in pathlib.Path(record.pathname).parents
        message = record.getMessage()
        said = record.levelno == standard_logging.WARNING and message in self._warned
        self._warned.add(message)
        return not said


@contextlib.contextmanager
def _readable_log() -> Iterator[None]:
    """Our messages, and everybody's warnings, without TensorFlow's notes on what it writes and traces."""
    handler, readable = logging.get_absl_handler(), _Readable()
    handler.setFormatter(standard_logging.Formatter("%(levelname)s: %(message)s"))
    handler.addFilter(readable)
    try:
        yield
    finally:
        handler.removeFilter(readable)


@_readable_log()
def run(
    mode: str,
    values: Mapping[str, Any],
    *,
    workdir: str,
    config_given: bool,
    checkpoint: str | None = None,
    question: Mapping[str, Any] | None = None,
    check_labels: int | None = None,
    advise: Callable[[doctor.Findings], Mapping[str, Any]] | None = None,
) -> None:
    """Runs one mode, then prints the report.

    Args:
        mode: `train`, `evaluate`, `export`, `report`, `figures`, `import` or `doctor`.
        values: the config of the run, with every key of configs/base.py; all but `train`, `import` and `doctor`
            take the workdir's unless one is given.
        workdir: folder of the run, for `report` and `figures` of any number of runs.
        config_given: whether the user asked for this config.
        checkpoint: PyTorch's file, for `import`.
        question: the arguments of `assess.Question`, for `evaluate`; configs as `values`. Of `doctor` the
            one member by whose embeddings it checks labels.
        check_labels: of `doctor`, see there; None: as many as it checks by default.
        advise: of `doctor`, see there.

    Raises:
        UserError: a config, a workdir or a checkpoint that cannot be used.
    """
    if (mode == "import") != bool(checkpoint):
        raise UserError(f"Expected --mode=import and --checkpoint=FILE together. Received: {mode=}, {checkpoint=}")
    config = Config.read(values)
    if mode not in ("train", "evaluate"):
        strategies.refuse_workers(f"--mode={mode}")
    if check_labels is not None and mode != "doctor":
        raise UserError(f"Expected --check_labels beside --mode=doctor alone. Received: --mode={mode}")
    if mode == "doctor":
        options = _given(check_labels=check_labels, advise=advise)
        doctor.examine(config, run=_one_member(question or {}), **options)
        return
    asked = _question(question or {}, mode=mode)
    if mode == "evaluate" and asked.is_asked(workdir):
        with full_disk_named(workdir):
            assess.answer(asked, workdir, config=config if config_given else None)
        return
    folder = Workdir(workdir)
    _check_folder(mode, folder, config if config_given or mode in ("train", "import") else None)
    if mode == "train":
        train.train(config, folder)
    elif checkpoint:
        import_checkpoint.import_run(config, folder, checkpoint=checkpoint)
    elif mode == "evaluate":
        with full_disk_named(workdir):
            evaluate.evaluate(folder, config=config if config_given else None)
    elif mode == "figures":
        figures.draw(folder.path)
    elif mode == "export":
        export.export_run(folder, config=config if config_given else None)
    if strategies.is_chief():
        report.report(folder.path)


@_readable_log()
def predict(
    paths: Sequence[str], values: Mapping[str, Any] | None, *, workdir: str, output: str | None, form: Any
) -> int:
    """Predicts image files by a workdir or a SavedModel.

    Args:
        paths: see `predictions.predict`, as of output and form.
        values: the config of the run; None: the workdir's.
        workdir: folder of a run, or of a SavedModel.
        output: the file to write.
        form: `csv`, `jsonl` or None.

    Returns:
        The exit code.

    Raises:
        UserError: as of `predictions.predict`, or another format.
    """
    strategies.refuse_workers("predict")
    if form not in (None, "csv", "jsonl"):
        raise UserError(f"Expected --format=csv or jsonl, for predict. Received: --format={form}")
    config = None if values is None else Config.read(values)
    try:
        return predictions.predict(paths, model=workdir, config=config, output=output, form=form)
    except KeyboardInterrupt:  # of which nothing goes on
        sys.stderr.write("Interrupted.\n")
        return INTERRUPTED


def _check_folder(mode: str, folder: Workdir, config: Config | None) -> None:
    """Raises UserError where the folder is of another config than the one given, or by itself says what is called."""
    of_many = mode in ("report", "figures")  # whose folder need not be a run's
    if config is None and not of_many:
        refuse_own_network(folder)
    elif config is not None and (not of_many or (folder.path / CONFIG).exists()):
        folder.check_owner(config, images_compared=True)


def _given(**options: Any) -> dict[str, Any]:
    return {key: value for key, value in options.items() if value is not None}


def _one_member(values: Mapping[str, Any]) -> str:
    """The only thing that `doctor` can be asked; empty where it is not."""
    members = values.get("members") or []
    _question({**values, "members": []}, mode="doctor")
    if len(members) > 1:
        raise UserError(f"Expected one workdir or SavedModel as --with of --mode=doctor. Received: {members}")
    return "".join(members)


def _question(values: Mapping[str, Any], *, mode: str) -> assess.Question:
    """What is asked of `evaluate`; refused elsewhere, and of several workers."""
    given: dict[str, Any] = {key: value for key, value in values.items() if value}
    given |= {key: Config.read(given[key]) for key in ("on", "against") if key in given}
    if given and (mode != "evaluate" or strategies.num_workers() > 1):
        raise UserError(
            "Expected --split, --with, --on and --against beside --mode=evaluate alone, in one process; --with also "
            f"beside --mode=doctor. Received: {sorted(given)} and --mode={mode}"
        )
    return assess.Question(**given)


@contextlib.contextmanager
def one_line_for_users() -> Iterator[None]:
    """One line in place of a traceback for what users can change; `CSKD_TF_TRACEBACK=1` shows the traceback too.

    A second line says so, but for what was refused on purpose, where the traceback is of our checks.
    """
    try:
        yield
        strategies.wait_for_workers()
    except Terminated:  # which all workers are together
        strategies.wait_for_workers()
        raise
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted; the same command goes on from what is saved, or begins anew where nothing is.\n")
        _leave(INTERRUPTED)
    except Exception as error:
        line = _line_for_users(error)
        if line and not os.environ.get("CSKD_TF_TRACEBACK"):
            on_purpose = isinstance(error, (UserError, FloatingPointError))
            _stop(
                f"error: {line}" if on_purpose else f"error: {line}\n(CSKD_TF_TRACEBACK=1 shows where it was raised.)"
            )
        if strategies.num_workers() == 1:
            raise
        _stop(traceback.format_exc())


def _line_for_users(error: Exception) -> str | None:
    """What a user can change about it; None: nothing."""
    if isinstance(error, tf.errors.ResourceExhaustedError):  # which TensorFlow makes of more than a lack of memory
        if full := full_disk(error):
            return f"{os.strerror(full)}. {ONCE_THERE_IS_ROOM}"
        if words := [words for words in map(os.strerror, (errno.EMFILE, errno.ENFILE)) if words in str(error)]:
            return f"{words[0]}: `ulimit -n` says how many this process may open, and `ulimit -n 4096` raises it"
    if isinstance(error, (MemoryError, tf.errors.ResourceExhaustedError)):
        found = re.search(r"OOM.{,200}", str(error))
        return (
            "Expected enough memory; a smaller batch_size, data.augment.image_size or network.width needs less. "
            f"Received: {found[0] if found else type(error).__name__}"
        )
    barrier = isinstance(error, tf.errors.InternalError) and "UNAVAILABLE" in str(error)  # while workers connect
    if strategies.num_workers() > 1 and (barrier or isinstance(error, LOST_WORKER)):
        return (
            "Another worker has stopped, and its own log says why. The same command on all workers continues from the "
            "last finished epoch."
        )
    if isinstance(error, OSError) and error.errno in FULL:
        return f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror)
    if isinstance(error, (UserError, FloatingPointError, OSError)):  # the second of a loss that is not finite
        return str(error)
    return None


def _stop(message: str) -> NoReturn:
    """Ends this process, with the message on stderr."""
    if strategies.num_workers() == 1:
        sys.exit(message)
    sys.stderr.write(f"{message}\n")
    _leave(1)


def _leave(code: int) -> NoReturn:
    """Ends this process."""
    if strategies.num_workers() == 1:
        sys.exit(code)
    # At once, because TensorFlow would first wait for the other workers, which wait for this one.
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)
