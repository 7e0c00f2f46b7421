"""What the modes of `train_main.py` do."""

import contextlib
import logging as standard_logging
import os
import pathlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf
from absl import logging

from cskd_tf.errors import UserError
from cskd_tf.runs import doctor, evaluate, export, import_checkpoint, report, train
from cskd_tf.runs.config import Config
from cskd_tf.runs.workdir import Workdir

PACKAGE = pathlib.Path(__file__).parents[1]
tf.config.list_logical_devices()  # starts the devices now, where the caller has muted what that prints


def run(
    mode: str,
    values: Mapping[str, Any],
    *,
    workdir: str,
    config_given: bool,
    checkpoint: str | None = None,
) -> None:
    """Runs one mode, then prints the report.

    Args:
        mode: `train`, `evaluate`, `export`, `report`, `import` or `doctor`.
        values: the config of the run, with every key of configs/base.py; `evaluate`, `export` and `report` take the
            workdir's unless one is given.
        workdir: folder of the run, for `report` of any number of runs.
        config_given: whether the user asked for this config.
        checkpoint: PyTorch's file, for `import`.

    Raises:
        UserError: a config, a workdir or a checkpoint that cannot be used.
    """
    _keep_log_readable()
    if (mode == "import") != bool(checkpoint):
        raise UserError(f"Expected --mode=import and --checkpoint=FILE together. Received: {mode=}, {checkpoint=}")
    config = Config.read(values)
    if mode == "doctor":
        doctor.examine(config)
        return
    folder = Workdir(workdir)
    if mode in ("train", "import") or config_given:
        folder.check_owner(config)
    if mode == "train":
        train.train(config, folder)
    elif checkpoint:
        import_checkpoint.import_run(config, folder, checkpoint=checkpoint)
    elif mode == "evaluate":
        evaluate.evaluate(folder, config=config if config_given else None)
    elif mode == "export":
        export.export_run(folder, config=config if config_given else None)
    report.report(folder.path)


@contextlib.contextmanager
def one_line_for_users() -> Iterator[None]:
    """One line in place of a traceback for what users can change; `CSKD_TF_TRACEBACK=1` shows the traceback too."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit("Interrupted; the same command continues from the last finished epoch.")
    except (UserError, FloatingPointError, OSError) as error:  # the second of a loss that is not finite
        if os.environ.get("CSKD_TF_TRACEBACK"):
            raise
        sys.exit(f"error: {error}\n(CSKD_TF_TRACEBACK=1 shows where it was raised.)")


def _keep_log_readable() -> None:
    """Our messages, and everybody's warnings, without TensorFlow's notes on what it writes and traces."""
    handler = logging.get_absl_handler()
    handler.setFormatter(standard_logging.Formatter("%(levelname)s: %(message)s"))
    handler.addFilter(
        lambda record: record.levelno >= standard_logging.WARNING or PACKAGE in pathlib.Path(record.pathname).parents
    )
