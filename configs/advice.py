"""`--mode=doctor`: whether CS-KD is for these data, what it costs, and a config to begin with.

docs/runs.md says what it goes by.
"""

import dataclasses
import math
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import rich.console
import rich.table
from ml_collections import config_flags

from configs import command_line, cskd_paper, evidence, method_costs, recommendation
from cskd_tf.runs.doctor import Findings
from cskd_tf.runs.printing import PROSE, console, say, show, table
from cskd_tf.runs.report import name_of_methods

MAIN = "train_main.py"
WEIGHTS = "--mode=sweep --grid=methods.0.weight=1,2,3,4 --choose=top1_error"


def advise(findings: Findings, flag: Any) -> dict[str, Any]:
    """Prints it, but of images that are too few to say anything.

    Args:
        findings: of the doctor.
        flag: `--config`, with what the user overrode.

    Returns:
        What may mend `findings.problem`, by key of the config.
    """
    screen = console(piped=PROSE)
    gains = evidence.published()
    settings = recommendation.recommend(findings, gains)
    if (images := int(findings.counts.sum())) < evidence.LEAST:
        say(
            screen,
            f"{images:,} training images are too few to say which method is for them, or to recommend a config: the "
            f"fewest on which methods were compared here are {evidence.LEAST} ({evidence.LEAST_SOURCE}).",
        )
        return recommendation.mending(settings, findings)
    _show_evidence(screen, findings, gains)
    if findings.step is not None:
        ratios = method_costs.measured(findings.config.network.name)
        show(screen, method_costs.table(findings, step=findings.step, ratios=ratios))
        for line in (method_costs.NOTE, *([method_costs.MEASURED] if ratios else [])):
            say(screen, line)
    show(screen, _table(settings, findings.config))
    _show_command(screen, findings, settings, flag)
    return recommendation.mending(settings, findings)


def _show_evidence(screen: rich.console.Console, findings: Findings, gains: Sequence[evidence.Gain]) -> None:
    counts = findings.counts
    images, classes = float(np.median(counts)), len(counts)
    near = evidence.nearest(gains, images=images, classes=classes)
    ours = evidence.nearest([*evidence.own(), *evidence.embedded()], images=images, classes=classes, count=1)
    for line in evidence.verdict(gains, images=images, uneven=counts.max() / counts.min()):
        say(screen, line)
    network = findings.config.network
    if (network.weights or ":" in network.name) and (said := evidence.finetuned()):
        say(screen, said)
    if 0 < findings.tested < recommendation.ENOUGH:
        points = 100 * math.sqrt(0.25 / findings.tested)
        say(
            screen,
            f"{findings.tested} test images tell an error rate near one half to {points:.0f} points (one standard "
            "error): smaller differences between methods cannot be seen.",
        )
    show(screen, evidence.table([*near, *ours]))
    say(screen, f"Networks: {evidence.networks([*near, *ours])}")
    paper = "Figures are those of the CS-KD paper (Yun et al., 2020), Tables 1, 5 and 6"
    say(screen, f"{paper}; ours are in results/, at a weight of 1." if ours else f"{paper}.")
    if any(gain.data in (*cskd_paper.FINE_GRAINED, "tiny_imagenet") for gain in near):
        say(
            screen, "Of cross-entropy they are in part an earlier version's, by another protocol (docs/reproducing.md)."
        )
    if of_pskd := [gain for gain in evidence.published_of_pskd() if gain.data in {each.data for each in near}]:
        show(screen, evidence.table_of_pskd(of_pskd))
        say(screen, f"Networks: {evidence.networks(of_pskd)}")
        say(screen, "Figures are those of the PS-KD paper (Kim et al., 2021), Tables 1 and 4.")


def _show_command(
    screen: rich.console.Console, findings: Findings, settings: Sequence[recommendation.Setting], flag: Any
) -> None:
    file, experiment = command_line.file_and_experiment(flag)
    program = f"python {sys.argv[0]}" if pathlib.Path(sys.argv[0]).name == MAIN else pathlib.Path(sys.argv[0]).name
    options = {"program": program, "file": f"{_relative(file)}:{experiment}" if experiment else _relative(file)}
    overrides = config_flags.get_override_values(flag)
    text = recommendation.command(settings, config=findings.config, overrides=overrides, **options)
    values = {setting.key: setting.value for setting in settings}
    if values["methods"] and values["data.split.validation_fraction"]:
        say(screen, "Which weight of CS-KD is best for these images, validation images say, with these flags more:")
        screen.print(f"  {WEIGHTS}")
    screen.print("to copy:")
    screen.print(text)


def _table(settings: Sequence[recommendation.Setting], config: Any) -> rich.table.Table:
    result = table("a config to begin with", ["setting", "because"], texts=2)
    for setting in settings:
        now, then = recommendation.current(config, setting.key), setting.value
        if setting.key == "methods":
            now, then = (name_of_methods(dataclasses.replace(config, methods=listed)) for listed in (now, then))
        changed = f"\n  now {'none' if now == '' else now}" if now != then else ""
        result.add_row(f"{setting.key}: {then}{changed}", setting.reason)
    return result


def _relative(path: str) -> str:
    return os.path.relpath(path) if pathlib.Path(path).is_relative_to(pathlib.Path.cwd()) else path
