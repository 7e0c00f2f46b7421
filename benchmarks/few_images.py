"""What the methods came to on few images: `python -m benchmarks.few_images FOLDER [FOLDER ...]`.

Reads the finished runs of sweeps of configs/few_images.py below the folders, and writes results/few_images.json, a line
per run: its metrics on the test split, as they are, after a temperature that its validation images chose, and by the
confidence of normalised logits. Nothing is trained; docs/results.md has its tables. `--trained_at` says of which commit
the runs are, if not of this one.
"""

import dataclasses
import pathlib

import rich.progress
from absl import app, flags

from benchmarks.results import commit, record
from cskd_tf.errors import UserError
from cskd_tf.evaluation.normalization import LogitNormalization
from cskd_tf.evaluation.outcomes import Outcomes
from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.evaluation.scaling import TemperatureScaling
from cskd_tf.runs.report import find_runs
from cskd_tf.runs.workdir import Workdir

TRAINED_AT = flags.DEFINE_string("trained_at", None, "The commit whose code trained the runs.")
KEPT = ("top1_error", "top5_error", "nll", "brier", "ece_15", "ece_20", "aurc", "augrc", "coverage_at_5_risk")
BY_ORDER = ("aurc", "augrc")  # what a confidence of another scale can change


def measured(run: Workdir) -> dict:
    """The line of a run, without where and by what it was measured."""
    config, test, validation = run.config(), *(Predictions.load(run.predictions(split)) for split in ("test", "val"))
    outcomes = Outcomes.of(test.logits, test.labels, test.embeddings)
    line = {
        "benchmark": "few_images",
        "data": run.path.parent.name.split(",")[0],
        "experiment": run.path.parent.name.partition(",")[2],
        "network": config.network.name,
        "seed": config.seed,
        "epochs": config.epochs,
        "trained_at": TRAINED_AT.value or commit(),
        "val_top1_error": run.metrics_of("val")["top1_error"],
        "test": {**_chosen(outcomes), "recall_at_1": outcomes.metrics()["recall_at_1"]},
    }
    normalization = LogitNormalization.fit(validation.logits, validation.labels)
    by_logits = dataclasses.replace(outcomes, confidence=normalization.confidence(test.logits)).metrics()
    line["normalized_logits"] = {"norm": normalization.norm, **{name: by_logits[name] for name in BY_ORDER}}
    try:
        scaling = TemperatureScaling.fit(validation.logits, validation.labels)
    except UserError as error:  # of validation images that are all right
        return {**line, "after_temperature": {"undefined": str(error)}}
    after = Outcomes.of(scaling.apply(test.logits), test.labels)
    return {**line, "after_temperature": {"temperature": scaling.temperature, **_chosen(after)}}


def _chosen(outcomes: Outcomes) -> dict[str, float]:
    metrics = outcomes.metrics()
    return {name: metrics[name] for name in KEPT}


def main(argv):
    if len(argv) < 2:
        raise app.UsageError("Expected folders of sweeps of configs/few_images.py.")
    runs = [run for folder in argv[1:] for run in find_runs(pathlib.Path(folder))]
    record("few_images", [measured(run) for run in rich.progress.track(runs, description="runs")])


if __name__ == "__main__":
    app.run(main)
