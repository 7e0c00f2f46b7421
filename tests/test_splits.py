"""Runs that train on all images: no validation split, the test split evaluated each epoch, nothing chosen by it."""

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from configs import digits, mixed
from cskd_tf import data
from cskd_tf.data.catalogue import splits as datasets
from cskd_tf.data.sources.encoded import Encoded
from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.runs import evaluate, import_checkpoint, train
from cskd_tf.runs.config import Config
from cskd_tf.runs.workdir import Workdir
from cskd_tf.training.callbacks import Evaluation
from tests.helpers import compiled, load_splits
from tests.test_torch_weights import preact_resnet10_shapes

METRICS = {"top1_error", "top5_error", "nll", "ece", "recall_at_1", "aurc"}
COUNTS = {"ece_bins", "recall_left_out"}
QUICK = [
    "--config.baseline=False",
    "--config.data.split.validation_fraction=0",
    "--config.export.enabled=False",
    "--config.verbose=0",
]


@pytest.fixture
def config():
    config = digits.get_config()
    config.deterministic = False
    config.baseline = False
    config.epochs = 2
    config.batch_size = 16
    config.verbose = 0
    config.network.width = 4
    config.data.split.train_per_class = 4
    config.data.split.validation_fraction = 0
    config.export.enabled = False
    return config


def test_without_a_validation_fraction_all_images_are_trained_on():
    options = {"channels": 1, "test_fraction": 0.5}
    whole = load_splits("digits", **options, validation_fraction=0)
    parts = load_splits("digits", **options, validation_fraction=0.1)
    assert list(whole) == ["train", "test"]
    assert list(parts) == ["train", "val", "test"]
    counts = [np.bincount(splits["train"].labels) for splits in (whole, parts)]
    np.testing.assert_array_equal(counts[0], counts[1] + np.bincount(parts["val"].labels))
    np.testing.assert_array_equal(whole["test"].labels, parts["test"].labels)
    with pytest.raises(ValueError, match="test_fraction between 0 and 1. Received: test_fraction=0"):
        load_splits("digits", channels=1, test_fraction=0)
    with pytest.raises(ValueError, match="validation_fraction between 0 and 1. Received: validation_fraction=-0.1"):
        load_splits("digits", channels=1, validation_fraction=-0.1)


def test_a_validation_split_that_the_data_bring_is_kept(image_folder):
    (image_folder / "test").rename(image_folder / "val")
    splits = load_splits("image_folder", path=str(image_folder), validation_fraction=0)
    assert {name: len(source.labels) for name, source in splits.items()} == {"train": 10, "val": 6, "test": 2}


def repeated(classes, images):
    """A data set of as many images of each class in either split, whose encoded form is the image's number."""
    labels = np.repeat(np.arange(classes), images)
    contents = tf.strings.as_string(tf.range(len(labels)))
    names, sizes = [f"{number:03d}" for number in range(classes)], np.ones(len(labels))
    source = Encoded(contents, labels, class_names=names, channels=3, sizes=sizes, locate=str)
    return {"train": source, "test": source}


def test_data_sets_of_which_only_some_bring_validation_images_are_not_joined_without(monkeypatch):
    first = repeated(2, 5)
    monkeypatch.setitem(datasets.DATASETS, "first", lambda *_, **__: {**first, "val": first["test"]})
    monkeypatch.setitem(datasets.DATASETS, "second", lambda *_, **__: repeated(3, 5))
    with pytest.raises(ValueError, match=r"of each data set or of none.*validation_fraction=0, and none of \['second'"):
        load_splits("first+second", validation_fraction=0, memory=0)
    sizes = {name: len(source.labels) for name, source in load_splits("first+second", memory=0).items()}
    assert sizes == {"train": 10 + 12, "val": 10 + 3, "test": 10 + 15}


def test_the_mixed_set_has_thirty_training_images_of_each_of_387_classes(monkeypatch):
    # The classes of the three, and 30, 100 and 80 training images of each.
    sizes = {"caltech_birds2011": (200, 30), "stanford_dogs": (120, 100), "mit67": (67, 80)}
    for name, (classes, images) in sizes.items():
        made = repeated(classes, images)
        monkeypatch.setitem(datasets.DATASETS, name, lambda *_, made=made, **__: made)
    config = Config.read(mixed.get_config()).data
    source = dataclasses.replace(config.source, memory=0.0)
    splits = data.load_splits(source, config.split)
    assert np.bincount(splits["train"].labels).tolist() == [30] * 387
    assert list(splits) == ["train", "test"]
    assert len(splits["test"].labels) == 200 * 30 + 120 * 100 + 67 * 80
    # Random ones of the many: all 30 of a bird, and of a room or a dog others from another seed.
    other = data.load_splits(source, dataclasses.replace(config.split, seed=1))
    one, two = (each["train"].read(tf.range(30 * 387, dtype=tf.int64)).numpy() for each in (splits, other))
    np.testing.assert_array_equal(one[:6000], two[:6000])
    assert len(set(one[6000:9600])) == 120 * 30
    assert (one[6000:] != two[6000:]).mean() > 0.9


def test_evaluation_is_named_by_its_split(linear_network, images_and_labels):
    model = compiled(linear_network())
    evaluation = Evaluation(images_and_labels, split="test")
    stops = [keras.callbacks.EarlyStopping(monitor=f"test_{name}") for name in ("recall_at_1", "ece")]
    logs = model.fit(*images_and_labels, verbose=0, callbacks=[evaluation, *stops]).history
    assert [stop.mode for stop in stops] == ["max", "min"]  # which Keras would refuse to guess
    names = {name for name in logs if name.startswith(("val_", "test_"))}
    assert names == {f"test_{name}" for name in METRICS}
    assert logs["test_top1_error"][-1] == evaluation.predictions.metrics(ece_bins=20)["top1_error"]


def test_a_run_evaluates_the_test_split_and_has_no_best_epoch(config, tmp_path, caplog):
    workdir = Workdir(tmp_path / "run")
    with caplog.at_level("INFO", logger="absl"):
        train.train(Config.read(config), workdir)
    assert "the test split is evaluated each epoch, and nothing is chosen by it" in caplog.text
    metrics = workdir.metrics()
    assert set(metrics) == {"test"}
    assert set(metrics["test"]) == METRICS | COUNTS
    log = workdir.log()
    assert [entry["epoch"] for entry in log] == [1, 2]
    assert not [name for name in log[-1] if name.startswith("val")]
    for name in METRICS:
        assert log[-1][f"test_{name}"] == pytest.approx(metrics["test"][name], rel=1e-6)
    assert sorted(path.name for path in workdir.checkpoints.iterdir()) == ["last"]
    assert [path.name for path in workdir.path.glob("predictions_*")] == ["predictions_test.npz"]
    assert [path.name for path in workdir.figures.iterdir()] == ["reliability_test.png"]
    events = EventAccumulator(str(workdir.tensorboard))
    events.Reload()
    tags = set(events.Tags()["tensors"])
    assert {"test_reliability", "test_ece", "loss"} <= tags
    assert not [tag for tag in tags if tag.startswith("val")]

    # The same bytes when it was interrupted after the first epoch, and when it is evaluated again.
    before = Predictions.load(workdir.predictions("test")).logits
    for path in workdir.checkpoints.glob("last/ckpt-2.*"):
        path.unlink()
    (workdir.path / "metrics.json").unlink()
    train.train(Config.read(config), workdir)
    np.testing.assert_array_equal(Predictions.load(workdir.predictions("test")).logits, before)
    assert workdir.metrics() == metrics
    assert evaluate.evaluate(workdir) == metrics


def test_every_verb_does_without_a_validation_split(command, monkeypatch, tmp_path):
    quick = [*QUICK, "--config.data.split.train_per_class=4", "--config.network.width=4", "--config.epochs=1"]
    code, printed = command("--workdir=runs/trained", *quick, "--config.data.split.test_fraction=0.9")
    assert code == 0, printed
    error = json.loads((tmp_path / "runs/trained/metrics.json").read_text())["test"]["top1_error"]
    assert f"{100 * error:.2f}" in printed  # the report that follows training
    for mode in ("export", "report"):
        code, printed = command("--workdir=runs/trained", f"--mode={mode}")
        assert code == 0, printed
    code, printed = command("--mode=doctor", *quick)
    assert code == 0, printed
    assert "Nothing here keeps the run from training" in printed
    generator = np.random.default_rng(0)
    shapes = preact_resnet10_shapes(width=16)
    weights = {name: generator.uniform(0.1, 0.2, shape).astype("float32") for name, shape in shapes.items()}
    monkeypatch.setattr(import_checkpoint, "read_torch_checkpoint", lambda path: weights)
    code, printed = command("--mode=import", "--checkpoint=ckpt.t7", "--workdir=runs/imported", *QUICK)
    assert code == 0, printed
    assert set(Workdir(tmp_path / "runs/imported").metrics()) == {"test", "imported_from"}
    code, printed = command("--workdir=runs", "--mode=report")
    assert code == 0, printed
    assert "(imported)" in printed
