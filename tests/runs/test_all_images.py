"""Runs that train on all images: no validation split, the test split evaluated each epoch, nothing chosen by it."""

import json

import keras
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.runs import evaluate, import_checkpoint, train
from cskd_tf.runs.config import Config
from cskd_tf.runs.workdir import Workdir
from cskd_tf.training.callbacks import Evaluation
from tests.helpers import ALONE, SMALL, compiled, preact_resnet10_weights

METRICS = {"top1_error", "top5_error", "nll", "ece", "recall_at_1", "aurc"}
COUNTS = {"ece_bins", "recall_left_out"}
ALL_IMAGES = (*ALONE, "--config.data.split.validation_fraction=0")


def test_evaluation_is_named_by_its_split(linear_network, images_and_labels):
    model = compiled(linear_network())
    evaluation = Evaluation(images_and_labels, split="test")
    stop = keras.callbacks.EarlyStopping(monitor="test_recall_at_1", mode="max")
    logs = model.fit(*images_and_labels, verbose=0, callbacks=[evaluation, stop]).history
    assert stop.best == logs["test_recall_at_1"][-1]
    names = {name for name in logs if name.startswith(("val_", "test_"))}
    assert names == {f"test_{name}" for name in METRICS}
    assert logs["test_top1_error"][-1] == evaluation.predictions.metrics(ece_bins=20)["top1_error"]


@pytest.mark.slow
def test_a_run_evaluates_the_test_split_and_has_no_best_epoch(config, tmp_path, caplog):
    config.data.split.validation_fraction = 0
    config.export.enabled = False
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
    events = EventAccumulator(str(workdir.tensorboard / "cskd" / "test"))
    events.Reload()
    tags = set(events.Tags()["tensors"])
    assert {"calibration/reliability", "calibration/ece", "loss/cross_entropy"} <= tags
    assert sorted(path.name for path in (workdir.tensorboard / "cskd").iterdir() if path.is_dir()) == ["test", "train"]

    # The same bytes when it was interrupted after the first epoch, and when it is evaluated again.
    before = Predictions.load(workdir.predictions("test")).logits
    for path in workdir.checkpoints.glob("last/ckpt-2.*"):
        path.unlink()
    (workdir.path / "metrics.json").unlink()
    train.train(Config.read(config), workdir)
    np.testing.assert_array_equal(Predictions.load(workdir.predictions("test")).logits, before)
    assert workdir.metrics() == metrics
    assert evaluate.evaluate(workdir) == metrics


@pytest.mark.slow
def test_every_verb_does_without_a_validation_split(command, monkeypatch, tmp_path):
    quick = (*ALL_IMAGES, *SMALL, "--config.epochs=1")
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
    weights = preact_resnet10_weights()
    monkeypatch.setattr(import_checkpoint, "read_torch_checkpoint", lambda path: weights)
    code, printed = command("--mode=import", "--checkpoint=ckpt.t7", "--workdir=runs/imported", *ALL_IMAGES)
    assert code == 0, printed
    assert set(Workdir(tmp_path / "runs/imported").metrics()) == {"test", "imported_from"}
    code, printed = command("--workdir=runs", "--mode=report")
    assert code == 0, printed
    assert "(imported)" in printed
