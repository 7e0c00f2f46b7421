"""`--mode=doctor`: whether CS-KD is for these data, what it costs, and a config to begin with.

docs/runs.md says what it goes by.
"""

import dataclasses
import os
import pathlib
import sys
from typing import Any

import numpy as np
import rich.box
import rich.markup
import rich.table
from ml_collections import config_flags

from configs import command_line, evidence, method_costs, recommendation
from cskd_tf.runs.doctor import Findings
from cskd_tf.runs.report import console, name_of_methods

MAIN = "train_main.py"


def advise(findings: Findings, flag: Any) -> None:
    """Prints it.

    Args:
        findings: of the doctor.
        flag: `--config`, with what the user overrode.
    """
    screen = console()
    gains, counts = evidence.published(), findings.counts
    images, classes = float(np.median(counts)), len(counts)
    near = evidence.nearest(gains, images=images, classes=classes)
    ours = evidence.nearest(evidence.own(), images=images, classes=classes, count=1)
    for line in evidence.verdict(gains, images=images, uneven=counts.max() / counts.min()):
        screen.print(line, markup=False)
    screen.print(evidence.table([*near, *ours]))
    screen.print(evidence.networks([*near, *ours]), markup=False)
    ratios = method_costs.measured(findings.config.network.name)
    screen.print(method_costs.table(findings, ratios=ratios))
    for line in (method_costs.NOTE, *([method_costs.MEASURED] if ratios else [])):
        screen.print(line, markup=False)
    settings = recommendation.recommend(findings, near[0])
    screen.print(_table(settings, findings.config))
    screen.print("to copy:")
    file, experiment = command_line.file_and_experiment(flag)
    program = f"python {sys.argv[0]}" if pathlib.Path(sys.argv[0]).name == MAIN else pathlib.Path(sys.argv[0]).name
    options = {"program": program, "file": f"{_relative(file)}:{experiment}" if experiment else _relative(file)}
    overrides = config_flags.get_override_values(flag)
    text = recommendation.command(settings, config=findings.config, overrides=overrides, **options)
    screen.print(text, markup=False, highlight=False)


def _table(settings: list[recommendation.Setting], config: Any) -> rich.table.Table:
    result = rich.table.Table(title="a config to begin with", title_justify="left", box=rich.box.SIMPLE_HEAD)
    result.add_column("setting", overflow="fold", min_width=34)
    result.add_column("because")
    for setting in settings:
        now, then = recommendation.current(config, setting.key), setting.value
        if setting.key == "methods":
            now, then = (name_of_methods(dataclasses.replace(config, methods=listed)) for listed in (now, then))
        changed = f"\n  now {'none' if now == '' else now}" if now != then else ""
        result.add_row(*map(rich.markup.escape, (f"{setting.key}: {then}{changed}", setting.reason)))
    return result


def _relative(path: str) -> str:
    return os.path.relpath(path) if pathlib.Path(path).is_relative_to(pathlib.Path.cwd()) else path
