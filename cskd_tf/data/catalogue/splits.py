"""The training, validation and test splits of a data set, or of several side by side."""

import dataclasses
import os
from collections.abc import Mapping, Sequence

import numpy as np
from absl import logging

from cskd_tf.data.catalogue.datasets import (
    SourceOptions,
    SplitOptions,
    find_dataset,
    load_dataset,
    refuse_ignored,
)
from cskd_tf.data.catalogue.groups import read_groups
from cskd_tf.data.sources.base import Source
from cskd_tf.data.sources.caching import GIB, in_memory
from cskd_tf.data.sources.encoded import Concatenation
from cskd_tf.data.sources.single_images import name_single_images
from cskd_tf.errors import UserError

SPLITS = ("train", "val", "test")


def load_splits(
    source: SourceOptions, split: SplitOptions | None = None, *, check_files: bool = True, check_sizes: bool = True
) -> dict[str, Source]:
    """`{"train", "val", "test"}` of a data set, or of several side by side.

    What the data set does not bring itself is taken from the training images, by class, from the seed. With a
    `validation_fraction` of 0 no image is taken for validation, and there is no `"val"` where none is brought. Classes
    with a single training image are logged.

    Example:
        >>> splits = load_splits(SourceOptions(name="digits", channels=1), SplitOptions(validation_fraction=0.0))
        >>> {name: len(source.labels) for name, source in splits.items()}
        {'train': 1438, 'test': 359}

    Args:
        source: which data set.
        split: how it is split; by default `SplitOptions()`.
        check_files: see `ImageFolder`.
        check_sizes: whether to refuse what is too small to train and evaluate with; else splits that cannot be taken
            are left out.

    Raises:
        UserError: an unknown data set (the known ones are listed), or data that cannot be used.
    """
    split = SplitOptions() if split is None else split
    refuse_ignored(source.name.split("+"), source, split)
    parts = {}
    for number, part in enumerate(_parts_of(source)):
        unique = part.name if part.name not in parts else f"{part.name}_{number + 1}"
        parts[unique] = _split_part(part, split, check_files=check_files, check_sizes=check_sizes)
    splits = _side_by_side(parts)
    if split.train_per_class:
        chosen = first_of_each_class(splits["train"].labels, count=split.train_per_class, seed=split.seed)
        splits["train"] = splits["train"].subset(chosen)
    if check_sizes:
        _check_sizes(splits)
    if source.groups:
        groups = read_groups(source.groups, class_names=splits["train"].class_names)
        for images in splits.values():
            images.class_groups = groups
    left = int(source.memory * GIB)
    for name, images in splits.items() if left else ():
        splits[name], taken = in_memory(images, budget=left, name=name)
        left -= taken
    name_single_images(splits["train"], others={name: images for name, images in splits.items() if name != "train"})
    return splits


def _check_sizes(splits: Mapping[str, Source]) -> None:
    if len(splits["train"].class_names) < 2:
        raise UserError(f"Expected at least two classes. Received: {splits['train'].class_names}")
    for name, images in splits.items():
        if len(images.labels) < 2:
            key = {"val": ", of data.split.validation_fraction", "test": ", of data.split.test_fraction"}.get(name, "")
            raise UserError(
                f"Expected at least two images in each split, for R@1 to find neighbours. Received: one in {name}{key}"
            )


def _parts_of(source: SourceOptions) -> list[SourceOptions]:
    """Each of the data sets that `name` joins by `+`, with its own path and archive."""
    names = source.name.split("+")
    return [
        dataclasses.replace(
            source,
            name=name,
            path=_entry_of(source.path, number, key="path", names=names),
            archive=_entry_of(source.archive, number, key="archive", names=names),
        )
        for number, name in enumerate(names)
    ]


def _entry_of(value: str, number: int, *, key: str, names: Sequence[str]) -> str:
    """The entry of one of several data sets in a key that holds one for all, or one each, separated as in PATH."""
    count = len(names)
    values = value.split(os.pathsep) if count > 1 else [value]
    if len(values) not in (1, count):
        raise UserError(
            f"Expected data.source.{key} to hold one entry, or {count} with {os.pathsep!r} between, one per data set. "
            f"Received: {len(values)} in data.source.{key}={value!r}"
        )
    entry = values[number if len(values) > 1 else 0]
    if len(values) > 1 and entry and key not in find_dataset(names[number]).takes:
        raise UserError(
            f"Expected an empty entry for {names[number]} in data.source.{key}, which it does not take. "
            f"Received: {entry!r} in data.source.{key}={value!r}"
        )
    return entry


def _side_by_side(parts: dict[str, dict[str, Source]]) -> dict[str, Source]:
    """The splits of one data set, or those of several joined."""
    (first, *others) = parts.values()
    if any(set(part) != set(first) for part in others):
        without = [name for name, part in parts.items() if "val" not in part]
        raise UserError(
            "Expected validation images of each data set or of none; a data.split.validation_fraction above 0 takes "
            f"them. Received: validation_fraction=0, and none of {without}"
        )
    if not others:
        return dict(first)
    return {split: Concatenation({name: part[split] for name, part in parts.items()}) for split in first}


def _split_part(
    source: SourceOptions, split: SplitOptions, *, check_files: bool, check_sizes: bool
) -> dict[str, Source]:
    """All splits of one data set: its own, and what is taken from its training images."""
    splits = load_dataset(source, split, check_files=check_files)
    fractions = {"test": ("test", split.test_fraction), "val": ("validation", split.validation_fraction)}
    for part, (long_name, fraction) in fractions.items():
        if part in splits and fraction not in (0, getattr(SplitOptions, f"{long_name}_fraction")):
            logging.warning(
                "%s brings its %s images: data.split.%s_fraction=%g takes none",
                source.name,
                long_name,
                long_name,
                fraction,
            )
        if part not in splits and (part == "test" or fraction != 0):
            if not check_sizes and np.bincount(splits["train"].labels).max() < 2:
                continue
            stay, go = split_by_class(splits["train"].labels, fraction=fraction, seed=split.seed, name=long_name)
            splits[part] = splits["train"].subset(go)
            splits["train"] = splits["train"].subset(stay)
    return {part: splits[part] for part in SPLITS if part in splits}


def brings_validation(source: SourceOptions, split: SplitOptions) -> bool:
    """Whether a data set, or all of several side by side, bring validation images, so that none are taken."""
    return all("val" in load_dataset(part, split, check_files=False) for part in _parts_of(source))


def split_by_class(labels: np.ndarray, *, fraction: float, seed: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Takes `fraction` of each class away, at random, at least one image and leaving at least one.

    A class of a single image keeps it.

    Example: 10 images of each of 3 classes, of which 2 go.
        >>> labels = np.repeat([0, 1, 2], 10)
        >>> stay, go = split_by_class(labels, fraction=0.2, seed=0, name="test")
        >>> len(stay), np.bincount(labels[go]).tolist()
        (24, [2, 2, 2])

    Args:
        labels: int `[N]`.
        fraction: above 0 and below 1.
        seed: the same seed takes the same images.
        name: of the part that goes, for the error.

    Returns:
        Sorted indices of the images that stay and of those that go.

    Raises:
        UserError: a fraction out of range, or no class of two images.
    """
    if not 0 < fraction < 1:
        raise UserError(f"Expected {name}_fraction between 0 and 1. Received: {name}_fraction={fraction}")
    order, ranks = _shuffled_by_class(labels, seed=seed)
    counts = np.bincount(labels)
    shares = np.minimum(np.maximum(np.round(fraction * counts), 1), counts - 1).clip(0)
    if not shares.any():
        raise UserError(
            f"Expected a class of two images to take the {name} split from. "
            f"Received: {name}_fraction={fraction}, and single images of each class left"
        )
    goes = ranks < shares[labels[order]]
    return np.sort(order[~goes]), np.sort(order[goes])


def first_of_each_class(labels: np.ndarray, *, count: int, seed: int) -> np.ndarray:
    """`count` random images of each class, or all of them where it has fewer, as sorted indices."""
    order, ranks = _shuffled_by_class(labels, seed=seed)
    return np.sort(order[ranks < count])


def _shuffled_by_class(labels: np.ndarray, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The images sorted by class, shuffled within each, and the rank of each within its class."""
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    order = shuffled[np.argsort(labels[shuffled], kind="stable")]
    ranks = np.arange(len(labels)) - np.searchsorted(labels[order], labels[order])
    return order, ranks
