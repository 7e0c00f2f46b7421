"""What a public project says of itself agrees with itself, and what commands draw is what they would draw now."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from xml.etree import ElementTree

import pytest
import yaml

import cskd_tf
from tests.helpers import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]


def test_one_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert "version" not in PROJECT
    assert str(citation["version"]) == cskd_tf.__version__
    assert f"## [{cskd_tf.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_the_citation_is_whole():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation.keys() >= {"authors", "message", "title"}
    for reference in citation["references"]:
        assert reference.keys() >= {"type", "title", "authors"}
    papers = {reference["url"] for reference in citation["references"]}
    assert papers == {"https://arxiv.org/abs/2003.13964", "https://arxiv.org/abs/2006.12000"}


def test_no_merge_was_left_half_done():
    marks = ["-e", "^<<<<<<< ", "-e", "^>>>>>>> "]
    found = subprocess.run(["git", "grep", "-n", *marks], cwd=ROOT, capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (1, "")  # 1: nothing found


def test_one_licence():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert PROJECT["license"] == citation["license"] == "Apache-2.0"
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert text.rstrip().endswith("limitations under the License.")


def test_the_workflow_runs_every_python_and_tensorflow_that_is_allowed():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    matrix = workflow["jobs"]["test"]["strategy"]["matrix"]
    pythons = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+$", line)]
    assert matrix["python"] == pythons
    assert PROJECT["requires-python"] == f">={pythons[0]},<3.{int(pythons[-1][2:]) + 1}"
    (allowed,) = [each for each in PROJECT["dependencies"] if each.startswith("tensorflow>")]
    first, last = matrix["tensorflow"][0], matrix["tensorflow"][-1]
    assert allowed == f"tensorflow>={first},<2.{int(last[2:]) + 1}"
    assert f"tensorflow=={last}." in (ROOT / "requirements.txt").read_text()


def test_every_suite_that_is_marked_has_a_target_and_is_run_every_week():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "weekly.yml").read_text())
    assert "cron" in workflow[True]["schedule"][0]  # YAML takes "on" for a truth value
    job = workflow["jobs"]["make"]
    assert {"run": "make ${{ matrix.target }}"} in job["steps"]
    options = PYPROJECT["tool"]["pytest"]["ini_options"]
    marked = {marker.partition(":")[0] for marker in options["markers"]}
    assert set(job["strategy"]["matrix"]["target"]) == marked | {"dist", "installed"}
    (left_out,) = [option for option in options["addopts"] if option.startswith("-m=")]
    assert left_out == "-m=" + " and ".join(f"not {marker}" for marker in sorted(marked))
    makefile = (ROOT / "Makefile").read_text()
    for marker in marked:
        those = '"thorough and not slow"' if marker == "thorough" else marker
        assert re.search(rf"^{marker}: .*\n\t.* -m pytest -m {those}$", makefile, re.MULTILINE)


def test_one_version_of_ruff():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    (pinned,) = [each["rev"] for each in hooks if each["repo"].endswith("ruff-pre-commit")]
    assert f"ruff=={pinned.removeprefix('v')}\n" in (ROOT / "requirements-dev.txt").read_text()


def test_a_wheel_holds_all_that_the_command_needs(tmp_path):
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns(".git", ".venv", "workdirs", "__pycache__", "*.egg-info", "build", "[0-9]*")
    shutil.copytree(ROOT, source, ignore=ignored)
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", build, tmp_path], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.startswith(f"cskd_tf-{cskd_tf.__version__}-")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (commands,) = [archive.read(name).decode() for name in names if name.endswith("entry_points.txt")]
    files = [path for folder in ("cskd_tf", "configs") for path in (ROOT / folder).rglob("*.py")]
    assert {str(path.relative_to(ROOT)) for path in files} <= names
    assert {"train_main.py", "cskd_tf/py.typed", "cskd_tf/serving/runtimes/page.html"} <= names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "docs/"))]
    assert "cskd-tf = train_main:run" in commands


def test_every_launcher_is_in_the_page():
    page = (ROOT / "docs" / "distributed.md").read_text()
    linked = set(re.findall(r"\]\(\.\./(launchers/\w+\.\w+)\)", page))
    assert linked == {f"launchers/{path.name}" for path in (ROOT / "launchers").iterdir() if path.is_file()}


@pytest.fixture
def draw(tmp_path):
    def run(*arguments):
        command = [sys.executable, ROOT / "docs" / "draw_layers.py", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run


def described(picture):
    # Not its bytes: which of several DejaVu Sans Matplotlib finds is for each machine to say.
    return ElementTree.parse(picture).find(".//{http://purl.org/dc/elements/1.1/}description").text


def test_the_picture_of_the_layers_is_of_these_imports(draw, tmp_path):
    printed = draw("--output", tmp_path / "layers.svg").strip()
    assert re.search(r"^errors: imports nothing \(1 file\)$", printed, re.MULTILINE)
    assert described(tmp_path / "layers.svg") == printed
    assert described(ROOT / "docs" / "layers.svg") == printed, "python docs/draw_layers.py draws it again"


def test_layers_of_another_package(draw, tmp_path):
    package = tmp_path / "house"
    (package / "roof").mkdir(parents=True)
    (package / "__init__.py").write_text("from house.roof.tiles import Tile\n")
    (package / "roof" / "tiles.py").write_text("from house import walls\nfrom house.walls import a\nclass Tile: ...\n")
    (package / "walls.py").write_text("def late():\n    import house.floor\n")
    (package / "floor.py").write_text("from house.walls import b\nstone = 1\n")
    printed = draw("--package", package, "--output", tmp_path / "house.png")
    rooms = ("floor: imports walls", "roof: imports walls", "walls: imports floor")
    expected = {f"{room} 1 (1 file)" for room in rooms}
    assert set(printed.splitlines()) == expected  # a circle too is drawn
    assert (tmp_path / "house.png").stat().st_size > 1000


def test_the_layers_page_tells_of_every_room():
    page = (ROOT / "docs" / "architecture.md").read_text()
    rooms = re.findall(r'^    "([\w.]+)": Look\(', (ROOT / "docs" / "draw_layers.py").read_text(), re.MULTILINE)
    assert rooms
    assert not [room for room in rooms if f"\n| `{room}`" not in page]
