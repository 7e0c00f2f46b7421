"""What a process that was killed leaves behind keeps no later one from going on, and does not stay for ever."""

import json
import pathlib
import shutil

import numpy as np
import pytest

from cskd_tf.files import is_partial
from cskd_tf.runs import export, train
from cskd_tf.runs.callbacks import Checkpoint
from cskd_tf.runs.config import Config
from cskd_tf.runs.experiment import prepare
from cskd_tf.runs.workdir import Workdir
from cskd_tf.serving import saved_model
from tests.helpers import GONE
from tests.runs.helpers import events_in


@pytest.fixture
def finished(config, tmp_path, monkeypatch):
    """A run that was not interrupted, exported without the check in a process of its own; its config and workdir."""
    monkeypatch.setattr(saved_model, "difference_in_fresh_process", lambda *_: 0.0)
    config.deterministic = True
    config = Config.read(config)
    workdir = Workdir(tmp_path / "run")
    train.train(config, workdir)
    return config, workdir


def test_a_run_that_was_killed_before_it_had_a_config_begins(config, tmp_path):
    workdir = Workdir(tmp_path / "run")
    workdir.path.mkdir()
    partial = workdir.path / f"config.{GONE}.partial.json"
    partial.write_text("{")
    workdir.claim(Config.read(config))
    assert [path.name for path in workdir.path.iterdir()] == ["config.json"]
    (workdir.path / "config.json").unlink()
    (workdir.path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="new or empty folder"):
        workdir.claim(Config.read(config))


def test_whoever_works_in_a_run_removes_what_killed_processes_left(config, tmp_path):
    workdir = Workdir(tmp_path / "run")
    workdir.claim(Config.read(config))
    workdir.figures.mkdir()
    left = [folder / f"predictions.{GONE}.partial.npz" for folder in (workdir.path, workdir.figures)]
    for path in left:
        path.write_bytes(b"half")
    with workdir.locked():
        assert not any(path.exists() for path in left)


def test_an_import_that_was_killed_before_it_had_a_config_can_be_made_again(config, tmp_path):
    workdir = Workdir(tmp_path / "run")
    workdir.claim(Config.read(config), imported_from="model.t7")
    (workdir.path / "config.json").unlink()
    workdir.check_owner(Config.read(config))
    workdir.claim(Config.read(config), imported_from="model.t7")
    assert workdir.imported_from() == "model.t7"


@pytest.mark.slow
def test_a_first_checkpoint_that_was_being_written_is_written_again(finished):
    config, workdir = finished
    expected = (workdir.checkpoints / "last" / "ckpt-2.data-00000-of-00001").read_bytes()
    shown = shown_by_tensorboard(workdir)
    for path in (workdir.path / "metrics.json", *workdir.checkpoints.glob("*/ckpt-2.*")):
        path.unlink()
    index = workdir.checkpoints / "last" / "ckpt-1.index"
    index.write_bytes(index.read_bytes()[:20])
    (workdir.checkpoints / "last" / "ckpt-1_temp").mkdir()
    train.train(config, workdir)
    assert (workdir.checkpoints / "last" / "ckpt-2.data-00000-of-00001").read_bytes() == expected
    assert sorted(path.name for path in (workdir.checkpoints / "last").iterdir()) == [
        f"ckpt-{epoch}.{part}" for epoch in (1, 2) for part in ("data-00000-of-00001", "index", "json")
    ]
    # The epochs that were trained twice are shown once.
    assert len(shown) > 20
    assert shown_by_tensorboard(workdir) == shown


def shown_by_tensorboard(workdir):
    """Run, step and tag of every event, in an order that does not depend on when it was written."""
    folders = [path for path in workdir.tensorboard.rglob("*") if path.is_dir()]
    runs = {str(path.relative_to(workdir.tensorboard)): sorted(events_in(path)) for path in folders}
    return [(run, *event) for run, events in sorted(runs.items()) for event in events]


@pytest.mark.slow
def test_what_the_last_checkpoint_left_half_removed_goes_too(finished):
    config, workdir = finished
    (workdir.path / "metrics.json").unlink()
    unfinished = workdir.checkpoints / "last" / "ckpt-2_temp"
    unfinished.mkdir()
    (unfinished / "part-00000-of-00001.index").touch()
    train.train(config, workdir)
    assert workdir.metrics()
    assert not unfinished.exists()


@pytest.mark.slow
def test_a_later_checkpoint_that_is_damaged_alone_is_not_trained_over(finished):
    config, workdir = finished
    for path in workdir.checkpoints.glob("last/ckpt-1.*"):
        path.unlink()
    index = workdir.checkpoints / "last" / "ckpt-2.index"
    index.write_bytes(index.read_bytes()[:20])
    with pytest.raises(ValueError, match="Expected a whole checkpoint to resume from"):
        Checkpoint(workdir, prepare(config).model, monitor=None).restore_last()


@pytest.mark.slow
def test_an_export_that_was_published_is_not_published_twice(finished):
    config, workdir = finished
    published = pathlib.Path(workdir.metrics()["saved_model"])
    (workdir.path / "metrics.json").unlink()
    unfinished = published.parent / f".x.{GONE}.partial"
    unfinished.mkdir()
    train.train(config, workdir)
    assert workdir.metrics()["saved_model"] == str(published)
    assert [path.name for path in published.parent.iterdir()] == ["1"]  # what was left half written has gone
    # Asked for, there is a next version.
    unfinished.mkdir()
    assert pathlib.Path(export.export_run(workdir)).name == "2"
    assert not unfinished.exists()
    # Another run in the same folder is another run.
    config_file = workdir.path / "config.json"
    text = config_file.read_text()
    shutil.rmtree(workdir.path)
    workdir.path.mkdir()
    config_file.write_text(text)
    assert export.exported(prepare(config), workdir) is None


def test_a_directory_that_cannot_be_exported_to_is_refused_before_training(config, tmp_path):
    (tmp_path / "file").touch()
    for directory, received in (
        (str(tmp_path / "file" / "below"), ".*/below, where .*file is no folder"),
        ("/dev/null", "/dev/null, where /dev/null is no folder"),
        ("/proc/x", "/proc/x, where /proc takes none"),  # which not even root can
        ("gs://bucket/x", "export.directory=gs://bucket/x"),
        ("", "export.directory=''"),
        ("a/" * 300, "export.directory, of 300"),
        (str(tmp_path / "run" / "config.json"), ".*config.json, in the workdir"),
        (str(tmp_path / "run" / "checkpoints" / "saved"), ".*saved, in the workdir"),
    ):
        config.export.directory = directory
        with pytest.raises(ValueError, match=f"Received: {received}"):
            train.train(Config.read(config), Workdir(tmp_path / "run"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_check_of_a_directory_leaves_nothing_behind(config, tmp_path):
    export.check(Config.read(config), Workdir(tmp_path / "run"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_run_leaves_nothing_half_written(finished, tmp_path):
    names = [path for path in tmp_path.rglob("*") if is_partial(path) or path.name.endswith("_temp")]
    assert names == []
    _, workdir = finished
    assert np.isfinite(json.loads((workdir.path / "metrics.json").read_text())["test"]["nll"])
