"""From a config to data, network, methods and model: what is resolved and refused on the way."""

import dataclasses
import math
import types

import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.runs import experiment, strategies, teachers
from cskd_tf.runs.config import Config
from cskd_tf.runs.json_files import write_json
from cskd_tf.runs.workdir import Workdir
from tests.runs.helpers import config_of


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network.name": "preact_resnet99"}, "Unknown network"),
        ({"network.name": "resnet18", "data.augment.image_size": 16}, "at least 17 x 17 pixels"),
        ({"network.name": "resnext50_32x4d"}, "width of at least 16"),
        ({"methods": ({"name": "CSDK"},)}, "Unknown method"),
        ({"schedule.milestones": (0.5, 0.25)}, "rising milestones"),
        (
            {"gradient_accumulation_steps": 2, "methods": ({"name": "AdaCos"},)},
            "gradient_accumulation_steps=1 beside AdaCos",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_the_data_are_looked_for(change, message, config):
    config.update_from_flattened_dict({"data.source.name": "nowhere", **change})
    with pytest.raises(ValueError, match=message):
        experiment.prepare(Config.read(config))


@pytest.mark.parametrize(
    ("change", "name"),
    [({"network.synchronized": True}, "network.synchronized=True"), ({"methods": ({"name": "AdaCos"},)}, "AdaCos")],
)
def test_xla_of_what_replicas_exchange_is_refused_before_the_data_are_looked_for(
    change, name, two_replicas, monkeypatch
):
    monkeypatch.setitem(strategies.STRATEGIES, "mirrored", lambda: two_replicas)
    config = config_of({"strategy": "mirrored", "jit_compile": "on", "data.source.name": "nowhere", **change})
    with pytest.raises(ValueError, match=f"beside {name}: .*Received: jit_compile=True on 2 replicas"):
        experiment.prepare(config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps_per_execution": 2}, "divide the 3 steps of an epoch. Received: steps_per_execution=2"),
        ({"gradient_accumulation_steps": 9}, "gradient_accumulation_steps of at most 8: so many images"),
    ],
)
def test_what_does_not_go_with_the_size_of_the_data_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        experiment.prepare(config_of(change))


@pytest.mark.slow
def test_a_run_that_xla_compiles_trains(config):
    config.jit_compile = "on"
    built = experiment.prepare(Config.read(config))
    assert built.model.jit_compile is True
    assert np.isfinite(built.model.fit(built.training_data(), epochs=1, verbose=0).history["loss"]).all()


@pytest.mark.thorough
def test_the_embedding_layer_of_a_config(config):
    config.network.name, config.network.embedding_layer = "preact_resnet10", "stage4_block1_conv2"
    built = experiment.prepare(Config.read(config))
    assert built.predict("val").embeddings.shape[1] == 2 * 2 * 32  # what that convolution reads, of 16 pixels
    config.network.embedding_layer = "head"
    with pytest.raises(ValueError, match="Unknown layer.*'head'"):
        experiment.prepare(Config.read(config))


@pytest.mark.parametrize("named", ["run", "run/classifier.keras"])
def test_a_teacher_is_named_by_a_workdir_or_by_the_file_in_it(named, config, tmp_path):
    teacher = experiment.build_network(Config.read(config), num_classes=10)
    (tmp_path / "run").mkdir()
    teacher.save(tmp_path / "run" / "classifier.keras")
    config.methods = ({"name": "Distillation", "teacher": str(tmp_path / named)},)
    built = experiment.prepare(Config.read(config))
    (method,) = built.model.methods
    assert method.get_config()["teacher"] == str(tmp_path / "run" / "classifier.keras")
    images = tf.constant(np.random.default_rng(0).normal(size=(3, 16, 16, 1)), tf.float32)
    np.testing.assert_allclose(method._teacher(images), teacher(images), atol=1e-5)
    # The run keeps what its user wrote.
    assert built.config.methods == ({"name": "Distillation", "teacher": str(tmp_path / named)},)


@pytest.mark.parametrize("named", ["run", "run/classifier.keras"])
@pytest.mark.parametrize(
    ("difference", "message"),
    [
        ({"names": [*"1023456789"]}, r"same classes in the same order. Received: .*run.*, one of whose classes is '1'"),
        ({"mean": (0.1,)}, r"pixels with the same data.augment.mean and .std. Received: .*run.* with \(0.1,\)"),
    ],
    ids=["classes", "pixels"],
)
def test_a_teacher_of_other_classes_or_pixels_is_refused(difference, message, named, config, tmp_path):
    settled = Config.read(config)
    teacher = experiment.build_network(settled, num_classes=10)
    augment = dataclasses.replace(settled.data.augment, mean=difference.get("mean", settled.data.augment.mean))
    workdir = Workdir(tmp_path / "run")
    workdir.claim(dataclasses.replace(settled, data=dataclasses.replace(settled.data, augment=augment)))
    write_json(workdir.path / "classes.json", {"names": difference.get("names", [*"0123456789"]), "groups": None})
    teacher.save(workdir.path / "classifier.keras")
    config.methods = ({"name": "Distillation", "teacher": str(tmp_path / named)},)
    with pytest.raises(ValueError, match=message):
        experiment.prepare(Config.read(config))


@pytest.mark.parametrize("named", ["run", "run/classifier.keras"])
def test_weights_of_a_run_that_saw_other_pixels_are_warned_of(named, config, tmp_path, caplog):
    settled = Config.read(config)
    network = dataclasses.replace(settled.network, weights=str(tmp_path / named))
    begun = dataclasses.replace(settled, network=network)
    for mean in (settled.data.augment.mean, (0.1,)):
        augment = dataclasses.replace(settled.data.augment, mean=mean)
        workdir = Workdir(tmp_path / "run")
        (workdir.path / "config.json").unlink(missing_ok=True)
        workdir.claim(dataclasses.replace(settled, data=dataclasses.replace(settled.data, augment=augment)))
        teachers.warn_of_other_pixels(begun)
        assert ("are of pixels with data.augment.mean and .std (0.1,)" in caplog.text) == (mean == (0.1,))


def test_a_workdir_without_a_classifier_is_no_teacher(config, tmp_path):
    config.methods = ({"name": "TFKD", "teacher": str(tmp_path)},)
    message = f"the workdir of a finished run, with classifier.keras, as teacher. Received: {tmp_path}"
    with pytest.raises(ValueError, match=message):
        experiment.prepare(Config.read(config))


def test_images_alone_in_their_class_are_counted(tmp_path):
    labels = np.array([0, 0, 1, 2])
    predictions = Predictions(2 * np.eye(3)[labels], labels, np.eye(3)[labels])
    alone = Predictions(2 * np.eye(3), np.arange(3), np.eye(3))
    config = types.SimpleNamespace(evaluation=types.SimpleNamespace(ece_bins=5))
    fields = dict.fromkeys(field.name for field in dataclasses.fields(experiment.Experiment))
    run = experiment.Experiment(
        **fields | {"config": config, "splits": {"train": types.SimpleNamespace(class_groups=None)}}
    )
    measured = run.metrics(predictions)
    assert (measured["recall_at_1"], measured["recall_left_out"]) == (1.0, 2)
    measured = run.metrics(alone)
    assert math.isnan(measured["recall_at_1"])
    assert measured["recall_left_out"] == 3


@pytest.mark.thorough
def test_the_config_reaches_the_pairing(config, two_replicas, monkeypatch):
    monkeypatch.setitem(strategies.STRATEGIES, "mirrored", lambda: two_replicas)
    config.strategy = "mirrored"
    config.data.pairing.update(replica_local=True, exclude_self=True)
    built = experiment.prepare(Config.read(config))
    indices = built.splits["train"].load(np.arange(40)).numpy().reshape(40, -1)
    numbers = {image.tobytes(): number for number, image in enumerate(indices)}
    built.training_transform = lambda images, seeds: images
    for batch, _ in built.training_data().take(2):
        image, partner = (
            [numbers[pixels.astype(np.uint8).tobytes()] for pixels in batch[view].numpy().reshape(16, -1)]
            for view in ("image", "partner")
        )
        assert [number % 2 for number in image] == [number % 2 for number in partner] == [0] * 8 + [1] * 8
    config.data.pairing.update(replica_local=False)
    built = experiment.prepare(Config.read(config))
    built.training_transform = lambda images, seeds: images
    for batch, _ in built.training_data().take(3):
        assert not (batch["image"].numpy() == batch["partner"].numpy()).all(axis=(1, 2, 3)).any()  # exclude_self
    config.data.pairing.update(balanced=True)
    labels = np.concatenate([labels for _, labels in experiment.prepare(Config.read(config)).training_data().take(3)])
    assert np.bincount(labels).tolist() == [4] * 10


def test_first_weights_depend_on_the_seed_alone():
    plain, config = config_of({}), config_of({"methods": ({"name": "BYOT"},)})
    first = experiment.prepare(config).model
    tf.random.normal([3])  # and whatever else was drawn before
    again = experiment.prepare(config_of({"methods": ({"name": "BYOT"},), "data.split.train_per_class": 5})).model
    for one, two in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    # The network is that of a run without methods, and the one that is built by itself.
    for other in (experiment.prepare(plain).model.network, experiment.build_network(plain, num_classes=10)):
        for one, two in zip(first.network.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_array_equal(one, two)


def test_layers_of_methods_do_not_begin_with_the_networks_numbers():
    model = experiment.prepare(config_of({"methods": ({"name": "BYOT"},)})).model
    kernels = [weight.numpy().ravel() for weight in model.trainable_variables if len(weight.shape) > 1]
    assert len(kernels) > sum(len(weight.shape) > 1 for weight in model.network.trainable_variables)
    # Uniform numbers of one seed differ by a factor alone, which the ratio of the first two leaves out.
    ratios = [kernel[0] / kernel[1] for kernel in kernels]
    assert np.diff(np.sort(ratios)).min() > 1e-6
