"""What an export leaves: signatures, the card, and nothing where it fails. Its check is that of test_train_main.py."""

import json
import re
import types

import numpy as np
import pytest
import tensorflow as tf
import yaml

from cskd_tf.errors import UserError
from cskd_tf.evaluation import metrics
from cskd_tf.evaluation.conformal import ConformalSets
from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.evaluation.scaling import TemperatureScaling
from cskd_tf.runs import export
from cskd_tf.runs.classifiers import open_classifier
from cskd_tf.runs.config import Config
from cskd_tf.runs.workdir import Workdir
from cskd_tf.serving import saved_model
from tests.helpers import files


@pytest.fixture
def run(exported_run):
    return exported_run


@pytest.fixture
def folder(exported_folder):
    return exported_folder


@pytest.fixture
def unchecked(monkeypatch):
    """Leaves out the process of its own."""
    monkeypatch.setattr(saved_model, "difference_in_fresh_process", lambda *_: 0.0)


def export_again(run, **changes):
    """Exports with other keys of `export`; a network of the tests' needs the config."""
    values = run.config().as_dict()
    values["export"] |= changes
    return export.export_run(run, config=Config.read(values))


@pytest.mark.thorough
def test_probabilities_and_sets_are_those_of_the_validation_images(run, folder):
    validation, test = (Predictions.load(run.predictions(split)) for split in ("val", "test"))
    fitted = TemperatureScaling.fit(validation.logits, validation.labels)
    sets = ConformalSets.fit(validation.logits, validation.labels, kind="threshold", alpha=0.1)
    written = json.loads((folder / "assets.extra" / "calibration.json").read_text())
    assert written == {
        "temperature": pytest.approx(fitted.temperature), "coverage": 0.9, "left_out": {},
        "threshold": pytest.approx(1 - sets.largest, abs=1e-6),  # the export's probabilities are float32
    }  # fmt: skip
    model = tf.saved_model.load(str(folder))
    images = open_classifier(str(run.path), config=run.config()).splits["test"].load(np.arange(40))
    outputs = model.serve(tf.cast(images, tf.uint8))
    expected = tf.nn.softmax(fitted.apply(test.logits[:40]))
    np.testing.assert_allclose(outputs["probabilities"], expected, atol=1e-5)
    assert (outputs["conformal_set"].numpy() == sets.sets(test.logits[:40])).mean() > 0.99  # to rounding


def test_a_saved_model_is_assessed_as_its_run(run, folder):
    test = Predictions.load(run.predictions("test"))
    classifier = open_classifier(str(folder), config=run.config())
    found = classifier.on(classifier.splits["test"], name="test")
    for name in ("logits", "labels", "embeddings"):
        np.testing.assert_allclose(getattr(found, name), getattr(test, name), atol=1e-4)


def test_a_saved_model_of_before_is_assessed_by_its_probabilities(run, tmp_path):
    """Version 0.1.0 wrote `serve` alone."""

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 1], tf.uint8)])
    def serve(images):
        means = tf.reduce_mean(tf.cast(images, tf.float32), axis=[1, 2, 3])
        return {"probabilities": tf.nn.softmax(means[:, None] * tf.range(10.0) / 255)}

    module = tf.Module()
    module.serve = serve
    tf.saved_model.save(module, str(tmp_path / "1"))
    (tmp_path / "1" / "assets.extra").mkdir()
    (tmp_path / "1" / "assets.extra" / "classes.json").write_text(json.dumps([str(digit) for digit in range(10)]))
    classifier = open_classifier(str(tmp_path / "1"), config=run.config())
    source = classifier.splits["val"]
    found = classifier.on(source, name="val")
    logits = np.asarray(source.load(np.arange(len(source.labels)))).mean(axis=(1, 2, 3))[:, None] * np.arange(10) / 255
    expected = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(found.logits, expected, atol=1e-4)
    assert found.given_embeddings is None


def test_the_card_has_the_runs_figures(run, folder):
    card = (folder / "README.md").read_text()
    test = Predictions.load(run.predictions("test"))
    fitted = json.loads((folder / "assets.extra" / "calibration.json").read_text())
    _, head, body = card.split("---\n", 2)
    head = yaml.safe_load(head)
    (result,) = head["model-index"][0]["results"]
    measured = {each["type"]: each["value"] for each in result["metrics"]}
    error = metrics.top_k_error(test.logits, test.labels, k=1)
    served = test.logits / fitted["temperature"]
    assert measured["accuracy"] == pytest.approx(1 - error, abs=1e-6)
    assert measured["nll"] == pytest.approx(metrics.negative_log_likelihood(served, test.labels), abs=1e-6)
    (row,) = re.findall(r"^\| top-1 error % \| ([\d.]+) \| ([\d.]+) to ([\d.]+) \| ([\d.]+) \|$", body, re.MULTILINE)
    value, low, high, raw = map(float, row)
    assert value == raw == pytest.approx(100 * error, abs=0.005)
    assert low < value < high
    (row,) = re.findall(r"^\| NLL \| ([\d.]+) \| .* \| ([\d.]+) \|$", body, re.MULTILINE)
    for found, logits in zip(map(float, row), (served, test.logits), strict=True):
        assert found == pytest.approx(metrics.negative_log_likelihood(logits, test.labels), abs=0.0005)
    sets = ConformalSets("threshold", 0.1, 1 - fitted["threshold"]).sets(test.logits)
    coverage = sets[np.arange(len(sets)), test.labels].mean()
    assert f"it holds it in {100 * coverage:.2f} %, with {sets.sum(axis=1).mean():.2f} classes" in body
    assert f"divided by {fitted['temperature']:.4f}" in body
    assert "- digits: CC BY 4.0" in body
    assert "| train | 200 | 20 to 20 |" in body
    expected = run.config().as_dict()
    expected["export"]["directory"] = folder.parents[1].name  # where it is on this machine stays untold
    assert json.loads(re.search(r"```json\n(.*?)```", body, re.DOTALL)[1]) == expected
    assert "| `embeddings_bytes` | `image_bytes` string [N] | `embedding`, `logits` |" in body
    assert (folder / "calibration.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.thorough
@pytest.mark.usefixtures("unchecked")
def test_what_is_not_asked_for_is_left_out(run, tmp_path):
    metrics_file = run.path / "metrics.json"
    before = metrics_file.read_bytes()
    target = export_again(run, temperature="off", coverage=0.0, directory=str(tmp_path))
    assert json.loads(metrics_file.read_bytes())["saved_model"] == str(target)
    metrics_file.write_bytes(before)
    model = tf.saved_model.load(str(target))
    outputs = model.serve(np.zeros((1, 8, 8, 1), np.uint8))
    assert "conformal_set" not in outputs
    logits = model.embeddings(np.zeros((1, 8, 8, 1), np.uint8))["logits"]
    np.testing.assert_allclose(outputs["probabilities"], tf.nn.softmax(logits), atol=1e-6)
    card = (target / "README.md").read_text()
    assert "There is no temperature, because none was asked for." in card
    assert "There are no conformal sets, because none were asked for." in card
    assert "before the temperature |" not in card
    assert str(tmp_path) not in card  # to which it was exported
    assert str(run.path) not in card
    assert f"| run | {run.path.name} |" in card


def test_predictions_that_are_gone_or_of_other_images_are_refused(run, folder):
    path, before = run.predictions("val"), files(folder.parent)
    content = path.read_bytes()
    try:
        path.unlink()
        with pytest.raises(UserError, match=r"Expected .*predictions_val.npz; --mode=evaluate writes it again"):
            export_again(run)
        Predictions.load(run.predictions("test")).save(path)
        with pytest.raises(UserError, match=r"predictions_val.npz to be of the \d+ images of the val split and 10"):
            export_again(run)
    finally:
        path.write_bytes(content)
    assert files(folder.parent) == before


@pytest.mark.thorough
def test_an_export_that_differs_is_not_published(run, folder, monkeypatch):
    before = files(folder.parent)
    monkeypatch.setattr(saved_model, "difference_in_fresh_process", lambda *_: 1e-3)
    with pytest.raises(RuntimeError, match="What the SavedModel returns differs from what the model does by"):
        export_again(run)
    assert files(folder.parent) == before


@pytest.mark.thorough
@pytest.mark.parametrize("size", ["100k", "200k"])  # at which TensorFlow fails, and at which the card does
@pytest.mark.usefixtures("unchecked")
def test_a_disk_that_is_full_is_one_error_and_leaves_nothing(size, run, disk_of):
    disk = disk_of(size)
    message = rf"could not be written to {disk}/models/.*run \(No space left on device: {disk}/models/.*run\)"
    with pytest.raises(OSError, match=message):
        export_again(run, directory=str(disk / "models"))
    assert not (disk / "models").exists()


@pytest.mark.thorough
def test_a_full_disk_of_temporary_files_is_named(run, tmp_path, disk_of, monkeypatch):
    """The check in a process of its own has no room for its images there."""
    disk = disk_of("4k")
    (disk / "filler").write_bytes(bytes(4096))
    monkeypatch.setattr("tempfile.tempdir", str(disk))
    with pytest.raises(OSError, match=rf"written to {tmp_path}/models/.* \(No space left on device: {disk}\)"):
        export_again(run, directory=str(tmp_path / "models"))
    assert files(tmp_path / "models") == {}


@pytest.mark.thorough
@pytest.mark.usefixtures("unchecked")
def test_a_model_of_another_run_gets_no_version_of_this_one(run, tmp_path):
    target = export_again(run, directory=str(tmp_path / "models"))
    stamp = json.loads((target / "assets.extra" / "run.json").read_text())
    assert export_again(run, directory=str(tmp_path / "models")).name == "2"
    (target / "assets.extra" / "run.json").write_text(json.dumps({**stamp, "workdir": "another"}))
    with pytest.raises(UserError, match="to have versions of the run in .* alone; .* Received: version 1 of a run in"):
        export_again(run, directory=str(tmp_path / "models"))
    assert sorted(path.name for path in target.parent.iterdir()) == ["1", "2"]


def test_folders_whose_paths_are_the_same_with_dashes_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ("workdirs/a/b", "workdirs/a-b", "a-b")
    assert {export._name(Workdir(name)) for name in names} == {"a-b"}
    assert len({export._place(Workdir(name)) for name in names}) == 3
    assert export._name(Workdir(".")) == tmp_path.name


def test_the_next_version_is_behind_the_last_whatever_was_removed(tmp_path):
    for name in ("root/3", "root/12", "new"):
        (tmp_path / name).mkdir(parents=True)
    assert export._publish(tmp_path / "new", tmp_path / "root").name == "13"
    assert not (tmp_path / "root/3/new").exists()


def test_version_ten_is_newer_than_nine(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_stamp", lambda experiment, workdir: {"run": 1})
    monkeypatch.setattr(export, "_published", lambda root: iter([("9", {"run": 1}), ("10", {"run": 1}), ("11", {})]))
    config = types.SimpleNamespace(export=types.SimpleNamespace(directory=str(tmp_path)))
    assert export.exported(types.SimpleNamespace(config=config), Workdir(tmp_path / "run")).name == "10"
