"""The examples of the docstrings, run as they stand."""

import ast
import doctest
import importlib
import math
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import cskd_tf

PACKAGE = pathlib.Path(cskd_tf.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
)
# What an example may use without importing it.
NAMES = {"cskd_tf": cskd_tf, "keras": keras, "math": math, "np": np, "tf": tf}
OF_EXTRAS = ("mlflow", "wandb")  # packages that are installed only when asked for


@pytest.mark.parametrize("name", MODULES)
def test_examples_print_what_they_say(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as missing:
        if missing.name not in OF_EXTRAS:
            raise
        pytest.skip(f"needs {missing.name}, which is installed only when asked for")
    finder = doctest.DocTestFinder(exclude_empty=True)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    report: list[str] = []
    for example in finder.find(module, name, globs={**vars(module), **NAMES}):
        runner.run(example, out=report.append)
    assert not runner.summarize(verbose=False).failed, "".join(report)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_example_is_one_that_runs(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            text = ast.get_docstring(node) or ""
            assert "Example" not in text or ">>>" in text, f"{getattr(node, 'name', path)}: nothing runs its example"
