"""A run's folder: JSON that is written whole, that every reader takes, and how settings are named in it."""

import contextlib
import fcntl
import json
import math
import signal
import subprocess
import sys

import numpy as np
import pytest

from cskd_tf.errors import UserError
from cskd_tf.runs import evaluate, export, import_checkpoint, train
from cskd_tf.runs.config import Config
from cskd_tf.runs.images_of_run import noted_images
from cskd_tf.runs.json_files import flatten
from cskd_tf.runs.report import report
from cskd_tf.runs.workdir import Workdir
from tests.helpers import finished_run


def test_flatten_names_every_value():
    nested = {"a": {"b": (1, 2), "c": []}, "methods": [{"name": "CSKD"}, {"name": "Mixup"}]}
    assert flatten(nested) == {
        "a.b": [1, 2], "a.c": [], "methods[0].name": "CSKD", "methods[1].name": "Mixup",
    }  # fmt: skip


def test_json_is_written_whole(tmp_path):
    workdir = Workdir(tmp_path)
    workdir.write_metrics({"val": {"ece": 0.5}})
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"val": {"ece": 0.5}}
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]


def test_what_json_lacks_becomes_null(tmp_path):
    """Python writes NaN for a metric that is undefined, which other readers refuse."""
    workdir = Workdir(tmp_path)
    workdir.write_metrics({"val": {"recall_at_1": math.nan, "nll": [math.inf, 1.5]}, "best": (np.float64("nan"), 2)})
    assert workdir.metrics() == {"val": {"recall_at_1": None, "nll": [None, 1.5]}, "best": [None, 2]}
    workdir.append_log({"epoch": 1, "val_recall_at_1": math.nan})
    workdir.append_log({"epoch": 2, "val_recall_at_1": 0.5})
    workdir.trim_log(epochs=1)
    for name in ("metrics.json", "log.jsonl"):
        json.loads((tmp_path / name).read_text(), parse_constant=pytest.fail)
    assert workdir.log() == [{"epoch": 1, "val_recall_at_1": None}]


HOLD = """
import sys, time
from cskd_tf.runs.workdir import Workdir

with Workdir(sys.argv[1]).locked():
    print("locked", flush=True)
    time.sleep(600)
"""


@contextlib.contextmanager
def held(workdir):
    """Another process that works in the folder, until it is killed."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(workdir.path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "locked\n"
        yield
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()


@pytest.mark.thorough
def test_a_workdir_is_one_process_at_a_time(config, tmp_path):
    config = Config.read(config)
    workdir = Workdir(tmp_path / "run")
    workdir.claim(config)
    modes = (
        lambda: train.train(config, workdir),
        lambda: evaluate.evaluate(workdir),
        lambda: export.export_run(workdir),
        lambda: import_checkpoint.import_run(config, workdir, checkpoint="nowhere.pth"),
    )
    with held(workdir):
        for mode in modes:
            with pytest.raises(ValueError, match="Expected a workdir that no other process works in. Received: .*run"):
                mode()
    with workdir.locked():  # the process is gone, and so is its lock
        assert sorted(path.name for path in workdir.path.iterdir()) == [".lock", "config.json"]


def test_of_two_that_begin_a_workdir_one_gets_it(config, tmp_path):
    config = Config.read(config)
    first, second = Workdir(tmp_path / "run"), Workdir(tmp_path / "run")
    with first.locked(), second.locked():
        first.claim(config)
        with pytest.raises(ValueError, match="Expected a workdir that no other process works in"):
            second.claim(config)
        first.claim(config)
    with second.locked():
        second.claim(config)


def test_a_second_run_is_refused_before_the_first_has_claimed_the_folder(config, tmp_path):
    workdir = Workdir(tmp_path / "new" / "run")
    with workdir.locked(make=True), pytest.raises(ValueError, match="no other process works in. Received: .*run"):
        train.train(Config.read(config), Workdir(workdir.path))
    assert not list(tmp_path.iterdir())  # of what was made for the lock nothing is left
    with workdir.locked(make=True):
        workdir.claim(Config.read(config))
    assert sorted(path.name for path in workdir.path.iterdir()) == [".lock", "config.json"]


def test_what_is_refused_leaves_the_users_folder_as_it_was(config, tmp_path):
    config.data.source.name = "nowhere"
    for path in (tmp_path, tmp_path / "new" / "run"):
        with pytest.raises(ValueError, match="Unknown data set"):
            train.train(Config.read(config), Workdir(path))
        assert not list(tmp_path.iterdir())


def test_a_lock_that_another_process_removes_is_made_anew(tmp_path, monkeypatch):
    workdir, flock, removals = Workdir(tmp_path / "run"), fcntl.flock, iter([True, True, False])

    def flock_after_removal(file, operation):
        if next(removals):
            (workdir.path / ".lock").unlink()
            workdir.path.rmdir()
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", flock_after_removal)
    with workdir.locked(make=True):
        assert next(removals, None) is None
        monkeypatch.undo()
        with pytest.raises(ValueError, match="no other process works in"), Workdir(workdir.path).locked(make=True):
            pass
        assert [path.name for path in workdir.path.iterdir()] == [".lock"]


@pytest.mark.parametrize("place", ["/proc/nowhere/run", "file/run"])
def test_a_folder_that_cannot_be_made_is_refused(place, tmp_path):
    (tmp_path / "file").touch()
    taken = Workdir(tmp_path / place).locked(make=True)
    with pytest.raises(ValueError, match="Expected a workdir that can be written to"), taken:
        pass


def test_a_lock_alone_is_no_run(config, tmp_path):
    (tmp_path / ".lock").touch()
    workdir = Workdir(tmp_path)
    assert workdir.is_new()
    workdir.claim(Config.read(config))
    assert not workdir.is_new()


@pytest.mark.parametrize("content", [b"", b"null", b"[1]", b'"x"', b"{", b"\xff\xfe", b"[" * 100_000, b"{} {}"])
@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("config.json", Workdir.config),
        ("metrics.json", Workdir.metrics),
        ("log.jsonl", Workdir.log),
        ("imported.json", Workdir.imported_from),
        ("trained_by.json", Workdir.trained_by),
    ],
)
def test_a_file_that_is_no_json_of_a_run_is_named(name, read, content, tmp_path):
    content += b"\n" if name == "log.jsonl" else b""
    if name == "log.jsonl" and content == b"\n":
        content = b"\n\n"
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"Expected a JSON object in .*{tmp_path / name}"):
        read(Workdir(tmp_path))


@pytest.mark.parametrize(
    "metrics", ['{"test": 3}', '{"val": {}}', '{"test": {"nll": 1}}', '{"test": {"ece_bins": 20, "nll": "low"}}']
)
def test_metrics_that_are_none_are_named_by_the_report(metrics, tmp_path):
    run, _ = finished_run(tmp_path, seed=0, labels=np.arange(30) % 3)
    (run.path / "metrics.json").write_text(metrics)
    with pytest.raises(UserError, match="Expected metrics of the test split as a run writes them. Received: .*json"):
        report(run.path)


@pytest.mark.parametrize("value", ['"x"', "true", "[1]", "1" + 400 * "0"])
def test_what_is_no_number_is_refused_in_log_and_metrics(value, tmp_path):
    (tmp_path / "log.jsonl").write_text(f'{{"epoch": 1, "nll": null}}\n{{"epoch": 2, "nll": {value}}}\n')
    with pytest.raises(UserError, match=r"a number, or null, for each metric of .*log.jsonl, epoch 2: \{'nll': "):
        Workdir(tmp_path).log()
    (tmp_path / "metrics.json").write_text(f'{{"test": {{"ece_bins": 20, "nll": {value}}}}}')
    with pytest.raises(
        UserError, match=r"metrics of the test split as a run writes them. Received: .*metrics.json with"
    ):
        Workdir(tmp_path).metrics_of("test")


def test_a_line_of_the_log_without_its_epoch_is_refused(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"epoch": 1}\n{"epoch": "two"}\n')
    with pytest.raises(UserError, match=r"number of the epoch in each line of .*log.jsonl. Received: \{'epoch': 'two'"):
        Workdir(tmp_path).log()


@pytest.mark.parametrize(
    ("name", "read", "advice"),
    [
        ("trained_by.json", Workdir.trained_by, "remove it"),
        ("images.json", noted_images, "removed, it is written again"),
        ("metrics.json", Workdir.metrics, "remove it, and the command"),
        ("config.json", Workdir.config, "put a copy back, or train in another --workdir"),
    ],
)
def test_of_a_damaged_file_it_is_said_what_to_do(name, read, advice, tmp_path):
    (tmp_path / name).write_text('{"half')
    with pytest.raises(UserError, match=rf"Expected a JSON object in .*{name}; .*{advice}.*\. Received: '{{\"half'"):
        read(Workdir(tmp_path))


def test_epochs_count_as_logged_up_to_the_first_without_the_metric_that_chooses(tmp_path):
    workdir = Workdir(tmp_path)
    for entry in ({"epoch": 1, "val_top1_error": 0.5}, {"epoch": 2, "val_top1_error": None}, {"epoch": 4}):
        workdir.append_log(entry)
    assert workdir.logged_epochs() == 2
    assert workdir.logged_epochs(monitor="val_top1_error") == 1
