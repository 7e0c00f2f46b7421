"""Configs of runs that were trained before keys were renamed, or added."""

import copy
from collections.abc import Mapping
from typing import Any

# Keys of configs that runs were trained by before, and what they are called now.
RENAMED = {
    "data.name": "data.source.name",
    "data.path": "data.source.path",
    "data.archive": "data.source.archive",
    "data.channels": "data.source.channels",
    "data.class_levels": "data.source.class_levels",
    "data.memory": "data.source.memory",
    "data.train_split": "data.split.train",
    "data.val_split": "data.split.val",
    "data.test_split": "data.split.test",
    "data.split_seed": "data.split.seed",
    "data.test_fraction": "data.split.test_fraction",
    "data.validation_fraction": "data.split.validation_fraction",
    "data.train_per_class": "data.split.train_per_class",
    "data.image_size": "data.augment.image_size",
    "data.crop": "data.augment.crop",
    "data.padding": "data.augment.padding",
    "data.flip": "data.augment.flip",
    "data.color_jitter": "data.augment.color_jitter",
    "data.lighting": "data.augment.lighting",
    "data.short_side": "data.augment.short_side",
    "data.mean": "data.augment.mean",
    "data.std": "data.augment.std",
    "data.balanced": "data.pairing.balanced",
    "data.exclude_self": "data.pairing.exclude_self",
    "data.replica_local": "data.pairing.replica_local",
}
# Keys that configs did not have before, and what runs were computed with then; of an export, what the next one does.
ADDED = {
    "gradient_accumulation_steps": 1,
    "steps_per_execution": 1,
    "jit_compile": "auto",
    "log_images": 0,
    "class_weights": {"scheme": "", "beta": 0.999},
    "data.augment.layers": [],
    "data.source.groups": "",
    "data.source.licence": "",
    "network.weights": "",
    "network.frozen_epochs": 0,
    "optimizer.name": "SGD",
    "optimizer.arguments": {},
    "optimizer.decay_vectors": True,
    "optimizer.layer_decay": 1.0,
    "optimizer.ema_momentum": 0.0,
    "schedule.name": "step",
    "export.temperature": "auto",
    "export.coverage": 0.9,
    "loggers": (),
    "profile_steps": 0,
    "export.formats": [],
    "export.opset": 17,
}


def upgraded(values: Mapping[str, Any]) -> dict[str, Any]:
    """What a `config.json` holds, its keys called as they are now, with those that it could not have.

    Example:
        >>> new = upgraded({"seed": 1, "data": {"crop": "none"}})
        >>> new["seed"], new["data"], new["steps_per_execution"]
        (1, {'augment': {'crop': 'none', 'layers': []}, 'source': {'groups': '', 'licence': ''}}, 1)
    """
    result = copy.deepcopy(dict(values))
    for old, new in RENAMED.items():
        *groups, key = old.split(".")
        source: Any = result
        for group in groups:
            source = source.get(group) if isinstance(source, dict) else None
        if isinstance(source, dict) and key in source:
            _group_of(new, result)[new.rpartition(".")[2]] = source.pop(key)
    for key, value in ADDED.items():
        _group_of(key, result).setdefault(key.rpartition(".")[2], copy.deepcopy(value))
    return result


def _group_of(key: str, values: dict[str, Any]) -> dict[str, Any]:
    """The group that a dotted key is in, made where it is missing, or of neither form."""
    for group in key.split(".")[:-1]:
        if not isinstance(values.setdefault(group, {}), dict):
            values[group] = {}
        values = values[group]
    return values
