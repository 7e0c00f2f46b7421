"""What TF_CONFIG says, and what is made of it."""

import contextlib
import functools
import json
import re
import signal
import sys

import pytest
import tensorflow as tf

from cskd_tf.errors import UserError
from cskd_tf.runs import cli, strategies
from cskd_tf.runs.termination import Terminated
from tests.helpers import ROOT, modes
from tests.processes import finish, start

TOGETHER = ("train", "evaluate")  # what all workers do as one


def told(monkeypatch, *, jobs, task):
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": jobs, "task": task}))


@pytest.mark.parametrize("name", ["single", "mirrored", "tpu"])
def test_workers_that_a_strategy_would_not_use_are_refused(monkeypatch, name):
    told(monkeypatch, jobs={"worker": ["a:1", "b:1"]}, task={"type": "worker", "index": 1})
    with pytest.raises(UserError, match="where TF_CONFIG names 2 workers; .* Received: strategy=" + name):
        strategies.make(name)


@pytest.mark.parametrize(
    "text",
    [
        "worker 0", "[]", "7", '{"cluster": {"worker": ["a:1", "b:1"]}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": -1}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "chief", "index": 0}}',
        '{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": true}}',
        '{"cluster": {"worker": {"0": "a:1", "1": "b:1"}}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": [1, 2]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": null}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": []}', '{"cluster": ""}', '{"cluster": {}, "task": []}', '{"task": null}', "[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_cluster_is_refused(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UserError, match="Expected TF_CONFIG as .* Received: TF_CONFIG="):
        strategies.make("auto")


@pytest.mark.parametrize("address", ["b", "", "b:", ":1", "b:0", "b:99999", "http://b:1", " b:1", "b:1\n", "b:²"])
def test_addresses_that_are_none_are_refused_on_every_worker(monkeypatch, address):
    for index in range(3):
        told(monkeypatch, jobs={"worker": ["a:1", address, "c:1"]}, task={"type": "worker", "index": index})
        with pytest.raises(
            UserError, match='Expected "host:port" as addresses in TF_CONFIG. Received: ' + re.escape(repr(address))
        ):
            strategies.make("auto")


def test_one_address_of_two_workers_is_refused(monkeypatch):
    told(monkeypatch, jobs={"chief": ["a:1"], "worker": ["a:1"]}, task={"type": "worker", "index": 0})
    with pytest.raises(
        UserError, match=r"an address of its own for each worker in TF_CONFIG. Received: \['a:1', 'a:1'"
    ):
        strategies.make("auto")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '{"task": {"type": "worker", "index": 1}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}',
    ],
)
def test_a_cluster_of_one_is_no_cluster(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    assert strategies.make("auto") is tf.distribute.get_strategy()
    assert strategies.is_chief()
    with pytest.raises(UserError, match="Expected TF_CONFIG to name the workers for strategy=multi_worker; "):
        strategies.make("multi_worker")


@pytest.mark.parametrize(("gpus", "replicas"), [(0, 1), (1, 1), (2, 2), (3, 3)])
def test_auto_takes_all_gpus_where_there_are_several(gpus, replicas, monkeypatch):
    cpus = tf.config.list_logical_devices("CPU")
    # The one stand-in: a strategy asks of a device no more than its name.
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: cpus[:gpus] if kind == "GPU" else cpus)
    monkeypatch.delenv("TF_CONFIG", raising=False)
    strategies.mirrored.cache_clear()
    try:
        strategy = strategies.make("auto")
        assert strategy.num_replicas_in_sync == replicas
        assert (strategy is tf.distribute.get_strategy()) == (replicas == 1)
        assert strategies.make("mirrored").num_replicas_in_sync == (gpus or 4)  # without any: the CPUs of the tests
    finally:
        strategies.mirrored.cache_clear()


@pytest.mark.parametrize(
    ("jobs", "task", "chief"),
    [
        ({"worker": ["a:1", "b:1"]}, {"type": "worker", "index": 0}, True),
        ({"worker": ["a:1", "b:1"]}, {"type": "worker", "index": 1}, False),
        ({"chief": ["a:1"], "worker": ["b:1"]}, {"type": "worker", "index": 0}, False),
        ({"chief": ["a:1"], "worker": ["b:1"]}, {"type": "chief", "index": 0}, True),
    ],
)
def test_one_worker_is_the_chief(monkeypatch, jobs, task, chief):
    told(monkeypatch, jobs=jobs, task=task)
    assert (strategies.num_workers(), strategies.is_chief()) == (2, chief)


@pytest.mark.parametrize(
    "arguments",
    [
        *([f"--mode={mode}", *(["--checkpoint=weights.pth"] if mode == "import" else [])] for mode in modes()),
        ["--mode=evaluate", "--split=val"],
        ["--mode=evaluate", "--with=a,b"],
        ["--mode=report", "--table=cvpr1"],
        ["--mode=report", "--table=all", "--format=csv"],
        ["--mode=sweep", "--grid=seed=0,1"],
        ["launch", "--workers=2"],
        ["predict", "image.png"],
    ],
    ids=" ".join,
)
def test_every_command_trains_with_the_workers_or_refuses_them(arguments, command, monkeypatch, tmp_path):
    told(monkeypatch, jobs={"worker": ["a:1", "b:1"]}, task={"type": "worker", "index": 0})
    monkeypatch.setattr(cli, "_leave", sys.exit)  # else at once, and this process with it
    together = arguments in [[f"--mode={mode}"] for mode in TOGETHER]
    # What they do together they refuse to do one by one.
    more = ["--config.strategy=single"] if together else []
    code, printed = command(*arguments, *more)
    assert code == 1
    assert printed.count("\n") == 1
    assert printed.startswith("error: Expected ")
    assert ("where TF_CONFIG names 2 workers" in printed) == together
    assert "TF_CONFIG" in printed or "in one process" in printed
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("end", "waits"),
    [(None, True), (Terminated(signal.SIGTERM), True), (UserError("of one alone"), False), (SystemExit(143), False)],
)
def test_workers_wait_where_all_of_them_end(end, waits, monkeypatch):
    calls = []
    monkeypatch.setattr(strategies, "wait_for_workers", lambda: calls.append("waits"))
    with contextlib.suppress(SystemExit), cli.one_line_for_users():
        if end:
            raise end
    assert calls == ["waits"] * waits


def test_a_worker_that_does_not_come_keeps_nobody_and_is_told_of(monkeypatch, caplog):
    def wait(name, milliseconds):
        raise tf.errors.DeadlineExceededError(None, None, "nobody came")

    started = functools.cache(lambda: None)
    started()
    monkeypatch.setattr(strategies, "multi_worker", started)
    monkeypatch.setattr(strategies.context.context(), "wait_at_barrier", wait)
    strategies.wait_for_workers()
    assert "Another worker has not come to the end of the run: nobody came" in caplog.text


ENDING = """
import os, pathlib, time
from cskd_tf.runs import strategies
strategies.make("auto")
index = strategies.cluster()["task"]["index"]
if index:
    time.sleep(2)
    pathlib.Path("late").touch()
strategies.wait_for_workers()
os._exit(0 if pathlib.Path("late").exists() else 1)
"""


@pytest.mark.slow
def test_a_worker_that_is_done_waits_for_the_last_one(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "ending.py").write_text(ENDING)
    finish(tmp_path, start(tmp_path, ("ending.py",), workers=2, cwd=tmp_path))


@pytest.mark.parametrize(
    ("visible", "seen", "warns"), [(None, False, True), ("0", False, True), ("-1", False, False), (None, True, False)]
)
def test_a_gpu_that_tensorflow_cannot_use_is_named_once(visible, seen, warns, monkeypatch, tmp_path, caplog):
    """Of which TensorFlow itself prints nothing that is shown, and trains many times slower."""
    (tmp_path / "nvidia0").touch()
    (tmp_path / "nvidiactl").touch()  # there without a GPU too
    monkeypatch.setattr(strategies, "NVIDIA", str(tmp_path / "nvidia[0-9]*"))
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["GPU"] if seen else [])
    strategies._warn_of_unseen_gpus.cache_clear()
    for _ in range(2):
        strategies.make("single")
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == warns
    for message in messages:
        assert f"cannot use {tmp_path / 'nvidia0'}, and computes on the CPU" in message
