"""What can be seen of a config: of its data, its network, its training, its evaluation and its export."""

import dataclasses
import shutil

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import config as tensorflow_config  # nothing public tells of determinism

from cskd_tf.errors import UserError
from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.runs import experiment, export, served, train
from cskd_tf.runs.experiment import build_network
from cskd_tf.runs.workdir import Workdir
from cskd_tf.serving import saved_model
from tests.runs.helpers import config_of


def of_built(observe):
    """What can be seen of the built experiment."""
    return lambda config: observe(experiment.prepare(config))


def size_of(split):
    return of_built(lambda built: len(built.splits[split].labels))


def transformed(config):
    """Images in training and at evaluation; a colour each, brighter from left to right."""
    channels = config.data.source.channels
    images = np.random.default_rng(0).uniform(0, 255, (6, 14, 12, channels)).astype("float32")
    seeds = tf.constant(np.random.default_rng(1).integers(0, 2**31 - 1, (6, 2)), tf.int32)
    built = experiment.prepare(config)
    return [built.training_transform(images, seeds), built.evaluation_transform(images, seeds)]


def batches(config):
    """Image and partner of an epoch, not augmented, and the labels."""
    built = experiment.prepare(config)
    built.training_transform = None
    return [[batch["image"], batch["partner"], labels] for batch, labels in built.training_data().take(3)]


def rates(config):
    built = experiment.prepare(config)
    schedule = built.model.optimizer.get_config()["learning_rate"]
    steps = range(config.epochs * built.steps_per_epoch)
    assert schedule, "a schedule, and not a number"
    return [float(built.model.optimizer._learning_rate(step)) for step in steps]


def outcome(config):
    """The error of a config that is refused."""
    try:
        experiment.prepare(config)
    except UserError as error:
        return str(error)
    return "built"


def trained_runs(config):
    """Names of the workdirs that training goes through, and what is on the screen; or why there are none."""
    runs = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            train, "_train_run", lambda built, workdir, screen: runs.append((workdir.path.name, screen.verbose))
        )
        try:
            train.train(config, Workdir("run"))
        except UserError as error:
            return str(error)
    shutil.rmtree("run", ignore_errors=True)
    return runs


def told_to_fit(config):
    """The arguments that `fit` is given."""
    built, told = experiment.prepare(config), {}
    built.model.fit = lambda *_, **options: told.update(options)
    train.fit(built, Workdir("run"))
    return told


def callbacks_of_fit(config):
    """Which callbacks `fit` is given."""
    return [type(callback).__name__ for callback in told_to_fit(config)["callbacks"]]


def exported(config):
    """Where a finished run is exported to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saved_model, "difference_in_fresh_process", lambda *_: 0.0)
        patch.setattr(export.model_card, "write", lambda *_, **__: None)
        patch.setattr(train.evaluate, "evaluate_splits", lambda built, workdir: predictions(built, workdir) or {})
        for folder in ("run", config.export.directory):
            shutil.rmtree(folder, ignore_errors=True)
        workdir = Workdir("run")
        workdir.claim(config)
        train.finish(experiment.prepare(config), workdir)
    return workdir.metrics().get("saved_model")


def first_weights(config):
    """Weights of the network, where `trained.keras` is that of another seed."""
    build_network(dataclasses.replace(config, seed=7, network=config_of({}).network), num_classes=3).save(
        "trained.keras"
    )
    return experiment.prepare(config).model.network.get_weights()


def predictions(built, workdir):
    """Writes some of the validation images."""
    labels = built.splits["val"].labels
    logits = 3 * np.random.default_rng(0).normal(size=(len(labels), 10)) + 3 * np.eye(10)[labels]
    Predictions(logits, labels).save(workdir.predictions("val"))


def fitted(built):
    """What an export is calibrated by."""
    workdir = Workdir("fitted")
    workdir.path.mkdir(exist_ok=True)
    predictions(built, workdir)
    return served.serving_of(built, workdir).calibration


def needed(config):
    """What an export asks for where nothing is installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("importlib.util.find_spec", lambda name: None)
        try:
            return export.check(config, Workdir("run"))
        except UserError as error:
            return str(error)


def licence(built):
    """What the card of an export says of the data."""
    return export.model_card._data(built)


def opset(built):
    """What ONNX files are made with."""
    workdir = Workdir("asked")
    workdir.path.mkdir(exist_ok=True)
    predictions(built, workdir)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "Numbers", lambda serving: None)  # which is traced for seconds
        return export._material(served.serving_of(built, workdir), built).opset


def ece(built):
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 50)
    return built.metrics(Predictions(generator.normal(size=(50, 3)), labels, None))["ece"]


def determinism(config):
    tensorflow_config.disable_op_determinism()
    experiment.prepare(config)
    return tensorflow_config.is_op_determinism_enabled()


def parts_of(built):
    """In how many parts a step is computed: how often it asks for gradients."""
    batch, labels = next(iter(built.training_data()))
    asked = []
    with pytest.MonkeyPatch.context() as patch:
        gradient = tf.GradientTape.gradient
        patch.setattr(tf.GradientTape, "gradient", lambda *args, **options: (asked.append(1), gradient(*args))[1])
        built.model.train_step((batch, labels))
    return len(asked)


def class_weight(config):
    """What `fit` is told that classes weigh."""
    return told_to_fit(config)["class_weight"]


images = of_built(lambda built: built.splits["train"].load(np.arange(len(built.splits["train"].labels))))
weights = of_built(lambda built: built.model.get_weights())
optimizer = of_built(lambda built: {**built.model.optimizer.get_config(), "learning_rate": None, "name": ""})
