"""Runs of `train_main.py` by seed, and what their metrics come to."""

import pathlib
import statistics
import subprocess
import sys
from collections.abc import Sequence

METRICS = ("top1_error", "top5_error", "nll", "ece", "recall_at_1", "aurc")


def train(workdir: str | pathlib.Path, *options: str, seed: int, config: str = "digits") -> None:
    """Trains an embedded default with a seed of weights, data and split; a run that is there is not trained again."""
    seeded = [f"--config.seed={seed}", f"--config.data.split.seed={seed}"]
    quiet = ["--config.export.enabled=False", "--config.verbose=0"]
    subprocess.run(
        [
            sys.executable,
            "train_main.py",
            f"--config=configs/{config}.py",
            f"--workdir={workdir}",
            *seeded,
            *quiet,
            *options,
        ],
        check=True,
    )


def summed_up(values: Sequence[float]) -> dict:
    """Mean, standard deviation (None of a single value) and the values themselves.

    Example: `summed_up([1.0, 3.0])` is `{"mean": 2.0, "deviation": 1.4142135623730951, "values": [1.0, 3.0]}`.
    """
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.mean(values), "deviation": deviation, "values": list(values)}


def by_method(workdir: str | pathlib.Path, **named) -> list[dict]:
    """A line per method of the runs below a folder: mean, deviation and the single values of each test metric.

    Each begins with what is `named`.
    """
    from cskd_tf.runs import report

    made = []
    for group in report.group_by_seed(report.find_runs(pathlib.Path(workdir))):
        members = [run.metrics()["test"] for run in group]
        line = {**named, "methods": report.name_of_methods(group[0].config()), "runs": len(group)}
        for _, key, _ in report.COLUMNS:
            line[key] = summed_up([member[key] for member in members])
        made.append({**line, "ece_bins": members[0]["ece_bins"]})
    return made
