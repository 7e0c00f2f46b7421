"""Every key of configs/base.py has an effect that can be seen, and nothing but the config has."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from configs import base
from cskd_tf.runs import strategies
from cskd_tf.runs.config import Config
from cskd_tf.runs.json_files import flatten
from tests.runs.effects import (
    batches,
    callbacks_of_fit,
    class_weight,
    determinism,
    ece,
    exported,
    first_weights,
    fitted,
    images,
    licence,
    needed,
    of_built,
    opset,
    optimizer,
    outcome,
    parts_of,
    rates,
    size_of,
    trained_runs,
    transformed,
    weights,
)
from tests.runs.helpers import config_of
from tests.selection import quick

FOLDER = {
    "data.source.name": "image_folder",
    "data.source.path": "PHOTOS",
    "data.split.train_per_class": 0,
    "batch_size": 4,
}
UNEVEN = {"data.split.train_per_class": 0, "data.split.test_fraction": 0.9}  # images per class
COLOUR = {
    **FOLDER, "data.source.channels": 3, "data.augment.mean": (0.5, 0.5, 0.5), "data.augment.std": (0.5, 0.5, 0.5),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Case:
    """How the effect of a key is seen.

    Attributes:
        value: another one than in `SMALL` and `given`.
        observe: what has to differ, from the config.
        given: other keys, on both sides.
        along: other keys that have to change with this one.
    """

    value: Any
    observe: Callable[[Config], Any]
    given: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    along: Mapping[str, Any] = dataclasses.field(default_factory=dict)


CASES = {
    "seed": Case(1, weights),
    "epochs": Case(5, of_built(lambda built: built.training_data().epochs)),
    "batch_size": Case(8, of_built(lambda built: built.steps_per_epoch)),
    "gradient_accumulation_steps": Case(2, of_built(lambda built: (parts_of(built), built.distribution.parts))),
    "steps_per_execution": Case(3, of_built(lambda built: built.model.steps_per_execution)),
    "jit_compile": Case("on", of_built(lambda built: built.model.jit_compile)),
    "precision": Case("mixed_bfloat16", of_built(lambda built: built.model.network.compute_dtype)),
    "strategy": Case("mirrored", of_built(lambda built: built.model.distribute_strategy.num_replicas_in_sync)),
    "deterministic": Case(True, determinism),
    "baseline": Case(True, trained_runs),
    "log_images": Case(1, callbacks_of_fit, given={"epochs": 1}),
    "loggers": Case(("nowhere",), trained_runs),
    "profile_steps": Case(1, callbacks_of_fit),
    "verbose": Case(2, trained_runs),
    "methods": Case(({"name": "PSKD"},), of_built(lambda built: [type(each).__name__ for each in built.model.methods])),
    "class_weights.scheme": Case("inverse", class_weight, given=UNEVEN),
    "class_weights.beta": Case(0.5, class_weight, given={**UNEVEN, "class_weights.scheme": "effective"}),
    "data.source.name": Case(
        "image_folder", size_of("train"), given={"data.split.train_per_class": 0, "batch_size": 4},
        along={"data.source.path": "PHOTOS"},
    ),
    "data.source.path": Case(
        "PHOTOS/test", size_of("train"), given={**FOLDER, "data.split.test_fraction": 0.3, "batch_size": 2}
    ),
    "data.source.archive": Case("other.zip", outcome, given=FOLDER),
    "data.source.channels": Case(
        3, of_built(lambda built: built.model.network.input_shape), given=FOLDER,
        along={key: COLOUR[key] for key in ("data.augment.mean", "data.augment.std")},
    ),
    "data.source.class_levels": Case(2, outcome, given=FOLDER),
    "data.source.groups": Case("nope.txt", outcome),
    "data.source.licence": Case("CC0", of_built(licence)),
    "data.source.memory": Case(0.0, of_built(lambda built: type(built.splits["train"]).__name__), given=FOLDER),
    "data.split.train": Case(
        "test", size_of("train"), given={**FOLDER, "batch_size": 1}, along={"data.split.test": "train"}
    ),
    "data.split.val": Case("test", outcome, given=FOLDER),
    "data.split.test": Case(
        "train", size_of("test"), given={**FOLDER, "batch_size": 1}, along={"data.split.train": "test"}
    ),
    "data.split.seed": Case(1, images),
    "data.split.test_fraction": Case(0.8, size_of("test")),
    "data.split.validation_fraction": Case(0.3, size_of("val")),
    "data.split.train_per_class": Case(5, size_of("train")),
    "data.augment.image_size": Case(9, transformed),
    "data.augment.crop": Case("none", transformed),
    "data.augment.padding": Case(3, transformed),
    "data.augment.flip": Case(True, transformed),
    "data.augment.color_jitter": Case(0.5, transformed, given=COLOUR),
    "data.augment.lighting": Case(0.5, transformed, given=COLOUR),
    "data.augment.layers": Case(({"name": "RandomFlip"},), transformed),
    "data.augment.short_side": Case(10, transformed),
    "data.augment.mean": Case((0.4,), transformed),
    "data.augment.std": Case((0.4,), transformed),
    "data.pairing.balanced": Case(True, batches),
    "data.pairing.exclude_self": Case(True, batches),
    "data.pairing.replica_local": Case(True, batches, given={"strategy": "mirrored"}),
    "network.name": Case("preact_resnet18", of_built(lambda built: len(built.model.network.weights))),
    "network.width": Case(3, of_built(lambda built: built.model.network.count_params())),
    "network.embedding_layer": Case(
        "stage3_block1_conv2", of_built(lambda built: built.predict("val").embeddings.shape)
    ),
    "network.synchronized": Case(
        True, of_built(lambda built: [getattr(layer, "synchronized", None) for layer in built.model.network.layers])
    ),
    "network.weights": Case("trained.keras", first_weights),
    "network.frozen_epochs": Case(1, callbacks_of_fit, given={"epochs": 1}),
    "optimizer.name": Case("AdamW", of_built(lambda built: type(built.model.optimizer).__name__)),
    "optimizer.arguments": Case({"beta_2": 0.5}, optimizer, given={"optimizer.name": "Lion"}),
    "optimizer.decay_vectors": Case(False, optimizer),
    "optimizer.layer_decay": Case(0.5, optimizer),
    "optimizer.ema_momentum": Case(0.9, of_built(lambda built: built.model.average and built.model.average.momentum)),
    "optimizer.momentum": Case(0.5, optimizer),
    "optimizer.weight_decay": Case(0.5, optimizer),
    "optimizer.nesterov": Case(True, optimizer),
    "optimizer.clip_norm": Case(0.5, optimizer),
    "schedule.name": Case("cosine", rates),
    "schedule.learning_rate": Case(0.2, rates),
    "schedule.milestones": Case((0.25,), rates),
    "schedule.factor": Case(0.5, rates),
    "schedule.warmup_epochs": Case(1, rates),
    "evaluation.batch_size": Case(7, of_built(lambda built: next(iter(built.evaluation_data("val")))[1].shape)),
    "evaluation.ece_bins": Case(3, of_built(ece)),
    "export.enabled": Case(False, exported),
    "export.directory": Case("elsewhere", exported),
    "export.temperature": Case("off", of_built(fitted)),
    "export.coverage": Case(0.5, of_built(fitted)),
    "export.formats": Case(("litert",), needed),
    "export.opset": Case(14, of_built(opset)),
}  # fmt: skip


def same(one, two) -> bool:
    """Whether nested lists of arrays and plain values are equal."""
    if isinstance(one, list) and isinstance(two, list):
        return len(one) == len(two) and all(same(*pair) for pair in zip(one, two, strict=True))
    if hasattr(one, "numpy") or isinstance(one, np.ndarray):
        return np.array_equal(one, two)
    return one == two


def test_every_key_has_a_case():
    assert set(CASES) == set(flatten(base.get_config().to_dict()))


_seen: dict[tuple[Callable, str], Any] = {}


def seen_before(observe, given, *, folder):
    """What is seen of the config as given; once for the cases that begin alike, of which no files are read."""
    name = observe, repr(sorted(given.items()))
    if name in _seen:
        return _seen[name]
    one, again = (observe(config_of(given, folder=folder)) for _ in range(2))
    assert same(one, again), "what is seen must follow from the config alone"
    if "PHOTOS" not in name[1]:
        _seen[name] = one
    return one


# Of what is about something else than the network, which takes most of the time to be made.
OTHER_NETWORK = {"network.name": "tests.runs.helpers:small_network"}


# What takes seconds to be seen.
THOROUGH = {
    "baseline", "verbose", "loggers", "log_images", "export.directory", "export.enabled", "export.opset",
    "profile_steps", "gradient_accumulation_steps", "class_weights.scheme", "class_weights.beta",
    "data.source.archive", "data.source.channels", "data.source.class_levels", "data.source.memory",
    "data.source.name", "data.source.path", "data.split.train", "data.split.val", "data.split.test",
    "data.augment.color_jitter", "data.augment.lighting", "data.pairing.balanced", "data.pairing.replica_local",
    "data.pairing.exclude_self", "data.augment.image_size", "evaluation.batch_size",
    "network.embedding_layer", "network.frozen_epochs", "network.name", "network.synchronized", "network.weights",
    "network.width", "epochs", "export.coverage", "export.temperature", "data.source.licence", "data.source.groups",
    "steps_per_execution", "jit_compile", "deterministic", "optimizer.arguments", "data.augment.crop", "strategy",
    "optimizer.ema_momentum", "evaluation.ece_bins", "data.split.seed",
}  # fmt: skip


@pytest.mark.parametrize("key", quick(CASES, *(CASES.keys() - THOROUGH)))
def test_a_key_has_an_effect(key, image_folder, two_replicas, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(strategies.STRATEGIES, "mirrored", lambda: two_replicas)
    case = CASES[key]
    given = case.given if key.startswith("network.") else {**OTHER_NETWORK, **case.given}
    after = config_of({**given, key: case.value, **case.along}, folder=image_folder)
    assert not same(seen_before(case.observe, given, folder=image_folder), case.observe(after))
