"""What TF_CONFIG says, and what is made of it."""

import json
import sys

import pytest
import tensorflow as tf

from cskd_tf.errors import UserError
from cskd_tf.runs import cli, strategies
from tests.helpers import modes

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
    ],
)  # fmt: skip
def test_what_is_no_cluster_is_refused(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UserError, match="Expected TF_CONFIG as .* Received: TF_CONFIG="):
        strategies.make("auto")


@pytest.mark.parametrize("text", ["", "{}", '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}'])
def test_a_cluster_of_one_is_no_cluster(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    assert strategies.make("auto") is tf.distribute.get_strategy()
    assert strategies.is_chief()
    with pytest.raises(UserError, match="Expected TF_CONFIG to name the workers for strategy=multi_worker; "):
        strategies.make("multi_worker")


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
