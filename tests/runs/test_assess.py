"""`--mode=evaluate` on more than a run's own splits; two small runs of digits, which are trained once."""

import dataclasses
import json
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf

from cskd_tf import data, metrics
from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.runs import assess, evaluate, export, train
from cskd_tf.runs.classifiers import Classifier, open_classifier
from cskd_tf.runs.workdir import Workdir
from tests.helpers import files
from tests.runs.helpers import config_of

COLOUR = {"data.source.channels": 3, "data.augment.mean": (0.5, 0.5, 0.5), "data.augment.std": (0.2, 0.2, 0.2)}
TOY = {"epochs": 1, "data.split.train_per_class": 4, "data.split.test_fraction": 0.2}


pytestmark = pytest.mark.thorough  # the runs take half a minute


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
    (folder / "other" / "images.json").unlink()
    return Workdir(folder / "other")


@pytest.fixture(scope="module")
def pictures(runs, tmp_path_factory):
    """Every third test image of the runs as a picture of an image folder with their classes, and which these are."""
    folder, source = tmp_path_factory.mktemp("pictures"), open_classifier(str(runs[0].path)).splits["test"]
    chosen = np.arange(0, len(source.labels), 3)
    for number, (pixels, label) in enumerate(data.evaluation_dataset(source, batch_size=1)):
        for split in ("train", "test") if number in chosen else ():
            path = folder / split / source.class_names[label.numpy()[0]] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(tf.io.encode_png(tf.cast(pixels[0], tf.uint8)).numpy())
    changes = {"data.source.name": "image_folder", "data.source.path": str(folder), "data.split.train_per_class": 0}
    return config_of({**TOY, **changes}), chosen


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


def test_all_splits_are_assessed_at_once(runs, kept):
    results = assess.answer(assess.Question(split="all"), str(runs[0].path))
    assert list(results) == ["assessment_train", "assessment_val", "assessment_test"]
    for split in ("val", "test"):
        saved = Predictions.load(runs[0].predictions(split))
        nll = metrics.negative_log_likelihood(saved.logits, saved.labels)
        assert results[f"assessment_{split}"]["metrics"]["nll"] == pytest.approx(nll, rel=1e-6)
    assert results["assessment_train"]["images"] == 40
    assert "temperature" in results["assessment_train"]["scaling"]  # by the validation images


def test_another_data_set_of_the_same_classes(runs, kept, pictures):
    """Pictures of some of its test images get the predictions of these."""
    other, chosen = pictures
    saved = Predictions.load(runs[0].predictions("test"))
    name, result = answered(runs[0], on=other)
    assert name.startswith("assessment_test_on_image_folder-")
    on = f"image_folder {other.data.source.path} validation_fraction={other.data.split.validation_fraction}"
    assert (result["images"], result["on"]) == (len(chosen), on)
    expected = metrics.negative_log_likelihood(saved.logits[chosen], saved.labels[chosen])
    assert result["metrics"]["nll"] == pytest.approx(expected, rel=1e-5)
    assert "temperature" in result["scaling"]  # by its own validation images


@pytest.mark.slow
def test_an_ensemble_on_other_images_and_against_them(runs, kept, pictures, capsys):
    other, chosen = pictures
    saved = [Predictions.load(run.predictions("test")) for run in runs]
    logits = metrics.ensemble(each.logits for each in saved)
    _, result = answered(runs[0], members=[str(runs[1].path)], on=other)
    expected = metrics.negative_log_likelihood(logits[chosen], saved[0].labels[chosen])
    assert result["metrics"]["nll"] == pytest.approx(expected, rel=1e-5)
    _, result = answered(runs[0], members=[str(runs[1].path)], against=other)
    detection = result["detection"]
    assert detection["other_images"] == len(chosen)
    expected = metrics.detection(*map(metrics.maximum_probability, (logits, logits[chosen])))
    assert detection["maximum_probability"] == pytest.approx(expected, rel=1e-3)
    assert detection["feature_distance"] == {"undefined": assess.NO_COMMON_EMBEDDINGS}
    assert f"Feature distance: {assess.NO_COMMON_EMBEDDINGS}" in " ".join(capsys.readouterr().out.split())


def test_where_there_is_no_feature_distance_the_reason_is_its_own():
    """An ensemble has images, but no common embeddings; of a SavedModel alone no images are known."""
    own = Predictions(np.eye(2), np.array([0, 1]), np.eye(2))
    member = Classifier("a", ["x", "y"], 1, lambda source: own)
    of_run = dataclasses.replace(member, splits={"train": None})
    for members, why in (
        ([of_run, of_run], "each member of an ensemble has its embeddings in a space of its own"),
        ([member], assess.NO_DATA),
    ):
        found = assess._detection(members, own, against=own, split="test")
        assert found["feature_distance"] == {"undefined": why}
    assert "auroc" in assess._detection([of_run], own, against=own, split="test")["feature_distance"]
    of_training = assess._detection([of_run], own, against=own, split="train")["feature_distance"]
    assert of_training == {"undefined": assess.REFERENCE_ITSELF}


@pytest.mark.slow
def test_an_ensemble_of_saved_models_alone(runs):
    folders = [str(export.export_run(run)) for run in runs]
    _, result = answered(folders[0], members=folders[1:], on=runs[0].config())
    saved = [Predictions.load(run.predictions("test")) for run in runs]
    together = metrics.ensemble(each.logits for each in saved)
    expected = metrics.negative_log_likelihood(together, saved[0].labels)
    assert result["metrics"]["nll"] == pytest.approx(expected, rel=1e-4)
    assert result["of"] == folders
    assert result["compared"].keys() == {folders[1]}


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


@pytest.mark.parametrize("saved_model_first", [False, True])
def test_images_that_a_member_was_trained_on_are_no_test(runs, saved_model_first):
    other = config_of({**TOY, "data.split.seed": 5})
    first, *members = [str(export.export_run(runs[1])), str(runs[0].path)] if saved_model_first else [runs[0]]
    with pytest.raises(ValueError, match=f"splits of {runs[0].path}, .* have images that it was trained on"):
        answered(first, members=members, on=other)
    with pytest.raises(ValueError, match="--against with another data set than "):
        answered(first, members=members, against=other)


def test_an_ensemble_is_assessed_by_the_images_that_a_member_knows(runs):
    folder = str(export.export_run(runs[1]))
    (_, one), (_, other) = (
        answered(first, members=[member]) for first, member in ((runs[0], folder), (folder, str(runs[0].path)))
    )
    assert one["scaling"]["temperature"]["temperature"] > 0
    assert other["scaling"]["temperature"] == pytest.approx(one["scaling"]["temperature"], rel=1e-6)


@pytest.mark.parametrize("changes", [{}, {"data.split.seed": 5}, {"data.source.memory": 0.0}])
def test_the_own_images_are_no_others(runs, changes):
    other = config_of({**TOY, **changes})
    with pytest.raises(ValueError, match="--against with another data set than .*Received: digits.* for both"):
        answered(runs[0], against=other)


@pytest.mark.parametrize("changes", [{"data.source.licence": "CC0"}, {"data.source.path": "PATH/"}])
def test_pictures_by_another_path_or_licence_are_the_same_pictures(changes, pictures):
    config = pictures[0]
    path = config.data.source.path
    changes = {key: value.replace("PATH", path) for key, value in changes.items()}
    given = {"data.source.name": "image_folder", "data.source.path": path, "data.split.train_per_class": 0}
    other = config_of({**TOY, **given, **changes})
    assert assess._is_same_data_set(config.data, other.data)
    question = assess.Question(on=config, against=other)
    with pytest.raises(ValueError, match="--against with another data set than "):
        assess._refuse_against_itself(None, question)


def test_an_answer_is_refused_before_anything_is_predicted_where_another_process_works(runs, monkeypatch):
    monkeypatch.setattr(assess, "open_classifier", None)
    with runs[0].locked(), pytest.raises(ValueError, match="no other process works in"):
        answered(runs[0], split="train")


def test_what_makes_no_ensemble_is_refused(runs, tmp_path):
    with pytest.raises(ValueError, match="each member of an ensemble once. Received: .* twice"):
        answered(runs[0], members=[str(runs[1].path), f"{runs[0].path}/"])
    run = other_run(runs[1], tmp_path, seed=1)
    with pytest.raises(
        ValueError, match=r"members have the same images in each split. Received: .* with data.split.seed: 0 and 1"
    ):
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
