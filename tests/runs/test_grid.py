import json
import pathlib

import pytest

from cskd_tf.errors import UserError
from cskd_tf.runs import grid

FOLDER, HOME = pathlib.Path("sweeps/one"), pathlib.Path("workdirs/papers")
EXPERIMENTS = {
    "student": [{"name": "Distillation", "teacher": "workdirs/papers/large", "alpha": 0.5}],
    "large": [{"name": "CSKD", "weight": 1.0}],
    "other": [{"name": "Distillation", "teacher": "elsewhere/large"}],
    "circle": [{"name": "Distillation", "teacher": "workdirs/papers/circle"}],
    "": [{"name": "CSKD", "weight": 1.0}],
}


def load(experiment):
    config = {
        "seed": 0,
        "epochs": 3,
        "baseline": False,
        "methods": EXPERIMENTS[experiment],
        "network": {"name": experiment},
        "data": {"split": {"seed": 0, "validation_fraction": 0.0}},
    }
    return json.loads(json.dumps(config))


def plan(experiment, *axes, prefix="", overrides=None):
    made = grid.Plan(load, folder=FOLDER, home=HOME, overrides=overrides or {}, prefix=prefix)
    return made.add(experiment, grid.parse_grid(axes)), made.runs


def test_every_point_with_every_seed_in_the_order_of_the_grid():
    runs, every = plan("large", "epochs=5,6", "methods.0.weight=1,2", "seed=3,4")
    assert [run.name for run in runs] == list(every)
    assert list(every) == [
        f"large,epochs={epochs},weight={weight}/seed={seed}"
        for epochs in (5, 6)
        for weight in (1, 2)
        for seed in (3, 4)
    ]
    last = runs[-1]
    assert (last.point, last.settings) == ("large,epochs=6,weight=2", {"epochs": 6, "methods[0].weight": 2})
    assert (last.config["seed"], last.config["epochs"]) == (4, 6)
    assert last.config["methods"] == [{"name": "CSKD", "weight": 2.0}]


def test_without_a_grid_it_is_one_run_with_the_configs_seed():
    assert list(plan("")[1]) == ["seed=0"]
    assert list(plan("large", overrides={"seed": 7})[1]) == ["large/seed=7"]


def test_keys_that_take_the_same_values_together():
    runs, _ = plan("", "seed,data.split.seed=1,2")
    assert [run.name for run in runs] == ["seed=1", "seed=2"]
    assert [run.config["data"]["split"]["seed"] for run in runs] == [1, 2]


def test_seeds_of_their_own_stand_beside_the_seed():
    assert [run.name for run in plan("", "data.split.seed=1,2")[0]] == ["seed=0,split.seed=1", "seed=0,split.seed=2"]


def test_a_teacher_is_trained_first_with_the_same_seed_and_data():
    runs, every = plan("student", "methods.0.alpha=0.5,0.9", "data.split.validation_fraction=0.1", "seed=0,1")
    teachers = [f"large,validation_fraction=0.1/seed={seed}" for seed in (0, 1)]
    names = [run.name for run in runs]
    assert sorted(every) == sorted([*teachers, *names])  # each teacher once, for all values of alpha
    for run in runs:
        (teacher,) = run.teachers
        assert teacher == teachers[run.config["seed"]]
        assert list(every).index(teacher) < list(every).index(run.name)
        assert run.config["methods"][0]["teacher"] == f"sweeps/one/{teacher}"
        assert every[teacher].config["data"] == run.config["data"]
        assert every[teacher].config["seed"] == run.config["seed"]


def test_a_teacher_keeps_its_own_methods_and_network():
    changes = {"network.name": "small", "methods[0].alpha": 0.1, "epochs": 9}
    runs, every = plan("student", overrides=changes)
    teacher = every[runs[0].teachers[0]].config
    assert (teacher["network"]["name"], teacher["methods"]) == ("large", EXPERIMENTS["large"])
    assert teacher["epochs"] == 9
    assert runs[0].config["network"]["name"] == "small"


def test_teachers_of_runs_that_are_chosen_are_among_them():
    runs, every = plan("student", prefix="chosen")
    assert list(every) == ["chosen/large/seed=0", "chosen/student/seed=0"]
    assert runs[0].config["methods"][0]["teacher"] == "sweeps/one/chosen/large/seed=0"


def test_a_teacher_from_elsewhere_stays():
    (run,), every = plan("other")
    assert (run.teachers, len(every)) == ((), 1)
    assert run.config["methods"][0]["teacher"] == "elsewhere/large"


def test_a_baseline_is_a_run_of_its_own_once_for_all_methods():
    _, every = plan("", "methods.0.weight=1,2", "epochs=5", overrides={"baseline": True})
    assert list(every) == ["cross_entropy,epochs=5/seed=0", "weight=1,epochs=5/seed=0", "weight=2,epochs=5/seed=0"]
    assert every["cross_entropy,epochs=5/seed=0"].config["methods"] == []
    assert not any(run.config["baseline"] for run in every.values())


def test_names_suit_file_systems_and_differ():
    (run,), _ = plan("", "network.name=my.package:net/work")
    assert run.name == "name=my.package-net-work/seed=0"
    with pytest.raises(UserError, match="names that differ. Received: name=a-b/seed=0 for two configs"):
        plan("", "network.name=a:b,a/b")
    with pytest.raises(UserError, match="at most 200 characters"):
        plan("", f"network.name={'x' * 200}")


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        (["epochs"], r"Expected --grid=KEY=VALUE,VALUE such as --grid=seed=0,1,2. Received: --grid=epochs"),
        (["epochs="], "Received: --grid=epochs="),
        (["Epochs=1"], "Received: --grid=Epochs=1"),
        (["epochs=1,1"], "values that differ. Received: --grid=epochs=1,1"),
        (["seed,epochs=1,2"], "seeds on an axis of their own. Received: --grid=seed,epochs=1,2"),
        (["epochs=1", "epochs=2"], r"each key on one axis of the grid. Received: --grid twice for \['epochs'\]"),
        (["epoch=1"], "Received: epoch, which large lacks"),
        (["data.epochs=1"], "Received: data.epochs, which large lacks"),
        (["epochs.x=1"], "Received: epochs.x, which large lacks"),
        (["methods.1.weight=1"], r"Received: methods\[1\].weight, which large lacks"),
    ],
)
def test_a_grid_that_is_none(axes, message):
    with pytest.raises(UserError, match=message):
        plan("large", *axes)


def test_teachers_in_a_circle():
    with pytest.raises(UserError, match="do not teach each other"):
        plan("circle")


def test_a_folder_reads_the_same_however_it_was_typed(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for typed in ("a/b", "./a/b/", tmp_path / "a" / "b", "a/../a/b"):
        assert grid.as_typed(typed) == pathlib.Path("a/b")
    assert grid.as_typed(tmp_path.parent) == tmp_path.parent
