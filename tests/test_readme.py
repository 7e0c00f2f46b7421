"""Runs what README and docs tell their readers to run, and follows their links."""

import ast
import json
import operator
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
from absl import flags
from ml_collections import config_flags

import cskd_tf
from benchmarks import tables
from tests.helpers import ROOT

PAGES = {str(path.relative_to(ROOT)): path.read_text() for path in tables.pages()}
OTHERS = {name: (ROOT / name).read_text() for name in ("CONTRIBUTING.md", "CHANGELOG.md", "saved_models/README.md")}
README = PAGES["README.md"]
BIN = pathlib.Path(sys.executable).parent
# Pages whose Python is not run here, with the reason; it is compiled.
NOT_RUN = {"docs/pytorch.md": "needs PyTorch and a checkpoint: tests marked parity make one and run it"}
PROGRAMS = {"kubectl", "make", "pip", "python", "sbatch"}


def blocks(language, text=README):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands():
    """`(page, words)` of every command line."""
    for name, text in {**PAGES, **OTHERS}.items():
        for block in blocks("bash", text):
            for line in block.replace("\\\n", " ").splitlines():
                if words := shlex.split(line, comments=True):
                    yield pytest.param(words, id=f"{name}: {shlex.join(words)}")


def prose(text):
    """A page without its code."""
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)


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


def execute(page, monkeypatch, folder):
    """All Python of a page from top to bottom, in an empty folder; returns the names that it leaves."""
    monkeypatch.chdir(folder)
    names = {"__name__": page}
    for number, block in enumerate(blocks("python", PAGES[page]), start=1):
        exec(compile(block, f"{page}, block {number}", "exec"), names)
    return names


def test_the_example_is_short_and_learns(monkeypatch, tmp_path):
    (example,) = blocks("python")
    assert len([line for line in example.splitlines() if line.strip()]) <= 15
    names = execute("README.md", monkeypatch, tmp_path)
    assert (names["logits"].argmax(axis=1) == names["labels"][1500:]).mean() > 0.85
    assert np.isfinite(names["logits"]).all()


@pytest.mark.parametrize("page", [page for page in PAGES if blocks("python", PAGES[page]) and page != "README.md"])
def test_the_python_of_a_page_runs(page, monkeypatch, tmp_path):
    if page in NOT_RUN:
        for block in blocks("python", PAGES[page]):
            compile(block, page, "exec")
        return
    names = execute(page, monkeypatch, tmp_path)
    if "history" in names:
        assert np.isfinite(names["history"].history["loss"]).all()


def test_all_that_is_not_run_is_there():
    assert {page for page in PAGES if blocks("python", PAGES[page])} > set(NOT_RUN)
    languages = {language for text in PAGES.values() for language in re.findall(r"^```(\w*)\n", text, re.MULTILINE)}
    assert languages <= {"python", "bash", "text", ""}


def test_a_keras_application_is_a_network(monkeypatch, tmp_path):
    names = execute("docs/networks.md", monkeypatch, tmp_path)
    network = names["mobilenet"](num_classes=7, input_shape=(32, 32, 3))
    outputs = cskd_tf.networks.NetworkOutputs(network)(np.ones((2, 32, 32, 3), "float32"))
    assert (outputs["logits"].shape, outputs["embedding"].shape) == ((2, 7), (2, 1024))


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


@pytest.mark.parametrize("name", [*PAGES, *OTHERS])
def test_tables_are_aligned(name):
    text = re.sub(r"```.*?```", "", {**PAGES, **OTHERS}[name], flags=re.DOTALL)
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({len(row) for row in table.splitlines()}) == 1, table


def test_the_words_hold_what_the_digits_table_holds():
    cross_entropy, cskd = tables.read("digits")
    assert (cross_entropy["methods"], cskd["methods"]) == ("cross-entropy", "CSKD(temperature=4, weight=1)")
    assert cskd["top1_error"]["mean"] < cross_entropy["top1_error"]["mean"]
    assert cskd["aurc"]["mean"] < cross_entropy["aurc"]["mean"]
    assert cskd["ece"]["mean"] > cross_entropy["ece"]["mean"]
    assert cskd["runs"] == cross_entropy["runs"] >= 5


def anchors(text):
    """What a link to a heading of a page can be called, as GitHub names it."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", [*PAGES, *OTHERS])
def test_every_link_leads_somewhere(name):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose({**PAGES, **OTHERS}[name])):
        if re.match(r"https?://", target):
            continue
        file, _, anchor = target.partition("#")
        path = (ROOT / name).parent / file if file else ROOT / name
        assert path.exists(), f"{name} links to {target}"
        if anchor:
            assert anchor in anchors(path.read_text()), f"{name} links to {target}"


def test_every_page_is_in_the_index():
    index = PAGES["docs/README.md"]
    assert all(
        f"]({pathlib.Path(name).name})" in index for name in PAGES if name not in ("README.md", "docs/README.md")
    )


def test_methods_networks_and_data_sets_are_all_there():
    names = {"docs/methods.md": cskd_tf.methods.METHODS, "docs/networks.md": cskd_tf.networks.NETWORKS}
    for page, known in {**names, "docs/data.md": cskd_tf.data.DATASETS}.items():
        assert not [name for name in known if not re.search(rf"\b{name}\b", PAGES[page])], page


def check_train_main(arguments):
    """Parses as `train_main.py` does: a key that no config has, or a value of another type, is an error."""
    values = flags.FlagValues()
    for name in ("workdir", "checkpoint", "choose", "table", "format"):
        flags.DEFINE_string(name, None, "", flag_values=values)
    for name in ("workers", "jobs"):
        flags.DEFINE_integer(name, None, "", flag_values=values)
    flags.DEFINE_multi_string("grid", [], "", flag_values=values)
    tree = ast.parse((ROOT / "train_main.py").read_text())
    (modes,) = [node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "MODES"]
    flags.DEFINE_enum("mode", "train", ast.literal_eval(modes), "", flag_values=values)
    command = ["train_main.py", *arguments]
    default = str(ROOT / "configs" / "digits.py")
    config_flags.DEFINE_config_file("config", default, "", flag_values=values, sys_argv=command)
    for name in ("on", "against"):
        config_flags.DEFINE_config_file(name, None, "", flag_values=values, sys_argv=command)
    flags.DEFINE_enum("split", None, ["train", "val", "test", "all"], "", flag_values=values)
    flags.DEFINE_list("with", None, "", flag_values=values)
    assert values(command) == ["train_main.py", *(["launch"] if values["workers"].value else [])]
    assert (values["mode"].value == "import") == (values["checkpoint"].value is not None)
    cskd_tf.methods.build([dict(method) for method in values["config"].value.methods])


def check_options(source, arguments):
    known = set(re.findall(r"""(?:DEFINE_\w+|add_argument)\(\s*"(?:--)?([\w-]+)\"""", source))
    given = {argument[2:].split("=")[0] for argument in arguments if argument.startswith("--")}
    assert given <= known


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
    elif arguments[:2] == ["-m", "pytest"]:
        assert all((ROOT / path).exists() for path in arguments[2:] if not path.startswith("-"))
    else:
        check_options((ROOT / arguments[0]).read_text(), arguments[1:])


def test_every_command_of_the_readme_is_run_by_a_test():
    lines = [line.split("#")[0].strip() for block in blocks("bash") for line in block.splitlines()]
    own_images = "python train_main.py --config=configs/image_folder.py --config.data.source.path=FOLDER"
    assert lines == [
        "make train",
        "make test",
        "pip install -r requirements.txt",
        "python train_main.py",
        f"{own_images} --mode=doctor",
        f"{own_images} --workdir=workdirs/mine",
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
    assert re.search(
        r"TensorBoard: \S+ -m tensorboard.main --logdir workdirs/digits/tensorboard$", printed, re.MULTILINE
    )
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
    config = f"--config=configs/image_folder.py --config.data.source.path={image_folder}"
    looked = run(f"{BIN}/python train_main.py {config} {small} --mode=doctor", copy)
    assert "Nothing here keeps the run from training." in looked
    printed = run(f"{BIN}/python train_main.py {config} --workdir=workdirs/mine {small}", copy)
    assert "image_folder, preact_resnet10" in printed
    assert "cross-entropy" in printed
