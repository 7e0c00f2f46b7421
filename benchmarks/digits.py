"""The README's first table: cross-entropy and CS-KD on the embedded default, over seeds of weights, data and split.

`python -m benchmarks.digits` trains `configs/digits.py` with each seed, in `workdirs/digits_seeds/`, prints the report
of all and writes `results/digits.json`. Runs that are there already are not trained again. What stands behind `--` goes
to `train_main.py`, as in `python -m benchmarks.digits --workdir=workdirs/short -- --config.epochs=10`.
"""

import pathlib
import subprocess
import sys

from absl import app, flags

from benchmarks.results import record
from benchmarks.seeded_runs import summed_up, train

SEEDS = flags.DEFINE_integer("seeds", 5, "How many, from 0.")
WORKDIR = flags.DEFINE_string("workdir", "workdirs/digits_seeds", "Where the runs lie.")


def lines() -> list[dict]:
    """A line per method: mean, standard deviation and the single values of each metric of the test split."""
    from cskd_tf.runs import report

    made = []
    for group in report.group_by_seed(report.find_runs(pathlib.Path(WORKDIR.value))):
        members = [run.metrics()["test"] for run in group]
        line = {"benchmark": "digits", "methods": report.name_of_methods(group[0].config()), "runs": len(group)}
        for _, key, _ in report.COLUMNS:
            line[key] = summed_up([member[key] for member in members])
        made.append({**line, "ece_bins": members[0]["ece_bins"]})
    return made


def main(argv):
    for seed in range(SEEDS.value):
        train(f"{WORKDIR.value}/{seed}", *argv[1:], seed=seed)
    subprocess.run([sys.executable, "train_main.py", "--mode=report", f"--workdir={WORKDIR.value}"], check=True)
    record("digits", lines())


if __name__ == "__main__":
    app.run(main)
