"""The same command on several workers: one run, written by the first of them."""

import collections
import re
import signal
import time

import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.runs import markers
from cskd_tf.runs.workdir import Workdir
from tests.helpers import ROOT, SMALL, files
from tests.processes import finish, kill, output, start

COMMAND = (
    str(ROOT / "train_main.py"), *SMALL, "--config.baseline=False", "--config.verbose=0",
    "--config.network.synchronized=True",
)  # fmt: skip


def train(folder, *, workers, arguments=(), wait=True):
    folder.mkdir(exist_ok=True)
    processes = start(folder, (*COMMAND, "--workdir=run", *arguments), workers=workers, cwd=folder)
    if wait:
        finish(folder, processes)
    return processes


def check_files(folder, expected, *, starts):
    """The same files as often, but for what tells the process that wrote them: TensorBoard's, of one that is started
    again, are more."""
    counts = []
    for path in (folder, expected):
        names = [str(file.relative_to(path)) for file in files(path / "run") | files(path / "saved_models")]
        counts.append(collections.Counter(re.sub(r"tfevents.*", "tfevents", name) for name in names))
    assert counts[0].keys() == counts[1].keys()
    for name, count in counts[0].items():
        most = counts[1][name] * (starts if name.endswith("tfevents") else 1)
        assert counts[1][name] <= count <= most, name


def numbers(value, name=""):
    """The leaves of a JSON value, by where they stand in it."""
    if isinstance(value, (dict, list)):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        return {leaf: number for key, part in pairs for leaf, number in numbers(part, f"{name}/{key}").items()}
    return {name: value}


def check_numbers(mine, theirs, *, exactly, but_for=()):
    """Two JSON values have the same keys, texts and, to rounding, numbers."""
    mine, theirs = numbers(mine), numbers(theirs)
    assert mine.keys() == theirs.keys()
    for name in mine:
        if name.rpartition("/")[2] not in but_for:
            same = exactly or not isinstance(theirs[name], float)
            assert mine[name] == (theirs[name] if same else pytest.approx(theirs[name], rel=1e-5, abs=1e-6)), name


def check_checkpoints(folder, expected, *, exactly, within):
    """The same checkpoints, of which the markers say the same but for checksums; with the same variables."""
    roots = folder / "run/checkpoints", expected / "run/checkpoints"
    mine, theirs = ({path.relative_to(root): path for path in root.rglob("ckpt-*.json")} for root in roots)
    assert mine.keys() == theirs.keys() != set()
    for name in mine:
        contents = [markers.read(path.with_suffix("")) for path in (mine[name], theirs[name])]
        sizes = [{part: file["bytes"] for part, file in content.pop("files").items()} for content in contents]
        assert sizes[0] == sizes[1] != {}
        check_numbers(*contents, exactly=exactly)
        readers = [tf.train.load_checkpoint(str(path.with_suffix(""))) for path in (mine[name], theirs[name])]
        shapes = [reader.get_variable_to_shape_map() for reader in readers]
        assert shapes[0] == shapes[1]
        for variable in shapes[0].keys() - {"_CHECKPOINTABLE_OBJECT_GRAPH"}:
            values = [reader.get_tensor(variable) for reader in readers]
            if exactly or not np.issubdtype(np.asarray(values[0]).dtype, np.floating):
                np.testing.assert_array_equal(*values, err_msg=variable)
            else:
                # Where rounding takes one unit to the other side of zero, gradients before it jump by 1e-4.
                tolerance = 2e-3 if variable.startswith("optimizer/") else within
                np.testing.assert_allclose(*values, rtol=0, atol=tolerance, err_msg=variable)


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


def check_same(folder, expected, *, exactly=False, within=5e-5, starts=1):
    check_files(folder, expected, starts=starts)
    mine, theirs = (Workdir(path / "run") for path in (folder, expected))
    # Ties of confidences may fall either way.
    but_for = {"seconds", "replicas", "val_aurc", "aurc"}
    for entries in zip(mine.log(), theirs.log(), strict=True):
        check_numbers(*entries, exactly=exactly, but_for=but_for)
    check_numbers(mine.metrics(), theirs.metrics(), exactly=exactly, but_for=but_for)
    check_checkpoints(folder, expected, exactly=exactly, within=within)
    mine, theirs = (Predictions.load(path / "run/predictions_test.npz") for path in (folder, expected))
    np.testing.assert_array_equal(mine.labels, theirs.labels)
    np.testing.assert_allclose(mine.logits, theirs.logits, rtol=0, atol=0 if exactly else 1e-5)


def epochs_done(folder):
    log = folder / "run/log.jsonl"
    return len(log.read_text().splitlines()) if log.exists() else 0


def wait_for(condition, seconds=240, every=0.1):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(every)


def test_two_workers_write_what_one_process_writes(tmp_path):
    short = ("--config.epochs=2",)
    train(tmp_path / "one", workers=1, arguments=short)
    train(tmp_path / "two", workers=2, arguments=short)
    check_same(tmp_path / "two", tmp_path / "one")
    assert "SavedModel of run" in output(tmp_path / "two", 0)
    assert "SavedModel" not in output(tmp_path / "two", 1)
    warnings = re.findall(r"WARNING: (.*)", output(tmp_path / "two", 0) + output(tmp_path / "two", 1))
    assert {line.partition(":")[0] for line in warnings} <= {"Exported without temperature"}  # after two epochs
    check_saved_models(tmp_path / "two", tmp_path / "one")


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
        "--config.network.name=tests.runs.helpers:small_network",
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
