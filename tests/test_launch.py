"""The launcher, with real processes and signals: a script in place of the training that it starts."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

from configs import launch
from configs.processes import how_ended
from cskd_tf.runs.workdir import Workdir
from tests.helpers import ALONE, ROOT, SMALL
from tests.processes import wait_for

# A worker does what its word says; words are one for each.
WORKER = """
import json, os, pathlib, signal, sys, time

config = os.environ["TF_CONFIG"]
index = json.loads(config)["task"]["index"]
print(f"worker {index} begins", os.environ.get("CUDA_VISIBLE_DEVICES"))
pathlib.Path(f"config-{index}.json").write_text(config)
pathlib.Path(f"arguments-{index}.json").write_text(json.dumps(sys.argv[1:]))
word = sys.argv[1 + index]

def save(number, frame):
    print("saves", signal.Signals(number).name)
    sys.exit(143)

if word in ("save", "deaf"):
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, save if word == "save" else signal.SIG_IGN)
pathlib.Path(f"ready-{index}").touch()
while not all(pathlib.Path(f"ready-{other}").exists() for other in range(len(json.loads(config)["cluster"]["worker"]))):
    time.sleep(0.01)
if word in ("save", "deaf"):
    time.sleep(60)
elif word == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
print(*(f"line {number}" for number in range(20)), sep="\\n", flush=True)
sys.exit(int(word))
"""


@pytest.fixture
def script(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "worker.py").write_text(WORKER)
    return tmp_path / "worker.py"


@pytest.fixture
def start(script, capfd):
    """Launches a worker for each word; returns the exit code, what was printed, and the logs."""

    def run(*words, **options):
        logs = script.parent / "logs"
        code = launch.launch([sys.executable, str(script), *words], workers=len(words), logs=logs, **options)
        return code, capfd.readouterr(), [path.read_text() for path in sorted(logs.glob("worker-*.log"))]

    return run


def test_each_worker_knows_its_place_and_has_a_log(start, script):
    code, printed, logs = start("0", "0", "0")
    assert code == 0
    configs = [json.loads((script.parent / f"config-{index}.json").read_text()) for index in range(3)]
    addresses = configs[0]["cluster"]["worker"]
    assert len({address.rpartition(":")[2] for address in addresses}) == 3
    assert all(address.startswith("127.0.0.1:") for address in addresses)
    assert configs == [
        {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}} for index in range(3)
    ]
    assert [log.splitlines()[0] for log in logs] == [f"worker {index} begins None" for index in range(3)]
    assert printed.out == logs[0]
    assert printed.err == f"Workers: 3; their logs: {script.parent / 'logs'}\n"


def test_a_log_is_added_to(start):
    start("0", "0")
    _, _, logs = start("0", "0")
    assert [log.count("begins") for log in logs] == [2, 2]


def test_one_that_fails_stops_the_others_and_is_named(start):
    begun = time.monotonic()
    code, printed, logs = start("save", "3", "save")
    assert code == 3
    assert time.monotonic() - begun < 30  # of the minute for which the others would go on
    assert "error: worker 1 failed with exit code 3; its log: " in printed.err
    shown = [line for line in printed.err.splitlines() if line.startswith("line ")]
    assert shown == [f"line {number}" for number in range(10, 20)]
    assert [log.splitlines()[-1] for log in logs] == ["saves SIGTERM", "line 19", "saves SIGTERM"]


def test_what_worker_0_printed_is_not_shown_twice(start):
    code, printed, _ = start("4", "save")
    assert code == 4
    assert "error: worker 0 failed with exit code 4" in printed.err
    assert "line 19" in printed.out
    assert "line 19" not in printed.err


def test_one_that_is_killed_is_named_by_its_signal(start):
    code, printed, _ = start("save", "killed")
    assert code == 137
    assert "error: worker 1 failed by SIGKILL" in printed.err


def test_those_that_do_not_stop_are_killed(start):
    begun = time.monotonic()
    code, printed, _ = start("deaf", "3", grace=0.5)
    assert code == 3
    assert time.monotonic() - begun < 30
    assert "the other workers did not end in time and are killed" in printed.err


@pytest.mark.parametrize(
    ("number", "arrives"),
    [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "SIGINT"), (signal.SIGHUP, "SIGTERM")],
)
def test_signals_are_passed_on_to_all(script, number, arrives):
    code = (  # which does not ignore these signals, though what runs the tests may
        "import pathlib, signal, sys; from configs import launch; "
        "signal.signal(signal.SIGINT, signal.default_int_handler); signal.signal(signal.SIGHUP, signal.SIG_DFL); "
        "sys.exit(launch.launch(sys.argv[1:], workers=2, logs=pathlib.Path('logs')))"
    )
    launcher = subprocess.Popen(
        [sys.executable, "-c", code, sys.executable, str(script), "save", "save"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    ready = [pathlib.Path(f"ready-{index}") for index in range(2)]
    wait_for(lambda: all(path.exists() for path in ready), 60, every=0.01, running=launcher)
    launcher.send_signal(number)
    printed, _ = launcher.communicate(timeout=60)
    assert launcher.returncode == 143
    assert f"Stopped by {number.name}; exit codes of the workers: 143, 143" in printed
    assert "error" not in printed
    for path in ("logs/worker-0.log", "logs/worker-1.log"):
        assert pathlib.Path(path).read_text().splitlines()[1:] == [f"saves {arrives}"]


def test_a_signal_that_comes_while_workers_are_started_ends_those_that_are(start, monkeypatch):
    class Interrupted(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            os.kill(os.getpid(), signal.SIGTERM)  # nobody knows yet that this one runs

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    code, printed, logs = start("save", "save")
    assert code == 143
    assert "Stopped by SIGTERM; exit codes of the workers: 143\n" in printed.err
    assert len(logs) == 1


def test_gpus_that_are_listed_are_shared_out(start, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,2,5,7")
    _, _, logs = start("0", "0")
    assert [log.splitlines()[0] for log in logs] == ["worker 0 begins 0,2", "worker 1 begins 5,7"]
    with pytest.raises(ValueError, match="GPUs for each of 3 workers. Received: CUDA_VISIBLE_DEVICES=0,2,5,7"):
        start("0", "0", "0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert start("0", "0")[2][0].splitlines()[-21] == "worker 0 begins -1"


def test_a_command_that_is_none_leaves_nothing_behind(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(FileNotFoundError):
        launch.launch([str(tmp_path / "nowhere")], workers=2, logs=tmp_path / "logs")
    assert signal.getsignal(signal.SIGTERM) == before


def test_the_workers_have_the_command_line_of_the_launcher(script, monkeypatch):
    # The words of the script stand where train_main.py, which has looked at them, has flags only.
    flags = ["0", "0", "--config=configs/digits.py", "--workdir", "launch"]
    for workers in (["--workers=2"], ["--workers", "2"], ["-workers=2"]):
        monkeypatch.setattr(sys, "argv", [str(script), "launch", *flags[:3], *workers, *flags[3:]])
        assert launch.run(["launch"], workers=2, mode="train", workdir="launch/", strategy="auto") == 0
        for index in range(2):
            assert json.loads(pathlib.Path(f"arguments-{index}.json").read_text()) == flags
    assert sorted(path.name for path in pathlib.Path("launch.logs").iterdir()) == ["worker-0.log", "worker-1.log"]
    assert not pathlib.Path("launch").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["launch"], "Expected launch --workers=N before other flags. Received: launch"),
        (["--workers=2"], "Expected launch --workers=N before other flags. Received: --workers=2"),
        (["--workers=2", "launch"], "Expected launch --workers=N before other flags. Received: --workers=2 launch"),
        (["launch", "--workers=0"], "Expected a positive integer. Received: --workers=0"),
        (["launch", "again", "--workers=2"], "Expected flags only, launch, or predict PATH"),
        (["launch", "--workers=2", "--mode=report"], "Expected a mode for several workers, .*Received: --mode=report"),
        (["launch", "--workers=2", "--config.strategy=mirrored"], "Received: strategy='mirrored'"),
        (["launch", "--workers=2", "--config.epoch=3"], "Expected a key of configs/base.py. Received: 'epoch'"),
    ],
)
def test_a_command_line_that_starts_no_workers_is_refused(command, tmp_path, arguments, message):
    code, printed = command(*arguments)
    assert code != 0
    assert re.search(message, printed), printed
    assert "Traceback" not in printed
    assert not list(tmp_path.iterdir())


def test_no_launcher_starts_in_another(command, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{}")
    code, printed = command("launch", "--workers=2", "--config.strategy=auto")
    assert code != 0
    assert "Expected no TF_CONFIG, as launch sets it. Received: TF_CONFIG={}" in printed


def test_the_launcher_does_not_load_tensorflow():
    code = "import sys, train_main; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


PORT = """
import json, os, socket

config = json.loads(os.environ["TF_CONFIG"])
address = config["cluster"]["worker"][config["task"]["index"]]
taken = socket.create_server(("", int(address.rpartition(":")[2])))
"""
TAKEN = {
    "before all have met": "from cskd_tf.runs.rendezvous import meet; meet(config)",
    "before TensorFlow serves": "import tensorflow as tf; tf.distribute.MultiWorkerMirroredStrategy()",
}


@pytest.mark.slow
@pytest.mark.parametrize("then", TAKEN)
def test_a_port_that_was_taken_meanwhile_is_said(then, start, script, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    script.write_text(PORT + TAKEN[then])
    code, printed, _ = start("", "", grace=1)
    assert code == 1
    assert "Another process has taken the port; the same command tries others." in printed.err


@pytest.mark.slow
def test_two_workers_train_are_stopped_and_go_on(tmp_path, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    quick = (*ALONE, *SMALL, "--config.epochs=5")
    command = [sys.executable, str(ROOT / "train_main.py"), "launch", "--workers=2", "--workdir=run", *quick]
    run = Workdir(tmp_path / "run")
    first = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_for(lambda: len(run.log()) >= 2, running=first)  # the checkpoint of an epoch comes after its line
    first.send_signal(signal.SIGTERM)
    printed, _ = first.communicate(timeout=120)
    assert first.returncode == 143, printed
    assert "Stopped by SIGTERM; exit codes of the workers: 143, 143" in printed
    assert not run.metrics()
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=400, check=False)
    assert again.returncode == 0, again.stdout + again.stderr
    logs = [(tmp_path / "run.logs" / f"worker-{index}.log").read_text() for index in range(2)]
    assert "continuing after epoch" in again.stdout
    assert [log.count(f"worker {index} of 2 workers") for index, log in enumerate(logs)] == [2, 2]
    assert [entry["epoch"] for entry in run.log()] == [1, 2, 3, 4, 5]
    assert run.metrics()["test"]["nll"] > 0


STARTS_ONE = """
import os, pathlib, sys
from configs.processes import Processes
with Processes() as processes:
    processes.start([sys.executable, "-c", sys.argv[1]], environment=os.environ, log=pathlib.Path("log"), shown=False)
    list(processes.ends())
"""
ENDS_WITH_IT = """
import os, pathlib, signal, sys, time
from configs import processes
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(pathlib.Path("told").write_text("")))
processes.end_with_starter()
assert processes.STARTER not in os.environ
pathlib.Path("ready").write_text("")
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux tells")
def test_what_was_started_ends_with_its_starter(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    starter = subprocess.Popen([sys.executable, "-c", STARTS_ONE, ENDS_WITH_IT], cwd=tmp_path, env=environment)
    for name in ("ready", "told"):
        wait_for((tmp_path / name).exists, 60, every=0.01)
        starter.kill()
        starter.wait()


def test_how_a_process_ended():
    assert [how_ended(code) for code in (0, 2, -9)] == ["with exit code 0", "with exit code 2", "by SIGKILL"]


def test_a_launcher_that_is_killed_takes_no_line_of_worker_0_along(script):
    """Its log is its own file, and not a pipe of the launcher's; in place of the workers, which are told by Linux."""
    (script.parent / "slow.py").write_text(
        "import os, pathlib, time\n"
        "pathlib.Path('pid').write_text(str(os.getppid()))\n"
        "while os.getppid() == int(pathlib.Path('pid').read_text()): time.sleep(0.01)\n"
        "print('worker', 'is left alone', flush=True)\n"
        "pathlib.Path('done').touch()\n"
    )
    code = (
        "import pathlib, sys; from configs import launch; "
        "launch.launch(sys.argv[1:], workers=1, logs=pathlib.Path('logs'))"
    )
    launcher = subprocess.Popen(
        [sys.executable, "-c", code, sys.executable, "slow.py"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    wait_for(lambda: pathlib.Path("pid").exists(), 60, every=0.01, running=launcher)
    launcher.kill()
    launcher.communicate(timeout=60)
    wait_for(lambda: pathlib.Path("done").exists(), 60, every=0.01)
    assert pathlib.Path("logs/worker-0.log").read_text() == "worker is left alone\n"
