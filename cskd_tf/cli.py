"""What the modes of `train_main.py` do."""

import logging as standard_logging
import pathlib
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
from absl import logging

from cskd_tf import doctor, evaluate, export, importing, report, train
from cskd_tf.experiment import as_plain, check_config
from cskd_tf.workdir import Workdir

PACKAGE = pathlib.Path(__file__).parent
tf.config.list_logical_devices()  # starts the devices now, where the caller has muted what that prints


def run(
    mode: str,
    config: Mapping[str, Any],
    *,
    reference: Mapping[str, Any],
    workdir: str,
    config_given: bool,
    checkpoint: str | None = None,
) -> None:
    """Runs one mode, then prints the report.

    Args:
        mode: `train`, `evaluate`, `export`, `report`, `import` or `doctor`.
        config: of the run; `evaluate`, `export` and `report` take the workdir's unless one is given.
        reference: a config with every known key (configs/base.py).
        workdir: folder of the run, for `report` of any number of runs.
        config_given: whether the user asked for this config.
        checkpoint: PyTorch's file, for `import`.

    Raises:
        ValueError: a config, a workdir or a checkpoint that cannot be used.
    """
    _keep_log_readable()
    if (mode == "import") != (checkpoint is not None):
        raise ValueError(f"Expected --mode=import and --checkpoint=FILE together. Received: {mode=}, {checkpoint=}")
    if mode == "doctor":
        check_config(config, reference=reference)
        doctor.examine(config)
        return
    folder = Workdir(workdir)
    if mode in ("train", "import") or config_given:
        check_config(config, reference=reference)
        folder.check_owner(as_plain(config))
    if mode == "train":
        train.train(config, folder)
    elif mode == "import":
        importing.import_run(config, folder, checkpoint=checkpoint)
    elif mode == "evaluate":
        evaluate.evaluate(folder)
    elif mode == "export":
        export.export_run(folder)
    report.report(folder.path)


def _keep_log_readable() -> None:
    """Our messages, and everybody's warnings, without TensorFlow's notes on what it writes and traces."""
    handler = logging.get_absl_handler()
    handler.setFormatter(standard_logging.Formatter("%(levelname)s: %(message)s"))
    handler.addFilter(
        lambda record: record.levelno >= standard_logging.WARNING or PACKAGE in pathlib.Path(record.pathname).parents
    )
