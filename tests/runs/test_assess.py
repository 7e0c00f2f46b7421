"""`--mode=evaluate` on more than a run's own splits; two small runs of digits, which are trained once."""

import json
import pathlib
import shutil

import pytest

from cskd_tf import metrics
from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.runs import assess, evaluate, export, train
from cskd_tf.runs.classifiers import open_classifier
from cskd_tf.runs.workdir import Workdir
from tests.helpers import files
from tests.runs.helpers import config_of

COLOUR = {"data.source.channels": 3, "data.augment.mean": (0.5, 0.5, 0.5), "data.augment.std": (0.2, 0.2, 0.2)}
TOY = {"epochs": 1, "data.split.train_per_class": 4, "data.split.test_fraction": 0.2}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two finished runs with the same images."""
    folder = tmp_path_factory.mktemp("runs")
    made = []
    for seed in (0, 1):
        changes = {**TOY, "seed": seed, "export.enabled": False, "export.directory": str(folder / "saved_models")}
        run = Workdir(folder / f"seed{seed}")
        train.train(config_of(changes), run)
        made.append(run)
    return made


@pytest.fixture
def kept(runs):
    """Checks that files of the runs that are there before stay as they are, but for assessments."""
    before = {path: content for run in runs for path, content in files(run.path).items()}
    yield
    after = {path: content for run in runs for path, content in files(run.path).items()}
    assert {path: after[path] for path in before if "assessment" not in path.name} == {
        path: content for path, content in before.items() if "assessment" not in path.name
    }
    assert {path.name.split("_")[0] for path in after.keys() - before.keys()} <= {"assessment", ".lock"}


def other_run(run, folder, **split):
    """A copy of a run that says of itself that its images were split in another way."""
    shutil.copytree(run.path, folder / "other")
    config = run.config().as_dict()
    config["data"]["split"].update(split)
    (folder / "other" / "config.json").write_text(json.dumps(config))
    return Workdir(folder / "other")


def answered(run, **question):
    results = assess.answer(assess.Question(**question), str(run.path if isinstance(run, Workdir) else run))
    ((name, result),) = results.items()
    return name, result


def test_evaluation_assesses_each_split_of_its_own(runs, capsys, caplog):
    metrics_before = runs[0].metrics()
    with caplog.at_level("INFO", logger="absl"):
        again = evaluate.evaluate(runs[0])
    said = [record.getMessage() for record in caplog.records]
    for path in (runs[0].assessment("test"), runs[0].assessment("val"), runs[0].path / "metrics.json"):
        assert any(line.startswith(f"{path}: written") for line in said)
    assert again["test"] == metrics_before["test"]
    test, val = (json.loads(runs[0].assessment(split).read_text()) for split in ("test", "val"))
    for name in ("top1_error", "nll", "aurc", "recall_at_1"):
        assert test["metrics"][name] == pytest.approx(metrics_before["test"][name], rel=1e-9)
    assert test["scaling"]["temperature"]["temperature"] > 0
    assert val["scaling"] == {"undefined": "these are the validation images, which it would be fitted on"}
    printed = capsys.readouterr().out
    assert f"{runs[0].path}: test split, " in printed.replace("\n", "")
    assert "95 % interval" in printed
    assert f"{100 * test['metrics']['top1_error']:.2f}" in printed
    first = runs[0].assessment("test").read_bytes()
    evaluate.evaluate(runs[0])
    assert runs[0].assessment("test").read_bytes() == first


def test_an_ensemble_of_runs_averages_their_probabilities(runs, kept):
    name, result = answered(runs[0], members=[str(runs[1].path)])
    assert name.startswith("assessment_test_with_")
    saved = [Predictions.load(run.predictions("test")) for run in runs]
    together = metrics.ensemble([each.logits for each in saved])
    assert result["metrics"]["nll"] == pytest.approx(
        metrics.negative_log_likelihood(together, saved[0].labels), rel=1e-6
    )
    assert result["of"] == [str(run.path) for run in runs]
    compared = result["compared"][str(runs[1].path)]
    difference = [metrics.negative_log_likelihood(each.logits, each.labels) for each in saved]
    assert compared["differences"]["nll"] == pytest.approx(difference[0] - difference[1], rel=1e-5)


@pytest.mark.slow
def test_a_saved_model_predicts_what_its_run_does(runs):
    folder = str(export.export_run(runs[0]))
    before = files(folder)
    _, result = answered(folder, on=runs[0].config())
    saved = Predictions.load(runs[0].predictions("test"))
    assert result["metrics"]["nll"] == pytest.approx(
        metrics.negative_log_likelihood(saved.logits, saved.labels), rel=1e-4
    )
    assert result["scaling"] == {"undefined": assess.NO_DATA}
    embeddings = Predictions.load(runs[0].predictions("test")).embeddings
    expected = metrics.recall_at_k(embeddings, saved.labels, k=1)
    assert result["metrics"]["recall_at_1"] == pytest.approx(expected, abs=0.01)
    assert files(folder) == before
    of_val = open_classifier(folder, config=runs[0].config()).splits["val"]
    assert len(of_val.labels) == len(Predictions.load(runs[0].predictions("val")).labels)
    with pytest.raises(ValueError, match="whose images are to be predicted: a SavedModel has none"):
        answered(folder)
    _, result = answered(runs[0], members=[folder])
    compared = result["compared"][folder]["differences"]
    assert compared["nll"] == pytest.approx(0, abs=1e-4)
    assert compared["recall_at_1"] == pytest.approx(0, abs=0.01)
    with pytest.raises(ValueError, match="Expected data.source.channels=1, and as many of data.augment.mean, in the"):
        open_classifier(folder, config=config_of(COLOUR))


@pytest.mark.slow
def test_other_images_are_told_from_the_own(runs, kept, image_folder):
    """Those of a config in colour too, by a network of grey images."""
    other = config_of({
        "data.source.name": "image_folder", "data.source.path": "PHOTOS", "data.split.test_fraction": 0.2,
        **COLOUR,
    }, folder=image_folder)  # fmt: skip
    name, result = answered(runs[0], against=other)
    assert name.startswith("assessment_test_against_image_folder-")
    assert result["detection"]["other_images"] == 6
    for score in ("maximum_probability", "energy", "feature_distance"):
        assert 0 <= result["detection"][score]["auroc"] <= 1
    assert result["detection"]["feature_distance"]["neighbours"] == 40
    with pytest.raises(ValueError, match="--against is for images of others. Received: image_folder"):
        answered(runs[0], on=other)


def test_images_that_a_run_was_trained_on_are_no_test(runs):
    other = config_of({**TOY, "data.split.seed": 5})
    with pytest.raises(ValueError, match="other splits of its own have images that it was trained on"):
        answered(runs[0], on=other)


@pytest.mark.parametrize("changes", [{}, {"data.split.seed": 5}, {"data.source.memory": 0.0}])
def test_the_own_images_are_no_others(runs, changes):
    other = config_of({**TOY, **changes})
    with pytest.raises(ValueError, match="--against with another data set than .*Received: digits for both"):
        answered(runs[0], against=other)


def test_what_makes_no_ensemble_is_refused(runs, tmp_path):
    run = other_run(runs[1], tmp_path, seed=1)
    with pytest.raises(ValueError, match=r"members have the same images in each split. Received: data.split of"):
        answered(runs[0], members=[str(run.path)])
    (run.path / "metrics.json").unlink()  # as if it had been stopped
    with pytest.raises(ValueError, match="Expected a finished run"):
        answered(run, split="train")
    with pytest.raises(ValueError, match="Expected the folder of a run"):
        answered(runs[0], members=[str(tmp_path / "nowhere")])


def test_a_run_without_validation_images_says_so(runs, tmp_path):
    run = other_run(runs[1], tmp_path, validation_fraction=0.0)
    evaluate.evaluate(run)
    test = json.loads(run.assessment("test").read_text())
    said = "the run has no validation images (data.split.validation_fraction=0)"
    assert test["scaling"] == test["conformal"] == {"undefined": said}
    with pytest.raises(ValueError, match="Expected a split of .*Received: --split=val"):
        answered(run, split="val")


def test_a_folder_that_only_looks_like_a_saved_model_is_refused(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="Expected a SavedModel as --mode=export writes it"):
        answered(tmp_path, split="test")


def test_the_command_line_asks(command, runs, kept):
    code, printed = command(f"--workdir={runs[0].path}", "--mode=evaluate", "--split=train", f"--with={runs[1].path}")
    assert code == 0
    assert "95 % interval" in printed
    assert "train split, ensemble of 2, 40 images" in printed
    assert "McNemar" in printed
    (written,) = pathlib.Path(runs[0].path).glob("assessment_train_with_*.json")
    assert json.loads(written.read_text())["images"] == 40
    code, printed = command(f"--workdir={runs[0].path}", "--mode=report", "--split=train")
    assert code == 1
    assert "Expected --split, --with, --on and --against beside --mode=evaluate alone" in printed
