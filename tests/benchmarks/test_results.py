"""What the benchmarks write down."""

import json
import math
import os
import subprocess
import sys

import pytest

from benchmarks import results


@pytest.fixture
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(results, "_lines", {})
    monkeypatch.setattr(results, "commit", lambda: "abc1234-dirty")
    monkeypatch.setattr(results, "cpu", lambda: "A CPU")
    monkeypatch.setattr(results, "onednn", lambda: "on")


@pytest.mark.usefixtures("_elsewhere")
def test_a_run_is_one_file_that_says_where_it_ran(tmp_path, capsys):
    results.record("speed", {"network": "a", "images": 1.5})
    results.record("speed", [{"network": "b", "onednn": "off"}])
    results.record("other", [])
    where = {"commit": "abc1234-dirty", "cpu": "A CPU"}
    expected = [
        {"network": "a", "images": 1.5, **where, "onednn": "on"},
        {"network": "b", **where, "onednn": "off"},
    ]
    assert json.loads((tmp_path / "results" / "speed.json").read_text()) == expected
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == expected
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == ["other.json", "speed.json"]


@pytest.mark.usefixtures("_elsewhere")
def test_what_is_undefined_is_null_because_json_has_no_nan(tmp_path, capsys):
    results.record("speed", {"aurc": 0.5, "test": {"coverage": math.nan, "by_seed": [math.nan, 1.0]}})
    for written in ((tmp_path / "results" / "speed.json").read_text(), f"[{capsys.readouterr().out}]"):
        (line,) = json.loads(written, parse_constant=pytest.fail)
        assert line["test"] == {"coverage": None, "by_seed": [None, 1.0]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        results.record("other", {"loss": math.inf})


@pytest.mark.parametrize("path", sorted(results.RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_what_was_written_is_json(path):
    assert json.loads(path.read_text(), parse_constant=pytest.fail)


@pytest.mark.usefixtures("_elsewhere")
def test_a_command_goes_on_behind_the_lines_of_an_interrupted_one(tmp_path, monkeypatch):
    results.record("kills", [{"call": "rename"}, {"count": 1}])
    monkeypatch.setattr(results, "_lines", {})
    monkeypatch.setattr(results, "commit", lambda: "def5678")
    (before,) = results.go_on("kills", lambda line: "call" in line)
    results.record("kills", {"call": "write"})
    first, second = json.loads((tmp_path / "results" / "kills.json").read_text())
    assert (first, before["commit"]) == (before, "abc1234-dirty")
    assert (second["call"], second["commit"]) == ("write", "def5678")


@pytest.mark.usefixtures("_elsewhere")
def test_lines_that_keys_tell_apart_are_kept_and_replaced_one_by_one(tmp_path, monkeypatch):
    by = ("network", "width")
    results.record("jit", [{"network": "a", "speed": 1}, {"network": "b", "width": 16, "speed": 2}], by=by)
    monkeypatch.setattr(results, "_lines", {})
    results.record("jit", {"network": "a", "speed": 3}, by=by)
    results.record("jit", [{"network": "b", "speed": 4}, {"network": "b", "speed": 5}], by=by)
    lines = json.loads((tmp_path / "results" / "jit.json").read_text())
    assert [(line["network"], line.get("width"), line["speed"]) for line in lines] == [
        ("a", None, 3),
        ("b", 16, 2),
        ("b", None, 5),
    ]


@pytest.mark.usefixtures("_elsewhere")
def test_what_another_cpu_measured_stays_beside(tmp_path, monkeypatch):
    for cpu, speed in (("A CPU", 1), ("B CPU", 2), ("A CPU", 3)):
        monkeypatch.setattr(results, "_lines", {})
        monkeypatch.setattr(results, "cpu", lambda cpu=cpu: cpu)
        for precision in ("float32", "bfloat16"):
            results.record("speed", {"precision": precision, "speed": speed}, per_cpu=True)
    lines = json.loads((tmp_path / "results" / "speed.json").read_text())
    assert [(line["cpu"], line["precision"], line["speed"]) for line in lines] == [
        ("B CPU", "float32", 2),
        ("B CPU", "bfloat16", 2),
        ("A CPU", "float32", 3),
        ("A CPU", "bfloat16", 3),
    ]


@pytest.mark.usefixtures("_elsewhere")
def test_another_run_replaces_the_file_and_a_failed_one_leaves_it(tmp_path, monkeypatch):
    results.record("speed", {"run": 1})
    monkeypatch.setattr(results, "_lines", {})
    with pytest.raises(TypeError):
        results.record("speed", {"run": object()})
    written = tmp_path / "results" / "speed.json"
    assert [line["run"] for line in json.loads(written.read_text())] == [1]
    monkeypatch.setattr(results, "_lines", {})
    results.record("speed", {"run": 2})
    assert [line["run"] for line in json.loads(written.read_text())] == [2]


def test_the_commit_is_dirty_where_anything_but_results_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "ROOT", tmp_path)
    commit = results.commit.__wrapped__
    assert commit() == "unknown"

    def git(*arguments):
        name = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", *name, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    (tmp_path / "code.py").write_text("1")
    git("add", ".")
    git("commit", "-m", "first")
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=tmp_path, capture_output=True, text=True)
    assert commit() == head.stdout.strip()
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "speed.json").write_text("[]")
    assert commit() == head.stdout.strip()
    (tmp_path / "code.py").write_text("2")
    assert commit() == head.stdout.strip() + "-dirty"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("fpu avx avx2 avx512f avx512_bf16 amx_bf16 amx_tile", "An EPYC: of 4 (AMX)"),
        ("fpu avx avx2 avx512f avx512_bf16", "An EPYC: of 4 (AVX-512 with bfloat16)"),
        ("avx512f avx2", "An EPYC: of 4 (AVX-512)"),
        ("avx2", "An EPYC: of 4 (AVX2)"),
        ("fpu avx512_bf16_or_so", "An EPYC: of 4"),
    ],
)
def test_a_cpu_is_told_by_its_name_and_its_widest_instructions(flags, said):
    first = f"processor\t: 0\nmodel\t\t: 1\nmodel name\t: An EPYC: of 4\nflags\t\t: {flags}\nbugs\t\t:\n"
    assert results._named(first + "\nprocessor\t: 1\nmodel name\t: Another\nflags\t\t: amx_bf16\n") == said
    assert results._named("CPU implementer\t: 0x41\nFeatures\t: fp asimd\n") == ""


@pytest.mark.slow
def test_the_kernels_are_those_that_tensorflow_runs():
    code = (
        "import sys; from benchmarks import results; sys.exit('tensorflow' in sys.modules or print(results.onednn()))"
    )

    def kernels(**variables):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment | variables)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    environment = {k: v for k, v in os.environ.items() if k not in ("TF_ENABLE_ONEDNN_OPTS", "ONEDNN_MAX_CPU_ISA")}
    assert kernels(TF_ENABLE_ONEDNN_OPTS="0") == "off"
    assert kernels(TF_ENABLE_ONEDNN_OPTS="1", ONEDNN_MAX_CPU_ISA="AVX2") == "on, at most AVX2"
