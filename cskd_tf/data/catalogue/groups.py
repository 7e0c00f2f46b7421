"""Groups of classes that a file names, for data sets that bring none."""

import pathlib
from collections.abc import Sequence

from cskd_tf.errors import UserError


def read_groups(file: str | pathlib.Path, *, class_names: Sequence[str]) -> list[str]:
    r"""The group of each class, from a file of lines `class<TAB>group`; classes that are not asked for may be there.

    Example:
        >>> _ = pathlib.Path("groups.txt").write_text("beagle\tdog\nant\tinsect\npoodle\tdog\n")
        >>> read_groups("groups.txt", class_names=["ant", "beagle"])
        ['insect', 'dog']

    Args:
        file: UTF-8; empty lines are passed over.
        class_names: whose groups are asked for.

    Raises:
        UserError: no such file, a line that is no class and group, a class with two groups or with none, or a single
            group of all.
    """
    path = pathlib.Path(file).expanduser()
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        expected = "Expected data.source.groups to name a file of lines class<TAB>group"
        raise UserError(f"{expected}. Received: {error}") from None
    groups: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name, _, group = (part.strip() for part in line.partition("\t"))
        if not (name and group) or "\t" in group:
            raise UserError(f"Expected a class, a tab and its group. Received: {path}, line {number}: {line!r}")
        if groups.setdefault(name, group) != group:
            received = f"{path}, line {number}: {group!r} for {name!r}, which was in {groups[name]!r}"
            raise UserError(f"Expected one group of each class. Received: {received}")
    if missing := [name for name in class_names if name not in groups]:
        raise UserError(
            f"Expected a group of each of the {len(class_names)} classes in {path}. "
            f"Received: none of {len(missing)}: {missing[:5]}"
        )
    found = [groups[name] for name in class_names]
    if len(set(found)) < 2:
        raise UserError(f"Expected at least two groups of classes in {path}. Received: {sorted(set(found))}")
    return found
