import importlib
import json
import sys

import pytest
from absl import flags

import benchmarks
from benchmarks import arithmetic, results


@pytest.fixture
def imported(monkeypatch, tmp_path):
    """Imports a benchmark as a command does, and reads its flags; what it records goes to `tmp_path/results`."""
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(results, "_lines", {})
    monkeypatch.setattr(arithmetic, "SHAPES", ((64, 64, 64),))
    modules, defined = set(sys.modules), set(flags.FLAGS)

    def load(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *arguments])  # where the flags of a config look by themselves
        module = importlib.import_module(f"benchmarks.{name}")
        return module, flags.FLAGS(sys.argv)

    yield load
    # Two benchmarks have flags of one name, which only one of them can define in a process.
    for name in set(flags.FLAGS) - defined:
        delattr(flags.FLAGS, name)
    for name in set(sys.modules) - modules:
        package, _, module = name.rpartition(".")
        if package == "benchmarks":
            del sys.modules[name]
            delattr(benchmarks, module)


@pytest.fixture
def command(imported, tmp_path):
    """Runs a benchmark with arguments; returns the lines that it has written."""

    def run(name, *arguments, results=None):
        module, rest = imported(name, *arguments)
        module.main(rest)
        return json.loads((tmp_path / "results" / f"{results or name}.json").read_text())

    return run
