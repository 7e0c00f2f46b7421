"""What CS-KD adds to fine-tuning: `python -m benchmarks.finetune FOLDER [FOLDER ...]`.

Reads the finished runs of sweeps of configs/finetune.py below the folders, and writes results/finetune.json: a line per
run, as of `benchmarks.few_images`, with its images per class, and a line per number of images with the differences of
CS-KD from cross-entropy, seed by seed. Nothing is trained.
"""

import pathlib
import statistics

import rich.progress
from absl import app

from benchmarks.few_images import measured
from benchmarks.results import record
from configs import finetune
from cskd_tf.errors import UserError
from cskd_tf.runs.report import find_runs

METRICS = ("top1_error", "nll", "ece_20", "aurc")
BASELINE, METHOD = "cross_entropy", "cskd"


def differences(lines: list[dict]) -> list[dict]:
    """Per number of images, of each metric CS-KD less cross-entropy: the mean over seeds that have both, and each.

    Example:
        >>> both = [{"images_per_class": 5, "experiment": name, "seed": 0, "test": dict.fromkeys(METRICS, value)}
        ...         for name, value in (("cross_entropy", 0.5), ("cskd", 0.25))]
        >>> differences(both)[0]["nll"]
        {'mean': -0.25, 'by_seed': {'0': -0.25}}
    """
    found = {(line["images_per_class"], line["experiment"], line["seed"]): line["test"] for line in lines}
    results = []
    for images in sorted({images for images, _, _ in found}):
        seeds = [
            seed
            for number, name, seed in sorted(found)
            if (number, name) == (images, METHOD) and (images, BASELINE, seed) in found
        ]
        result: dict = {"benchmark": "finetune", "images_per_class": images, "difference": f"{METHOD} - {BASELINE}"}
        for metric in METRICS:
            by_seed = {
                str(seed): found[images, METHOD, seed][metric] - found[images, BASELINE, seed][metric] for seed in seeds
            }
            result[metric] = {"mean": statistics.fmean(by_seed.values()), "by_seed": by_seed} if by_seed else None
        results.append(result)
    return results


def main(argv):
    if len(argv) < 2:
        raise app.UsageError("Expected folders of sweeps of configs/finetune.py.")
    runs = [run for folder in argv[1:] for run in find_runs(pathlib.Path(folder)) if run.config().network.weights]
    if not runs:
        raise UserError(f"Expected finished runs that begin with network.weights. Received: none below {argv[1:]}")
    lines = []
    for run in rich.progress.track(runs, description="runs"):
        config = run.config()
        of_run = {"images_per_class": config.data.split.train_per_class}
        lines.append(
            {
                **measured(run, configs=finetune),
                **of_run,
                "data": config.data.source.name,
                "weights": config.network.weights,
            }
        )
    record("finetune", [*lines, *differences(lines)])


if __name__ == "__main__":
    app.run(main)
