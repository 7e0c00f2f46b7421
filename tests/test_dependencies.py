"""What is imported is asked for: by the dependencies of `pyproject.toml`, or late, by an extra."""

import ast
import functools
import importlib.metadata
import pathlib
import re
import sys
import tomllib

import pytest

from tests.helpers import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OURS = {"cskd_tf", "configs", "train_main"}
FILES = [ROOT / "train_main.py", *(ROOT / "cskd_tf").rglob("*.py"), *(ROOT / "configs").rglob("*.py")]


def names_of(requirements):
    """The distributions that are asked for, as package indexes spell them."""
    return {spelled(re.match(r"[\w.-]+", each)[0]) for each in requirements}


def spelled(name):
    return re.sub(r"[-_.]+", "-", name).lower()


DEPENDENCIES = names_of(PROJECT["dependencies"])
OPTIONAL = names_of([each for extra in PROJECT["optional-dependencies"].values() for each in extra])


distributions = functools.cache(importlib.metadata.packages_distributions)


@functools.cache
def imported(path):
    """Top-level modules that are none of Python's or ours, and whether each is imported within a function."""
    tree, found = ast.parse(path.read_text()), set()
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    late = {id(node) for function in functions for node in ast.walk(function)}
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module]
        for module in {name.partition(".")[0] for name in names}:
            if module not in {*OURS, *sys.stdlib_module_names}:
                found.add((module, id(node) in late))
    return found


def is_provided(module, asked, *, installed):
    """Whether one of the distributions has this module; of what is not installed, by the name."""
    if found := {spelled(name) for name in installed.get(module, [])}:
        return bool(found & asked)
    return any(name == spelled(module) or name.startswith(f"{spelled(module)}-") for name in asked)


def missing(files, *, dependencies=frozenset(DEPENDENCIES), optional=frozenset(OPTIONAL)):
    """Modules that nothing provides, with the files which import them."""
    installed, found = distributions(), {}
    for path in files:
        for module, late in imported(path):
            asked = {*dependencies, *optional} if late else dependencies
            if not is_provided(module, asked, installed=installed):
                found.setdefault(module, set()).add(pathlib.Path(path).name)
    return found


def test_everything_that_is_imported_is_asked_for():
    assert missing(FILES) == {}


@pytest.mark.parametrize("name", ["numpy", "scikit-learn", "absl-py", "pillow", "requests"])
def test_a_dependency_that_is_forgotten_is_missed(name):
    module = {"scikit-learn": "sklearn", "absl-py": "absl", "pillow": "PIL"}.get(name, name)
    assert set(missing(FILES, dependencies=DEPENDENCIES - {name})) == {module}


@pytest.mark.parametrize(("name", "module"), [("wandb", "wandb"), ("mlflow-skinny", "mlflow"), ("torch", "torch")])
def test_an_extra_that_is_forgotten_is_missed(name, module):
    assert set(missing(FILES, optional=OPTIONAL - {name})) == {module}


def test_what_is_imported_at_once_is_no_extra(tmp_path):
    (tmp_path / "file.py").write_text("import wandb\n\ndef late():\n    import torch\n")
    assert set(missing([tmp_path / "file.py"])) == {"wandb"}
