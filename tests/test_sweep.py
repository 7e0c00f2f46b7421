"""`--mode=sweep` with real processes and signals: a script in place of the training that it starts, but for one run."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import pytest

from configs import asked, cskd_paper, pskd_paper, sweep
from cskd_tf.runs import grid as grids
from cskd_tf.runs import sweep as checks
from cskd_tf.runs.lock import FolderLock
from cskd_tf.runs.workdir import Workdir
from tests.helpers import ALONE, ROOT, SMALL
from tests.processes import wait_for
from tests.selection import few

# A run as its folder shows it. Files named after words in its workdir say what else it does.
TRAINING = """
import json, os, pathlib, signal, sys, time

flags = dict(word[2:].split("=", 1) for word in sys.argv[1:])
text = pathlib.Path(flags["config"].partition(":")[2]).read_text()
config, workdir = json.loads(text), pathlib.Path(flags["workdir"])
workdir.mkdir(parents=True, exist_ok=True)
(workdir / "config.json").write_text(text)
with open("order.txt", "a") as file:
    file.write(f"{workdir}\\n")
order = lambda: pathlib.Path("order.txt").read_text().splitlines()

def save(number, frame):
    (workdir / "saved").write_text(signal.Signals(number).name)
    sys.exit(143)

for word in pathlib.Path(".").glob("*.word"):
    if word.read_text() in str(workdir):
        if word.stem == "broken":
            print("INFO: trains")
            sys.exit("error: it is broken\\n(more)")
        elif word.stem in ("SIGINT", "SIGTERM"):
            signal.signal(signal.SIGTERM, save)
            os.kill(os.getppid(), getattr(signal, word.stem))
            time.sleep(60)
        elif word.stem == "pair":
            deadline = time.monotonic() + 60
            while len(order()) < 2 and time.monotonic() < deadline:
                time.sleep(0.01)
error = 0.5 - 0.1 * config["methods"][0].get("weight", 0) + 0.01 * config["seed"]
splits = ["val", "test"] if config["data"]["split"]["validation_fraction"] else ["test"]
measured = {"top1_error": error, "ece_bins": 20}
if pathlib.Path("unmeasured.word").exists() and pathlib.Path("unmeasured.word").read_text() in str(workdir):
    measured = {"top1_error": None}
(workdir / "metrics.json").write_text(json.dumps({split: measured for split in splits}))
"""
# A config file with two experiments, of a sweep over both.
TWO = """
from configs import base, digits

def get_config(experiment="one"):
    config = digits.get_config()
    if experiment == "both":
        return base.with_sweep(config, experiments=("one", "two"), grid=("seed=0,1",))
    return config
"""
DIGITS = ("--config.baseline=False", "--mode=sweep", "--workdir=DIR")


@pytest.fixture
def swept(command, monkeypatch, tmp_path):
    """Sweeps digits, or what `--config` says; returns the exit code, what was printed, and which runs were started."""
    (tmp_path / "training.py").write_text(TRAINING)
    monkeypatch.setattr(sweep, "MAIN", tmp_path / "training.py")
    monkeypatch.delenv("TF_CONFIG", raising=False)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests may ignore it

    def run(*arguments, **words):
        for word, part in words.items():
            (tmp_path / f"{word}.word").write_text(part)
        (tmp_path / "order.txt").write_text("")
        code, printed = command(*arguments)
        for word in words:
            (tmp_path / f"{word}.word").unlink()
        return code, printed, [line.removeprefix("DIR/") for line in (tmp_path / "order.txt").read_text().splitlines()]

    yield run
    signal.signal(signal.SIGINT, before)


def test_one_that_fails_is_named_and_the_same_command_trains_it_alone(swept):
    grid = ("--grid=methods.0.weight=1,2", "--grid=seed=0,1")
    code, printed, order = swept(*DIGITS, *grid, broken="weight=1/seed=1")
    every = [f"weight={weight}/seed={seed}" for weight in (1, 2) for seed in (0, 1)]
    assert (code, order) == (1, every)
    failure = "failed: weight=1/seed=1: with exit code 1; its log: DIR/logs/weight=1/seed=1.log"
    assert printed.count(f"{failure}; error: it is broken\n") == 1
    assert printed.count(f"{failure}\n") == 1  # at the end
    assert "1 of 4 runs have not finished; the same command tries again." in printed
    assert "about < 1 min left" in printed
    assert "[4/4] weight=2/seed=1: val top1_error 0.3100, best so far weight=2 with 0.3050, < 1 min\n" in printed
    assert pathlib.Path("DIR/logs/weight=1/seed=1.log").read_text().startswith("INFO: trains\n")

    code, printed, order = swept(*DIGITS, *grid)
    assert (code, order) == (0, ["weight=1/seed=1"])
    assert "Runs in DIR: 4, finished before: 3;" in printed
    assert "All 4 runs have finished: --mode=report --workdir=DIR" in printed
    assert swept(*DIGITS, *grid)[::2] == (0, [])
    config = json.loads(pathlib.Path("DIR/weight=2/seed=1/config.json").read_text())
    assert (config["seed"], config["methods"][0]["weight"], config["export"]["enabled"]) == (1, 2.0, False)


def test_a_run_that_another_process_trains_is_left_to_it(swept):
    other = FolderLock(pathlib.Path("DIR/seed=0"))
    other.take()
    code, printed, order = swept(*DIGITS, "--grid=seed=0,1")
    assert (code, order) == (1, ["seed=1"])
    assert printed.count("left out: seed=0: another process trains it\n") == 2  # at once and at the end
    assert "1 of 2 runs have not finished; the same command tries again." in printed
    other.release()
    assert swept(*DIGITS, "--grid=seed=0,1")[::2] == (0, ["seed=0"])


@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_lets_the_run_save_and_starts_no_other(swept, number, code):
    stopped, printed, order = swept(*DIGITS, "--grid=seed=0,1,2", "--choose=top1_error", **{number: "seed=1"})
    assert (stopped, order) == (code, ["seed=0", "seed=1"])
    assert pathlib.Path("DIR/seed=1/saved").read_text() == "SIGTERM"
    assert f"Stopped by {number} after 1 of 3 runs; the same command goes on." in printed
    assert "failed" not in printed
    assert swept(*DIGITS, "--grid=seed=0,1,2")[2] == ["seed=1", "seed=2"]


def test_the_best_by_validation_is_trained_on_everything(swept):
    flags = (*DIGITS, "--grid=methods.0.weight=1,2,3", "--grid=seed=0,1", "--choose=top1_error")
    code, printed, order = swept(*flags, broken="weight=3/seed=1")
    assert code == 1
    assert order[-2:] == ["chosen/weight=2/seed=0", "chosen/weight=2/seed=1"]
    assert "Chosen by the mean val top1_error, 0.3050: weight=2\n" in printed
    config = json.loads(pathlib.Path("DIR/chosen/weight=2/seed=1/config.json").read_text())
    assert (config["data"]["split"]["validation_fraction"], config["methods"][0]["weight"]) == (0.0, 2.0)
    choice = json.loads(pathlib.Path("DIR/chosen/choice.json").read_text())
    assert choice["chosen"]["settings"] == {"methods[0].weight": 2}
    assert [each["missing"] for each in choice["candidates"]] == [[], [], ["weight=3/seed=1"]]

    code, printed, order = swept(*flags)
    assert code == 0
    assert order == ["weight=3/seed=1", "chosen/weight=3/seed=0", "chosen/weight=3/seed=1"]


@pytest.mark.thorough
def test_where_the_data_have_validation_images_of_their_own_nothing_is_trained_again(swept, image_folder):
    for name in ("cat", "dog"):
        shutil.copytree(image_folder / "test" / name, image_folder / "val" / name)
    folder = ("--config=" + str(ROOT / "configs/image_folder.py"), f"--config.data.source.path={image_folder}")
    flags = (*folder, *DIGITS, "--grid=methods.0.weight=1,2", "--choose=top1_error")
    code, printed, order = swept(*flags)
    assert (code, order) == (0, ["weight=1/seed=0", "weight=2/seed=0"])
    assert "Chosen by the mean val top1_error" in printed
    assert "Its data have validation images of their own" in printed


def test_a_metric_that_runs_do_not_have_ends_no_run(swept):
    code, printed, order = swept(*DIGITS, "--grid=methods.0.weight=1,2", "--choose=recall_at_1", "--jobs=2")
    assert sorted(order) == ["weight=1/seed=0", "weight=2/seed=0"]
    assert code == 1
    assert "failed: no choice of a point: Expected a metric of validation images to choose by" in printed


def test_an_experiment_without_the_metric_leaves_the_choice_of_another(swept):
    pathlib.Path("two.py").write_text(TWO)
    flags = ("--config=two.py:both", "--choose=top1_error", *DIGITS)
    code, printed, order = swept(*flags, unmeasured="one/seed=1")
    assert code == 1
    assert "failed: no choice of one: Expected a metric of validation images" in printed
    assert "Chosen by the mean val top1_error" in printed
    assert [name for name in order if name.startswith("chosen")] == ["chosen/two/seed=0", "chosen/two/seed=1"]


def test_what_its_teacher_has_not_finished_for_is_not_started(swept):
    flags = ("--config=configs/cskd_paper.py:cifar100,resnet10,kd", "--mode=sweep", "--workdir=DIR", "--grid=seed=0,1")
    flags = (flags[0].replace("configs", str(pathlib.Path(cskd_paper.__file__).parent)), *flags[1:])
    teachers = [f"cifar100,densenet121,cskd/seed={seed}" for seed in (0, 1)]
    students = [f"cifar100,resnet10,kd/seed={seed}" for seed in (0, 1)]
    code, printed, order = swept(*flags, broken=teachers[0])
    assert (code, order) == (1, [teachers[0], teachers[1], students[1]])
    assert f"failed: {students[0]}: not started, as its teacher has not finished: {teachers[0]}\n" in printed
    assert "2 of 4 runs have not finished" in printed
    assert swept(*flags)[::2] == (0, [teachers[0], students[0]])
    config = json.loads(pathlib.Path("DIR", students[0], "config.json").read_text())
    assert config["methods"][0]["teacher"] == f"DIR/{teachers[0]}"


def test_a_bar_where_somebody_watches(swept, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # by which rich takes the output for a terminal
    code, printed, _ = swept(*DIGITS, "--grid=seed=0,1")
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", printed)
    assert code == 0
    assert re.search(r"━ 0/2 \S+ +seed=0", plain)
    assert re.search(r"━ 2/2 ", plain)
    assert "[2/2] seed=1: val top1_error 0.4100" in plain


@pytest.mark.parametrize("given", [(), ("--config.optimizer.arguments={'beta_2': 0.5}",)])
@pytest.mark.parametrize("grid", ["={'beta_2':0.9},{'beta_2':0.98}", ".beta_2=0.9,0.98"])
def test_what_an_optimizer_is_given_may_be_on_the_grid(grid, given, swept):
    code, printed, order = swept(*DIGITS, "--config.optimizer.name=AdamW", *given, f"--grid=optimizer.arguments{grid}")
    assert code == 0, printed
    configs = [json.loads(pathlib.Path("DIR", name, "config.json").read_text()) for name in order]
    assert [config["optimizer"]["arguments"] for config in configs] == [{"beta_2": 0.9}, {"beta_2": 0.98}]


def test_methods_that_are_given_whole_have_another_value_in_each_run(swept):
    methods = "--config.methods=({'name': 'CSKD', 'weight': 3.0},)"
    code, printed, order = swept(*DIGITS, methods, "--grid=methods.0.weight=1,2", "--grid=seed=0,1")
    assert code == 0, printed
    configs = [json.loads(pathlib.Path("DIR", name, "config.json").read_text()) for name in order]
    assert [config["methods"][0]["weight"] for config in configs] == [1.0, 1.0, 2.0, 2.0]


def test_several_workers_do_not_sweep(swept, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{}")
    assert "error: Expected one process for --mode=sweep. Received: TF_CONFIG={}" in swept(*DIGITS)[1]


def test_several_at_a_time(swept):
    code, _, order = swept(*DIGITS, "--grid=seed=0,1,2", "--jobs=2", pair="seed=0")
    assert (code, len(order)) == (0, 3)  # the first waits for the second


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--grid=epoch=1,2"], "error: Expected --grid=KEY=VALUE,VALUE with keys of configs/base.py, "),
        (["--grid=epochs=1,many"], "error: epochs=many/seed=0: Expected epochs to be int. Received: epochs='many'"),
        (["--grid=epochs=1,0"], "error: epochs=0/seed=0: Expected epochs to be at least 1. Received: epochs=0"),
        (["--grid=methods.0.wait=1"], "error: wait=1/seed=0: Unknown argument of CSKD"),
        (["--grid=methods.0.weight=-1,1"], "error: weight=-1/seed=0: Expected weight"),
        (["--grid=optimizer.name=SGD,Adamm"], "error: name=Adamm/seed=0: Unknown optimizer"),
        (["--grid=schedule.learning_rate=0.1,-1.0"], "error: learning_rate=-1/seed=0: Expected"),
        (["--split=val", "--with=nowhere"], "error: Expected of --mode=sweep "),
        (["--jobs=2", "--mode=train"], "error: Expected --jobs beside --mode=sweep alone. Received: --mode=train"),
        (["--grid=network.name=resnet19"], "error: name=resnet19/seed=0: Unknown network"),
        (["--grid=seed=1", "--mode=train"], "error: Expected --mode=sweep beside --grid and --choose"),
        (["--choose=nll", "--mode=train"], "error: Expected --mode=sweep beside --grid and --choose"),
        (["--choose=accuracy"], "error: Expected one of top1_error|"),
        (["--choose=nll", "--config.data.split.validation_fraction=0"], "error: Expected validation images to choose"),
    ],
)
def test_what_cannot_be_swept_is_refused_before_anything_starts(swept, arguments, message):
    code, printed, order = swept(*DIGITS, *arguments)
    assert message in printed
    assert "CSKD_TF_TRACEBACK" not in printed  # which is for what no command line is to blame for
    assert (code, order) == (1, [])
    assert not pathlib.Path("DIR").exists()


def test_a_folder_of_another_config_is_refused(swept):
    swept(*DIGITS, "--config.epochs=2")
    code, printed, order = swept(*DIGITS, "--config.epochs=3", "--grid=seed=1,0")
    assert (code, order) == (1, [])
    assert "error: seed=0: Expected the config that DIR/seed=0 belongs to" in printed
    assert "epochs: 2 there, 3 here" in printed


def test_a_config_of_several_experiments_is_for_no_other_mode(command):
    path = pathlib.Path(cskd_paper.__file__)
    code, printed = command(f"--config={path}:table1,cifar100", "--workdir=DIR")
    assert code == 1
    assert "Expected --mode=sweep for a config of several experiments" in printed


def tables():
    for module in (cskd_paper, pskd_paper):
        columns = getattr(module, "_columns", lambda table: pskd_paper.TABLES[table][0])
        for table in module.TABLES:
            yield from (pytest.param(module, f"{table},{column}", id=f"{table},{column}") for column in columns(table))
    yield cskd_paper, "choose,mit67,resnet18,mixup_cskd"
    yield pskd_paper, "choose,preact_resnet18"


@pytest.mark.parametrize(("module", "name"), few(list(tables()), 20))
def test_every_table_is_a_sweep_of_runs_that_could_be_trained(module, name, tmp_path):
    home = pathlib.Path("workdirs", pathlib.Path(module.__file__).stem)
    plan = grids.Plan(asked.load_from(module.__file__), folder=tmp_path, home=home, overrides={})
    given = module.get_config(name).sweep
    for experiment in given.experiments:
        plan.add(experiment, grids.parse_grid(["seed=0"], defaults=given.grid))
    configs = checks.check(list(plan.runs.values()), tmp_path)
    assert len({json.dumps(config.as_dict(), sort_keys=True) for config in configs.values()}) == len(plan.runs)
    for run in plan.runs.values():
        used = [method["teacher"] for method in run.config["methods"] if "teacher" in method]
        assert used == [str(tmp_path / teacher) for teacher in run.teachers]
        assert ("kd" in run.experiment.split(",")[-1].split("_") or "tfkd" in run.experiment) == bool(used)


@pytest.mark.slow
def test_a_run_of_a_sweep_is_one_that_train_trains(command):
    code, printed = command(*DIGITS, *ALONE, *SMALL, "--config.epochs=1", "--config.seed=3")
    assert code == 0, pathlib.Path("DIR/logs/seed=3.log").read_text()
    assert "[1/1] seed=3: val top1_error 0." in printed
    assert json.loads(pathlib.Path("DIR/seed=3/config.json").read_text())["seed"] == 3
    assert {"classifier.keras", "metrics.json", "predictions_val.npz"} <= set(os.listdir("DIR/seed=3"))


@pytest.mark.slow
def test_a_sweep_of_trainings_that_is_interrupted_fails_in_part_and_goes_on(tmp_path, monkeypatch):
    """Two rates, of which one runs to NaN, with two seeds; the first command is told to stop in the first run."""
    monkeypatch.chdir(tmp_path)
    flags = [f"--{flag}" for flag in ("mode=sweep", "workdir=DIR", "choose=top1_error", "grid=seed=0,1")]
    flags += ["--grid=schedule.learning_rate=0.05,1e6", *ALONE, *SMALL, "--config.epochs=30"]
    command = [sys.executable, str(ROOT / "train_main.py"), *flags]
    environment = {key: value for key, value in os.environ.items() if key != "TF_CONFIG"}
    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    log = pathlib.Path("DIR/learning_rate=0.05/seed=0/log.jsonl")
    wait_for(log.exists, 300, running=first)
    first.send_signal(signal.SIGTERM)
    printed, _ = first.communicate(timeout=300)
    assert first.returncode == 143, printed
    assert "Stopped by SIGTERM after 0 of 4 runs; the same command goes on." in printed
    assert len(Workdir(log.parent).log()) < 30

    second = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert second.returncode == 1, second.stdout
    assert "after epoch" in pathlib.Path("DIR/logs/learning_rate=0.05/seed=0.log").read_text()
    assert len(Workdir(log.parent).log()) == 30
    assert second.stdout.count("failed: learning_rate=1000000/seed=") == 4  # of two runs, at once and at the end
    assert "learning_rate=0.05\n" in second.stdout[second.stdout.index("Chosen by the mean val top1_error") :]
    chosen = [Workdir(f"DIR/chosen/learning_rate=0.05/seed={seed}") for seed in (0, 1)]
    assert all(run.config().data.split.validation_fraction == 0 and "val" not in run.metrics() for run in chosen)


def test_what_is_held_out_may_be_on_the_grid_and_the_best_is_trained_on_everything(swept):
    grid = ("--grid=data.split.validation_fraction=0.1,0.2", "--grid=seed=0")
    code, _, order = swept(*DIGITS, *grid, "--choose=top1_error")
    assert code == 0
    assert order[-1].startswith("chosen/")
    config = json.loads(pathlib.Path("DIR", order[-1], "config.json").read_text())
    assert config["data"]["split"]["validation_fraction"] == 0.0
