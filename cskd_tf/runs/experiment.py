"""From a config to everything a run consists of: data, transforms, network, methods, model.

All input is checked here, before any work starts.
"""

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from cskd_tf import data, methods, networks
from cskd_tf.data.batches.pairing import count_steps
from cskd_tf.data.batches.pipeline import check_batches
from cskd_tf.data.images.transforms import Transform
from cskd_tf.data.sources.reading import unreadable_named
from cskd_tf.evaluation.groups import group_error
from cskd_tf.evaluation.neighbours import alone_in_class
from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.networks.depth import layer_rates
from cskd_tf.runs import precision, strategies, teachers
from cskd_tf.runs.config import Config
from cskd_tf.training import optimizers, schedules
from cskd_tf.training.accumulation import check_accumulation
from cskd_tf.training.collector import Collector
from cskd_tf.training.compiling import check_jit, check_steps
from cskd_tf.training.distiller import SelfDistiller
from cskd_tf.training.inputs import check_weighable
from cskd_tf.training.workers import Workers

# What `runs.config.ScheduleConfig.name` can be, and what makes each.
SCHEDULES: dict[str, Callable[..., Any]] = {
    "step": schedules.step_schedule,
    "cosine": schedules.cosine_schedule,
    "constant": schedules.constant_schedule,
}
Chosen = Sequence[methods.Mixing | methods.Head | methods.Method]  # as `methods.build` makes them
JIT_COMPILE: dict[str, bool | str] = {"auto": "auto", "on": True, "off": False}  # as Keras takes them


@dataclasses.dataclass
class Experiment:
    """What a config describes, built and compiled.

    Attributes:
        config: what it was built from, with the precision that was chosen.
        splits: the sources `train`, `test` and, but for a `validation_fraction` of 0, `val`.
        training_transform: from raw images to the network's input, at random.
        evaluation_transform: the same without randomness.
        model: compiled, on its strategy.
        collector: of the model's predictions.
        distribution: among whom batches are split.
        steps_per_epoch: training batches.
    """

    config: Config
    splits: dict[str, data.Source]
    training_transform: Transform
    evaluation_transform: Transform
    model: SelfDistiller
    collector: Collector
    distribution: data.Distribution
    steps_per_epoch: int

    @property
    def workers(self) -> Workers:
        """The processes that run this experiment together."""
        return self.model.workers

    def training_data(self) -> data.PairedDataset:
        """All epochs."""
        options = {**self.model.data_options, "distribution": self.distribution}
        return data.paired_dataset(
            self.splits["train"],
            batch_size=self.config.batch_size,
            seed=self.config.seed,
            epochs=self.config.epochs,
            augment=self.training_transform,
            clean=self.evaluation_transform,
            pairing=self.config.data.pairing,
            **options,
        )

    @property
    def class_weight(self) -> dict[int, float] | None:
        """What each class weighs in training, as `fit` takes it."""
        weights = self.config.class_weights
        return weights.of(self.splits["train"].labels) if weights.scheme else None

    @property
    def evaluation_splits(self) -> tuple[str, ...]:
        """Those with metrics of their own, `val` (where there are such images) and `test`; the first, each epoch."""
        return tuple(split for split in self.splits if split != "train")

    def predict(self, split: str) -> Predictions:
        """Predictions of a split under the weights that the model has now; names images that cannot be decoded."""
        with unreadable_named({split: self.splits[split]}):
            return self.predict_images(self.splits[split])

    def predict_images(self, source: data.Source) -> Predictions:
        """Predictions of the images of any source under the weights that the model has now."""
        return self.collector.collect(self._evaluation_data(source))

    def metrics(self, predictions: Predictions) -> dict[str, Any]:
        """All metrics, and beside the ECE the number of its bins; `group_error` where the classes have groups.

        `recall_left_out` says how many images are alone in their class, which R@1 leaves out.
        """
        bins = self.config.evaluation.ece_bins
        results = {**predictions.metrics(ece_bins=bins), "ece_bins": bins}
        results["recall_left_out"] = alone_in_class(predictions.labels)
        if groups := self.splits["train"].class_groups:
            results["group_error"] = group_error(predictions.logits, predictions.labels, groups=groups)
        return results

    def evaluation_data(self, split: str) -> tf.data.Dataset:
        """Every image of a split once."""
        return self._evaluation_data(self.splits[split])

    def _evaluation_data(self, source: data.Source) -> tf.data.Dataset:
        batch_size = self.config.evaluation.batch_size
        return data.evaluation_dataset(source, batch_size=batch_size, transform=self.evaluation_transform)


def network_arguments(config: Config) -> dict[str, Any]:
    """What `networks.check` and `networks.build` take of a config, but for the classes."""
    size = config.data.augment.image_size
    return {
        "name": config.network.name,
        "input_shape": (size, size, config.data.source.channels),
        "width": config.network.width or None,
        "synchronized": config.network.synchronized,
        "weights": config.network.weights,
    }


def build_network(config: Config, *, num_classes: int) -> keras.Model:
    """The network of a config; its first weights follow from the config's seed alone. Errors as of `networks.build`."""
    keras.utils.set_random_seed(config.seed)
    return networks.build(
        **network_arguments(config),
        num_classes=num_classes,
        normalization=(config.data.augment.mean, config.data.augment.std),
        embedding_layer=config.network.embedding_layer or None,
    )


def prepare(config: Config) -> Experiment:
    """Loads the data, builds the model and checks everything.

    Raises:
        UserError: whatever cannot be trained: unknown names (the known ones are listed), values out of range, data
            that cannot be used.
    """
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    strategy = strategies.make(config.strategy)
    if config.precision == "auto":
        config = dataclasses.replace(config, precision=precision.chosen(strategy))
    keras.config.set_dtype_policy(config.precision)
    # First what needs no data, because to get those may be hours of downloading.
    with strategy.scope():
        chosen = _build_methods(config)
    composition = check_without_data(config, chosen, replicas=strategy.num_replicas_in_sync)
    _warn_of_rate(config)
    teachers.warn_of_other_pixels(config)
    training_transform, evaluation_transform = data.build_transforms(config.data.augment)
    splits = data.load_splits(config.data.source, config.data.split)
    size, distribution = len(splits["train"].labels), _distribution(config, strategy)
    needs, pairing = composition.needs, config.data.pairing
    check_batches(size, batch_size=config.batch_size, needs=needs, pairing=pairing, distribution=distribution)
    steps = count_steps(size, batch_size=config.batch_size, pairing=pairing, distribution=distribution)
    check_steps(steps, steps_per_execution=config.steps_per_execution)
    teachers.check(config, class_names=splits["train"].class_names)
    with strategy.scope():
        model = _build_model(config, chosen, train=splits["train"], steps_per_epoch=steps)
    return Experiment(
        config=config,
        splits=splits,
        training_transform=training_transform,
        evaluation_transform=evaluation_transform,
        model=model,
        collector=Collector(model),
        distribution=distribution,
        steps_per_epoch=steps,
    )


def check_without_data(config: Config, chosen: Chosen, *, replicas: int) -> methods.Composition:
    """What can be told of a config before its data are there, by the methods that were built of it.

    Raises:
        UserError: what cannot be trained.
    """
    composition = methods.Composition(chosen)
    check_accumulation(config.gradient_accumulation_steps, composition=composition)
    if config.class_weights.scheme:
        check_weighable(composition)
    synchronized = ["network.synchronized=True"] if config.network.synchronized else []
    exchanging = [*composition.needing_whole_batches, *synchronized]
    check_jit(JIT_COMPILE[config.jit_compile], replicas=replicas, exchanging=exchanging)
    networks.check(**network_arguments(config), num_classes=2)
    _schedule(config, steps_per_epoch=1)
    optimizers.check(config.optimizer.name, arguments=config.optimizer.arguments)
    data.build_transforms(config.data.augment)
    return composition


def _build_methods(config: Config) -> Chosen:
    """The methods of a config, where a teacher may be named by its workdir."""
    _seed_methods(config)
    return methods.build([teachers.by_file(method) for method in config.methods])


def _schedule(config: Config, *, steps_per_epoch: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """The learning rates of a config. Errors as of the functions in `SCHEDULES`."""
    settings = dataclasses.asdict(config.schedule)
    make = SCHEDULES[settings.pop("name")]
    taken = inspect.signature(make).parameters
    settings = {key: value for key, value in settings.items() if key in taken}
    return make(**settings, epochs=config.epochs, steps_per_epoch=steps_per_epoch)


def _warn_of_rate(config: Config) -> None:
    """Says so where the learning rate is one of SGD, as the default is, and the optimizer another one."""
    name, rate = config.optimizer.name, config.schedule.learning_rate
    if usual := optimizers.unusual_rate(name, learning_rate=rate):
        logging.warning(
            "schedule.learning_rate=%g is far too high for most networks with optimizer.name=%s; usual is %s",
            rate, name, usual,
        )  # fmt: skip


def _build_model(
    config: Config,
    chosen: Chosen,
    *,
    train: data.Source,
    steps_per_epoch: int,
) -> SelfDistiller:
    """The model, compiled, with the variables of its optimizer."""
    network = build_network(config, num_classes=len(train.class_names))
    _seed_methods(config)
    model = SelfDistiller(
        network,
        chosen,
        num_examples=len(train.labels),
        embedding_layer=config.network.embedding_layer or None,
    )
    model.compile(
        optimizer=_optimizer(config, model, steps_per_epoch=steps_per_epoch),
        ema_momentum=config.optimizer.ema_momentum,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        steps_per_execution=config.steps_per_execution,
        jit_compile=JIT_COMPILE[config.jit_compile],
    )
    model.optimizer.build(model.trainable_variables)
    return model


def _optimizer(config: Config, model: SelfDistiller, *, steps_per_epoch: int) -> optimizers.Tuned:
    """The optimizer of a config, with a learning rate for each of the model's variables where they have their own."""
    settings = dataclasses.asdict(config.optimizer)
    del settings["ema_momentum"]
    factor = settings.pop("layer_decay")
    rates = None
    if factor < 1:
        named = config.network.embedding_layer or None
        rates = layer_rates(model.network, model.trainable_variables, factor=factor, embedding_layer=named)
        logging.info("layer_decay=%g: from %.2g of the learning rate in the first block to 1", factor, min(rates))
    options: dict[str, Any] = {"rates": rates, "restarts": bool(config.network.frozen_epochs)}
    schedule = _schedule(config, steps_per_epoch=steps_per_epoch)
    return optimizers.make(settings.pop("name"), schedule, **settings, **options)


def _seed_methods(config: Config) -> None:
    """Lets what methods own start from the config's seed, whatever was built or drawn before.

    From a seed of their own: from the network's, their layers would begin with the same numbers as the network's.
    """
    keras.utils.set_random_seed(int(np.random.SeedSequence([config.seed, 1]).generate_state(1)[0]))


def _distribution(config: Config, strategy: tf.distribute.Strategy) -> data.Distribution:
    """Among whom the batches of a run are split; a TPU needs all of one size."""
    return data.Distribution(
        num_replicas=strategy.num_replicas_in_sync,
        static_shapes=config.strategy == "tpu",
        parts=config.gradient_accumulation_steps,
    )
