import os
import re
import threading
import time

import pytest
import tensorflow as tf

from cskd_tf.files import check_readable, one_at_a_time, remove_leftovers, written_whole
from cskd_tf.runs import markers
from cskd_tf.runs.workdir import Workdir
from tests.helpers import GONE


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_file_appears_when_the_block_ends(tmp_path):
    with written_whole(tmp_path / "log.json") as partial:
        partial.write_text("[1,")
        assert re.fullmatch(rf"log\.{os.getpid()}@[\w-]*-[0-9a-f]{{6}}\.partial\.json", "".join(names(tmp_path)))
        partial.write_text("[1, 2]")
    assert names(tmp_path) == ["log.json"]
    assert (tmp_path / "log.json").read_text() == "[1, 2]"


def test_a_file_that_was_there_is_replaced_at_once(tmp_path):
    path = tmp_path / "log.json"
    path.write_text("old")
    with written_whole(str(path)) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("before", ["old", None])
def test_after_an_error_all_is_as_it_was(before, tmp_path):
    path = tmp_path / "log.json"
    if before is not None:
        path.write_text(before)

    def write_half():
        with written_whole(path) as partial:
            partial.write_text("ne")
            raise OSError("disk is full")

    with pytest.raises(OSError, match="disk is full"):
        write_half()
    assert names(tmp_path) == ([] if before is None else ["log.json"])
    assert before is None or path.read_text() == before


def test_a_block_that_writes_nothing_is_an_error_and_keeps_what_was_there(tmp_path):
    path = tmp_path / "log.json"
    path.write_text("old")
    with pytest.raises(FileNotFoundError, match="partial"), written_whole(path):
        pass
    assert path.read_text() == "old"


def test_one_at_a_time_waits_for_who_is_inside(tmp_path):
    came = []

    def second():
        with one_at_a_time(tmp_path / ".lock"):
            came.append("second")

    with one_at_a_time(tmp_path / ".lock"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(timeout=0.3)
        assert came == []
    thread.join(timeout=30)
    assert came == ["second"]


def test_what_another_host_was_writing_is_left_over_after_an_hour(tmp_path):
    """Nobody can ask whether its process still runs; on this one the process of the number does not."""
    for name in ("a.1@elsewhere-0a1b2c.partial.json", "b.1@elsewhere-0a1b2c.partial.json"):
        (tmp_path / name).write_text("{")
    (tmp_path / f"c.{GONE}.partial.json").write_text("{")  # as versions without hosts had it
    old = time.time() - 3700
    os.utime(tmp_path / "b.1@elsewhere-0a1b2c.partial.json", (old, old))
    remove_leftovers(tmp_path)
    assert names(tmp_path) == ["a.1@elsewhere-0a1b2c.partial.json"]


@pytest.mark.parametrize("path", ["runs [2024]/mine", "what?", "all*", "back\\slash"])
def test_a_path_that_tensorflow_takes_for_a_pattern_is_refused(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=re.escape(f"Received: workdir={path}")):
        check_readable(path, name="workdir")
    tf.train.Checkpoint(value=tf.Variable(1.0)).write(path)
    if "[" in path or "\\" in path:  # the other two match themselves, and what stands beside them
        with pytest.raises(tf.errors.OpError):
            tf.train.load_checkpoint(path)


@pytest.fixture
def to_disk(monkeypatch):
    """What is written to the disk itself, by name, and what is put in its place, in turn."""
    done, sync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (done.append(os.readlink(f"/proc/self/fd/{number}")), sync(number)))
    monkeypatch.setattr(os, "replace", lambda *paths: (done.append(paths), replace(*paths)))
    return done


def test_what_outlasts_a_loss_of_power_is_on_disk_before_it_counts(to_disk, tmp_path):
    with written_whole(tmp_path / "log.json") as partial:
        partial.write_text("{}")
    assert to_disk == [str(partial), (partial, tmp_path / "log.json"), str(tmp_path)]
    to_disk.clear()
    for part in ("ckpt-1.index", "ckpt-1.data-00000-of-00001"):
        (tmp_path / part).write_text("weights")
    markers.mark(tmp_path / "ckpt-1")
    (_, replaced), *_ = [done for done in to_disk if isinstance(done, tuple)]
    assert replaced == tmp_path / "ckpt-1.json"
    before = to_disk[: [isinstance(done, tuple) for done in to_disk].index(True)]
    assert {str(tmp_path / "ckpt-1.index"), str(tmp_path / "ckpt-1.data-00000-of-00001")} < set(before)
    to_disk.clear()
    Workdir(tmp_path).append_log({"epoch": 1})
    assert to_disk == [str(tmp_path / "log.jsonl")]
