"""Imports point one way, from the rooms above to those below: docs/architecture.md shows them."""

import ast

import pytest

from cskd_tf.methods import METHODS
from tests.helpers import ROOT

PACKAGE = ROOT / "cskd_tf"
FRONTS = {"__init__", "callbacks", "metrics", "optimizers"}  # public names of what lies in rooms
# Each room, and the rooms below it that it may use. A file may always use its own room.
ROOMS = {
    "errors": set(),
    "checks": {"errors"},
    "files": {"errors"},
    "kernels": {"errors"},
    "losses": {"errors", "checks"},
    "settings": {"errors"},
    "networks": {"errors"},
    "evaluation": {"errors", "checks", "files"},
    "data": {"errors", "checks", "files", "settings"},
    "methods": {"errors", "checks", "losses", "networks", "data.batches.views"},
    "training": {"errors", "checks", "losses", "networks", "evaluation", "data", "methods"},
    "serving": {"errors", "files", "evaluation", "data", "training"},
    "runs": {"errors", "files", "settings", "networks", "evaluation", "data", "methods", "training", "serving"},
}
INSIDE_DATA = {
    "data.images": {"errors", "settings"},
    "data.sources": {"errors", "files", "data.images"},
    "data.catalogue": {"errors", "files", "settings", "data.sources"},
    "data.batches": {"errors", "checks", "settings", "data.images", "data.sources"},
}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("cskd_tf"):
            base = node.module.removeprefix("cskd_tf").removeprefix(".")
            yield from [base] if base else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from (alias.name[8:] for alias in node.names if alias.name.startswith("cskd_tf."))


def is_within(name, room):
    return name == room or name.startswith(f"{room}.")


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_only_what_lies_below_it(path):
    module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    if module in {*FRONTS, "data.__init__"}:
        assert not any(is_within(name, "runs") for name in imported(path))
        return
    rooms = {**ROOMS, **INSIDE_DATA}
    room = max((room for room in rooms if is_within(module, room)), key=len)
    for name in imported(path):
        assert any(is_within(name, below) for below in {room, *rooms[room]}), f"{module} imports {name}"


def test_nothing_outside_methods_and_configs_names_a_method():
    for path in PACKAGE.rglob("*.py"):
        if "methods" not in path.parts and path.name != "__init__.py":
            names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
            assert not names & set(METHODS), path
