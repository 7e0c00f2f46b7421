"""From a config to everything a run consists of: data, transforms, network, methods, model.

All input is checked here, before any work starts.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from cskd_tf import data, methods, networks
from cskd_tf.data.batches.pairing import count_steps
from cskd_tf.data.batches.pipeline import check_batches
from cskd_tf.data.images.transforms import Transform
from cskd_tf.errors import UserError
from cskd_tf.evaluation.metrics import alone_in_class, group_error
from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.runs.workdir import CLASSIFIER, flatten
from cskd_tf.training import optimizers
from cskd_tf.training.collector import Collector
from cskd_tf.training.distiller import SelfDistiller

POSITIVE_KEYS = ("epochs", "batch_size", "data.class_levels", "evaluation.batch_size", "evaluation.ece_bins")
NON_NEGATIVE_KEYS = (
    "seed",
    "data.split_seed",
    "data.train_per_class",
    "data.padding",
    "data.short_side",
    "data.memory",
    "network.width",
)


def _mirrored() -> tf.distribute.Strategy:
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def _tpu() -> tf.distribute.Strategy:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver()
    except ValueError as error:
        raise UserError(f"Expected a TPU for strategy=tpu. Received: {error}") from None
    tf.config.experimental_connect_to_cluster(resolver)
    tf.tpu.experimental.initialize_tpu_system(resolver)
    return tf.distribute.TPUStrategy(resolver)


STRATEGIES = {"single": tf.distribute.get_strategy, "mirrored": _mirrored, "tpu": _tpu}
TRANSFORM_KEYS = (
    "crop",
    "image_size",
    "short_side",
    "padding",
    "flip",
    "color_jitter",
    "lighting",
    "mean",
    "std",
)
PAIRING_KEYS = ("balanced", "exclude_self", "replica_local")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


def as_plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config as JSON holds it: plain dictionaries, lists, numbers and strings."""
    return json.loads(config.to_json() if hasattr(config, "to_json") else json.dumps(config))


def check_config(config: Mapping[str, Any], *, reference: Mapping[str, Any]) -> None:
    """Refuses keys that `reference` (configs/base.py) lacks, keys it has beyond, and values of another type.

    Raises:
        ValueError: with the keys, what was expected and what came.
    """
    given, known = (
        flatten({key: value for key, value in as_plain(each).items() if key != "methods"})
        for each in (config, reference)
    )
    if unknown := sorted(given.keys() - known.keys()):
        raise UserError(f"Unknown config keys; expected those of configs/base.py. Received: {unknown}")
    if missing := sorted(known.keys() - given.keys()):
        raise UserError(f"Expected every config key of configs/base.py. Received: a config without {missing}")
    for key, value in given.items():
        numeric = isinstance(known[key], float) and isinstance(value, int) and not isinstance(value, bool)
        if type(value) is not type(known[key]) and not numeric:
            raise UserError(f"Expected {key} to be {type(known[key]).__name__}. Received: {key}={value!r}")
        if isinstance(value, list) and not all(type(item) in (int, float) for item in value):
            raise UserError(f"Expected {key} to hold numbers. Received: {key}={value!r}")
    for keys, least in ((POSITIVE_KEYS, 1), (NON_NEGATIVE_KEYS, 0)):
        for key in keys:
            if given[key] < least:
                raise UserError(f"Expected {key} to be at least {least}. Received: {key}={given[key]}")
    if config["precision"] not in PRECISIONS:
        raise UserError(f"Unknown precision; expected one of {PRECISIONS}. Received: {config['precision']!r}")
    if config["strategy"] not in STRATEGIES:
        raise UserError(f"Unknown strategy; expected one of {sorted(STRATEGIES)}. Received: {config['strategy']!r}")


@dataclasses.dataclass
class Experiment:
    """What a config describes, built and compiled.

    Attributes:
        config: plain, as in `config.json`.
        splits: the sources `train`, `test` and, but for a `validation_fraction` of 0, `val`.
        training_transform: from raw images to the network's input, at random.
        evaluation_transform: the same without randomness.
        model: compiled, on its strategy.
        collector: of the model's predictions.
        pairing: what `paired_dataset` has to know beyond the images.
        steps_per_epoch: batches.
    """

    config: dict[str, Any]
    splits: dict[str, data.Source]
    training_transform: Transform
    evaluation_transform: Transform
    model: SelfDistiller
    collector: Collector
    pairing: dict[str, Any]
    steps_per_epoch: int

    def training_data(self) -> data.PairedDataset:
        """All epochs."""
        return data.paired_dataset(
            self.splits["train"],
            seed=self.config["seed"],
            epochs=self.config["epochs"],
            augment=self.training_transform,
            clean=self.evaluation_transform,
            **{**self.model.data_options, **self.pairing},
        )

    @property
    def evaluation_splits(self) -> tuple[str, ...]:
        """Those with metrics of their own; the first is evaluated each epoch. Example: `("val", "test")`."""
        return tuple(split for split in self.splits if split != "train")

    def predict(self, split: str) -> Predictions:
        """Predictions of a split under the weights that the model has now."""
        return self.collector.collect(self.evaluation_data(split))

    def metrics(self, predictions: Predictions) -> dict[str, Any]:
        """All metrics, and beside the ECE the number of its bins; `group_error` where the classes have groups.

        `recall_left_out` says how many images are alone in their class, which R@1 leaves out.
        """
        bins = self.config["evaluation"]["ece_bins"]
        results = {**predictions.metrics(ece_bins=bins), "ece_bins": bins}
        results["recall_left_out"] = alone_in_class(predictions.labels)
        if groups := self.splits["train"].class_groups:
            results["group_error"] = group_error(predictions.logits, predictions.labels, groups=groups)
        return results

    def evaluation_data(self, split: str) -> tf.data.Dataset:
        """Every image of a split once."""
        batch_size = self.config["evaluation"]["batch_size"]
        return data.evaluation_dataset(self.splits[split], batch_size=batch_size, transform=self.evaluation_transform)


def load_splits(config: Mapping[str, Any], **changes) -> dict[str, data.Source]:
    """The sources `train`, `test` and perhaps `val`; `changes` and errors as in `data.load_splits`."""
    others = (*TRANSFORM_KEYS, *PAIRING_KEYS)
    return data.load_splits(**{key: value for key, value in config["data"].items() if key not in others} | changes)


def build_network(config: Mapping[str, Any], *, num_classes: int) -> keras.Model:
    """The network of a config. Errors as of `networks.build`."""
    settings, data_settings = config["network"], config["data"]
    return networks.build(
        settings["name"],
        num_classes=num_classes,
        input_shape=(data_settings["image_size"], data_settings["image_size"], data_settings["channels"]),
        width=settings["width"] or None,
        synchronized=settings["synchronized"],
    )


def _with_teacher_file(method: Mapping[str, Any]) -> dict[str, Any]:
    """One entry of `config.methods`, where a teacher that is named by its workdir is named by the file in it."""
    teacher = method.get("teacher")
    if not isinstance(teacher, str) or not pathlib.Path(teacher).is_dir():
        return dict(method)
    file = pathlib.Path(teacher) / CLASSIFIER
    if not file.is_file():
        raise UserError(f"Expected the workdir of a finished run, with {CLASSIFIER}, as teacher. Received: {teacher}")
    return {**method, "teacher": str(file)}


def prepare(config: Mapping[str, Any]) -> Experiment:
    """Loads the data, builds the model and checks everything.

    Raises:
        ValueError: whatever cannot be trained: unknown names (the known ones are listed), values out of range, data
            that cannot be used.
    """
    config = as_plain(config)
    if config["deterministic"]:
        tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(config["seed"])
    keras.config.set_dtype_policy(config["precision"])
    settings, strategy = config["data"], STRATEGIES[config["strategy"]]()
    # Now, because what comes before the model may be hours of downloading.
    with strategy.scope():
        chosen = methods.build([_with_teacher_file(method) for method in config["methods"]])
    build_network(config, num_classes=2)
    if len(settings["mean"]) != settings["channels"]:
        raise UserError(
            f"Expected a mean for each of {settings['channels']} channels. Received: data.mean={settings['mean']}"
        )
    training_transform, evaluation_transform = data.build_transforms(**{key: settings[key] for key in TRANSFORM_KEYS})
    splits = load_splits(config)
    pairing = {
        "batch_size": config["batch_size"],
        "pairing": data.Pairing(**{key: settings[key] for key in PAIRING_KEYS}),
        "distribution": data.Distribution(
            num_replicas=strategy.num_replicas_in_sync, static_shapes=config["strategy"] == "tpu"
        ),
    }
    check_batches(len(splits["train"].labels), **pairing, needs=methods.Composition(chosen).needs)
    steps = count_steps(len(splits["train"].labels), **pairing)
    schedule = optimizers.step_schedule(**config["schedule"], epochs=config["epochs"], steps_per_epoch=steps)
    with strategy.scope():
        network = build_network(config, num_classes=len(splits["train"].class_names))
        model = SelfDistiller(
            network,
            chosen,
            num_examples=len(splits["train"].labels),
            embedding_layer=config["network"]["embedding_layer"] or None,
        )
        optimizer = optimizers.SGD(schedule, **config["optimizer"])
        model.compile(optimizer=optimizer)
        model.optimizer.build(model.trainable_variables)
    return Experiment(
        config=config,
        splits=splits,
        training_transform=training_transform,
        evaluation_transform=evaluation_transform,
        model=model,
        collector=Collector.of(model),
        pairing=pairing,
        steps_per_epoch=steps,
    )
