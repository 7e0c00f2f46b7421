"""SIGTERM and Ctrl-C, wherever they come: the run leaves, and the same command ends with the same bytes as without."""

import os
import signal
import subprocess
import sys

import pytest
import tensorflow as tf

from cskd_tf.files import is_partial
from cskd_tf.runs import train
from cskd_tf.runs.config import Config
from cskd_tf.runs.termination import Terminated, Termination
from cskd_tf.runs.workdir import Workdir
from cskd_tf.training.callbacks import Evaluation, StopOnNaN
from cskd_tf.training.workers import Workers
from tests.helpers import ALONE, ROOT, SMALL

DROPOUT = "benchmarks.small_networks:with_dropout"
STEPS = 3  # of an epoch: 40 images in batches of 16


@pytest.fixture(autouse=True)
def heard():
    """Who started the tests may ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def train_and_terminate(config, workdir, *, step, part, signals=(signal.SIGTERM, signal.SIGTERM)):
    """Trains; sends this process signals, as Slurm sends several: as a step ends, or in the evaluation behind it."""
    owner, name = {"step": (StopOnNaN, "on_train_batch_end"), "evaluation": (Evaluation, "on_epoch_end")}[part]
    original = getattr(owner, name)

    def armed(self, number, logs=None):
        if int(self.model.step.numpy()) == step:
            for each in signals:
                os.kill(os.getpid(), each)
        original(self, number, logs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, armed)
        with pytest.raises(Terminated) as leaving:
            train.train(config, workdir)
    assert leaving.value.code == 128 + signals[0]


def outcome(workdir):
    """Bytes of all files that a run resumes or is read from; the log without its seconds."""
    files = {str(path.relative_to(workdir.path)): path for path in workdir.path.rglob("*") if path.is_file()}
    names = [name for name in files if name.startswith(("checkpoints", "predictions", "metrics", "image_log"))]
    assert len(names) == 14
    return {
        **{name: files[name].read_bytes() for name in names},
        "log": [list({**entry, "seconds": 0}.items()) for entry in workdir.log()],
    }


@pytest.mark.parametrize(
    ("methods", "network", "at"),  # the last time by Ctrl-C
    [
        pytest.param(
            [{"name": "CSKD"}],
            "preact_resnet10",
            [(5, "step"), (6, "step"), (6, "evaluation"), (9, "evaluation")],
            marks=pytest.mark.slow,
        ),
        pytest.param([{"name": "PSKD"}, {"name": "CSKD"}], DROPOUT, [(1, "step"), (8, "step")], marks=pytest.mark.slow),
        pytest.param([{"name": "PSKD", "source": "network"}], DROPOUT, [(5, "step")], marks=pytest.mark.slow),
        pytest.param([{"name": "DLB"}], DROPOUT, [(2, "step"), (3, "step"), (7, "step")], marks=pytest.mark.slow),
    ],
    ids=["CSKD", "PSKD dropout", "PSKD network", "DLB"],
)
def test_a_terminated_run_ends_with_the_same_bytes(methods, network, at, config, caplog, tmp_path):
    config.deterministic, config.epochs, config.export.enabled = True, 3, False
    config.methods, config.network.name, config.network.width = tuple(methods), network, 2
    config.log_images = 2  # after the second epoch, and the last
    config.schedule.warmup_epochs = 2  # another learning rate each step
    config = Config.read(config)
    whole, parts = Workdir(tmp_path / "whole"), Workdir(tmp_path / "parts")
    train.train(config, whole)
    for step, part in at:
        last = step == at[-1][0]
        signals, how = ((signal.SIGINT,), "interrupted") if last else ((signal.SIGTERM,) * 2, "terminated")
        train_and_terminate(config, parts, step=step, part=part, signals=signals)
        epoch, steps = (step - 1) // STEPS, (step - 1) % STEPS + 1
        assert caplog.text.count(f": {how}") == 1
        assert f"{how} within epoch {epoch + 1}, after {steps} of {STEPS} steps; the same command" in caplog.text
        assert (parts.checkpoints / "last" / f"ckpt-{epoch}-{steps}.json").exists()
        assert len(parts.log()) == epoch
        caplog.clear()
    train.train(config, parts)
    assert outcome(parts) == outcome(whole)


@pytest.fixture
def termination():
    with Termination(Workers(tf.distribute.get_strategy())) as answering:
        yield answering


def send(*signals):
    for number in signals:
        os.kill(os.getpid(), number)


def test_ctrl_c_is_told_to_wait_for_the_step_and_once_more_stops_at_once(termination, capfd):
    termination.on_epoch_begin(0)
    send(signal.SIGINT)
    assert "Interrupted: saving after this step. Ctrl-C once more stops at once." in capfd.readouterr().err
    with pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)
    with pytest.raises(Terminated) as leaving:
        termination.on_train_batch_end(0)
    assert leaving.value.code == 130


def test_between_epochs_ctrl_c_is_answered_at_once(termination):
    termination.on_epoch_begin(0)
    termination.on_epoch_end(0)
    with pytest.raises(Terminated) as leaving:
        send(signal.SIGINT)
    assert leaving.value.code == 130


def test_of_several_signals_the_first_one_counts(termination):
    termination.on_epoch_begin(0)
    send(signal.SIGTERM, signal.SIGINT, signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)
    with pytest.raises(Terminated) as leaving:
        termination.on_train_batch_end(0)
    assert leaving.value.code == 143


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_that_are_ignored_stay_so(number):
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with Termination(Workers(tf.distribute.get_strategy())) as termination:
            termination.on_epoch_begin(0)
            send(number)
            termination.on_train_batch_end(0)
        assert signal.getsignal(number) == signal.SIG_IGN
    finally:
        signal.signal(number, before)


@pytest.mark.slow
def test_a_run_and_its_baseline_are_terminated_and_go_on(config, tmp_path):
    config.deterministic, config.export.enabled, config.baseline, config.log_images = True, False, True, 1
    config = Config.read(config)
    whole, parts = Workdir(tmp_path / "whole"), Workdir(tmp_path / "parts")
    train.train(config, whole)
    for unfinished in ("cross_entropy", "."):  # the baseline is trained first
        train_and_terminate(config, parts, step=5, part="step")
        assert (parts.path / unfinished / "checkpoints/last/ckpt-1-2.json").exists()
        assert not (parts.path / unfinished / "metrics.json").exists()
    train.train(config, parts)
    for folder in ("cross_entropy", "."):
        assert outcome(Workdir(parts.path / folder)) == outcome(Workdir(whole.path / folder))


def start(command, folder):
    """A process that does not ignore Ctrl-C, though what runs the tests may."""
    code = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
    options = {"cwd": folder, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code, *command], **options)


@pytest.mark.slow
def test_a_real_process_that_is_interrupted_leaves_with_130_and_one_line(tmp_path):
    command = [sys.executable, str(ROOT / "train_main.py"), "--workdir=run", "--config.epochs=500", *ALONE, *SMALL]
    process = start(command, tmp_path)
    while not (tmp_path / "run" / "log.jsonl").exists():
        assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 130, error
    assert "Traceback" not in error
    assert "interrupted" in error.splitlines()[-1]
    assert "the same command goes on there" in error.splitlines()[-1]


@pytest.mark.thorough
def test_a_real_process_leaves_with_143_and_one_line(tmp_path):
    """While TensorFlow is imported, before anything is saved; in training; and when it has nothing to save."""
    command = [sys.executable, str(ROOT / "train_main.py"), "--workdir=run", "--config.epochs=500", *ALONE, *SMALL]
    options = {"cwd": tmp_path, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, **options)
    with open(f"/proc/{process.pid}/maps") as maps:
        while "_pywrap_tensorflow" not in maps.read():
            maps.seek(0)
    process.terminate()
    assert process.communicate(timeout=60)[0] == ""
    assert process.returncode == 143
    assert not (tmp_path / "run").exists()

    process = subprocess.Popen(command, **options)
    log = tmp_path / "run" / "log.jsonl"
    while not log.exists():
        assert process.poll() is None, process.communicate()
    process.terminate()
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 143, error
    (line,) = [line for line in error.splitlines() if "erminated" in line]
    assert "the same command goes on" in line
    assert "Traceback" not in error


@pytest.mark.slow
@pytest.mark.parametrize("part", ["cskd_tf.evaluation.predictions.np.savez", "cskd_tf.serving.saved_model.np.load"])
def test_a_run_that_is_evaluated_or_exported_leaves_at_once(part, command, monkeypatch, tmp_path):
    arguments = ("--workdir=run", "--config.epochs=1", "--config.baseline=False", "--config.verbose=0", *SMALL)

    def terminate(*_, **__):
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("still here")

    before = signal.getsignal(signal.SIGTERM)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(part, terminate)
            code, printed = command(*arguments)
        assert code == 143
        assert printed.endswith("Terminated; the same command goes on from what is saved.\n")
        assert "Traceback" not in printed
        assert not [path for path in tmp_path.rglob("*") if is_partial(path)]
        code, printed = command(*arguments)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert code == 0
    assert "SavedModel of run: saved_models/run/1" in printed
