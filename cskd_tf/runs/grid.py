"""A sweep as a list of runs: experiments of a config file, at every point of a grid, each with its own seeds."""

import ast
import copy
import dataclasses
import itertools
import json
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from cskd_tf.errors import UserError

SEED_KEYS = ("seed", "data.split.seed")
LONGEST = 200  # characters of a folder's name: most file systems take 255 bytes
# What a teacher does not take from the command line, because it is trained by an experiment of its own.
OWN = ("methods", "network.name")


@dataclasses.dataclass(frozen=True)
class Axis:
    """Config keys, and the values that they take one after another, all keys the same one."""

    keys: tuple[str, ...]
    values: tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        name: its folder below the sweep's: `point` and the seeds.
        point: what it shares with its other seeds.
        experiment: of the config file; empty where that has one config alone.
        settings: the keys, seeds left out, and their values here.
        config: nested dictionaries, every key of configs/base.py.
        teachers: names of the runs that have to be finished before.
    """

    name: str
    point: str
    experiment: str
    settings: Mapping[str, Any]
    config: Mapping[str, Any]
    teachers: tuple[str, ...] = ()


def parse_axis(text: str) -> Axis:
    """What `--grid` says: `KEY=VALUE,VALUE`, or `KEY,KEY=VALUE,VALUE` for keys that take the same values together.

    Values are Python's literals, or else strings. A number in a key is the place in a list: `methods.0.weight` is
    `methods[0].weight`.

    Example:
        >>> parse_axis("methods.0.weight=1,2")
        Axis(keys=('methods[0].weight',), values=(1, 2))
        >>> parse_axis("schedule.milestones=(0.5,),(0.3, 0.6)").values
        ((0.5,), (0.3, 0.6))
        >>> parse_axis("precision=float32,mixed_bfloat16").values
        ('float32', 'mixed_bfloat16')
        >>> parse_axis("batch_size=16,x").values
        (16, 'x')

    Raises:
        UserError: text of another form, or a value twice.
    """
    left, equals, right = text.partition("=")
    keys = tuple(re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", key.strip()) for key in left.split(","))
    if not equals or not right.strip() or not all(re.fullmatch(r"[a-z]\w*(\.[a-z]\w*|\[\d+\])*", key) for key in keys):
        raise UserError(f"Expected --grid=KEY=VALUE,VALUE such as --grid=seed=0,1,2. Received: --grid={text}")
    if len({key in SEED_KEYS for key in keys}) > 1:
        raise UserError(f"Expected seeds on an axis of their own. Received: --grid={text}")
    values = _literal(f"({right},)")
    if not isinstance(values, tuple):
        values = tuple(_literal(part.strip()) for part in right.split(","))
    if len({repr(value) for value in values}) < len(values) or "" in values:
        raise UserError(f"Expected values that differ. Received: --grid={text}")
    return Axis(keys, values)


def _literal(text: str) -> Any:
    """What Python would read, or the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def parse_grid(texts: Iterable[str], *, defaults: Iterable[str] = ()) -> list[Axis]:
    """The axes of `--grid` behind those of the config file, which they replace where they have a key in common.

    Example:
        >>> grid = parse_grid(["seed=5"], defaults=["seed=0,1,2", "epochs=1,2"])
        >>> [(axis.keys, axis.values) for axis in grid]
        [(('epochs',), (1, 2)), (('seed',), (5,))]

    Raises:
        UserError: as `parse_axis`, or a key on two axes.
    """
    given = [parse_axis(text) for text in texts]
    keys = [key for axis in given for key in axis.keys]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise UserError(f"Expected each key on one axis of the grid. Received: --grid twice for {twice}")
    return [*(axis for axis in map(parse_axis, defaults) if not set(axis.keys) & set(keys)), *given]


def assign(config: dict[str, Any], key: str, value: Any, *, where: str) -> None:
    """Sets a dotted key of nested dictionaries and lists; what a method or the optimizer is given may gain a key.

    Example:
        >>> config = {"epochs": 3, "methods": [{"name": "CSKD", "weight": 1.0}]}
        >>> assign(config, "methods[0].weight", 2, where="digits")
        >>> config["methods"]
        [{'name': 'CSKD', 'weight': 2.0}]

    Args:
        config: changed in place.
        key: dotted, with places of lists in brackets.
        value: a whole number becomes a float where there was one, so that it reads the same in every run.
        where: what the config is called in an error.

    Raises:
        UserError: a key that the config does not have.
    """
    parts = re.findall(r"[^.\[\]]+", key)
    holder: Any = config
    try:
        for part in parts[:-1]:
            holder = holder[int(part) if isinstance(holder, list) else part]
        last = int(parts[-1]) if isinstance(holder, list) else parts[-1]
        given = len(parts) == 3 and (parts[0] == "methods" or parts[:2] == ["optimizer", "arguments"])
        if not given or not isinstance(holder, dict):
            holder[last]
    except (LookupError, TypeError, ValueError):
        raise UserError(
            f"Expected keys of configs/base.py, or of an entry of methods. Received: {key}, which {where} lacks"
        ) from None
    old = holder.get(last) if isinstance(holder, dict) else holder[last]
    # A copy of a dictionary or list, of which other keys may be set in this config alone.
    holder[last] = float(value) if type(old) is float and type(value) is int else copy.deepcopy(value)


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """What keys are called in the names of folders: their last part, and more where two would be called the same.

    Example:
        >>> short_names(["methods[0].weight", "epochs", "data.split.seed"])
        {'methods[0].weight': 'weight', 'epochs': 'epochs', 'data.split.seed': 'split.seed'}
    """
    parts = {key: key.replace("[", ".").replace("]", "").split(".") for key in {*keys, "seed"}}
    names = {}
    for key in keys:
        for count in range(1, len(parts[key]) + 1):
            name = parts[key][-count:]
            if sum(other[-count:] == name for other in parts.values()) == 1 or count == len(parts[key]):
                names[key] = ".".join(name)
                break
    return names


def safe(text: str) -> str:
    """Text as a file system takes it in a folder's name.

    Example:
        >>> safe("(0.5, 0.75)"), safe("a/b:c")
        ('0.5,0.75', 'a-b-c')
    """
    return re.sub(r"[^\w.,+=-]+", "-", re.sub(r"[\[\](){}'\" ]", "", text)).strip(".")


def _text(value: Any) -> str:
    return safe(str(value).removesuffix(".0") if isinstance(value, float) else str(value))


class Plan:
    """The runs of a sweep, teachers before those that learn from them.

    A method's argument that is the folder in which an experiment of the same config file trains by default, such as
    `teacher="workdirs/cskd_paper/cifar100,densenet121,cskd"`, stands for the run of that experiment with the same seeds
    and the same data in this sweep: it is planned too, and its folder put in.

    Args:
        load: the config of an experiment, as nested dictionaries.
        folder: of the sweep.
        home: folder of which the config file's experiments have each one by default, such as `workdirs/cskd_paper`.
        overrides: keys and values for every run.
        prefix: of the names of all runs.

    Attributes:
        runs: by name, in the order in which they can be trained.
    """

    def __init__(
        self,
        load: Callable[[str], dict[str, Any]],
        *,
        folder: pathlib.Path,
        home: pathlib.Path,
        overrides: Mapping[str, Any],
        prefix: str = "",
    ):
        self._load, self._folder, self._home, self._prefix = load, folder, home, prefix
        self._overrides = overrides
        self._under_way: list[str] = []
        self.runs: dict[str, Run] = {}

    def add(self, experiment: str, axes: Sequence[Axis]) -> list[Run]:
        """Plans an experiment at every point of a grid; returns its runs, without those that it needs.

        Raises:
            UserError: a key that the experiment does not have, or two runs of one name.
        """
        found = []
        for values in itertools.product(*(axis.values for axis in axes)):
            assigned = {key: value for axis, value in zip(axes, values, strict=True) for key in axis.keys}
            first = {axis.keys[0]: value for axis, value in zip(axes, values, strict=True)}
            found.append(self._plan(experiment, assigned, named=first))
        return found

    def _plan(self, experiment: str, assigned: Mapping[str, Any], *, named: Mapping[str, Any], taught=False) -> Run:
        config = copy.deepcopy(self._load(experiment))
        where = experiment or "the config"
        for key, value in self._overrides.items():
            if not (taught and re.match(rf"({'|'.join(map(re.escape, OWN))})(\W|$)", key)):
                assign(config, key, value, where=where)
        for key, value in assigned.items():
            assign(config, key, value, where=where)
        baseline = config.pop("baseline")
        run = self._named(experiment, named, {**config, "baseline": False})
        if run.name in self._under_way:
            raise UserError(f"Expected teachers that do not teach each other. Received: {self._under_way}")
        self._under_way.append(run.name)
        places = self._places(run)
        teachers = tuple(self._resolve(entry, key, assigned, named) for entry, key in places)
        self._under_way.pop()
        if baseline:
            ours = {key: value for key, value in named.items() if not key.startswith("methods")}
            name = ",".join(filter(None, (experiment, "cross_entropy")))
            self._keep(self._named(name, ours, {**copy.deepcopy(dict(run.config)), "methods": []}))
        return self._keep(dataclasses.replace(run, teachers=teachers))

    def _places(self, run: Run) -> list[tuple[dict[str, Any], str]]:
        """Where the methods of a run name an experiment's folder."""
        entries = [entry for entry in run.config["methods"] if isinstance(entry, dict)]
        return [(entry, key) for entry in entries for key, value in entry.items() if self._referred(value)]

    def _referred(self, value: Any) -> str:
        """The experiment that a value stands for."""
        return value[len(f"{self._home}/") :] if isinstance(value, str) and value.startswith(f"{self._home}/") else ""

    def _resolve(self, method: dict[str, Any], argument: str, assigned, named) -> str:
        same = lambda values: {key: value for key, value in values.items() if key == "seed" or key.startswith("data.")}  # noqa: E731
        teacher = self._plan(self._referred(method[argument]), same(assigned), named=same(named), taught=True)
        method[argument] = str(self._folder / teacher.name)
        return teacher.name

    def _named(self, experiment: str, named: Mapping[str, Any], config: dict[str, Any]) -> Run:
        names = short_names(list(named))
        settings = {key: value for key, value in named.items() if key not in SEED_KEYS}
        seeds = {key: value for key, value in named.items() if key in SEED_KEYS and key != "seed"}
        parts = [experiment, *(f"{names[key]}={_text(value)}" for key, value in settings.items())]
        point = ",".join(filter(None, map(safe, parts)))
        last = [f"seed={config['seed']}", *(f"{names[key]}={_text(value)}" for key, value in seeds.items())]
        name = "/".join(filter(None, (self._prefix, point, safe(",".join(last)))))
        if max(map(len, name.split("/"))) > LONGEST:
            raise UserError(f"Expected names of folders of at most {LONGEST} characters. Received: {name}")
        return Run(name=name, point=point, experiment=experiment, settings=settings, config=config)

    def _keep(self, run: Run) -> Run:
        there = self.runs.setdefault(run.name, run)
        if json.dumps(there.config, sort_keys=True) != json.dumps(run.config, sort_keys=True):
            raise UserError(f"Expected runs of names that differ. Received: {run.name} for two configs")
        return there


def as_typed(path: str | pathlib.Path) -> pathlib.Path:
    """A folder as it is written in configs: relative to here where it lies below, however it was typed.

    Example:
        >>> str(as_typed(pathlib.Path.cwd() / "workdirs" / "digits"))
        'workdirs/digits'
    """
    full = pathlib.Path(os.path.abspath(path))
    return full.relative_to(pathlib.Path.cwd()) if full.is_relative_to(pathlib.Path.cwd()) else full
