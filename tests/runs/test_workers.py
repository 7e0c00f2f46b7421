"""The same command on several workers: one run, written by the first of them."""

import re
import signal
import time

import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.runs.sharing import check_shared
from cskd_tf.runs.workdir import Workdir
from cskd_tf.training.workers import Workers
from tests.helpers import ROOT, SMALL
from tests.processes import finish, kill, output, start, wait_for
from tests.same_runs import check_same, epochs_done

COMMAND = (
    str(ROOT / "train_main.py"), *SMALL, "--config.baseline=False", "--config.verbose=0",
    "--config.network.synchronized=True",
)  # fmt: skip
SMALL_NETWORK = "tests.runs.helpers:small_network"


def train(folder, *, workers, arguments=(), wait=True):
    folder.mkdir(exist_ok=True)
    processes = start(folder, (*COMMAND, "--workdir=run", *arguments), workers=workers, cwd=folder)
    if wait:
        finish(folder, processes)
    return processes


def check_saved_models(folder, expected):
    """What is exported returns the same for the same images."""
    images = np.random.default_rng(0).integers(0, 256, [16, 8, 8, 1], np.uint8)
    models = [tf.saved_model.load(str(path / "saved_models/run/1")) for path in (folder, expected)]
    mine, theirs = (model.serve(images) for model in models)
    assert mine.keys() == theirs.keys()
    assert mine["probabilities"].shape == (16, 10)
    for name in mine:
        if mine[name].dtype.is_floating:
            np.testing.assert_allclose(mine[name], theirs[name], rtol=1e-5, atol=1e-5, err_msg=name)
        else:
            np.testing.assert_array_equal(mine[name], theirs[name], err_msg=name)


@pytest.mark.thorough
def test_two_workers_train_as_one_process_does(command, tmp_path, monkeypatch):
    short = ("--config.epochs=1", f"--config.network.name={SMALL_NETWORK}", "--config.export.enabled=False")
    (tmp_path / "one").mkdir()
    monkeypatch.chdir(tmp_path / "one")
    code, printed = command("--workdir=run", *COMMAND[1:], *short)
    assert code == 0, printed
    train(tmp_path / "two", workers=2, arguments=short)
    check_same(tmp_path / "two", tmp_path / "one")


@pytest.mark.slow
@pytest.mark.parametrize("network", [SMALL_NETWORK, "preact_resnet10"])
def test_two_workers_write_what_one_process_writes(network, tmp_path):
    short = ("--config.epochs=1", f"--config.network.name={network}")
    train(tmp_path / "one", workers=1, arguments=short)
    train(tmp_path / "two", workers=2, arguments=short)
    check_same(tmp_path / "two", tmp_path / "one")
    assert "SavedModel of run" in output(tmp_path / "two", 0)
    assert "SavedModel" not in output(tmp_path / "two", 1)
    said = output(tmp_path / "two", 0) + output(tmp_path / "two", 1)
    warnings = re.findall(r"WARNING: (?!All log messages)(.*)", said)  # as TensorFlow 2.20's gRPC server begins its log
    assert {line.partition(":")[0] for line in warnings} <= {"Exported without temperature"}  # after one epoch
    check_saved_models(tmp_path / "two", tmp_path / "one")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [3, 4])
def test_more_workers_write_what_one_process_writes(tmp_path, workers):
    # What methods keep of all images, and at a rate at which the last bits do not matter for long.
    short = (
        "--config.epochs=3", "--config.schedule.learning_rate=0.003",
        f"--config.network.name={SMALL_NETWORK}",
        "--config.methods=({{'name': 'AdaCos'}}, {{'name': 'PSKD'}})",
    )  # fmt: skip
    train(tmp_path / "one", workers=1, arguments=short)
    train(tmp_path / "many", workers=workers, arguments=short)
    check_same(tmp_path / "many", tmp_path / "one", within=1e-6)
    check_saved_models(tmp_path / "many", tmp_path / "one")


def test_one_worker_goes_on_where_several_were_killed_as_they_looked_at_their_folder(tmp_path):
    (tmp_path / ".shared").write_text("1234")
    for _ in range(2):  # which is nothing to remove the second time
        check_shared(Workdir(tmp_path), Workers(tf.distribute.get_strategy()))
        assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_workers_of_other_configs_are_refused_before_they_train(tmp_path):
    processes = train(tmp_path, workers=2, arguments=("--config.seed={index}",), wait=False)
    assert [process.wait(timeout=240) for process in processes] == [1, 1]
    for index in range(2):
        assert "error: Expected the same config of all workers. Received of workers 0 and 1: seed: 0 and 1" in output(
            tmp_path, index
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_workers_with_a_workdir_each_are_refused_before_they_train(tmp_path):
    processes = start(tmp_path, (*COMMAND, "--workdir=run{index}"), workers=2, cwd=tmp_path)
    assert [process.wait() for process in processes] == [1, 1]
    for index in range(2):
        expected = f"Expected a workdir that all workers share. Received: run{index}, in which what the first worker "
        assert f"error: {expected}writes is not found by the workers [1], counted from 0" in output(tmp_path, index)
        assert not list(tmp_path.glob("run?/.shared"))
    assert epochs_done(tmp_path) == 0


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_a_worker_that_dies_stops_the_others_and_the_same_command_goes_on(tmp_path, lost):
    long = ("--config.epochs=20", "--config.export.enabled=False")
    train(tmp_path / "whole", workers=2, arguments=long)
    folder = tmp_path / "two"
    processes = train(folder, workers=2, arguments=long, wait=False)
    wait_for(lambda: epochs_done(folder) >= 2)
    kill(processes[lost])
    start_of_wait = time.monotonic()
    assert processes[1 - lost].wait(60) == 1
    assert time.monotonic() - start_of_wait < 60
    assert output(folder, 1 - lost).splitlines()[-2].startswith("error: Another worker has stopped")
    assert epochs_done(folder) < 20
    train(folder, workers=2, arguments=long)
    check_same(folder, tmp_path / "whole", exactly=True, starts=2)


@pytest.mark.slow
@pytest.mark.parametrize(("told", "number"), [(0, signal.SIGTERM), (1, signal.SIGINT)])
def test_workers_of_which_one_gets_a_signal_save_the_same_step_and_go_on(tmp_path, told, number):
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        number = signal.SIGTERM  # what this process ignores, those that it starts ignore too
    long = ("--config.epochs=20", "--config.export.enabled=False")
    train(tmp_path / "whole", workers=2, arguments=long)
    folder = tmp_path / "two"
    processes = train(folder, workers=2, arguments=long, wait=False)
    wait_for(lambda: epochs_done(folder) >= 2)
    kill(processes[told], number)
    assert [process.wait(60) for process in processes] == [128 + number] * 2
    assert ("interrupted" if number == signal.SIGINT else "terminated") in output(folder, 0)
    train(folder, workers=2, arguments=long)
    check_same(folder, tmp_path / "whole", exactly=True, starts=2)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_a_run_goes_on_with_another_number_of_workers(tmp_path, number):
    # At a rate at which the last bits do not matter for long.
    long = (
        "--config.epochs=8", "--config.schedule.learning_rate=0.003", "--config.export.enabled=False",
        "--config.methods=({{'name': 'CSKD'}}, {{'name': 'PSKD'}})",  # braces as of `start`
        f"--config.network.name={SMALL_NETWORK}",
    )  # fmt: skip
    train(tmp_path / "one", workers=1, arguments=long)
    folder = tmp_path / "elastic"
    for workers, epochs in ((1, 1), (2, 3), (3, 5), (1, 6)):
        processes = train(folder, workers=workers, arguments=long, wait=False)
        wait_for(lambda epochs=epochs: epochs_done(folder) >= epochs)
        for process in processes if number == signal.SIGKILL else processes[:1]:
            process.send_signal(number)
        ends = [process.wait(60) for process in processes]
        if number == signal.SIGTERM:
            assert ends == [143] * workers
            assert list(folder.glob("run/checkpoints/last/ckpt-*-*.json"))  # within an epoch
    train(folder, workers=2, arguments=long)
    check_same(folder, tmp_path / "one", within=1e-6, starts=5)
