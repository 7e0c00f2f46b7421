"""How well networks tell other images from their own, by method: `python -m benchmarks.detection FOLDER [FOLDER ...]`.

    python -m benchmarks.detection --name=characters --against=configs/few_images.py:omniglot_14,cskd \
        --against.data.source.path=OMNIGLOT FOLDER

Reads runs as `python -m benchmarks.few_images` does, and adds them to results/detection.json, a line per run: what
`--mode=evaluate --against` says of its test images beside those of `--against`, which the line calls `--name`. A line
of the same experiment, seed and name is replaced.
"""

import pathlib

import rich.progress
from absl import app, flags
from ml_collections import config_flags

from benchmarks.few_images import identity
from benchmarks.results import record
from cskd_tf.runs.assess import Question, answer
from cskd_tf.runs.config import Config
from cskd_tf.runs.report import find_runs

NAME = flags.DEFINE_string("name", None, "What the other images are, for tables.", required=True)
AGAINST = config_flags.DEFINE_config_file("against", None, "Whose test images are to be told from the runs' own.")


def main(argv):
    if len(argv) < 2 or AGAINST.value is None:
        raise app.UsageError("Expected --against=CONFIG and folders of sweeps of configs/few_images.py.")
    question = Question(against=Config.read(AGAINST.value))
    for run in rich.progress.track([run for folder in argv[1:] for run in find_runs(pathlib.Path(folder))], "runs"):
        (assessment,) = answer(question, str(run.path)).values()
        found = {key: value for key, value in assessment["detection"].items() if key != "against"}  # which has a path
        line = {**identity(run), "benchmark": "detection", "against": NAME.value, **found}
        record("detection", line, by=("data", "experiment", "seed", "against"))


if __name__ == "__main__":
    app.run(main)
