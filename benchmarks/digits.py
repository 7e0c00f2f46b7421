"""The tables of the embedded defaults: cross-entropy and CS-KD over seeds of weights, data and split.

`python -m benchmarks.digits` trains `configs/digits.py` with each seed, in `workdirs/digits_seeds/`, prints the report
of all and writes `results/digits.json`; with `--data` it does so for another config. Runs that are there already
are not trained again. What stands behind `--` goes to `train_main.py`, as in
`python -m benchmarks.digits --workdir=workdirs/short -- --config.epochs=10`.
"""

import subprocess
import sys

from absl import app, flags

from benchmarks.results import record
from benchmarks.seeded_runs import by_method, train

SEEDS = flags.DEFINE_integer("seeds", 5, "How many, from 0.")
DATA = flags.DEFINE_enum("data", "digits", ["digits", "fashion_mnist", "fonts"], "Which config.")
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Where the runs lie; by default workdirs/, the config's name and _seeds."
)


def workdir() -> str:
    return WORKDIR.value or f"workdirs/{DATA.value}_seeds"


def main(argv):
    for seed in range(SEEDS.value):
        train(f"{workdir()}/{seed}", *argv[1:], seed=seed, config=DATA.value)
    subprocess.run([sys.executable, "train_main.py", "--mode=report", f"--workdir={workdir()}"], check=True)
    record(DATA.value, by_method(workdir(), benchmark=DATA.value))


if __name__ == "__main__":
    app.run(main)
