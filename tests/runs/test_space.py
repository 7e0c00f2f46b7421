"""A disk that is too small is refused before a run begins; one that fills up costs no more than an epoch."""

import contextlib
import errno
import math
import os
import re

import keras
import pytest

from cskd_tf.runs import cli, train
from cskd_tf.runs.config import Config
from cskd_tf.runs.experiment import prepare
from cskd_tf.runs.space import check_space, needs
from cskd_tf.runs.workdir import Workdir
from cskd_tf.training.callbacks import StopOnNaN
from tests.runs.helpers import config_of

BLOCK = 4096  # bytes, of a tmpfs


@pytest.fixture
def small_disk(disk_of):
    return disk_of("2m")


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(config, small_disk):
    config.network.name, config.network.width = "preact_resnet10", 16
    with pytest.raises(ValueError, match=r"Expected \d+ MB free on the disk of .*disk0/run, for .*Received: 2 MB free"):
        train.train(Config.read(config), Workdir(small_disk / "run"))
    assert list(small_disk.iterdir()) == []


def test_the_room_for_baseline_and_run_is_summed_before_anything_is_written(config, tmp_path, monkeypatch):
    config.baseline, config.methods, config.export.enabled = True, (), False
    config = Config.read(config)
    workdir = Workdir(tmp_path / "run")
    size = sum(size for _, size in needs(prepare(config), workdir))
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": size * 3 // 2}))
    with pytest.raises(
        ValueError, match=r"predictions of .*run/cross_entropy and of the run that follows it. Received: \d"
    ):
        train.train(config, workdir)
    assert list(tmp_path.iterdir()) == []


def test_what_the_baseline_has_written_is_still_needed_for_the_run(config, tmp_path):
    experiment, workdir = prepare(Config.read(config)), Workdir(tmp_path / "run")
    before = needs(experiment, workdir)
    (workdir.path / "cross_entropy").mkdir(parents=True)
    (workdir.path / "cross_entropy" / "predictions_test.npz").write_bytes(bytes(1000))
    assert needs(experiment, workdir) == before
    (workdir.path / "predictions_test.npz").write_bytes(bytes(1000))
    assert needs(experiment, workdir)[0] == (workdir.path, before[0][1] - 1000)


@pytest.mark.slow
def test_the_estimate_is_no_less_than_what_a_run_writes(config, tmp_path, monkeypatch):
    config.epochs, config.network.name, config.network.width = 3, "preact_resnet10", 16
    config = Config.read(config)
    workdir = Workdir(tmp_path / "run")
    experiment = prepare(config)
    train.train(config, workdir)
    written = sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
    for free, refused in ((written - 1, True), (2 * written + 10**7, False)):
        monkeypatch.setattr("shutil.disk_usage", lambda folder, free=free: type("Usage", (), {"free": free}))
        if refused:
            with pytest.raises(ValueError, match="MB free"):
                check_space(experiment, Workdir(tmp_path / "new"))
        else:
            check_space(experiment, Workdir(tmp_path / "new"))


class Fill(keras.callbacks.Callback):
    """Fills the disk in the second epoch, but for some bytes."""

    def __init__(self, folder, *, left):
        super().__init__()
        self.file, self.left = folder / "filler", left

    def on_epoch_begin(self, epoch, logs=None):
        if epoch != 1:
            return
        with open(self.file, "wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(BLOCK))
        os.truncate(self.file, self.file.stat().st_size - self.left)


@pytest.mark.slow
def test_a_disk_that_is_full_when_the_network_is_saved_leaves_the_checkpoint(config, tmp_path, monkeypatch):
    config.epochs, config.network.width, config.export.enabled = 1, 2, False
    config, workdir = Config.read(config), Workdir(tmp_path / "run")

    def save(model, path):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(keras.Model, "save", save)
        with pytest.raises(
            OSError, match=r"No space left on device: .*run\. What was saved before is whole: once there is room"
        ):
            train.train(config, workdir)
    assert not list(workdir.path.glob("classifier*"))
    train.train(config, workdir)
    assert workdir.metrics()["test"] == workdir.metrics_of("test")
    assert len(workdir.log()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("blocks", [0, pytest.param(24, marks=pytest.mark.slow)])
def test_a_disk_that_fills_up_costs_an_epoch(blocks, config, small_disk, tmp_path, monkeypatch):
    config.deterministic, config.epochs, config.network.width, config.export.enabled = True, 3, 2, False
    config = Config.read(config)
    monkeypatch.setattr("cskd_tf.runs.space.PER_EPOCH", 0)
    monkeypatch.setattr("cskd_tf.runs.space.BOARD", 0)
    monkeypatch.setattr("cskd_tf.runs.space.GRAPHS", 0)
    monkeypatch.setattr("cskd_tf.runs.space.THUMBNAIL_SIZE", 8)
    workdir = Workdir(small_disk / "run")
    fill = Fill(small_disk, left=blocks * BLOCK)
    original = StopOnNaN.on_epoch_begin

    def filling(self, epoch, logs=None):
        original(self, epoch, logs)
        fill.on_epoch_begin(epoch)

    with monkeypatch.context() as patch:
        patch.setattr(StopOnNaN, "on_epoch_begin", filling)
        with pytest.raises(SystemExit) as leaving, cli.one_line_for_users():
            train.train(config, workdir)
    at_once = r"No space left on device: \S+\. What was saved before is whole: .*"  # TensorBoard's
    assert re.fullmatch(
        rf"error: (?:{at_once}|The checkpoint {workdir.checkpoints}/last/ckpt-\d could not be written "
        r"\(No space left on device\)\. Those before it are whole, and the same command goes on from them)\n"
        r"\(CSKD_TF_TRACEBACK=1 .*",
        leaving.value.code,
    )
    fill.file.unlink()
    train.train(config, workdir)
    whole = Workdir(tmp_path / "whole")
    train.train(config, whole)
    for name in ("metrics.json", "checkpoints/last/ckpt-3.json", "checkpoints/last/ckpt-2.json"):
        assert (workdir.path / name).read_bytes() == (whole.path / name).read_bytes()


NETWORK = {"network.name": "tests.runs.helpers:small_network", "network.width": 64, "export.enabled": False}


def sizes(tmp_path, **changes):
    """The bytes that a run needs, by folder in the order of `needs`, and the experiment."""
    experiment = prepare(config_of({**NETWORK, **{name.replace("__", "."): each for name, each in changes.items()}}))
    return [size for _, size in needs(experiment, Workdir(tmp_path / "run"))], experiment


def bytes_of(variables):
    return sum(4 * math.prod(variable.shape) for variable in variables)


def test_room_is_made_for_three_checkpoints_of_all_that_training_needs(tmp_path):
    (plain,), experiment = sizes(tmp_path, methods=())
    weights = bytes_of(experiment.model.network.weights)
    (averaged,), _ = sizes(tmp_path, methods=(), optimizer__ema_momentum=0.9)
    assert averaged - plain == pytest.approx(3 * weights, abs=64)
    ((of_pskd,), _) = sizes(tmp_path, methods=({"name": "PSKD", "source": "network"},))
    assert of_pskd - plain == pytest.approx(3 * weights, abs=64)  # the network of the epoch before


def test_room_is_made_for_predictions_with_embeddings(tmp_path):
    found = []
    for width in (64, 128):
        (size,), experiment = sizes(tmp_path, methods=(), network__width=width)
        model = experiment.model
        kept = 3 * bytes_of([*model.variables, *model.optimizer.variables]) + 3 * bytes_of(model.network.weights)
        found.append(size - kept)
    images = sum(len(experiment.splits[split].labels) for split in experiment.evaluation_splits)
    assert found[1] - found[0] == pytest.approx(images * 4 * 64, abs=64)


def test_room_is_made_for_the_log_of_images(tmp_path):
    (plain,), experiment = sizes(tmp_path, epochs=5)
    (logged,), _ = sizes(tmp_path, epochs=5, log_images=2)  # after epochs 2, 4 and 5
    assert logged - plain == 3 * 5 * len(experiment.splits["train"].labels)


def test_room_is_made_for_each_format_of_an_export(tmp_path):
    (_, plain), experiment = sizes(tmp_path, export__enabled=True)
    (_, with_one), _ = sizes(tmp_path, export__enabled=True, export__formats=("litert",))
    assert with_one - plain == bytes_of(experiment.model.classifier().weights)
