"""What somebody or something damages in a workdir: one clear line, or a repair that says so."""

import dataclasses
import json
import os
import pkgutil
import re
import shutil
import subprocess

import pytest

from cskd_tf.errors import UserError
from cskd_tf.runs import cli, evaluate, export, train
from cskd_tf.runs.callbacks import Checkpoint
from cskd_tf.runs.config import Config
from cskd_tf.runs.experiment import prepare
from cskd_tf.runs.lock import FolderLock
from cskd_tf.runs.report import report
from cskd_tf.runs.workdir import Workdir
from tests.helpers import files, finished_run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run that was not interrupted; its config."""
    from tests.runs.conftest import small_config

    folder = tmp_path_factory.mktemp("trained")
    config = small_config(folder)
    config.deterministic, config.export.enabled, config.network.width = True, False, 2
    config = Config.read(config)
    train.train(config, Workdir(folder / "run"))
    return config, folder / "run"


@pytest.fixture
def run(trained, tmp_path):
    """A copy of that run, its config, and what it held."""
    config, path = trained
    shutil.copytree(path, tmp_path / "run")
    return config, Workdir(tmp_path / "run")


def halve(path):
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("config.json", r"Expected a JSON object in .*config\.json; put a copy back.*\. Received: '{"),
        ("metrics.json", r"metrics\.json; remove it, and the command that started the run writes it again\. Received"),
    ],
)
def test_half_a_json_file_is_named(name, message, run):
    config, workdir = run
    halve(workdir.path / name)
    for read in (lambda: train.train(config, workdir), lambda: evaluate.evaluate(workdir)):
        with pytest.raises(ValueError, match=message):
            read()


@pytest.mark.thorough
def test_metrics_that_were_removed_are_written_again(run):
    config, workdir = run
    before = (workdir.path / "metrics.json").read_bytes()
    halve(workdir.path / "metrics.json")
    (workdir.path / "metrics.json").unlink()
    train.train(config, workdir)
    assert (workdir.path / "metrics.json").read_bytes() == before


@pytest.mark.parametrize("read", [evaluate.evaluate, export.export_run])
def test_results_of_a_run_whose_last_checkpoint_is_damaged_do_not_become_those_of_another_epoch(read, run):
    _, workdir = run
    (data,) = (workdir.checkpoints / "last").glob("ckpt-2.data-*")
    data.write_bytes(bytes([data.read_bytes()[0] ^ 1]) + data.read_bytes()[1:])
    before = files(workdir.path)
    with pytest.raises(ValueError, match=r"whole checkpoint of the last epoch, 2, .*Received: one of epoch 1"):
        read(workdir)
    assert files(workdir.path) == before


def test_a_finished_run_is_left_as_it_is_where_nothing_can_be_written_to(run, monkeypatch):
    config, workdir = run

    def refuse(self):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(FolderLock, "take", refuse)
    before = files(workdir.path)
    train.train(config, workdir)
    assert files(workdir.path) == before
    (workdir.path / "metrics.json").unlink()
    with pytest.raises(OSError, match="Read-only"):  # one that is not finished is locked
        train.train(config, workdir)


@pytest.mark.thorough
def test_a_refused_export_says_how_the_run_is_ended(run, monkeypatch):
    config, workdir = run
    config = dataclasses.replace(config, export=dataclasses.replace(config.export, enabled=True))

    def refuse(*_):
        raise UserError("Expected litert_int8 to be as good")

    (workdir.path / "metrics.json").unlink()
    monkeypatch.setattr(export, "export_once", refuse)
    with pytest.raises(UserError, match=r"to be as good\. All else .* with --config\.export\.enabled=False, ends it"):
        train.train(config, workdir)


def test_a_damaged_note_of_an_import_is_named(run):
    config, workdir = run
    (workdir.path / "imported.json").write_bytes(b"\xff\xfe{")
    (workdir.path / "metrics.json").unlink()
    with pytest.raises(ValueError, match=r"Expected a JSON object in .*imported\.json"):
        train.train(config, workdir)


def test_a_line_within_the_log_that_is_cut_off_is_named(run):
    config, workdir = run
    (workdir.path / "metrics.json").unlink()
    lines = (workdir.path / "log.jsonl").read_text().splitlines()
    (workdir.path / "log.jsonl").write_text(f"{lines[0][:30]}\n{lines[1]}\n")
    with pytest.raises(
        ValueError,
        match=r"Expected a JSON object in line 1 of .*log\.jsonl; put a copy back, or .*\. Received: '{\"epoch\": 1",
    ):
        train.train(config, workdir)


def cut_off(workdir):
    first, last = (workdir.path / "log.jsonl").read_text().splitlines()
    (workdir.path / "log.jsonl").write_text(f"{first}\n{last[:30]}")


def lose(name):
    return lambda workdir: (workdir.checkpoints / "last" / name).unlink()


def forget_error(workdir):
    """The last epoch's validation error, by which the best epoch is found."""
    log = workdir.path / "log.jsonl"
    *entries, last = map(json.loads, log.read_text().splitlines())
    last["val_top1_error"] = None
    log.write_text("".join(json.dumps(entry) + "\n" for entry in (*entries, last)))


NOT_LOGGED = r"ckpt-2 cannot be gone on from \(log.jsonl has 1 of its epochs\)"


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        pytest.param(cut_off, NOT_LOGGED, id="log", marks=pytest.mark.slow),
        pytest.param(forget_error, NOT_LOGGED, id="number", marks=pytest.mark.slow),
        pytest.param(lose("ckpt-2.index"), "ckpt-2.index is not what ckpt-2.json says", id="index"),
        pytest.param(
            lose("ckpt-2.json"), "ckpt-2.json, which is written last, is not there", id="marker", marks=pytest.mark.slow
        ),
    ],
)
def test_an_epoch_of_which_a_part_is_lost_is_trained_again(damage, said, run, caplog):
    config, workdir = run
    metrics, log = workdir.metrics(), [entry["val_nll"] for entry in workdir.log()]
    (workdir.path / "metrics.json").unlink()
    damage(workdir)
    train.train(config, workdir)
    assert re.search(said, caplog.text)
    assert [entry["val_nll"] for entry in workdir.log()] == log
    assert workdir.metrics() == metrics


@pytest.mark.thorough
def test_a_log_that_is_gone_is_named_before_another_epoch_is_the_best(run):
    config, workdir = run
    (workdir.path / "metrics.json").unlink()
    (workdir.path / "log.jsonl").unlink()
    with pytest.raises(ValueError, match=r"ckpt-2'\], all damaged, or of more epochs than the 0 that the log has"):
        train.train(config, workdir)
    for file in (workdir.checkpoints / "last").glob("ckpt-*.index"):
        file.unlink()
    with pytest.raises(ValueError, match="a whole checkpoint to resume from; put a copy back, or train in another"):
        train.train(config, workdir)


@pytest.mark.thorough
def test_damaged_predictions_are_named_and_written_again(tmp_path, run):
    labels = [0, 1, 2] * 4
    runs = [finished_run(tmp_path / "runs" / str(seed), seed=seed, labels=labels)[0] for seed in (0, 1)]
    halve(runs[1].predictions("test"))
    with pytest.raises(ValueError, match=r"1/predictions_test.npz .*; --mode=evaluate writes a run's again"):
        report(tmp_path / "runs")
    _, workdir = run
    before = workdir.predictions("test").read_bytes()
    halve(workdir.predictions("test"))
    evaluate.evaluate(workdir)
    assert workdir.predictions("test").read_bytes() == before


def test_a_damaged_teacher_is_named(run, tmp_path):
    config, workdir = run
    values = config.as_dict()
    values["methods"] = [{"name": "Distillation", "teacher": str(workdir.path)}]
    contents = bytearray(workdir.classifier.read_bytes())
    middle = contents.index(b"model.weights.h5") + 2000
    contents[middle : middle + 50] = bytes(50)
    for damaged in (contents, contents[: len(contents) // 2]):
        workdir.classifier.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"Expected a teacher that Keras can load\. Received: .*classifier\.keras"):
            train.train(Config.read(values), Workdir(tmp_path / "student"))
    assert not (tmp_path / "student").exists()


@pytest.mark.parametrize("damage", ["flip", "marker", "no marker"])
def test_a_checkpoint_counts_with_a_marker_that_fits(damage, run, caplog):
    config, workdir = run
    last = workdir.checkpoints / "last"
    data, marker = last / "ckpt-2.data-00000-of-00001", last / "ckpt-2.json"
    if damage == "flip":  # which changes no length, as half an upload may not
        contents = bytearray(data.read_bytes())
        contents[len(contents) // 2] ^= 1
        data.write_bytes(contents)
        problem = r"ckpt-2\.data-00000-of-00001 is not what ckpt-2\.json says"
    else:
        halve(marker) if damage == "marker" else marker.unlink()
        problem = r"ckpt-2\.json, which is written last, is not there or not whole"
    checkpoint = Checkpoint(workdir, prepare(config).model, monitor=None)
    assert checkpoint.restore_last() == 1
    assert re.search(
        rf"Checkpoint .*ckpt-2 cannot be gone on from \({problem}\); falling back to the one before", caplog.text
    )


@pytest.mark.thorough
@pytest.mark.parametrize("damage", ["half", "gone"])
def test_metrics_lack_the_best_epoch_in_one_line_that_says_why(damage, run, caplog):
    config, workdir = run
    before = workdir.metrics()
    (workdir.path / "metrics.json").unlink()
    for file in workdir.checkpoints.glob("best/*"):
        if damage == "gone":
            file.unlink()
        elif file.suffix == ".index":
            halve(file)
    train.train(config, workdir)
    best = before.pop("best_epoch")["epoch"]
    assert workdir.metrics() == before
    why = {"half": rf"damaged \(ckpt-{best}.index is not what ckpt-{best}.json says\)", "gone": "not there"}[damage]
    (line,) = [message for message in caplog.messages if "checkpoint" in message]
    because = rf"because the checkpoint of the best validation epoch is {why}"
    assert re.fullmatch(rf"{workdir.path}: metrics.json gets no best_epoch, {because}", line)


@pytest.mark.thorough
def test_checkpoints_of_a_version_without_markers_are_resumed(run, caplog):
    config, workdir = run
    before = (workdir.path / "metrics.json").read_bytes()
    for marker in workdir.checkpoints.glob("*/*.json"):
        marker.unlink()
    (workdir.path / "metrics.json").unlink()
    train.train(config, workdir)
    assert (workdir.path / "metrics.json").read_bytes() == before
    assert "damaged" not in caplog.text


def test_an_export_whose_note_is_damaged_is_another_runs(run, tmp_path):
    config, workdir = run
    values = config.as_dict()
    values["export"]["directory"] = str(tmp_path / "exports")
    experiment = prepare(Config.read(values))
    note = tmp_path / "exports" / export._name(workdir) / "1" / "assets.extra" / "run.json"
    note.parent.mkdir(parents=True)
    for text in (b"{", b"\xff"):
        note.write_bytes(text)
        assert export.exported(experiment, workdir) is None


def test_a_workdir_that_cannot_be_written_to_is_refused(run):
    config, workdir = run
    (workdir.path / "metrics.json").unlink()
    if subprocess.run(["mount", "--bind", workdir.path, workdir.path], check=False).returncode:
        pytest.skip("needs the right to mount")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", workdir.path], check=True)
        with pytest.raises(
            ValueError, match="Expected a workdir that can be written to. Received: .*Read-only file sys"
        ):
            train.train(config, workdir)
    finally:
        subprocess.run(["umount", "--lazy", workdir.path], check=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "during",
    [
        "training.callbacks.StopOnNaN.on_epoch_end",
        "runs.callbacks.Checkpoint.restore_best",
        "runs.evaluate.thumbnails",
        "runs.train.log_final",
    ],
)
def test_a_workdir_that_vanishes_ends_the_run_and_does_not_come_back(during, run, monkeypatch, tmp_path):
    config, _ = run
    workdir = Workdir(tmp_path / "vanishing")
    what_follows = pkgutil.resolve_name(f"cskd_tf.{during}")

    def remove(*args, **kwargs):
        shutil.rmtree(workdir.path)
        return what_follows(*args, **kwargs)

    monkeypatch.setattr(f"cskd_tf.{during}", remove)
    with pytest.raises(SystemExit) as leaving, cli.one_line_for_users():
        train.train(config, workdir)
    assert leaving.value.code.splitlines() == [
        f"error: The workdir {workdir.path} is gone, and with it what could be gone on with",
        "(CSKD_TF_TRACEBACK=1 shows where it was raised.)",
    ]
    assert not workdir.path.exists()
