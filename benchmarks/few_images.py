"""What the methods came to on few images: `python -m benchmarks.few_images FOLDER [FOLDER ...]`.

Reads the finished runs of sweeps of configs/few_images.py below the folders, and adds them to results/few_images.json,
a line per run: what `cskd_tf.metrics.assess` says of its test split, with all that its validation images choose, and
the config that it had. A line of the same experiment and seed is replaced. Nothing is trained; docs/results.md has the
tables. `--trained_at` says of which commit runs are that do not say it themselves, if not of this one; `--groups` is a
file of lines `class<TAB>group`, as `config.data.source.groups` takes, of whose groups the errors are counted too.
"""

import pathlib
import re
import types

import rich.progress
from absl import app, flags

from benchmarks.results import commit, record
from configs import few_images
from cskd_tf.data.catalogue.groups import read_groups
from cskd_tf.errors import UserError
from cskd_tf.evaluation.assessment import assess
from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.runs.config import OF_NO_RESULT, Config
from cskd_tf.runs.grid import SEED_KEYS
from cskd_tf.runs.json_files import flatten
from cskd_tf.runs.report import find_runs
from cskd_tf.runs.workdir import Workdir

TRAINED_AT = flags.DEFINE_string("trained_at", None, "The commit whose code trained runs that do not say it.")
GROUPS = flags.DEFINE_string("groups", None, "A file that names the group of each class.")
# Of the machine and of files.
OF_NO_EXPERIMENT = (*OF_NO_RESULT, *SEED_KEYS, "data.source.archive", "data.source.path", "data.source.memory")


def identity(run: Workdir, *, configs: types.ModuleType = few_images) -> dict:
    """Which run of an experiment of `configs` a line is of."""
    config, point = run.config(), run.path.parent.name
    return {
        "benchmark": configs.__name__.rpartition(".")[2],
        "data": point.split(",")[0],
        "experiment": point.partition(",")[2],
        "network": config.network.name,
        "seed": config.seed,
        "epochs": config.epochs,
        "config": point_of(point),
        "overrides": overrides(run, configs),
        "trained_at": ", then ".join(run.trained_by()) or TRAINED_AT.value or commit(),
    }


def measured(run: Workdir, *, configs: types.ModuleType = few_images) -> dict:
    """The line of a run of an experiment of `configs`, without where and by what it was measured."""
    test, validation = (Predictions.load(run.predictions(split)) for split in ("test", "val"))
    assessed = assess(test, validation=validation, class_groups=_groups(run))
    return {
        **identity(run, configs=configs),
        "val_top1_error": run.metrics_of("val")["top1_error"],
        "test": assessed["metrics"],
        "intervals": assessed["intervals"],
        "after_temperature": assessed["scaling"]["temperature"],
        "after_vector_scaling": assessed["scaling"]["vector"],
        "after_matrix_scaling": assessed["scaling"]["matrix"],
        "normalized_logits": assessed["normalized_logits"],
        "conformal": assessed["conformal"],
    }


def _groups(run: Workdir) -> list[str] | None:
    """The group of each class by `--groups`, or those that the run itself has."""
    known = run.classes()
    if GROUPS.value is None:
        return known and known[1]
    if known is None:
        raise UserError(f"Expected the names of classes in {run.path}, for --groups. Received: none")
    return read_groups(GROUPS.value, class_names=known[0])


def point_of(folder: str) -> str:
    """The experiment of a config file that a sweep's folder is named after, without the values of its grid.

    Example:
        >>> point_of("omniglot_5,cskd,methods[0].temperature=1.0,methods[0].weight=2.0")
        'omniglot_5,cskd'
    """
    return re.sub(r",[^,=]+=.*", "", folder)


def overrides(run: Workdir, configs: types.ModuleType) -> dict:
    """Where a run's config is not its experiment's, but for seeds, files and the machine; an old run has old values."""
    own, named = run.config(), Config.read(configs.get_config(point_of(run.path.parent.name)))
    ours, theirs = flatten(own.as_dict()), flatten(named.as_dict())
    keys = [key for key in {**theirs, **ours} if key not in OF_NO_EXPERIMENT and not key.endswith(".teacher")]
    return {key: ours.get(key) for key in keys if ours.get(key) != theirs.get(key)}


def main(argv):
    if len(argv) < 2:
        raise app.UsageError("Expected folders of sweeps of configs/few_images.py.")
    runs = [run for folder in argv[1:] for run in find_runs(pathlib.Path(folder))]
    found = [measured(run) for run in rich.progress.track(runs, description="runs")]
    record("few_images", found, by=("data", "experiment", "seed"))


if __name__ == "__main__":
    app.run(main)
