"""Which room of a package imports which, and the floors that follow, read from the source: nothing is loaded."""

import ast
import collections
import pathlib
from collections.abc import Collection, Iterator, Mapping


def _module(path: pathlib.Path, package: pathlib.Path) -> str:
    """The dotted name below the package. Example: `cskd_tf/data/__init__.py` is `data`."""
    parts = path.relative_to(package).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _statements(tree: ast.AST, package: str) -> Iterator[tuple[str, str | None, str]]:
    """`(module below the package, name taken from it or None, name in the file)` of each import of the package."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] == package:
            module = node.module.removeprefix(package).removeprefix(".")
            yield from ((module, alias.name, alias.asname or alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith(f"{package}."):
                    yield alias.name.removeprefix(f"{package}."), None, alias.asname or alias.name


class Package:
    """The files and imports of a package.

    Args:
        path: its folder.
        rooms: names of rooms. A file belongs to the room with the longest name that fits; what fits none is a room of
            its own.

    Attributes:
        files: the names of the modules of each room.
        imports: of each room, how often its files import modules of each other room.
    """

    def __init__(self, path: pathlib.Path, rooms: Collection[str]):
        self._name, self._rooms = path.name, rooms
        self._trees = {_module(each, path): ast.parse(each.read_text()) for each in sorted(path.rglob("*.py"))}
        self._fronts = {module for module, tree in self._trees.items() if self._is_front(module, tree)}
        self.files: dict[str, list[str]] = {}
        for module in self._trees:
            if module not in self._fronts:
                self.files.setdefault(self._room(module), []).append(module)
        self.imports: dict[str, collections.Counter] = {room: collections.Counter() for room in self.files}
        for room, modules in self.files.items():
            for module in modules:
                for other in sorted(self._imported(self._trees[module])):
                    if self._room(other) != room:
                        self.imports[room][self._room(other)] += 1

    def _room(self, module: str) -> str:
        """The room that a module lies in."""
        known = [room for room in self._rooms if module == room or module.startswith(f"{room}.")]
        return max(known, key=len) if known else module.rpartition(".")[0] or module

    def _is_front(self, module: str, tree: ast.Module) -> bool:
        """Whether a file outside of all rooms only hands on names of others, as `cskd_tf/data/__init__.py` does."""
        for node in tree.body:
            assigned = node.targets[0] if isinstance(node, ast.Assign) else None
            special = isinstance(assigned, ast.Name) and assigned.id.startswith("__")
            if not special and not isinstance(node, (ast.Import, ast.ImportFrom, ast.Expr)):
                return False
        return self._room(module) not in self._rooms and any(_statements(tree, self._name))

    def _imported(self, tree: ast.AST) -> set[str]:
        """The modules that a file imports; of a front, those whose names it uses."""
        found = set()
        for module, name, here in _statements(tree, self._name):
            inner = f"{module}.{name}".removeprefix(".") if name else module
            if inner in self._trees and inner not in self._fronts:
                found.add(inner)
            elif inner in self._fronts:
                used = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute))
                for node in used:
                    if isinstance(node.value, ast.Name) and node.value.id == here:
                        found |= self._behind(inner, node.attr)
            elif module in self._fronts:
                found |= self._behind(module, name)
            elif module in self._trees:
                found.add(module)
        return found

    def _behind(self, front: str, wanted: str) -> set[str]:
        """The module that a front's name comes from."""
        for module, name, here in _statements(self._trees[front], self._name):
            if here == wanted:
                inner = f"{module}.{name}".removeprefix(".")
                if inner in self._fronts or module in self._fronts:
                    return set()
                return {inner if inner in self._trees else module}
        return set()


def reached(room: str, imports: Mapping[str, Mapping[str, int]]) -> set[str]:
    """Every room that `room` needs, by way of others too; itself only in a circle."""
    found, left = set(), list(imports[room])
    while left:
        other = left.pop()
        if other not in found:
            found.add(other)
            left.extend(imports[other])
    return found


def floors(imports: Mapping[str, Mapping[str, int]], *, ground: set[str]) -> dict[str, int]:
    """The floor of each room: 0 for `ground`, else one above the highest room that it imports, circles left out."""
    needed = {room: reached(room, imports) for room in imports}
    found: dict[str, int] = dict.fromkeys(sorted(ground), 0)
    for room in sorted(imports, key=lambda each: (len(needed[each]), each)):
        if room not in found:
            below = [found[other] for other in imports[room] if room not in needed[other] and other in found]
            found[room] = 1 + max(below, default=0)
    return found


def count(number: int, word: str) -> str:
    """A number of things. Example: `1 file`, `24 files`."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def listing(package: Package) -> list[str]:
    """What each room imports, the lowest first. Example: `evaluation: imports errors 2, files 1 (24 files)`."""
    found = floors(package.imports, ground=set())
    lines = []
    for room in sorted(found, key=lambda each: (found[each], each)):
        others = ", ".join(f"{other} {count}" for other, count in sorted(package.imports[room].items()))
        lines.append(f"{room}: imports {others or 'nothing'} ({count(len(package.files[room]), 'file')})")
    return lines
