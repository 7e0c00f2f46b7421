"""What the command line of a sweep asks for: experiments, a grid, and what holds for all of its runs."""

import dataclasses
import functools
import importlib.util
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from ml_collections import config_flags

from configs import command_line
from cskd_tf.runs import grid as grids


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """What a command line asks for.

    Attributes:
        names: of experiments in the config file.
        axes: of the grid.
        metric: by which the best point is chosen; None: none is.
        overrides: of every run's config.
        exports: whether it says anything of SavedModels.
        options: of each `Plan`: the sweep's `folder`, and its `home` by default.
        load: gives the config of an experiment.
    """

    names: list[str]
    axes: Sequence[grids.Axis]
    metric: str | None
    overrides: dict[str, Any]
    exports: bool
    options: dict[str, pathlib.Path]
    load: Callable[[str], dict[str, Any]]

    @property
    def folder(self) -> pathlib.Path:
        return self.options["folder"]

    def plan(self, *, prefix: str = "", **overrides: Any) -> grids.Plan:
        return grids.Plan(self.load, overrides={**self.overrides, **overrides}, prefix=prefix, **self.options)


def asked_for(config: Any, *, workdir: str, grid: Sequence[str], choose: str | None) -> Asked:
    """What the flags and the config's own key `sweep` ask for. Arguments and errors as of `sweep.run`."""
    file, experiment = command_line.file_and_experiment(config)
    given = config.value.get("sweep") or {}
    axes = grids.parse_grid(grid, defaults=given.get("grid", ()))
    # Those of optimizer.arguments are a ConfigDict.
    overrides = json.loads(json.dumps(config_flags.get_override_values(config), default=dict))
    overrides = {key: value for key, value in overrides.items() if not key.startswith("sweep.")}
    exports = "export.enabled" in {*overrides, *(key for axis in axes for key in axis.keys)}
    overrides |= {} if exports else {"export.enabled": False}
    overrides.setdefault("verbose", 2)  # for a log
    home = pathlib.Path(command_line.default_workdir(config, mode="sweep"))
    return Asked(
        names=list(given.get("experiments", [experiment])),
        axes=axes,
        metric=given.get("choose") if choose is None else choose,
        overrides=overrides,
        exports=exports,
        options={"folder": grids.as_typed(workdir), "home": home},
        load=load_from(file),
    )


def load_from(file: str) -> Callable[[str], dict[str, Any]]:
    """What gives the experiments of a config file, as nested dictionaries that stay as they are."""
    spec = importlib.util.spec_from_file_location("swept_config", file)
    if spec is None or spec.loader is None:
        raise ValueError(f"Expected a config file. Received: {file}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    @functools.cache
    def load(experiment: str) -> dict[str, Any]:
        return json.loads(module.get_config(*([experiment] if experiment else [])).to_json())

    return load
