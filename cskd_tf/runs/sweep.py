"""What a sweep asks of its runs: whether they can be trained, which have finished, which point is the best."""

import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from cskd_tf import methods
from cskd_tf.data.catalogue import splits
from cskd_tf.errors import UserError
from cskd_tf.runs import choice
from cskd_tf.runs.config import Config
from cskd_tf.runs.experiment import check_without_data
from cskd_tf.runs.grid import Run, safe
from cskd_tf.runs.json_files import read_json, write_json
from cskd_tf.runs.loggers import check_loggers
from cskd_tf.runs.workdir import Workdir

CHOSEN = "chosen"  # folder of the runs that are trained on everything, and of the files that say why


def leave_gpus_alone() -> None:
    """Keeps this process off the GPUs, whose memory TensorFlow would take from the runs."""
    tf.config.set_visible_devices([], "GPU")


def check(runs: Sequence[Run], folder: pathlib.Path) -> dict[str, Config]:
    """The configs of runs, by name, all checked before any is started.

    Raises:
        UserError: a config that cannot be trained, with the name of its run, or a folder that belongs to another one.
    """
    configs = {}
    for run in runs:
        try:
            config = Config.read(run.config)
            check_loggers(config.loggers)
            chosen = methods.build([_with_stand_in(method, run, folder) for method in config.methods])
            check_without_data(config, chosen, replicas=1)
            Workdir(folder / run.name).check_owner(config)
        except UserError as error:
            raise UserError(f"{run.name}: {error}") from None
        configs[run.name] = config
    return configs


def _with_stand_in(method: Any, run: Run, folder: pathlib.Path) -> Any:
    """An entry of `config.methods` with a network in place of a teacher that has yet to be trained."""
    folders = {str(folder / teacher) for teacher in run.teachers}
    stand_in = lambda value: isinstance(value, str) and value in folders  # noqa: E731
    network = keras.Sequential([keras.Input((1,)), keras.layers.Identity()])
    return {key: network if stand_in(value) else value for key, value in method.items()}


def finished(runs: Sequence[Run], folder: pathlib.Path) -> dict[str, dict[str, Any]]:
    """`metrics.json` of the runs that have finished, by name."""
    found = {run.name: Workdir(folder / run.name).metrics() for run in runs}
    return {name: metrics for name, metrics in found.items() if metrics}


def write_config(path: pathlib.Path, run: Run) -> None:
    """The config of a run, where configs/saved.py reads it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, run.config)


def brings_validation(run: Run) -> bool:
    """Whether a run has validation images though its config takes none of the training images for them."""
    config = Config.read(run.config)
    return splits.brings_validation(config.data.source, config.data.split)


def check_choice(runs: Sequence[Run], *, metric: str) -> None:
    """Refuses an unknown metric, and runs without validation images, as far as their configs say.

    Raises:
        UserError: the metrics that there are, or the name of a run.
    """
    choice.check_metric(metric)
    for run in runs:
        split = run.config["data"]["split"]
        if not split["validation_fraction"] and not split["val"]:
            raise UserError(
                "Expected validation images to choose by; --config.data.split.validation_fraction=0.1 holds out a "
                f"tenth of the training images. Received: data.split.validation_fraction=0 of {run.name}"
            )


def choose(experiment: str, runs: Sequence[Run], folder: pathlib.Path, *, metric: str) -> choice.Candidate | None:
    """The best point of an experiment, of which `runs` are; writes `chosen/EXPERIMENT.json`, with all that there was.

    Raises:
        UserError: a metric that a finished run does not have.
    """
    found = choice.candidates(runs, finished(runs, folder), metric=metric)
    best = choice.best(found, metric=metric)
    (folder / CHOSEN).mkdir(exist_ok=True)
    record: Mapping[str, Any] = {
        "experiment": experiment,
        "metric": f"val {metric}",
        "chosen": best and best.as_dict(),
        "candidates": [each.as_dict() for each in found],
    }
    write_json(_record(experiment, folder / CHOSEN), json.loads(json.dumps(record)))
    return best


def note_chosen(experiment: str, folder: pathlib.Path, *, point: str) -> list[pathlib.Path]:
    """Notes in `chosen/EXPERIMENT.json` which folder beside it has the runs of the choice.

    Returns:
        The folders there whose runs are of an earlier choice.
    """
    record = _record(experiment, folder / CHOSEN)
    write_json(record, {**read_json(record), "folder": point})
    return [each for each in sorted(record.parent.iterdir()) if each.is_dir() and not is_chosen(experiment, each)]


def is_chosen(experiment: str, folder: pathlib.Path) -> bool:
    """Whether a folder in `chosen/`, which may be of another experiment, is not of an earlier choice of this one."""
    record = _record(experiment, folder.parent)
    own = is_point_of(experiment, folder.name)
    return not own or not record.exists() or read_json(record).get("folder") in (None, folder.name)


def is_point_of(experiment: str, name: str) -> bool:
    """Whether the runs of a point of an experiment lie in a folder of this name.

    Example:
        >>> [is_point_of("cskd", name) for name in ("cskd", "cskd,weight=2", "cskd_e,weight=2", "cskd,cross_entropy")]
        [True, True, False, False]
    """
    settings = r"[^,=]+=.*"
    return bool(re.fullmatch(rf"{re.escape(safe(experiment))}(,{settings})?" if experiment else settings, name))


def _record(experiment: str, chosen: pathlib.Path) -> pathlib.Path:
    return chosen / f"{safe(experiment) or 'choice'}.json"
