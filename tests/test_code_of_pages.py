"""Runs the code of README and docs as it stands, or parses what a mark in the page keeps from being run."""

import collections
import json
import operator
import os
import pathlib
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
from absl import flags
from ml_collections import config_flags

import cskd_tf
from configs import base
from tests import keras_home, pages
from tests.helpers import ROOT, modes
from tests.selection import quick

PROGRAMS = {"kubectl", "make", "pip", "python", "sbatch"}
TUTORIALS = ("docs/add_a_method.md",)  # whose blocks are files and commands: tests/test_added_method.py follows it
RUN = [page for page in pages.PAGES if page != "README.md" and page not in TUTORIALS]
QUICK = ("docs/calibration.md", "docs/methods.md", "docs/metrics.md", "docs/networks.md")


def execute(page, monkeypatch, folder):
    """All Python of a page from top to bottom, in an empty folder; returns the names that it leaves."""
    monkeypatch.chdir(folder)
    names = {"__name__": page}
    for block in pages.blocks(page, "python"):
        code = compile(block.text, f"{page}, block {block.number}", "exec")
        if not block.reason:
            exec(code, names)
    return names


def skip_without_images(page):
    if page == "docs/tutorial.md" and not keras_home.has_fashion_mnist():
        pytest.skip(keras_home.REASON)


def test_what_is_not_run_says_why_and_is_counted():
    blocks = list(pages.all_blocks())
    assert {block.language for block in blocks} <= {"python", "bash", "diff", "text", ""}
    marked = [block for block in blocks if block.reason]
    assert {block.language for block in marked} <= {"python", "bash"}
    assert collections.Counter(block.reason for block in marked) == pages.REASONS
    marks = sum(len(re.findall(r"<!-- not run", text)) for text in pages.ALL.values())
    assert marks == len(marked)  # each stands right above its block


def test_every_block_that_is_not_marked_is_on_a_page_that_is_run():
    for block in pages.all_blocks():
        if block.language in ("python", "bash", "diff") and not block.reason:
            assert block.page in ("README.md", *RUN, *TUTORIALS), block


def test_the_example_is_short_and_learns(monkeypatch, tmp_path):
    (example,) = pages.blocks("README.md", "python")
    assert len([line for line in example.text.splitlines() if line.strip()]) <= 15
    names = execute("README.md", monkeypatch, tmp_path)
    assert (names["logits"].argmax(axis=1) == names["labels"][1500:]).mean() > 0.85
    assert np.isfinite(names["logits"]).all()


@pytest.mark.parametrize("page", quick([page for page in RUN if pages.blocks(page, "python")], *QUICK))
def test_the_python_of_a_page_runs(page, monkeypatch, tmp_path):
    skip_without_images(page)
    names = execute(page, monkeypatch, tmp_path)
    if "history" in names:
        assert np.isfinite(names["history"].history["loss"]).all()
    if page == "docs/networks.md":
        network = names["mobilenet"](num_classes=7, input_shape=(32, 32, 3))
        outputs = cskd_tf.networks.NetworkOutputs(network)(np.ones((2, 32, 32, 3), "float32"))
        assert (outputs["logits"].shape, outputs["embedding"].shape) == ((2, 7), (2, 1024))


@pytest.mark.detection
def test_what_needs_keras_hub_runs():
    pytest.importorskip("keras_hub")
    (block,) = [block for block in pages.all_blocks() if block.reason == "needs KerasHub"]
    exec(compile(block.text, block.page, "exec"), {"np": np})


@pytest.mark.newcomer
@pytest.mark.parametrize(
    "page", [page for page in RUN if any(not block.reason for block in pages.blocks(page, "bash"))]
)
def test_the_commands_of_a_page_run(page, repository):
    skip_without_images(page)
    environment = {**os.environ, "PATH": f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for block in pages.blocks(page, "bash"):
        if not block.reason:
            command = ["bash", "-euo", "pipefail", "-c", block.text]
            done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_the_commands_of_the_readme_are_those_that_its_tests_run():
    own_images = "python train_main.py --config=configs/image_folder.py --config.data.source.path=FOLDER"
    lines = [shlex.join(words) for block in pages.blocks("README.md", "bash") for words in pages.lines_of(block)]
    assert lines == [
        "make train",
        "make test",
        "pip install -r requirements.txt",
        "python train_main.py",
        f"{own_images} --mode=doctor",
        f"{own_images} --workdir=workdirs/mine",
    ]


def check_train_main(arguments):
    """Parses as `train_main.py` does: a key that no config has, or a value of another type, is an error."""
    values = flags.FlagValues()
    for name in ("workdir", "checkpoint", "choose", "table", "format", "output"):
        flags.DEFINE_string(name, None, "", flag_values=values)
    for name in ("workers", "jobs", "check_labels"):
        flags.DEFINE_integer(name, None, "", flag_values=values)
    flags.DEFINE_multi_string("grid", [], "", flag_values=values)
    flags.DEFINE_enum("mode", "train", modes(), "", flag_values=values)
    command = ["train_main.py", *arguments]
    default = str(ROOT / "configs" / "digits.py")
    config_flags.DEFINE_config_file("config", default, "", flag_values=values, sys_argv=command)
    for name in ("on", "against"):
        config_flags.DEFINE_config_file(name, None, "", flag_values=values, sys_argv=command)
    flags.DEFINE_enum("split", None, ["train", "val", "test", "all"], "", flag_values=values)
    flags.DEFINE_list("with", None, "", flag_values=values)
    words = values(command)[1:]
    assert words == (["launch"] if values["workers"].value else []) or (words[0] == "predict" and len(words) > 1)
    assert (values["mode"].value == "import") == (values["checkpoint"].value is not None)
    cskd_tf.methods.build([dict(method) for method in values["config"].value.methods])


def check_options(source, arguments):
    known = set(re.findall(r"""(?:DEFINE_\w+|add_argument)\(\s*"(?:--)?([\w-]+)\"""", source))
    configs = re.findall(r"""DEFINE_config_file\(\s*"(\w+)\"""", source)
    of_configs = [each for each in arguments if re.match(rf"--({'|'.join(configs)})[.=]", each)] if configs else []
    values, command = flags.FlagValues(), ["program", *of_configs]
    for name in configs:
        config_flags.DEFINE_config_file(name, None, "", flag_values=values, sys_argv=command)
    assert values(command) == ["program"]
    given = {argument[2:].split("=")[0] for argument in arguments if argument.startswith("--")}
    assert given - {argument[2:].split("=")[0] for argument in of_configs} <= known


def commands():
    for block in pages.all_blocks():
        if block.language == "bash" and block.page not in TUTORIALS:
            for words in pages.lines_of(block):
                yield pytest.param(words, id=f"{block.page}: {shlex.join(words)}")


@pytest.mark.parametrize("words", list(commands()))
def test_a_command_could_be_run(words, monkeypatch):
    monkeypatch.chdir(ROOT)
    if words[0].startswith("TF_CONFIG="):
        cluster, task = operator.itemgetter("cluster", "task")(json.loads(words[0].partition("=")[2]))
        assert task["index"] in range(len(cluster[task["type"]]))
        words = words[1:]
    program, *arguments = words
    assert pathlib.Path(program).name in PROGRAMS
    if program == "make":
        assert all(re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE) for target in arguments)
    elif program == "pip":
        assert arguments[:2] == ["install", "-r"]
        assert (ROOT / arguments[2]).is_file()
    elif program in ("kubectl", "sbatch"):
        (script,) = [number for number, argument in enumerate(arguments) if argument.startswith("launchers/")]
        assert (ROOT / arguments[script]).is_file()
        check_train_main(arguments[script + 1 :])
    elif arguments[0] == "launchers/ray_train.py":
        end = arguments.index("--")
        check_options((ROOT / arguments[0]).read_text(), arguments[1:end])
        assert arguments[end + 1] == "cskd-tf"
        check_train_main(arguments[end + 2 :])
    elif arguments[0] == "train_main.py":
        check_train_main(arguments[1:])
    elif arguments[0] == "-m" and arguments[1].startswith(("benchmarks.", "examples.")):
        path = ROOT / arguments[1].replace(".", "/")
        file = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
        check_options(file.read_text(), arguments[2:])
    elif arguments == ["-"]:
        pass  # a program on its standard input, which is run with the page
    elif arguments[:2] == ["-m", "pytest"]:
        assert all((ROOT / path).exists() for path in arguments[2:] if not path.startswith("-"))
    else:
        check_options((ROOT / arguments[0]).read_text(), arguments[1:])


@pytest.mark.parametrize("page", pages.ALL)
def test_no_two_commands_of_a_page_train_other_configs_in_one_workdir(page):
    """The second would be refused, to whoever follows the page in one folder."""
    trained: dict[str, list[str]] = {}
    for block in pages.blocks(page, "bash"):
        for program, *words in pages.lines_of(block):
            if program != "python" or words[0] != "train_main.py" or {"predict", "launch"} & set(words):
                continue
            if any(re.match("--(mode|grid|workers)=", word) for word in words):
                continue
            (config,) = [word for word in words if word.startswith("--config=")] or ["--config=configs/digits.py"]
            found = [word.partition("=")[2] for word in words if word.startswith("--workdir=")]
            file, _, experiment = config.partition(":")
            workdir = found[0] if found else f"workdirs/{pathlib.Path(file).stem}/{experiment}"
            own = [config, *(word for word in words if word.startswith("--config."))]
            assert workdir == "DIR" or trained.setdefault(workdir, own) == own


@pytest.mark.parametrize("page", pages.PAGES)
def test_keys_of_the_config_that_a_page_names_are_there(page):
    config = base.get_config()
    named = set(re.findall(r"`(?:--)?config\.([a-z_.]+)", pages.PAGES[page])) - {"json"}
    for key in named:
        found = config
        for part in key.rstrip(".").split("."):
            assert part in found, f"{page} names config.{key}"
            found = found[part]
