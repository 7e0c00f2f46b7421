"""A worker that is killed, whatever the run is at: the others end, and the same command goes on to the same files."""

import functools
import pathlib
import shutil
import subprocess
import time

import pytest

from tests.helpers import ROOT
from tests.processes import kill, output, start, wait_for
from tests.runs.test_workers import COMMAND, train
from tests.same_runs import check_same

# A small network, of which a step is soon ready; what is exported takes a process of its own.
SHORT = ("--config.epochs=2", "--config.network.name=tests.runs.helpers:small_network")
# By what there is as soon as the run is at it, and what there is not before it is past it.
PHASES = {
    "start": ("run/config.json", "run/log.jsonl"),
    "evaluation": ("run/checkpoints/last/ckpt-2.json", "run/predictions_test.npz"),
    "export": ("saved_models/run/.*", "saved_models/run/1"),
}
MOST = 60  # seconds


def arguments_of(*, exports):
    return (*SHORT, f"--config.export.enabled={exports}")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run of two workers of which none was lost, without or with an export."""

    @functools.cache
    def make(*, exports):
        folder = tmp_path_factory.mktemp("whole")
        train(folder, workers=2, arguments=arguments_of(exports=exports))
        return folder

    return make


def check_end(folder, processes, *, lost):
    """What the worker that is left says, and that it does not take long."""
    begun = time.monotonic()
    assert processes[1 - lost].wait(MOST) == 1
    print(f"the other worker ended after {time.monotonic() - begun:.1f} s")
    said = output(folder, 1 - lost)
    assert said.splitlines()[-2].startswith("error: Another worker has stopped")
    assert "Traceback" not in said


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 1])
def test_one_whose_peer_died_as_it_started_leaves_when_it_is_told_to(index, tmp_path):
    processes = train(tmp_path, workers=2, wait=False)
    kill(processes[1 - index])
    wait_for(lambda: "waiting for the others" in output(tmp_path, index))
    processes[index].terminate()
    assert processes[index].wait(MOST) == 143
    assert output(tmp_path, index).splitlines()[-1] == "Terminated; the same command goes on from what is saved."


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
@pytest.mark.parametrize("phase", PHASES)
def test_a_worker_dies(phase, lost, whole, tmp_path):
    begun, past = PHASES[phase]
    exports = phase == "export"
    arguments = arguments_of(exports=exports)
    processes = train(tmp_path, workers=2, arguments=arguments, wait=False)
    wait_for(lambda: list(tmp_path.glob(begun)), every=0.001)
    kill(processes[lost])
    assert lost or not list(tmp_path.glob(past))  # the first worker was what writes it
    if exports and lost:  # what the first one does by itself it ends first
        wait_for(lambda: (tmp_path / "run/metrics.json").exists())
    check_end(tmp_path, processes, lost=lost)
    train(tmp_path, workers=2, arguments=arguments)
    check_same(tmp_path, whole(exports=exports), exactly=True, starts=2)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace, to be killed at a system call")
def test_the_worker_that_writes_dies_in_a_checkpoint(whole, tmp_path):
    checkpoint = tmp_path / "run/checkpoints/last/ckpt-1"
    # What it opens to say by a marker that all is there.
    paths = [str(path) for path in (checkpoint, checkpoint.relative_to(tmp_path))]
    at = [word for path in paths for word in ("-P", f"{path}.index")]
    kills = ("-e", "trace=openat", "-e", "inject=openat:signal=SIGKILL")
    trace = ("strace", "-f", "-qq", "-o", "/dev/null", *kills, *at)
    if subprocess.run([*trace, "true"], capture_output=True, check=False).returncode:
        pytest.skip("strace may not trace here")
    arguments = arguments_of(exports=False)
    processes = start(tmp_path, (*COMMAND, "--workdir=run", *arguments), workers=2, cwd=tmp_path, before={0: trace})
    assert processes[0].wait(240) == -9
    assert list(checkpoint.parent.glob("ckpt-1*"))
    assert not checkpoint.with_suffix(".json").exists()
    check_end(tmp_path, processes, lost=0)
    train(tmp_path, workers=2, arguments=arguments)
    check_same(tmp_path, whole(exports=False), exactly=True, starts=2)


HANGS = """
import os, signal, sys
import numpy as np
from cskd_tf.runs import cli, strategies
from cskd_tf.training.workers import Workers
with cli.one_line_for_users():
    workers = Workers(strategies.make("auto"))
    workers.gather(np.arange(3))
    if workers.index == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGSTOP)
    workers.gather(np.arange(3))
"""


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_a_worker_from_which_nothing_comes_any_more(lost, tmp_path, monkeypatch):
    """As where its machine or its network is gone, so that no connection is closed."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "hangs.py").write_text(HANGS)
    processes = start(tmp_path, ("hangs.py", str(lost)), workers=2, cwd=tmp_path)
    try:
        status = pathlib.Path(f"/proc/{processes[lost].pid}/status")
        wait_for(lambda: "State:\tT" in status.read_text())
        check_end(tmp_path, processes, lost=lost)
    finally:
        kill(processes[lost])
