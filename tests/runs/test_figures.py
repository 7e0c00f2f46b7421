"""The papers' figures of made workdirs: which are drawn, of which runs, and what is said of the others."""

import dataclasses
import json

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.runs import figures
from cskd_tf.runs.report import find_runs
from cskd_tf.runs.subjects import subjects_of
from tests.helpers import files, finished_run

LABELS = np.arange(60) % 3
NAMES, GROUPS = ["crow", "wren", "pug"], ["bird", "bird", "dog"]


def run_with_all(path, *, seed=0, labels=LABELS, **changes):
    """A finished run that has saved all that figures need."""
    run, _ = finished_run(path, seed=seed, labels=labels, **changes)
    run.write_classes(NAMES, GROUPS)
    np.savez(run.thumbnails("test"), indices=np.arange(8), images=np.zeros((8, 4, 4, 1), np.uint8))
    run.image_log.mkdir()
    for epoch in (1, 2):
        run.append_log({"epoch": epoch, "loss": 1.0, "val_top1_error": 0.5, "learning_rate": 0.1})
        half = np.full(9, 0.5, np.float16)
        np.savez(run.image_log / f"epoch-{epoch}.npz", target=half, maximum=half, correct=np.arange(9) > epoch)
    return run


@pytest.mark.thorough
def test_one_command_draws_every_figure(command, tmp_path):
    root = tmp_path / "runs"
    run_with_all(root / "a", methods=())
    run_with_all(root / "b")
    before = files(root)
    code, printed = command("--workdir=runs", "--mode=figures")
    assert code == 0, printed
    assert "CSKD(temperature=4, weight=1)" in printed  # the report
    folder = root / "figures" / "digits_preact_resnet10"
    names = {f"{name}.{kind}" for name in figures.KINDS for kind in ("png", "svg")}
    assert {path.name for path in folder.iterdir()} == {*names, "figures.json", "tensorboard"}
    manifest = json.loads((folder / "figures.json").read_text())
    assert manifest.keys() == {*names, "runs"}
    assert manifest["runs"] == "a, b"
    assert {path: content for path, content in files(root).items() if path in before} == before
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["tensors"]) == set(figures.KINDS)


@pytest.mark.thorough
def test_what_cannot_be_drawn_is_said_and_its_older_figure_goes(caplog, tmp_path):
    """A run of an older version, with nothing but predictions; drawn again, the same files are written."""
    run, _ = finished_run(tmp_path, seed=0, labels=LABELS)
    folder = tmp_path / "figures" / "digits_preact_resnet10"
    folder.mkdir(parents=True)
    (folder / "figures.json").write_text('{"top_five.png": ""}')
    (folder / "top_five.png").write_bytes(b"of a run that is gone")
    (folder / "notes.txt").write_text("mine")
    with caplog.at_level("INFO", logger="absl"):
        figures.draw(tmp_path)
    drawn = {path.stem for path in folder.glob("*.png")}
    assert drawn == {"reliability", "risk_coverage", "log_probabilities", "tsne_classes", "rescaling"}
    assert f"5 figures of 1 run in {folder}" in caplog.text
    (line,) = [line for line in caplog.messages if "not drawn" in line]
    assert line.startswith(
        "digits_preact_resnet10: not drawn: most probable classes of single images (Expected pictures"
    )
    assert line.count("Expected classes in groups") == 1
    assert "embeddings by group of classes, which groups of classes are taken for which, error within each" in line
    manifest = json.loads((folder / "figures.json").read_text())
    assert manifest["hard_images"].startswith("not drawn: Expected a log of training images, as log_images=1 writes it")
    assert manifest["group_error"].startswith("not drawn: Expected classes in groups")
    assert manifest["runs"] == "."
    (subject,) = subjects_of([run])
    assert subject.class_names == ["0", "1", "2"]
    assert (folder / "notes.txt").read_text() == "mine"


def test_files_of_others_are_not_overwritten(tmp_path):
    finished_run(tmp_path / "run", seed=0, labels=LABELS)
    folder = tmp_path / "figures" / "digits_preact_resnet10"
    folder.mkdir(parents=True)
    (folder / "reliability.svg").write_text("mine")
    before = files(tmp_path)
    with pytest.raises(ValueError, match=r"no file of others in .*Received: \['reliability.svg'\]"):
        figures.draw(tmp_path)
    assert files(tmp_path) == before


def test_runs_of_other_images_are_not_compared_image_by_image_and_named(caplog, tmp_path):
    run_with_all(tmp_path / "ce", methods=())
    run_with_all(tmp_path / "ce_2", methods=(), seed=1)
    run_with_all(tmp_path / "cskd", split_seed=1)
    run_with_all(tmp_path / "cskd_2", seed=1)
    run_with_all(tmp_path / "other", labels=LABELS[::-1], methods=({"name": "PSKD"},))
    (subject,) = subjects_of(find_runs(tmp_path))
    compared, runs = subject.same_images
    assert [run.path.name for run in runs] == ["ce", "cskd_2"]
    assert [each.name for each in compared] == ["cross-entropy", "CSKD(temperature=4, weight=1)"]
    assert f"Not compared with {[str(run.path) for run in runs]}, because their images are others: " in caplog.text
    assert caplog.messages[-1].endswith(f"others: {[str(tmp_path / 'other')]}")
    assert [len(each.seeds) for each in subject.all_seeds()] == [2, 2, 1]
    assert list(subject.histories()) == list(subject.named)  # those of training are of one split seed


def test_runs_on_data_that_changed_under_the_same_labels_are_not_compared_image_by_image(tmp_path):
    runs = [run_with_all(tmp_path / name, methods=methods) for name, methods in (("a", ()), ("b", ({"name": "PSKD"},)))]
    for run, digest in zip(runs, ("one", "other"), strict=True):
        (run.path / "images.json").write_text(
            json.dumps(
                {"classes": ["x"], "splits": {split: {"images": 60, "sha256": digest} for split in ("train", "test")}}
            )
        )
    (subject,) = subjects_of(find_runs(tmp_path))
    assert [run.path.name for run in subject.same_images[1]] == ["a"]
    assert list(subject.histories()) == list(subject.named)[:1]


def test_half_finished_runs_and_such_without_predictions_are_left_out(caplog, monkeypatch, tmp_path):
    monkeypatch.setattr(figures, "KINDS", {"reliability": figures.KINDS["reliability"]})
    done, half, bare = (run_with_all(tmp_path / name, seed=seed) for seed, name in enumerate(("done", "half", "bare")))
    (half.path / "metrics.json").unlink()
    bare.predictions("test").unlink()
    figures.draw(tmp_path)
    assert str(half.path) not in caplog.text  # the report behind the figures names it
    assert f"{bare.path} is left out: it has no predictions; --mode=evaluate writes them" in caplog.text
    done.predictions("test").unlink()
    with pytest.raises(ValueError, match="Expected runs with predictions"):
        figures.draw(tmp_path)


def test_damaged_files_of_a_run_are_named(tmp_path):
    run = run_with_all(tmp_path / "run")
    right = Predictions.load(run.predictions("test"))
    for changes, message in (
        ({"logits": right.logits * np.nan}, "run/predictions_test.npz: Expected finite scores"),
        ({"embeddings": right.embeddings[1:]}, r"run/predictions_test.npz\. Received: 59 for 60 images"),
    ):
        dataclasses.replace(right, **changes).save(run.predictions("test"))
        with pytest.raises(ValueError, match=message):
            figures.draw(tmp_path)
    run.predictions("test").write_bytes(b"half")
    with pytest.raises(ValueError, match="predictions_test.npz .*--mode=evaluate writes a run's again"):
        figures.draw(tmp_path)
    run, _ = finished_run(tmp_path / "other", seed=0, labels=LABELS)
    run.write_classes(["a", "b"], None)
    with pytest.raises(ValueError, match=r"Expected 3 names of classes\. Received: 2 in .*other"):
        subjects_of([run])
    (run.path / "classes.json").write_text('{"names": ["a", 1, "b"], "groups": null}')
    with pytest.raises(ValueError, match="Expected the names of classes in .*classes.json"):
        run.classes()


def test_other_classes_data_and_networks_are_other_subjects(tmp_path):
    run_with_all(tmp_path / "a")
    run_with_all(tmp_path / "b").write_classes(["ape", "bee", "cat"], None)
    wide, _ = finished_run(tmp_path / "c", seed=0, labels=LABELS)  # which has no names: with the first
    subjects = subjects_of(find_runs(tmp_path))
    assert [[run.path.name for run in subject.runs] for subject in subjects] == [["a", "c"], ["b"]]
    assert figures._folder_names(subjects) == ["digits_preact_resnet10", "digits_preact_resnet10-2"]
    assert wide.path.name == "c"


def test_one_folder_that_is_spelt_twice_is_one_subject(tmp_path):
    source = {"name": "image_folder", "channels": 1}
    for number, path in enumerate(("photos", "./photos/")):
        run = finished_run(tmp_path / str(number), seed=number, labels=LABELS)[0]
        config = json.loads((run.path / "config.json").read_text())
        config["data"]["source"] |= {**source, "path": path, "memory": 1.0 + number}
        (run.path / "config.json").write_text(json.dumps(config))
    assert len(subjects_of(find_runs(tmp_path))) == 1


def test_of_many_settings_the_first_are_compared_and_the_others_named(caplog, tmp_path):
    for epochs in range(10, 24):
        finished_run(tmp_path / str(epochs), seed=0, labels=LABELS, epochs=epochs)
    (subject,) = subjects_of(find_runs(tmp_path))
    cskd = "CSKD(temperature=4, weight=1)"
    assert list(subject.named) == [f"{cskd}, epochs={epochs}" for epochs in range(10, 22)]
    assert len(subject.same_images[1]) == 12
    (message,) = caplog.messages
    assert message.endswith(f"up to 12 methods or settings. Left out: {[f'{cskd}, epochs=22', f'{cskd}, epochs=23']}")


def test_one_class_in_the_split_is_drawn(tmp_path):
    (subject,) = subjects_of([run_with_all(tmp_path / "run", labels=np.ones(20, int))])
    drawn = {name: kind.draw(subject) for name, kind in figures.KINDS.items()}
    assert drawn["tsne_classes"].get_suptitle().endswith("20 images, 1 class")
    assert [text.get_text() for text in drawn["group_error"].axes[0].texts][1] == " no images"
