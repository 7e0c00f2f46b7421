"""Runs by the recipes of fine-tuning: to the same bytes after any stop, and what is written is what is averaged."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.errors import UserError
from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.runs import evaluate, export, train
from cskd_tf.runs.callbacks import Checkpoint
from cskd_tf.runs.experiment import prepare
from cskd_tf.runs.workdir import Workdir
from cskd_tf.serving import saved_model
from tests.runs.helpers import config_of
from tests.runs.test_termination import train_and_terminate

STEPS = 2  # of an epoch
RECIPE = {
    "epochs": 3, "batch_size": 32, "deterministic": True, "export.enabled": False, "export.temperature": "off",
    "network.name": "tests.runs.helpers:small_network", "network.frozen_epochs": 1,
    "optimizer.arguments": {"beta_2": 0.98}, "optimizer.weight_decay": 0.05, "optimizer.decay_vectors": False,
    "optimizer.layer_decay": 0.5, "optimizer.ema_momentum": 0.5, "optimizer.clip_norm": 1.0,
    "schedule.name": "cosine", "schedule.learning_rate": 0.01, "schedule.warmup_epochs": 1,
}  # fmt: skip


def written(workdir):
    """The bytes of checkpoints, predictions and metrics, and the log without its seconds."""
    files = sorted(path for path in workdir.path.rglob("*") if path.is_file())
    kept = {
        str(path.relative_to(workdir.path)): path.read_bytes()
        for path in files
        if str(path.relative_to(workdir.path)).startswith(("checkpoints", "predictions", "metrics"))
    }
    assert len(kept) > 10
    return kept, [{**entry, "seconds": 0} for entry in workdir.log()]


@pytest.mark.parametrize(
    ("name", "at"),
    [
        pytest.param("AdamW", [(4, "evaluation")], marks=pytest.mark.slow),
        # The second after the last step of an epoch, before its weights are averaged and judged.
        pytest.param("AdamW", [(1, "step"), (4, "step"), (5, "step")], marks=pytest.mark.slow),
        pytest.param("Lion", [(2, "evaluation"), (3, "step")], marks=pytest.mark.slow),
        pytest.param("Muon", [(5, "step")], marks=pytest.mark.slow),
    ],
)
def test_a_run_that_was_stopped_ends_with_the_same_bytes(name, at, monkeypatch, tmp_path):
    arguments = RECIPE["optimizer.arguments"] if name != "Muon" else {"ns_steps": 3}
    changes = {"optimizer.name": name, "optimizer.arguments": arguments, "export.directory": str(tmp_path / "models")}
    config = config_of({**RECIPE, **changes})
    whole, parts = Workdir(tmp_path / "whole"), Workdir(tmp_path / "parts")
    train.train(config, whole)
    for step, part in at:
        train_and_terminate(config, parts, step=step, part=part)
    train.train(config, parts)
    assert written(parts) == written(whole)
    monkeypatch.setattr(saved_model, "difference_in_fresh_process", lambda *_: 0.0)
    check_that_what_is_written_is_averaged(config, whole)


def check_that_what_is_written_is_averaged(config, workdir):
    predictions = Predictions.load(workdir.predictions("test"))
    classifier = keras.models.load_model(workdir.classifier)
    built = prepare(config)
    images = np.concatenate([batch.numpy() for batch, _ in built.evaluation_data("test")])
    np.testing.assert_allclose(classifier.predict(images, verbose=0), predictions.logits, atol=1e-5)
    # The log's last validation is of them too, and so is what --mode=evaluate says.
    assert workdir.log()[-1]["val_nll"] == pytest.approx(workdir.metrics_of("val")["nll"], abs=1e-6)
    evaluate.evaluate(workdir)
    np.testing.assert_array_equal(Predictions.load(workdir.predictions("test")).logits, predictions.logits)
    served = tf.saved_model.load(str(export.export_run(workdir, config=config)))
    raw = tf.cast(built.splits["test"].load(np.arange(len(images))), tf.uint8)
    probabilities = served.serve(raw)["probabilities"]
    np.testing.assert_allclose(probabilities, tf.nn.softmax(predictions.logits), atol=1e-5)
    # What goes on from the checkpoint are other weights: those that are trained.
    Checkpoint(workdir, built.model, monitor=None).restore_last()
    assert built.model.average.in_place
    averaged = built.model.network.get_weights()
    built.model.put_average(False)
    assert not np.array_equal(built.model.network.get_weights()[0], averaged[0])
    assert np.abs(tf.nn.softmax(built.model.predict(images, verbose=0)) - probabilities).max() > 1e-3


def test_a_learning_rate_of_sgd_for_another_optimizer_is_warned_of_before_any_work(caplog):
    for name, rate, warned in (("AdamW", 0.1, True), ("Lion", 0.1, True), ("AdamW", 1e-3, False), ("SGD", 0.1, False)):
        caplog.clear()
        with pytest.raises(UserError, match="Unknown data set"):
            prepare(config_of({"optimizer.name": name, "schedule.learning_rate": rate, "data.source.name": "none"}))
        said = f"schedule.learning_rate=0.1 is far too high for most networks with optimizer.name={name}; usual is 0.0"
        assert any(said in message for message in caplog.messages) == warned


@pytest.mark.thorough
def test_settings_that_cannot_be_are_refused_before_work(tmp_path):
    for changes, message in (
        ({"optimizer.name": "Adamw"}, "Unknown optimizer; expected one of .*AdamW"),
        ({"optimizer.name": "Lion", "optimizer.arguments": {"beta": 1}}, "Unknown arguments of Lion"),
        ({"optimizer.layer_decay": 0.0}, "optimizer.layer_decay to be at least 0.01"),
        ({"optimizer.ema_momentum": 1.0}, "optimizer.ema_momentum to be at most 0.999999"),
        ({"schedule.name": "linear"}, r"Unknown name; expected one of \['constant', 'cosine', 'step'\]"),
        ({"network.frozen_epochs": 5}, "frozen_epochs of at most 4 epochs. Received: network.frozen_epochs=5"),
        ({"network.weights": "nowhere.keras"}, "Received: network.weights='nowhere.keras'"),
    ):
        with pytest.raises(UserError, match=message):
            train.train(config_of(changes), Workdir(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
