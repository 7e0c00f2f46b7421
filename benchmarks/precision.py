"""Whether a run ends in mixed precision where it ends in float32: `python -m benchmarks.precision [--seeds=3]`.

Trains CS-KD on the embedded default (`configs/digits.py`) with each seed in each precision, in `workdirs/precision/`,
and writes results/precision.json: a line per run as it ends; per precision the mean and deviation of the metrics of the
test split; and their differences from float32, seed by seed, with the standard error of the mean. A command that was
interrupted goes on by the same command. What stands behind `--` goes to `train_main.py`.
"""

import math
import pathlib

from absl import app, flags

from benchmarks.results import record
from benchmarks.seeded_runs import METRICS, summed_up, train

SEEDS = flags.DEFINE_integer("seeds", 3, "How many, from 0.", lower_bound=2)
PRECISION = flags.DEFINE_multi_enum(
    "precision", ["mixed_bfloat16"], ["mixed_bfloat16", "mixed_float16"], "Which to compare with float32."
)
WORKDIR = flags.DEFINE_string("workdir", "workdirs/precision", "Where the runs lie.")


def run(precision: str, seed: int, *options: str) -> dict[str, float]:
    """The metrics of the test split."""
    from cskd_tf.runs.workdir import Workdir

    workdir = pathlib.Path(WORKDIR.value) / precision / str(seed)
    train(workdir, f"--config.precision={precision}", "--config.baseline=False", *options, seed=seed)
    metrics = Workdir(workdir).metrics()["test"]
    return {name: metrics[name] for name in METRICS}


def summaries(runs: dict[str, list[dict[str, float]]]) -> list[dict]:
    """A line per precision, float32 the first, and for each other one its differences from that."""
    lines = []
    for precision, metrics in runs.items():
        values = {name: [each[name] for each in metrics] for name in METRICS}
        line = {"precision": precision, "runs": len(metrics)}
        lines.append({"benchmark": "precision", **line, **{name: summed_up(values[name]) for name in METRICS}})
        if precision != "float32":
            differences = {
                name: summed_up([own - one[name] for own, one in zip(values[name], runs["float32"], strict=True)])
                for name in METRICS
            }
            for difference in differences.values():
                difference["standard_error"] = difference["deviation"] / math.sqrt(len(metrics))
            lines.append({"benchmark": "precision", **line, "minus": "float32", **differences})
    return lines


def main(argv):
    runs: dict[str, list[dict[str, float]]] = {"float32": [], **{name: [] for name in PRECISION.value}}
    for seed in range(SEEDS.value):
        for precision, metrics in runs.items():
            metrics.append(run(precision, seed, *argv[1:]))
            record("precision", {"benchmark": "precision", "precision": precision, "seed": seed, **metrics[-1]})
    record("precision", summaries(runs))


if __name__ == "__main__":
    app.run(main)
