"""launchers/ray_train.py: what it asks Ray for, with a stand-in for Ray's trainer, and on Ray."""

import importlib.util
import os
import pathlib
import runpy
import signal
import subprocess
import sys
import types

import pytest

from tests.helpers import ALONE, ROOT, SMALL
from tests.processes import finish, start, wait_for
from tests.same_runs import check_same, epochs_done

SCRIPT = ROOT / "launchers" / "ray_train.py"


@pytest.fixture
def ray(monkeypatch):
    """Ray's names that the script imports, which keep what they are given; `fit` runs the function of a worker here."""
    given = {}

    class Trainer:
        def __init__(self, work, **options):
            given.update(options)
            self.fit = lambda: work(options["train_loop_config"])

    train = types.ModuleType("ray.train")
    for name in ("FailureConfig", "RunConfig", "ScalingConfig"):
        setattr(train, name, lambda **options: options)
    tensorflow = types.ModuleType("ray.train.tensorflow")
    tensorflow.TensorflowTrainer = Trainer
    modules = {"ray": types.ModuleType("ray"), "ray.train": train, "ray.train.tensorflow": tensorflow}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return given


def test_the_command_runs_in_each_worker(ray, monkeypatch, tmp_path):
    monkeypatch.setenv("TF_CONFIG", "of Ray")
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")  # as Ray sets it
    script = tmp_path / "worker.py"
    script.write_text("import os; print(os.environ.get('TF_USE_LEGACY_KERAS'), os.environ['TF_CONFIG'])")
    command = ["sh", "-c", f"{sys.executable} {script} > {tmp_path / 'told'}"]
    monkeypatch.setattr(sys, "argv", ["ray_train.py", "--workers=3", "--gpus=2", "--", *command])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    assert (tmp_path / "told").read_text() == "None of Ray\n"
    resources = {"num_workers": 3, "use_gpu": True, "resources_per_worker": {"CPU": 1, "GPU": 2}}
    assert ray["scaling_config"] == resources
    assert ray["run_config"] == {"failure_config": {"max_failures": 3}}


def test_a_worker_that_failed_is_told(ray, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["ray_train.py", "--workers=1", "--", sys.executable, "-c", "exit(3)"])
    with pytest.raises(subprocess.CalledProcessError):
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert ray["scaling_config"] == {"num_workers": 1, "use_gpu": False, "resources_per_worker": {"CPU": 1}}


# Which says what it is, and whose child.
COMMAND = """#!/bin/sh
echo $$ $PPID >> {folder}/started
exec {python} {program} "$@"
"""


@pytest.mark.clusters
def test_workers_that_are_killed_start_again(tmp_path, monkeypatch):
    if importlib.util.find_spec("ray") is None:
        pytest.skip("requirements-clusters.txt")
    if os.cpu_count() < 2:
        pytest.skip("needs two processors, of which Ray gives each worker one")
    arguments = (f"--config={ROOT / 'configs' / 'digits.py'}", *SMALL, *ALONE, "--config.epochs=30")
    by_hand, by_ray = tmp_path / "by_hand", tmp_path / "by_ray"
    by_hand.mkdir()
    by_ray.mkdir()
    program = str(ROOT / "train_main.py")
    finish(by_hand, start(by_hand, (program, "--workdir=run", *arguments), workers=2, cwd=by_hand))

    command = by_ray / "cskd-tf"
    command.write_text(COMMAND.format(folder=by_ray, python=sys.executable, program=program))
    command.chmod(0o755)
    monkeypatch.setenv("HOME", str(tmp_path))  # where Ray writes its results
    ray = [sys.executable, SCRIPT, "--workers=2", "--", command, f"--workdir={by_ray / 'run'}", *arguments]
    with open(by_ray / "output.txt", "w") as file:
        trainer = subprocess.Popen(ray, stdout=file, stderr=file)

    def started():
        file = by_ray / "started"
        return [tuple(map(int, line.split())) for line in file.read_text().splitlines()] if file.exists() else []

    def goes_on(epochs):
        assert trainer.poll() is None, (by_ray / "output.txt").read_text()[-3000:]
        return epochs_done(by_ray) >= epochs

    wait_for(lambda: goes_on(3), 600)
    assert len(started()) == 2
    os.kill(started()[-1][0], signal.SIGKILL)  # our process
    wait_for(lambda: len(started()) == 4, 600)
    begun = epochs_done(by_ray)
    wait_for(lambda: goes_on(begun + 3), 600)
    os.kill(started()[-1][1], signal.SIGKILL)  # Ray's own, around it
    assert trainer.wait(900) == 0, (by_ray / "output.txt").read_text()[-3000:]
    assert len(started()) == 6
    assert not [number for number, _ in started() if pathlib.Path(f"/proc/{number}").exists()]
    check_same(by_ray, by_hand, exactly=True, starts=3)
