"""Imports point one way; see the map of the folders in the README."""

import ast
import pathlib

import pytest

from cskd_tf.methods import METHODS

PACKAGE = pathlib.Path(__file__).resolve().parent.parent / "cskd_tf"
CORE = {"kernels", "losses", "keras_metrics", "neighbours", "data", "networks", "optimizers", "workdir"}
ALLOWED = {
    **{name: {name} for name in CORE},
    "metrics": {"keras_metrics", "neighbours"},
    "methods": {"methods", "losses", "networks.features", "networks.layers", "networks.logits", "workdir"},
    "inputs": {"methods.base", "losses", "data.paired"},
    "fitting": {"inputs", "data.paired", "methods.base", "metrics"},
    "distiller": {"inputs", "fitting", "methods.base", "networks", "losses"},
    "predictions": {"distiller", "inputs", "metrics", "networks"},
    "figures": {"metrics", "predictions"},
    "callbacks": {"figures", "inputs", "metrics", "networks", "predictions", "workdir"},
}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("cskd_tf"):
            base = node.module.removeprefix("cskd_tf").removeprefix(".")
            yield from [base] if base else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from (alias.name[8:] for alias in node.names if alias.name.startswith("cskd_tf."))


@pytest.mark.parametrize("part", sorted(ALLOWED))
def test_a_part_imports_only_what_lies_below_it(part):
    files = [PACKAGE / f"{part}.py"] if (PACKAGE / f"{part}.py").exists() else sorted((PACKAGE / part).glob("*.py"))
    assert files
    for path in files:
        for name in imported(path):
            allowed = any(name == target or name.startswith(f"{target}.") for target in ALLOWED[part])
            assert allowed, f"{path.name} imports cskd_tf.{name}; {part} may import {sorted(ALLOWED[part])}"


def test_nothing_outside_methods_and_configs_names_a_method():
    for path in PACKAGE.rglob("*.py"):
        if "methods" not in path.parts and path.name != "__init__.py":
            names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
            assert not names & set(METHODS), path
