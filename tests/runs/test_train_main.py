"""The command line, as a user types it; most calls run in this process, which is what makes them fast."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.data.catalogue.splits import split_by_class
from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.files import read_arrays
from cskd_tf.runs.workdir import Workdir
from tests.helpers import ALONE, ROOT, SMALL, files, softmax
from tests.processes import wait_for

MAIN = ROOT / "train_main.py"
QUICK = (*ALONE, *SMALL)


def test_a_run_leaves_every_file_of_the_workdir(command, tmp_path):
    code, printed = command("--workdir=run", "--config.epochs=2", *QUICK)
    assert code == 0
    run = tmp_path / "run"
    names = {path.name for path in run.iterdir()}
    assert names == {
        "config.json", "log.jsonl", "metrics.json", "predictions_val.npz", "predictions_test.npz",
        "classifier.keras", "checkpoints", "tensorboard", "figures", ".lock",
        "classes.json", "images.json", "thumbnails_val.npz", "thumbnails_test.npz", "trained_by.json",
    }  # fmt: skip
    metrics = json.loads((run / "metrics.json").read_text())
    expected = {"top1_error", "top5_error", "nll", "ece", "ece_bins", "recall_at_1", "recall_left_out", "aurc"}
    assert set(metrics["val"]) == set(metrics["test"]) == expected
    assert set(metrics["best_epoch"]) == {"epoch", "val", "test"}
    for split in ("val", "test"):
        predictions = Predictions.load(run / f"predictions_{split}.npz")
        assert predictions.metrics(ece_bins=20)["ece"] == metrics[split]["ece"]
        assert predictions.embeddings.shape == (len(predictions.labels), 32)
        assert (run / "figures" / f"reliability_{split}.png").stat().st_size > 10_000
        thumbnails = read_arrays(run / f"thumbnails_{split}.npz", ["images", "indices"])
        count = min(256, len(predictions.labels))
        assert thumbnails["images"].shape == (count, 8, 8, 1)
        assert len(set(thumbnails["indices"].tolist())) == count
    assert json.loads((run / "classes.json").read_text()) == {"names": list("0123456789"), "groups": None}
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert log[-1]["val_nll"] == pytest.approx(metrics["val"]["nll"], rel=1e-6)
    assert json.loads((run / "config.json").read_text())["methods"] == [
        {"name": "CSKD", "temperature": 4.0, "weight": 1.0}
    ]
    assert "CSKD(temperature=4, weight=1)" in printed
    assert "--logdir run" in printed

    before = files(run)
    code, printed = command("--workdir=run", "--config.epochs=2", *QUICK)
    assert code == 0
    assert files(run) == before
    assert "CSKD(temperature=4, weight=1)" in printed

    assert command("--workdir=run", "--mode=evaluate")[0] == 0
    again = json.loads((run / "metrics.json").read_text())
    assert again["test"] == metrics["test"]
    code, printed = command("--workdir=run", "--mode=report")
    assert code == 0
    assert f"{100 * metrics['test']['top1_error']:.2f}" in printed


@pytest.mark.slow
def test_the_baseline_is_the_same_run_without_methods(command, tmp_path):
    quick = (*SMALL, "--config.export.enabled=False", "--config.verbose=0")
    code, printed = command("--workdir=run", "--config.epochs=1", *quick)
    assert code == 0
    configs = [json.loads((tmp_path / part / "config.json").read_text()) for part in ("run", "run/cross_entropy")]
    assert configs[1] == {**configs[0], "methods": [], "baseline": False}
    logs = [json.loads((tmp_path / part / "log.jsonl").read_text()) for part in ("run", "run/cross_entropy")]
    assert "class_wise" in logs[0]
    assert "class_wise" not in logs[1]
    labels = [
        Predictions.load(tmp_path / part / "predictions_test.npz").labels for part in ("run", "run/cross_entropy")
    ]
    np.testing.assert_array_equal(*labels)
    assert "cross-entropy" in printed


@pytest.mark.slow
def test_seeds_of_one_config_share_a_row(command):
    for seed in (0, 1):
        command(f"--workdir=runs/{seed}", "--config.epochs=1", f"--config.seed={seed}", *QUICK)
    code, printed = command("--workdir=runs", "--mode=report")
    assert code == 0
    (row,) = [line for line in printed.splitlines() if " ± " in line]
    errors = [
        json.loads(pathlib.Path(f"runs/{seed}/metrics.json").read_text())["test"]["top1_error"] for seed in (0, 1)
    ]
    assert f"{100 * np.mean(errors):.2f} ± {100 * np.std(errors, ddof=1):.2f}" in row


@pytest.mark.thorough
def test_export_serves_raw_images_without_the_package(command, tmp_path):
    arguments = (*SMALL, "--config.baseline=False", "--config.verbose=0", "--config.network.name=preact_resnet10")
    code, printed = command("--workdir=run", "--config.epochs=1", *arguments)
    assert code == 0
    assert "SavedModel of run: saved_models/run/1" in printed
    folder = tmp_path / "saved_models" / "run" / "1"
    assert json.loads((folder / "assets.extra" / "classes.json").read_text()) == [str(digit) for digit in range(10)]
    from sklearn.datasets import load_digits

    served = tf.saved_model.load(str(folder))
    images = np.round(load_digits().images * (255 / 16)).astype(np.uint8)[..., None]
    probabilities = served.signatures["serving_default"](tf.constant(images))["probabilities"].numpy()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    test = Predictions.load(tmp_path / "run" / "predictions_test.npz")
    labels = load_digits().target
    settings = json.loads((tmp_path / "run" / "config.json").read_text())["data"]["split"]
    _, indices = split_by_class(labels, fraction=settings["test_fraction"], seed=settings["seed"], name="test")
    np.testing.assert_array_equal(labels[indices], test.labels)
    temperature = json.loads((folder / "assets.extra" / "calibration.json").read_text())["temperature"]
    expected = softmax(test.logits / temperature)
    np.testing.assert_allclose(probabilities[indices], expected, atol=1e-5)
    before = files(folder)
    assert command("--workdir=run", "--mode=export")[0] == 0
    assert files(folder) == before
    assert sorted(path.name for path in folder.parent.iterdir()) == ["1", "2"]


@pytest.mark.slow
def test_what_was_trained_in_half_precision_is_exported(command, tmp_path):
    arguments = (*SMALL, "--config.baseline=False", "--config.verbose=0", "--config.precision=mixed_bfloat16")
    assert command("--workdir=half", "--config.epochs=1", *arguments)[0] == 0
    assert (tmp_path / "saved_models" / "half" / "1").is_dir()


@pytest.mark.slow
def test_an_image_folder_is_trained_and_exported_for_any_size(command, image_folder, tmp_path):
    config = MAIN.parent / "configs" / "image_folder.py"
    network = [
        "--config.network.name=preact_resnet10",
        "--config.network.width=4",
        "--config.data.augment.image_size=16",
    ]
    length = ["--config.data.augment.image_size=16", "--config.batch_size=4", "--config.epochs=1", "--config.verbose=0"]
    folder = [f"--config.data.source.path={image_folder}", "--config.data.split.validation_fraction=0.34"]
    code, printed = command("--workdir=photos_run", f"--config={config}", *folder, *network, *length)
    assert code == 0, printed
    served = tf.saved_model.load(str(tmp_path / "saved_models" / "photos_run" / "1"))
    for size in ((30, 40), (16, 16)):
        assert served.serve(np.zeros((2, *size, 3), np.uint8))["probabilities"].shape == (2, 2)


@pytest.mark.slow
def test_evaluating_an_unfinished_run_does_not_finish_it(command, tmp_path):
    command("--workdir=run", "--config.epochs=2", *QUICK)
    (tmp_path / "run" / "metrics.json").unlink()  # as if it had been stopped
    for mode in ("evaluate", "export"):
        code, printed = command("--workdir=run", f"--mode={mode}")
        assert code != 0
        assert "Expected a finished run; the command that started it continues it." in printed
    assert not (tmp_path / "run" / "metrics.json").exists()
    assert command("--workdir=run", "--config.epochs=2", *QUICK)[0] == 0
    assert (tmp_path / "run" / "metrics.json").exists()


@pytest.mark.thorough
def test_divergence_stops_within_the_epoch_and_says_what_to_lower(command, tmp_path):
    settings = ["--config.schedule.learning_rate=1e6", "--config.optimizer.momentum=0.99", "--config.epochs=3", *QUICK]
    code, printed = command("--workdir=run", *settings)
    assert code != 0
    assert "in epoch 1, step " in printed
    assert "or lower schedule.learning_rate or the methods" in printed
    assert "Traceback" not in printed
    assert not (tmp_path / "run" / "metrics.json").exists()


def start(workdir, *arguments):
    command = [sys.executable, str(MAIN), f"--workdir={workdir}", "--config.epochs=8", *QUICK, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_bytes(tmp_path):
    whole, killed = start(tmp_path / "whole"), start(tmp_path / "killed")
    log = tmp_path / "killed" / "log.jsonl"
    wait_for(lambda: log.exists() and log.read_text().count("\n") >= 3, every=0.002, running=killed)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert not (tmp_path / "killed" / "metrics.json").exists()
    resumed = start(tmp_path / "killed")
    outputs = [process.communicate(timeout=240)[0] for process in (whole, resumed)]
    assert [whole.returncode, resumed.returncode] == [0, 0], outputs
    assert "continuing after epoch" in outputs[1]
    for name in (
        "checkpoints/last/ckpt-8.data-00000-of-00001", "checkpoints/last/ckpt-7.data-00000-of-00001", "metrics.json",
    ):  # fmt: skip
        one, two = (tmp_path / part / name for part in ("whole", "killed"))
        assert one.read_bytes() == two.read_bytes(), name
    logs = [Workdir(tmp_path / part).log() for part in ("whole", "killed")]
    assert len(logs[0]) == 8
    for one, two in zip(*logs, strict=True):
        assert {**one, "seconds": 0} == {**two, "seconds": 0}
