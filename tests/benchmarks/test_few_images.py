import json
import math

import numpy as np
import pytest

from benchmarks import choice_tables, few_images_runs, few_images_tables, markdown, tables
from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.runs import train
from cskd_tf.runs.workdir import Workdir
from tests.helpers import finished_run
from tests.runs.helpers import config_of


def made_runs(folder):
    """Cross-entropy and CS-KD, two seeds each, with validation predictions that are twice too sure."""
    labels = np.arange(60) % 3
    for name in ("cross_entropy", "cskd"):
        for seed in (0, 1):
            run, logits = finished_run(folder / f"omniglot_5,{name}" / f"seed={seed}", seed=seed, labels=labels)
            metrics = run.metrics()["test"]
            Predictions(2 * logits, labels, np.zeros((60, 2))).save(run.predictions("val"))
            run.write_metrics({"val": {**metrics, "top1_error": 0.25 + seed}, "test": metrics})


@pytest.mark.thorough
def test_a_line_per_run(command, tmp_path):
    made_runs(tmp_path)
    lines = command("few_images", "--trained_at=abc1234", str(tmp_path))
    assert [(line["data"], line["experiment"], line["seed"]) for line in lines] == [
        ("omniglot_5", name, seed) for name in ("cross_entropy", "cskd") for seed in (0, 1)
    ]
    first = lines[0]
    predictions = Predictions.load(tmp_path / "omniglot_5,cross_entropy/seed=0/predictions_test.npz")
    logits, labels = predictions.logits, predictions.labels
    assert first["test"]["top1_error"] == np.mean(logits.argmax(axis=1) != labels)
    assert (first["trained_at"], first["val_top1_error"]) == ("abc1234", 0.25)

    def nll(scaled):
        return -np.mean(scaled[np.arange(60), labels] - np.log(np.exp(scaled).sum(axis=1)))

    temperature = first["after_temperature"]["temperature"]  # of the doubled logits
    assert first["after_temperature"]["nll"] == pytest.approx(nll(logits / temperature))
    best = min(np.geomspace(0.2, 10, 2000), key=lambda each: nll(2 * logits / each))
    assert temperature == pytest.approx(best, rel=0.01)
    assert first["normalized_logits"]["aurc"] == pytest.approx(first["test"]["aurc"], abs=0.1)
    assert first["after_matrix_scaling"]["nll"] < first["test"]["nll"] + 1
    assert 0.8 <= first["conformal"]["aps"]["coverage"] <= 1
    low, high = first["intervals"]["top1_error"]
    assert low <= first["test"]["top1_error"] <= high
    assert (first["config"], first["overrides"]["epochs"]) == ("omniglot_5,cross_entropy", first["epochs"])
    assert {"seed", "data.split.seed", "baseline"}.isdisjoint(first["overrides"])


@pytest.mark.parametrize(("of_a_file", "alone"), [(True, 2), (False, 0)], ids=["of a file", "of the run"])
def test_errors_across_groups_of_classes(of_a_file, alone, command, tmp_path):
    labels = np.arange(60) % 3
    run, logits = finished_run(tmp_path / "runs/omniglot_5,cskd/seed=0", seed=0, labels=labels)
    Predictions(logits, labels, np.zeros((60, 2))).save(run.predictions("val"))
    run.write_metrics({split: run.metrics()["test"] for split in ("val", "test")})
    (tmp_path / "groups.txt").write_text("a\tone\nb\tone\nc\tother\n")
    arguments = ("few_images", *([f"--groups={tmp_path / 'groups.txt'}"] if of_a_file else []), str(tmp_path / "runs"))
    if of_a_file:
        with pytest.raises(ValueError, match=r"Expected the names of classes in .*, for --groups. Received: none"):
            command(*arguments)
    run.write_classes(["a", "b", "c"], ["one", "other", "other"])
    (line,) = command(*arguments)
    assert line["test"]["group_error"] == np.mean((logits.argmax(axis=1) == alone) != (labels == alone)) > 0


@pytest.mark.slow
def test_detection(command, tmp_path):
    train.train(
        config_of({"epochs": 1, "data.split.train_per_class": 4, "export.enabled": False}),
        run := Workdir(tmp_path / "runs/omniglot_5,cskd/seed=0"),
    )
    for name in ("letters", "letters again", "letters"):  # of which one takes the place of its own
        lines = command("detection", f"--name={name}", "--against=configs/fonts.py", str(tmp_path / "runs"))
    assert [(line["data"], line["experiment"], line["seed"], line["against"]) for line in lines] == [
        ("omniglot_5", "cskd", 0, "letters"), ("omniglot_5", "cskd", 0, "letters again")
    ]  # fmt: skip
    own, letters = Predictions.load(run.predictions("test")), lines[0]["other_images"]
    assert lines[0]["images"] == len(own.labels)
    saved = json.loads(next(run.path.glob("assessment_test_against_fonts*.json")).read_text())["detection"]
    assert (letters, lines[0]["energy"]) == (saved["other_images"], saved["energy"])
    assert all(0 < lines[0][score]["auroc"] < 1 for score in few_images_tables.SCORES)


PARTS = ("test", "after_temperature", "after_vector_scaling", "after_matrix_scaling", "normalized_logits")
COSTS = {"cskd": 1.25}  # as the command writes them: over cross-entropy


def test_tables(monkeypatch, tmp_path):
    where = {"commit": "abc1234", "cpu": "A CPU", "onednn": "on", "data": "digits_3", "network": "preact_resnet10"}
    where |= {"seed": 0, "epochs": 100, "overrides": {}}

    def line(experiment, error, **more):
        part = dict.fromkeys(few_images_runs.HEADINGS, error)
        parts = {name: dict(part) for name in PARTS} | {"conformal": {"threshold": dict(part)}}
        return {**where, "experiment": experiment, "val_top1_error": error / 2, **parts, **more}

    lines = [line("cskd", 0.2), line("cskd", 0.4), line("cross_entropy", 0.5), line("cskd,weight=2", 0.1)]
    lines[1]["seed"] = 1  # of which there is no cross-entropy
    lines[2]["after_temperature"] = {"undefined": "because"}
    for part in (lines[0]["test"], lines[2]["test"]):
        part["aurc"] = None  # as what is undefined is recorded
    lines.append(line("cskd,preact_resnet34", 0.125, network="preact_resnet34"))
    lines.append(line("cskd,80", 0.45, epochs=80))
    (tmp_path / "few_images.json").write_text(json.dumps(lines))
    monkeypatch.setattr(markdown, "RESULTS", tmp_path)
    (tmp_path / "equal_time.json").write_text(
        json.dumps([{**where, "experiment": name, "over_cross_entropy": ratio} for name, ratio in COSTS.items()])
    )
    cells = lambda table: [[cell.strip() for cell in row.strip("|").split("|")] for row in table]  # noqa: E731
    heading, _, cross_entropy, cskd, _, source = cells(few_images_tables.methods("digits_3"))
    assert heading[:3] == ["digits_3", "runs", "top-1 error %"]
    assert cross_entropy[:4] == ["cross-entropy", "1", "50.0", ""]
    deviation = 100 * math.sqrt(0.02)
    assert cskd[:4] == ["CS-KD", "2", f"**30.0** ± {deviation:.1f}", "-30.0"]
    assert cross_entropy[7].startswith("**50.0")  # R@1, of which more is better
    assert cross_entropy[8] == cskd[8] == "undefined"  # of one run too: the mean of the others is of other images
    assert source[0].startswith("`results/few_images.json`: commit abc1234")
    assert cells(few_images_tables.recalibrated("digits_3"))[2][2:4] == ["50.0", "undefined"]
    assert cells(few_images_tables.selective("digits_3"))[3][8:] == ["**300** ± 141", "-300"]
    assert cells(choice_tables.grid("digits_3", "cskd"))[2][:4] == ["weight=2", "1", "**5.0**", "10.0"]
    of_cskd = cells(choice_tables.chosen("digits_3"))[3]
    assert of_cskd[:6] == ["CS-KD", "weight=2", f"30.0 ± {deviation:.1f}", "1", "**10.0**", "-40.0"]
    rows = [row[0] for row in cells(few_images_tables.depth("digits_3"))[2:-2]]
    assert rows == ["`preact_resnet10`, cross-entropy", "`preact_resnet10`, CS-KD", "`preact_resnet34`, CS-KD"]
    plain, shorter = (row[:6] for row in cells(few_images_tables.equal_time("digits_3"))[2:4])
    assert plain == ["cross-entropy", "1.00", "100", "1", "50.0", ""]
    assert shorter == ["CS-KD", "1.25", "80", "1", "**45.0**", "-5.0"]
    assert cells(few_images_tables.calibration("digits_3"))[3][5] == f"**30.0** ± {deviation:.1f}"
    assert cells(few_images_tables.selection("digits_3"))[3][-2:] == ["**0.3** ± 0.1", f"30.0 ± {deviation:.1f}"]
    assert cells(few_images_tables.generalized("digits_3"))[3][2:4] == ["**300** ± 141", "-300"]
    told = {score: {"auroc": 0.1 * place} for place, score in enumerate(few_images_tables.SCORES, start=7)}
    told_apart = [{**line, **told, "against": "letters"} for line in lines[:3:2]]  # of CS-KD's two runs one
    told_apart[0]["feature_distance"] = {"undefined": "because"}
    (tmp_path / "detection.json").write_text(json.dumps(told_apart))
    heading, _, plain, of_one, _, *sources = cells(few_images_tables.beyond("digits_3"))
    assert heading[2:] == [
        "taken for another group %",
        *(f"letters by {by}" for by in ("probability", "energy", "features")),
    ]
    assert plain[2:] == ["50.0", "**70.0**", "**80.0**", "**90.0**"]
    assert of_one[3:] == ["undefined"] * 3
    assert [source[0].partition(":")[0] for source in sources] == [
        "`results/few_images.json`",
        "`results/detection.json`",
    ]
    lines[0]["commit"], lines[0]["trained_at"] = "fff0000", "abc7654"
    (tmp_path / "few_images.json").write_text(json.dumps(lines))
    of_grid, of_methods = (
        table[-1] for table in (choice_tables.grid("digits_3", "cskd"), few_images_tables.methods("digits_3"))
    )
    assert "fff0000" not in of_grid  # whose lines are others
    assert "fff0000" in of_methods
    assert "trained at abc7654" in of_methods


def test_tables_of_nothing_and_of_undefined_figures(monkeypatch, tmp_path):
    """Runs come one after another: a table is made of those that are there."""
    where = {"commit": "abc1234", "cpu": "A CPU", "onednn": "on", "data": "digits_3", "network": "preact_resnet10"}
    where |= {"seed": 0, "epochs": 100, "overrides": {}, "experiment": "cskd", "conformal": {"undefined": "because"}}
    part = dict.fromkeys(few_images_runs.HEADINGS, 0.5) | {"coverage_at_5_risk": None}
    lines = [{**where, **{name: dict(part) for name in PARTS}, "after_temperature": {"undefined": "because"}}]
    (tmp_path / "few_images.json").write_text(json.dumps(lines))
    monkeypatch.setattr(markdown, "RESULTS", tmp_path)
    assert len(few_images_tables.methods("of_nothing")) == 4
    name, runs, error, less, *_ = (cell.strip() for cell in few_images_tables.methods("digits_3")[2].split("|")[1:])
    assert (name, runs, error, less) == ("CS-KD", "1", "**50.0**", "")  # without cross-entropy
    assert few_images_tables.recalibrated("digits_3")[2].count("undefined") == 2
    assert few_images_tables.selection("digits_3")[2].count("undefined") == 3
    lines.append({**lines[0], "seed": 1, "epochs": 50})
    (tmp_path / "few_images.json").write_text(json.dumps(lines))
    with pytest.raises(ValueError, match="digits_3,cskd that differ in seeds alone"):
        few_images_tables.methods("digits_3")


@pytest.mark.parametrize("module", [few_images_tables, choice_tables])
def test_every_table_of_few_images_can_be_marked_on_a_page(module):
    own = {name: value for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__}
    assert {name for name in own if not name.startswith("_")} == {function.__name__ for function in module.TABLES}
    assert {function.__name__ for function in module.TABLES} <= set(tables.TABLES)
