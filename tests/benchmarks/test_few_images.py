import json
import math

import numpy as np
import pytest

from benchmarks import few_images_tables, markdown
from cskd_tf.evaluation.predictions import Predictions
from tests.helpers import finished_run


def made_runs(folder):
    """Cross-entropy and CS-KD, two seeds each, with validation predictions that are twice too sure."""
    labels = np.arange(60) % 3
    for name in ("cross_entropy", "cskd"):
        for seed in (0, 1):
            run, logits = finished_run(folder / f"digits_3,{name}" / f"seed={seed}", seed=seed, labels=labels)
            metrics = run.metrics()["test"]
            Predictions(2 * logits, labels, np.zeros((60, 2))).save(run.predictions("val"))
            run.write_metrics({"val": {**metrics, "top1_error": 0.25 + seed}, "test": metrics})


def test_a_line_per_run(command, tmp_path):
    made_runs(tmp_path)
    lines = command("few_images", "--trained_at=abc1234", str(tmp_path))
    assert [(line["data"], line["experiment"], line["seed"]) for line in lines] == [
        ("digits_3", name, seed) for name in ("cross_entropy", "cskd") for seed in (0, 1)
    ]
    first = lines[0]
    predictions = Predictions.load(tmp_path / "digits_3,cross_entropy/seed=0/predictions_test.npz")
    logits, labels = predictions.logits, predictions.labels
    assert first["test"]["top1_error"] == np.mean(logits.argmax(axis=1) != labels)
    assert (first["trained_at"], first["val_top1_error"]) == ("abc1234", 0.25)

    def nll(scaled):
        return -np.mean(scaled[np.arange(60), labels] - np.log(np.exp(scaled).sum(axis=1)))

    temperature = first["after_temperature"]["temperature"]  # of the doubled logits
    assert first["after_temperature"]["nll"] == pytest.approx(nll(logits / temperature))
    best = min(np.geomspace(0.2, 10, 2000), key=lambda each: nll(2 * logits / each))
    assert temperature == pytest.approx(best, rel=0.01)
    assert set(first["normalized_logits"]) == {"norm", "aurc", "augrc"}


def test_tables(monkeypatch, tmp_path):
    where = {"commit": "abc1234", "cpu": "A CPU", "onednn": "on", "data": "digits_3", "network": "preact_resnet10"}
    where["seed"] = 0

    def line(experiment, error, **more):
        part = dict.fromkeys(few_images_tables.HEADINGS, error)
        parts = {name: dict(part) for name in ("test", "after_temperature", "normalized_logits")}
        return {**where, "experiment": experiment, "val_top1_error": error / 2, **parts, **more}

    lines = [line("cskd", 0.2), line("cskd", 0.4), line("cross_entropy", 0.5), line("cskd,weight=2", 0.1)]
    lines[1]["seed"] = 1  # of which there is no cross-entropy
    lines[2]["after_temperature"] = {"undefined": "because"}
    for part in (lines[0]["test"], lines[2]["test"]):
        part["aurc"] = None  # as what is undefined is recorded
    lines.append(line("cskd,preact_resnet34", 0.125, network="preact_resnet34"))
    (tmp_path / "few_images.json").write_text(json.dumps(lines))
    monkeypatch.setattr(markdown, "RESULTS", tmp_path)
    cells = lambda table: [[cell.strip() for cell in row.strip("|").split("|")] for row in table]  # noqa: E731
    heading, _, cross_entropy, cskd, _, source = cells(few_images_tables.methods("digits_3"))
    assert heading[:3] == ["digits_3", "runs", "top-1 error %"]
    assert cross_entropy[:4] == ["cross-entropy", "1", "50.0", ""]
    deviation = 100 * math.sqrt(0.02)
    assert cskd[:4] == ["CS-KD", "2", f"**30.0** ± {deviation:.1f}", "-30.0"]
    assert cross_entropy[7].startswith("**50.0")  # R@1, of which more is better
    assert (cross_entropy[8], cskd[8]) == ("undefined", "**400**")
    assert source[0].startswith("`results/few_images.json`: commit abc1234")
    assert cells(few_images_tables.recalibrated("digits_3"))[2][2:4] == ["50.0", "undefined"]
    assert cells(few_images_tables.selective("digits_3"))[3][4] == "**300** ± 141"
    assert cells(few_images_tables.grid("digits_3", "cskd"))[2][:4] == ["weight=2", "1", "5.0", "10.0"]
    rows = [row[0] for row in cells(few_images_tables.depth("digits_3"))[2:-2]]
    assert rows == ["`preact_resnet10`, cross-entropy", "`preact_resnet10`, CS-KD", "`preact_resnet34`, CS-KD"]
