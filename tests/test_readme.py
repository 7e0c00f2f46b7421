"""Runs what README and docs tell their readers to run, and follows their links."""

import functools
import json
import operator
import pathlib
import re
import subprocess
import sys

import pytest

import cskd_tf
from benchmarks import tables
from benchmarks.markdown import read
from configs import cskd_paper, pskd_paper
from tests.helpers import ROOT
from tests.pages import ALL, PAGES, anchors, blocks, prose

BIN = pathlib.Path(sys.executable).parent


def run(command, folder):
    finished = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    assert "Warning" not in finished.stderr, finished.stderr[-3000:]
    return finished.stdout


def test_no_figure_is_left_to_fill_in():
    for text in PAGES.values():
        assert not re.findall(r"\b[A-Z_]+_(?:TIME|TABLE|SENTENCE)\b|\bTODO\b|\bTBD\b", text)


def test_tables_are_what_commands_wrote():
    marks = [mark for text in PAGES.values() for mark in re.findall(r"<!-- (?!end)(\w+)(?: \w+)* -->", text)]
    assert set(tables.TABLES) == set(marks)
    for name, text in PAGES.items():
        assert tables.refreshed(text) == text, f"python -m benchmarks.tables writes them into {name} from results/"
    for path in sorted((ROOT / "results").glob("*.json")):
        for line in json.loads(path.read_text()):
            assert re.fullmatch(r"[0-9a-f]{7,}(-dirty)?", line["commit"]), path.name
            assert line["cpu"], path.name


@pytest.mark.parametrize("name", ALL)
def test_tables_are_aligned(name):
    text = re.sub(r"```.*?```", "", ALL[name], flags=re.DOTALL)
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({len(row) for row in table.splitlines()}) == 1, table


@pytest.mark.parametrize("name", ["fashion_mnist", "fonts", "digits"])
def test_the_words_hold_what_the_tables_hold(name):
    cross_entropy, cskd = read(name)
    assert (cross_entropy["methods"], cskd["methods"]) == ("cross-entropy", "CSKD(temperature=4, weight=1)")
    assert cskd["top1_error"]["mean"] < cross_entropy["top1_error"]["mean"]
    assert cskd["aurc"]["mean"] < cross_entropy["aurc"]["mean"]
    assert cskd["runs"] == cross_entropy["runs"] >= 5

    def is_less_with_each_seed(key, better=operator.lt):
        return all(map(better, cskd[key]["values"], cross_entropy[key]["values"]))

    assert is_less_with_each_seed("top1_error")
    if name == "fashion_mnist":  # "better in every column", "a quarter"
        assert all(map(is_less_with_each_seed, ("top5_error", "nll", "ece", "aurc")))
        assert is_less_with_each_seed("recall_at_1", operator.gt)
        assert round(cross_entropy["ece"]["mean"] / cskd["ece"]["mean"]) == 4
        return
    assert cskd["ece"]["mean"] > cross_entropy["ece"]["mean"]
    if name == "fonts":  # "half as many", "nearer"
        assert round(cskd["top1_error"]["mean"] / cross_entropy["top1_error"]["mean"], 1) == 0.5
        assert cskd["recall_at_1"]["mean"] > cross_entropy["recall_at_1"]["mean"]


@pytest.mark.parametrize("name", ALL)
def test_every_link_leads_somewhere(name):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(ALL[name])):
        if re.match(r"https?://", target):
            continue
        file, _, anchor = target.partition("#")
        path = (ROOT / name).parent / file if file else ROOT / name
        assert path.exists(), f"{name} links to {target}"
        if anchor:
            assert anchor in anchors(path.read_text()), f"{name} links to {target}"


def test_every_replacement_is_run():
    page = "docs/replacements.md"
    code = "".join(block.text for block in blocks(page, "python"))
    named = set(re.findall(r"`((?:keras|keras_hub|cskd_tf|sklearn|scipy)(?:\.\w+)+)`", table_rows(page)))
    assert len(named) > 60
    for name in named - {"keras.applications"}:
        assert name in code or f'"{name.rpartition(".")[2]}"' in code, name


def table_rows(page):
    return "".join(line for line in PAGES[page].splitlines(keepends=True) if line.startswith("|"))


def test_every_page_is_in_the_index():
    index = PAGES["docs/README.md"]
    assert all(
        f"]({pathlib.Path(name).name})" in index for name in PAGES if name not in ("README.md", "docs/README.md")
    )


def test_the_catalogue_says_of_every_method_what_it_is_and_when_it_is_of_use():
    what, _, rest = PAGES["docs/catalogue.md"].partition("## When to use which")
    for part in (what, rest.partition("## What a step costs")[0]):
        tables_of_part = "".join(line for line in part.splitlines(keepends=True) if line.startswith("|"))
        assert not [name for name in cskd_tf.methods.METHODS if not re.search(rf"`{name}\b", tables_of_part)]


def test_methods_networks_and_data_sets_are_all_there():
    methods = dict.fromkeys(("docs/methods.md", "docs/catalogue.md"), cskd_tf.methods.METHODS)
    for page, known in {
        **methods,
        "docs/networks.md": cskd_tf.networks.NETWORKS,
        "docs/data.md": cskd_tf.data.DATASETS,
    }.items():
        assert not [name for name in known if not re.search(rf"\b{name}\b", PAGES[page])], page


@pytest.mark.newcomer
def test_make_train_trains_both_and_says_where_everything_lies(repository):
    # Without the installation, which this test's own interpreter has had.
    printed = run(f"make -o .venv/train BIN={BIN} train", repository)
    rows = [line.split() for line in printed.splitlines() if re.match(r"\s+(cross-entropy|CSKD)", line)]
    assert [row[0] for row in rows] == ["cross-entropy", "CSKD(temperature=4,"]
    errors = [float(row[-6]) for row in rows]
    assert max(errors) < 10  # per cent; which is the lower depends on the seed and on the CPU
    assert (repository / "saved_models" / "digits" / "1" / "saved_model.pb").exists()
    assert "SavedModel of workdirs/digits: saved_models/digits/1" in printed
    assert re.search(
        r"TensorBoard: \S+ -m tensorboard.main --logdir workdirs/digits/tensorboard$", printed, re.MULTILINE
    )
    again = run(f"{BIN}/python train_main.py", repository)
    assert [line for line in again.splitlines() if "CSKD" in line] == [
        line for line in printed.splitlines() if "CSKD" in line
    ]


def test_make_test_runs_pytest(repository):
    assert "-m pytest" in run(f"make -n -o .venv/test BIN={BIN} test", repository)
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_the_pinned_packages_are_those_under_test(repository):
    run(f"{BIN}/python -m pip install --no-index --no-deps --dry-run --quiet -r requirements.txt", repository)


@pytest.mark.newcomer
def test_own_images_are_trained_by_the_command(repository, image_folder):
    small = (
        "--config.network.name=preact_resnet10 --config.network.width=4 --config.batch_size=4 --config.epochs=1 "
        "--config.data.split.validation_fraction=0.34 --config.export.enabled=False --config.baseline=True"
    )
    config = f"--config=configs/image_folder.py --config.data.source.path={image_folder}"
    looked = run(f"{BIN}/python train_main.py {config} {small} --mode=doctor", repository)
    assert "Nothing here keeps the run from training." in looked
    printed = run(f"{BIN}/python train_main.py {config} --workdir=workdirs/mine {small}", repository)
    assert "image_folder, preact_resnet10" in printed
    assert "cross-entropy" in printed


def test_the_flags_of_the_public_code_lead_to_what_is_here_with_their_defaults():
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGES["docs/pytorch.md"].splitlines()
        if line.startswith("| `-")
    ]
    assert len(rows) > 25
    for _, _, here in rows:
        for key, known in (("network", cskd_tf.networks.NETWORKS), ("data.source", cskd_tf.data.DATASETS)):
            _, named, names = here.partition(f"`config.{key}.name`:")
            assert set(re.findall(r"`(\w+)`", names)) <= set(known)
            assert bool(named) == bool(names)
    paper = cskd_paper.get_config("cifar100_pad_crop,resnet18,cskd"), pskd_paper.get_config("preact_resnet18,pskd")
    defaults = {"config.epochs": ("200", "300"), "config.batch_size": ("128", "128")}
    defaults |= {"config.schedule.learning_rate": ("0.1", "0.1"), "config.optimizer.weight_decay": ("1e-4", "5e-4")}
    for key, values in defaults.items():
        given = [default for _, default, here in rows if f"`{key}`" in here]
        assert [each.split(",")[0] for each in given] == list(values)
        for config, value in zip(paper, values, strict=True):
            assert functools.reduce(getattr, key.split(".")[1:], config) == float(value)
