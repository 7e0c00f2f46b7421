"""What train, val and test of a folder or a table are called, and what must not be called so."""

import pathlib

from absl import logging

from cskd_tf.errors import UserError

SPLIT_NAMES = {"train", "training", "val", "valid", "validation", "test", "testing"}


def name_left_out(root: pathlib.Path, *, known: list[str]) -> None:
    """Warns of folders beside those of splits, which nobody asked for."""
    others = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and entry.name not in known)
    if others := [name for name in others if not name.startswith(".")]:
        logging.warning("%s: folders beside %s are left out: %s", root, known, others[:10])


def refuse_one_for_two(names: dict[str, str]) -> None:
    """What is tested on must not be what was trained on, by its name."""
    if len(set(names.values())) < len(names):
        raise UserError(
            f"Expected images of their own in train, val and test, as data.split names them. Received: {names}"
        )


def refuse_other_split_names(root: pathlib.Path, *, known: list[str]) -> None:
    """A folder `validation` beside `train` must be neither overlooked nor taken for a class."""
    names = {entry.name for entry in root.iterdir() if entry.is_dir()} - set(known)
    if similar := sorted(name for name in names if name.casefold() in SPLIT_NAMES):
        meant = next(split for split in ("train", "val", "test") if similar[0].casefold().startswith(split))
        raise UserError(
            f"Expected the splits in {root} to be called {known}, or as data.split.train, data.split.val and "
            f"data.split.test say: --config.data.split.{meant}={similar[0]}. Received: {similar}"
        )
