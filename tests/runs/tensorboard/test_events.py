"""Epochs that are trained again are shown once, by every writer."""

import pytest
import tensorflow as tf

from cskd_tf.runs.tensorboard.about import name_of_run
from cskd_tf.runs.tensorboard.board import TensorBoard
from cskd_tf.runs.tensorboard.ending import write_ending
from cskd_tf.runs.tensorboard.events import keep_epochs, remove_events
from cskd_tf.runs.workdir import Workdir
from tests.runs.helpers import config_of, events_in


@pytest.fixture
def folders(tmp_path):
    """Those of two writers, which wrote epochs 1 to 3, and one of them the graph."""
    for name in ("train", "val"):
        writer = tf.summary.create_file_writer(str(tmp_path / name))
        with writer.as_default():
            if name == "train":
                tf.summary.graph(tf.Graph())
            for step in (1, 2, 3):
                tf.summary.scalar("loss", 1.0 / step, step=step)
        writer.close()
    return tmp_path / "train", tmp_path / "val"


def test_epochs_that_are_trained_again_are_shown_once(caplog, folders, tmp_path):
    train, val = folders
    keep_epochs(tmp_path, epochs=2)  # interrupted in epoch 4, and begun again after epoch 2
    assert events_in(train) == [(0, "graph"), (1, "loss"), (2, "loss")]
    assert events_in(val) == [(1, "loss"), (2, "loss")]
    writer = tf.summary.create_file_writer(str(val))
    with writer.as_default():
        for step in (3, 4):
            tf.summary.scalar("loss", 1.0 / step, step=step)
    writer.close()
    assert sorted(events_in(val)) == [(1, "loss"), (2, "loss"), (3, "loss"), (4, "loss")]
    last_file = max(val.glob("*tfevents*"), key=lambda file: file.stat().st_mtime_ns)
    last_file.write_bytes(last_file.read_bytes()[:-3])
    with caplog.at_level("WARNING", logger="absl"):
        keep_epochs(tmp_path, epochs=9)
    assert f"{last_file}: what follows its last whole record is left out" in caplog.text
    assert events_in(val) == [(1, "loss"), (2, "loss"), (3, "loss")]
    assert len(list(val.iterdir())) == 1


def test_a_run_that_begins_anew_leaves_nothing_of_before(folders, tmp_path):
    keep_epochs(tmp_path, epochs=0)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["train", "val"]


def test_a_folder_is_emptied_but_not_what_is_below_it(folders, tmp_path):
    remove_events(folders[0])
    remove_events(tmp_path)
    assert events_in(folders[0]) == []
    assert len(events_in(folders[1])) == 3


def test_event_files_of_another_run_stay(tmp_path):
    other = tmp_path / "events.out.tfevents.1.somewhere"
    other.write_bytes(b"of somebody else")
    board = TensorBoard(tmp_path, evaluation=None)
    board.on_train_begin()
    board.on_train_end()
    assert other.read_bytes() == b"of somebody else"


def test_final_metrics_are_shown_once_however_often_they_are_written(tmp_path):
    config, workdir = config_of({"epochs": 2}), Workdir(tmp_path)
    for ece in (0.5, 0.25):
        write_ending(workdir, config, metrics={"val": {"ece": ece}}, class_names=[])
    assert events_in(workdir.tensorboard / name_of_run(config) / "val") == [(2, "calibration/ece")]
