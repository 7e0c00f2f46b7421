import importlib

import numpy as np
import pytest

from cskd_tf.evaluation.predictions import Predictions
from tests.helpers import finished_run


@pytest.mark.thorough
def test_lines_of_runs_and_the_differences_of_cskd(command, tmp_path):
    labels = np.arange(60) % 3
    for name in ("5,cross_entropy", "5,cskd", "pretrain"):
        weights = "" if name == "pretrain" else "trained.keras"
        changes = {"data": {"split": {"train_per_class": 5}}, "network": {"weights": weights}}
        for seed in (0, 1) if name == "5,cskd" else (0,):
            number = seed + 10 * (name == "5,cskd")  # other predictions than cross-entropy's
            run, _ = finished_run(tmp_path / name / f"seed={seed}", seed=seed, labels=labels, **changes)
            generator = np.random.default_rng(number)
            logits = 2 * np.eye(3)[labels] + generator.normal(size=(60, 3)) * (1 + number / 10)
            predictions = Predictions(logits, labels, generator.normal(size=(60, 2)))
            for split in ("val", "test"):
                predictions.save(run.predictions(split))
            metrics = {**predictions.metrics(ece_bins=20), "ece_bins": 20}
            run.write_metrics({"val": metrics, "test": metrics})
    lines = command("finetune", "--trained_at=abc1234", str(tmp_path))
    finetune = importlib.import_module("benchmarks.finetune")  # as the command has it, with its flags
    *runs, difference = lines
    assert [(line["images_per_class"], line["experiment"], line["seed"]) for line in runs] == [
        (5, "cross_entropy", 0), (5, "cskd", 0), (5, "cskd", 1)
    ]  # fmt: skip
    assert {line["weights"] for line in runs} == {"trained.keras"}
    for metric in finetune.METRICS:
        expected = runs[1]["test"][metric] - runs[0]["test"][metric]
        assert difference[metric] == {"mean": pytest.approx(expected), "by_seed": {"0": pytest.approx(expected)}}
    assert difference["images_per_class"] == 5
    assert finetune.differences(runs[1:])[0]["nll"] is None  # of no seed that has both
