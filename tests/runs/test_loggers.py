"""Weights & Biases and MLflow get each epoch and the final metrics, with the real packages and without network."""

import time

import keras
import pytest

from cskd_tf.runs import loggers, train
from cskd_tf.runs.loggers import build_loggers, check_loggers, log_final
from cskd_tf.runs.workdir import Workdir
from tests.runs.helpers import config_of

LOGS = {"loss": 1.5, "class_wise": 0.25, "val_ece": 0.125, "val_recall_at_1": float("nan"), "learning_rate": 0.1}
FINAL = {"val": {"ece": 0.375}, "test": {"top1_error": 0.1875, "recall_at_1": float("nan"), "ece_bins": 20}}


def run_of(name, tmp_path):
    """A config with this logger, and its workdir."""
    config = config_of({"loggers": (name,)})
    workdir = Workdir(tmp_path / "run")
    workdir.claim(config)
    return config, workdir


def log(config, workdir, *, epochs):
    """What a process does that trains these epochs, counted from 0."""
    (logger,) = build_loggers(config, workdir)
    ends = keras.callbacks.CallbackList([logger])
    ends.on_train_begin()
    for epoch in epochs:
        ends.on_epoch_end(epoch, {**LOGS, "loss": 1.5 - epoch})
    ends.on_train_end()
    return logger


@pytest.mark.loggers
def test_the_log_goes_on_in_one_run_of_weights_and_biases(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="requirements-loggers.txt")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    config, workdir = run_of("wandb", tmp_path)
    ids = []
    begun = wandb.init
    monkeypatch.setattr(wandb, "init", lambda **given: (ids.append(given["id"]), begun(**given))[1])
    log(config, workdir, epochs=(0, 1))
    wandb.finish()  # as the end of a process does
    time.sleep(1)  # W&B names folders by the second
    for epochs in ((1,), (2,)):  # the last one again, after which `fit` is called anew
        log(config, workdir, epochs=epochs)
    log_final(config, workdir, FINAL)
    assert wandb.run is None
    assert ids == [workdir.identity()[:16]] * 2
    folders = sorted((workdir.path / "wandb").glob(f"offline-run-*-{ids[0]}"))
    epochs = (b"milestones", b"val_ece", b"0.125", b"class_wise")
    parts = (epochs, (*epochs, b"-0.5", b"final/test_top1_error", b"0.1875", b"final/val_ece", b"0.375"))
    deadline = time.monotonic() + 60
    while True:  # a process of W&B's writes
        kept = [next(folder.glob("*.wandb")).read_bytes() for folder in folders]
        there = [[part in content for part in of_process] for of_process, content in zip(parts, kept, strict=True)]
        if all(map(all, there)):
            break
        assert time.monotonic() < deadline, there
        time.sleep(0.2)
    assert b"-0.5" not in kept[0]  # the loss of the last epoch
    assert b"final/test_recall_at_1" not in kept[1]


@pytest.mark.loggers
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of its SQL
def test_the_log_goes_on_in_one_run_of_mlflow(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="requirements-loggers.txt")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    config, workdir = run_of("mlflow", tmp_path)
    for epochs in ((0, 1), (1, 2)):  # killed after the second, which it trains again
        log(config, workdir, epochs=epochs)
    for _ in range(2):  # killed before its metrics were written, and the same again
        log_final(config, workdir, FINAL)
    client = mlflow.MlflowClient(f"sqlite:///{workdir.path}/mlflow.db")
    experiment = client.get_experiment_by_name("cskd_tf")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "run"
    history = client.get_metric_history(run.info.run_id, "loss")
    assert sorted((each.step, each.value) for each in history) == [(1, 1.5), (2, 0.5), (3, -0.5)]
    final = {"final/val_ece": 0.375, "final/test_top1_error": 0.1875}
    of_epochs = {name: value for name, value in LOGS.items() if name != "val_recall_at_1"}
    assert run.data.metrics == {**of_epochs, "loss": -0.5, **final}
    assert [each.step for each in client.get_metric_history(run.info.run_id, "final/val_ece")] == [config.epochs]
    assert run.data.params["schedule.learning_rate"] == str(config.schedule.learning_rate)
    assert run.data.params["methods.0.name"] == "CSKD"


@pytest.mark.loggers
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of its SQL
def test_a_run_gives_its_epochs_and_its_final_metrics(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="requirements-loggers.txt")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    changes = {"loggers": ("mlflow",), "epochs": 2, "network.name": "tests.runs.helpers:small_network"}
    workdir = Workdir(tmp_path / "run")
    train.train(config_of({**changes, "export.enabled": False}), workdir)
    client = mlflow.MlflowClient(f"sqlite:///{workdir.path}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("cskd_tf").experiment_id])
    of_epochs = client.get_metric_history(run.info.run_id, "val_nll")
    assert [each.value for each in of_epochs] == [entry["val_nll"] for entry in workdir.log()]
    for split in ("val", "test"):
        for name in ("top1_error", "top5_error", "nll", "ece", "recall_at_1", "aurc"):
            assert run.data.metrics[f"final/{split}_{name}"] == workdir.metrics()[split][name]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("tensorbored",), r"Unknown logger; expected some of \['wandb', 'mlflow'\]. Received: loggers="),
        (("nowhere",), r"Expected the package of a logger, which pip install '.\[nowhere\]' .* installs"),
    ],
)
def test_a_logger_that_cannot_be_is_refused(names, message, monkeypatch):
    monkeypatch.setitem(loggers.LOGGERS, "nowhere", "nowhere")
    if names == ("tensorbored",):
        monkeypatch.delitem(loggers.LOGGERS, "nowhere")
    with pytest.raises(ValueError, match=message):
        check_loggers(names)


def test_final_metrics_are_the_finite_numbers_of_each_split(tmp_path, monkeypatch):
    given = []

    class Noted:
        def __init__(self, config, workdir):
            self.log_final = given.append

    monkeypatch.setitem(loggers.LOGGERS, "noted", Noted)
    config = type("Config", (), {"loggers": ("noted",)})()
    final = {"val": {"ece": 0.375, "nll": float("inf")}, "test": {"recall_at_1": float("nan"), "ece_bins": 20}}
    loggers.log_final(config, Workdir(tmp_path), final)
    assert given == [{"final/val_ece": 0.375}]
