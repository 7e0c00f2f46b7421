"""Runs what the README tells its readers to run."""

import json
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

import cskd_tf
from benchmarks import tables

ROOT = pathlib.Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
BIN = pathlib.Path(sys.executable).parent


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The repository as a newcomer has it, without what runs leave behind."""
    target = tmp_path_factory.mktemp("newcomer") / "cskd_tf"
    ignored = shutil.ignore_patterns(".git", ".venv", "workdirs", "__pycache__", "[0-9]*")
    shutil.copytree(ROOT, target, ignore=ignored)
    return target


def run(command, folder):
    finished = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    assert "Warning" not in finished.stderr, finished.stderr[-3000:]
    return finished.stdout


def test_the_example_is_short_and_learns():
    example, *_ = blocks("python")
    assert len([line for line in example.splitlines() if line.strip()]) <= 15
    names = {}
    exec(compile(example, "README.md", "exec"), names)
    assert (names["logits"].argmax(axis=1) == names["labels"][1500:]).mean() > 0.85
    assert np.isfinite(names["logits"]).all()


def test_a_keras_application_is_a_network():
    _, example, _ = blocks("python")
    names = {}
    exec(compile(example, "README.md", "exec"), names)
    network = names["mobilenet"](num_classes=7, input_shape=(32, 32, 3))
    outputs = cskd_tf.networks.NetworkOutputs(network)(np.ones((2, 32, 32, 3), "float32"))
    assert (outputs["logits"].shape, outputs["embedding"].shape) == ((2, 7), (2, 1024))


def test_no_figure_is_left_to_fill_in():
    assert not re.findall(r"\b[A-Z_]+_(?:TIME|TABLE|SENTENCE)\b", README)


def test_tables_are_what_commands_wrote():
    assert sorted(tables.TABLES) == sorted(re.findall(r"<!-- (?!end)(\w+) -->", README))
    assert tables.refreshed(README) == README, "python -m benchmarks.tables writes them from results/"
    for path in sorted((ROOT / "results").glob("*.json")):
        for line in json.loads(path.read_text()):
            assert re.fullmatch(r"[0-9a-f]{7,}(-dirty)?", line["commit"]), path.name
            assert line["cpu"], path.name


def test_the_words_hold_what_the_digits_table_holds():
    cross_entropy, cskd = tables.read("digits")
    assert (cross_entropy["methods"], cskd["methods"]) == ("cross-entropy", "CSKD(temperature=4, weight=1)")
    assert cskd["top1_error"]["mean"] < cross_entropy["top1_error"]["mean"]
    assert cskd["aurc"]["mean"] < cross_entropy["aurc"]["mean"]
    assert cskd["ece"]["mean"] > cross_entropy["ece"]["mean"]
    assert cskd["runs"] == cross_entropy["runs"] >= 5


def test_every_command_is_tested():
    commands = [line.split("#")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    assert commands == [
        "make train",
        "make test",
        "pip install -r requirements.txt",
        "python train_main.py",
        "python train_main.py --config=configs/image_folder.py --config.data.source.path=FOLDER --mode=doctor",
        "python train_main.py --config=configs/image_folder.py --config.data.source.path=FOLDER "
        "--workdir=workdirs/mine",
    ]


@pytest.mark.newcomer
def test_make_train_trains_both_and_says_where_everything_lies(copy):
    # Without the installation, which this test's own interpreter has had.
    printed = run(f"make -o .venv/train BIN={BIN} train", copy)
    rows = [line.split() for line in printed.splitlines() if re.match(r"\s+(cross-entropy|CSKD)", line)]
    assert [row[0] for row in rows] == ["cross-entropy", "CSKD(temperature=4,"]
    errors = [float(row[-6]) for row in rows]
    assert max(errors) < 10  # per cent; which is the lower depends on the seed and on the CPU
    assert (copy / "saved_models" / "digits" / "1" / "saved_model.pb").exists()
    assert "SavedModel of workdirs/digits: saved_models/digits/1" in printed
    assert re.search(r"TensorBoard: \S+ -m tensorboard.main --logdir workdirs/digits$", printed, re.MULTILINE)
    again = run(f"{BIN}/python train_main.py", copy)
    assert [line for line in again.splitlines() if "CSKD" in line] == [
        line for line in printed.splitlines() if "CSKD" in line
    ]


def test_make_test_runs_pytest(copy):
    assert "-m pytest" in run(f"make -n -o .venv/test BIN={BIN} test", copy)
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_the_pinned_packages_are_those_under_test(copy):
    run(f"{BIN}/python -m pip install --no-index --no-deps --dry-run --quiet -r requirements.txt", copy)


@pytest.mark.newcomer
def test_own_images_are_trained_by_the_command(copy, image_folder):
    small = (
        "--config.network.name=preact_resnet10 --config.network.width=4 --config.batch_size=4 --config.epochs=1 "
        "--config.data.split.validation_fraction=0.34 --config.export.enabled=False --config.baseline=True"
    )
    config = "--config=configs/image_folder.py"
    looked = run(
        f"{BIN}/python train_main.py {config} --config.data.source.path={image_folder} {small} --mode=doctor", copy
    )
    assert "Nothing here keeps the run from training." in looked
    command = (
        f"{BIN}/python train_main.py {config} --config.data.source.path={image_folder} --workdir=workdirs/mine {small}"
    )
    printed = run(command, copy)
    assert "image_folder, preact_resnet10" in printed
    assert "cross-entropy" in printed
