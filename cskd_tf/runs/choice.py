"""Which point of a grid is the best, by the mean of a metric over its seeds on the validation split."""

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from cskd_tf.errors import UserError
from cskd_tf.evaluation.metrics import DIRECTIONS as LOGGED
from cskd_tf.runs.grid import Axis, Run

# Metrics to choose by.
DIRECTIONS = {**LOGGED, "group_error": "min"}


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A point of the grid of an experiment.

    Attributes:
        point: its name.
        settings: the keys and values by which it differs from others.
        values: the metric of each finished run, by the run's name.
        missing: names of runs that have not finished.
    """

    point: str
    settings: Mapping[str, Any]
    values: Mapping[str, float]
    missing: tuple[str, ...]

    @property
    def mean(self) -> float:
        return statistics.mean(self.values.values())

    def on(self, axis: Axis) -> Axis:
        """The axis with the value alone that it has here; whole if it is one of seeds."""
        return Axis(axis.keys, (self.settings[axis.keys[0]],)) if axis.keys[0] in self.settings else axis

    def as_dict(self) -> dict[str, Any]:
        """What the file of a choice holds: mean and sample deviation are null where there are too few runs."""
        values = list(self.values.values())
        return {
            **dataclasses.asdict(self),
            "mean": statistics.mean(values) if values else None,
            "deviation": statistics.stdev(values) if len(values) > 1 else None,
        }


def better(value: float, *, metric: str) -> float:
    """A value as it sorts: the lower, the better.

    Example:
        >>> better(0.3, metric="recall_at_1"), better(0.3, metric="top1_error")
        (-0.3, 0.3)

    Raises:
        UserError: an unknown metric.
    """
    return value if DIRECTIONS[check_metric(metric)] == "min" else -value


def check_metric(metric: str) -> str:
    """The metric; UserError for one of which nobody knows which direction is better."""
    if metric not in DIRECTIONS:
        raise UserError(f"Unknown metric to choose by; expected one of {list(DIRECTIONS)}. Received: {metric}")
    return metric


def candidates(runs: Sequence[Run], metrics: Mapping[str, Mapping[str, Any]], *, metric: str) -> list[Candidate]:
    """The points of one experiment's runs, in the order of the grid.

    Args:
        runs: of one experiment.
        metrics: `metrics.json` of those that have finished, by name.
        metric: key in `metrics.json`.

    Raises:
        UserError: a finished run without that metric of validation images.
    """
    points: dict[str, list[Run]] = {}
    for run in runs:
        points.setdefault(run.point, []).append(run)
    found = []
    for point, seeds in points.items():
        values = {run.name: _value(metrics[run.name], metric, name=run.name) for run in seeds if run.name in metrics}
        missing = tuple(run.name for run in seeds if run.name not in metrics)
        found.append(Candidate(point, seeds[0].settings, values, missing))
    return found


def is_defined(metrics: Mapping[str, Any], metric: str) -> bool:
    """Whether `metrics.json` has a number of validation images by that name."""
    value = metrics.get("val", {}).get(metric)
    return isinstance(value, (int, float)) and math.isfinite(value)


def _value(metrics: Mapping[str, Any], metric: str, *, name: str) -> float:
    value = metrics.get("val", {}).get(metric)
    if not is_defined(metrics, metric):
        known = sorted(key for key, each in metrics.get("val", {}).items() if isinstance(each, float))
        raise UserError(
            f"Expected a metric of validation images to choose by, one of {known or 'none: there are no such images'}. "
            f"Received: {metric}={value} of {name}"
        )
    return value


def best(found: Sequence[Candidate], *, metric: str) -> Candidate | None:
    """The one with the best mean among those of which all seeds have finished; of equals the earlier; None: no such.

    Example:
        >>> found = [Candidate(name, {}, {"0": error}, ()) for name, error in (("a", 0.3), ("b", 0.2), ("c", 0.2))]
        >>> best(found, metric="top1_error").point
        'b'
        >>> best(found, metric="recall_at_1").point
        'a'
    """
    whole = [each for each in found if each.values and not each.missing]
    return min(whole, key=lambda each: better(each.mean, metric=metric), default=None)
