"""The command line before TensorFlow is loaded: its screen of help, and the right names for wrong ones."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

from configs import command_line, cskd_paper, right_names
from configs import saved as saved_config
from cskd_tf.runs import choice
from cskd_tf.runs.config import Config
from tests.helpers import ROOT, modes

# Prints what train_main.py prints, and last whether TensorFlow was loaded.
RUN = (
    "import sys, train_main\n"
    "try: train_main.run()\n"
    "except SystemExit as leaving: print(leaving.code)\n"
    "print('tensorflow' in sys.modules)"
)


def printed(*arguments):
    done = subprocess.run([sys.executable, "-c", RUN, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *lines, loaded = done.stdout.splitlines()
    assert loaded == "False"
    return lines


def test_help_is_one_screen_that_leads_to_configs_and_keys():
    *lines, code = printed("--help")
    assert code == "0"
    assert 15 < len(lines) < 24  # of a terminal, whose last one is the next prompt
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    defined = re.findall(r'DEFINE_\w+\(\s*"(\w+)"', (ROOT / "train_main.py").read_text())
    assert len(defined) > 12
    for word in (*(f"--{name}=" for name in defined), "--helpfull", *modes(), "launch", "predict"):
        assert word in text
    single, several = right_names.configs()
    for word in (*single, *several, "data.*", "seed"):
        assert re.search(rf"[ :,]{re.escape(word)}(,|$)", text, re.MULTILINE), word


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--mode=evalute"], "--mode=evaluate"),
        (["evaluate"], "--mode=evaluate"),
        (["lunch"], "launch"),
        (["--config=configs/cifar_100.py"], "--config=configs/cifar100.py"),
        (["--config", "cskd_papers.py:cifar100,resnet18,cskd"], "--config=configs/cskd_paper.py"),
        (["--mode=sweep", "--grid=sed=0,1"], "--grid=seed"),
        (["--mode=sweep", "--grid=seed=0,1", "--choose=top1_eror"], "--choose=top1_error"),
        (["--mode=report", "--table=cvrp1"], "--table=cvpr1"),
        (["--config.epoch=3"], '"epochs"'),
    ],
)
def test_the_nearest_name_is_offered_without_tensorflow(arguments, hint):
    lines = printed(*arguments)
    assert lines[0].startswith("error: ")
    (offer,) = [line for line in lines if line.lower().startswith("did you mean")]
    assert hint in offer


def test_names_that_are_like_none_are_listed_alone():
    lines = printed("--mode=xyz")
    assert not [line for line in lines if "Did you mean" in line]
    assert "train|" in lines[0]


def test_metrics_to_choose_by_are_those_that_have_a_direction():
    assert sorted(choice.DIRECTIONS) == sorted(right_names.METRICS)


def test_configs_are_told_apart_by_whether_they_take_an_experiment():
    single, several = right_names.configs()
    assert {"digits", "cifar100"} <= set(single)
    assert {"cskd_paper", "variants"} <= set(several)
    assert not {"base", "sweep", "right_names"} & {*single, *several}


def test_a_message_of_several_lines_becomes_one(monkeypatch):
    monkeypatch.setattr("sys.argv", ["train_main.py"])
    with pytest.raises(SystemExit) as leaving, command_line.one_line():
        raise ValueError("of a config file\nthat says more")
    assert leaving.value.code == f"error: of a config file that says more\n{command_line.TRACEBACK}"
    with pytest.raises(SystemExit) as leaving, command_line.one_line():
        raise ValueError('Expected a key. Received: a\nb\nDid you mean "c"?')
    assert leaving.value.code == 'error: Expected a key. Received: a b\nDid you mean "c"?'


@pytest.mark.parametrize("place", ["here", "elsewhere"])
def test_our_configs_are_found_from_any_folder(place, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT if place == "here" else tmp_path)
    ours = "configs/" if place == "here" else f"{ROOT}/configs/"
    given = ["cskd-tf", "--config=configs/digits.py", "--config.seed=1", "--on", "configs/cskd_paper.py:table1,cub200"]
    assert right_names.with_config_files(given) == [
        "cskd-tf", f"--config={ours}digits.py", "--config.seed=1", "--on", f"{ours}cskd_paper.py:table1,cub200"
    ]  # fmt: skip
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "digits.py").write_text("")
    monkeypatch.chdir(tmp_path)
    assert right_names.with_config_files(given)[1] == "--config=configs/digits.py"  # the user's own


@pytest.mark.parametrize("workdir", ["--workdir=DIR", "--workdir DIR"])
def test_keys_that_are_changed_in_a_runs_folder_are_of_its_own_config(workdir, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    given = ["cskd-tf", *workdir.split(), "--mode=export", "--config.export.coverage=0.9"]
    assert right_names.with_config_of_run(given) == given  # no run there
    config = cskd_paper.get_config("cifar100,resnet18,cskd")
    config.optimizer.name, config.optimizer.arguments = "AdamW", {"beta_1": 0.8}
    saved = json.loads(json.dumps(Config.read(config).as_dict()))
    pathlib.Path("DIR").mkdir()
    pathlib.Path("DIR/config.json").write_text(json.dumps(saved))
    found = right_names.with_config_of_run(given)
    file, path = found[1].removeprefix("--config=").split(".py:")
    assert (file, path) == (f"{ROOT}/configs/saved", "DIR/config.json")
    assert found[2:] == given[1:]
    assert Config.read(saved_config.get_config(path)).as_dict() == Config.read(saved).as_dict()
    for others in (["--config=configs/digits.py"], ["--config", "configs/digits.py"]):
        assert right_names.with_config_of_run([*given, *others]) == [*given, *others]
    assert right_names.with_config_of_run(given[:-1]) == given[:-1]
    own = found[1]
    for words in (["launch"], []):  # which stay in front
        trained = ["cskd-tf", *words, *workdir.split(), *(["--workers=2"] if words else [])]
        assert right_names.with_config_of_run(trained) == [*trained[: 1 + len(words)], own, *trained[1 + len(words) :]]
    negated = ["cskd-tf", "--mode=evaluate", *workdir.split(), "--noconfig.export.enabled"]
    assert own in right_names.with_config_of_run(negated)
    for other in (
        ["cskd-tf", "--mode=sweep", *workdir.split(), "--config.seed=1"],
        ["cskd-tf", "predict", *workdir.split(), "--", "--config.seed=1"],
        ["cskd-tf", *workdir.split(), "--workdir=elsewhere"],
    ):
        assert right_names.with_config_of_run(other) == other
    pathlib.Path("DIR/config.json").write_text(json.dumps({**saved, "network": {"name": "keras.applications:A"}}))
    assert own in right_names.with_config_of_run(given)
    for network in ("evil:make", "evil.py:make"):
        pathlib.Path("DIR/config.json").write_text(json.dumps({**saved, "network": {"name": network}}))
        with pytest.raises(ValueError, match=f"a folder alone may not say what is called. Received: .*{network}"):
            right_names.with_config_of_run(given)
        named = [*given, f"--config.network.name={network}"]  # by the user, who trusts it
        assert own in right_names.with_config_of_run(named)
    for damaged in ("{", "[" * 100_000, '{"network": {"name": 5}}', "5"):
        pathlib.Path("DIR/config.json").write_text(damaged)
        assert right_names.with_config_of_run(given) == given


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"network": None}, "other keys than those of configs/base.py"),
        ({"newkey": 1}, r"other keys than those of configs/base.py: \['newkey'\]"),
        ({"epochs": "two"}, "Could not override field 'epochs'"),
        ({"data": None}, ""),
    ],
)
def test_a_config_that_is_no_whole_one_is_named(changes, why, tmp_path):
    saved = {
        **json.loads(json.dumps(Config.read(cskd_paper.get_config("cifar100,resnet18,cskd")).as_dict())),
        **changes,
    }
    (tmp_path / "config.json").write_text(json.dumps(saved))
    with pytest.raises(ValueError, match=rf"Expected a run's config. Received: {tmp_path}/config.json \(.*{why}"):
        saved_config.get_config(str(tmp_path / "config.json"))


TOLD_TO_END = (
    "import os, signal\n"
    "from configs import command_line\n"
    "command_line.leave_at_sigterm()\n"
    "try: os.kill(os.getpid(), signal.SIGTERM)\n"
    "except SystemExit: print('cleared up', flush=True); raise"
)


@pytest.mark.parametrize(("cluster", "said"), [({}, "cleared up\n"), ({"TF_CONFIG": "{}"}, "")])
def test_one_process_clears_up_at_sigterm_and_one_of_several_is_gone(cluster, said):
    """As what TensorFlow is just at has caught the exception of one, and has printed it."""
    command, told = [sys.executable, "-c", TOLD_TO_END], {**os.environ, **cluster}
    done = subprocess.run(command, env=told, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (143, said)
    assert done.stderr == "Terminated; the same command goes on from what is saved.\n"
