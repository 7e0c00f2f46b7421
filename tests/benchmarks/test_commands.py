"""Every command at toy size, in the processes that it starts; what it writes is checked where it is no time.

Those that start many processes with TensorFlow are slow; test_steps.py runs in one what they run in each.
"""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import browser, results
from cskd_tf.serving.runtimes.formats import FORMATS
from tests.data.idx_files import write_fashion_mnist
from tests.helpers import ROOT

RESNET = ("--network=preact_resnet10", "--width=2")
FLOAT32 = ("--precision=float32",)


@pytest.mark.thorough
def test_step_time(command):
    (line,) = command("step_time", *RESNET, *FLOAT32, "--size=8", "--batch=4", "--rounds=1")
    assert (line["network"], line["width"], line["batch"], line["limit"]) == ("preact_resnet10", 2, 4, 1.333)
    assert line["cskd_over_cross_entropy"] > 0
    speeds = line["cross_entropy_images_per_second"], line["cskd_images_per_second"]
    assert line["cskd_over_cross_entropy"] == pytest.approx(speeds[0] / speeds[1], rel=0.01)
    assert line["cskd_flops"] == pytest.approx(4 / 3 * line["cross_entropy_flops"])
    shares = line["cross_entropy_share_of_matrix_rate"], line["cskd_share_of_matrix_rate"]
    assert shares[1] / shares[0] == pytest.approx(4 / 3 * speeds[1] / speeds[0], rel=0.03)
    assert line["commit"] == results.commit()


@pytest.mark.thorough
def test_evaluation_speed(command):
    (line,) = command("evaluation_speed", *RESNET, *FLOAT32, "--images=40", "--classes=4", "--batch=16", "--rounds=1")
    assert (line["network"], line["images"], line["precision"]) == ("preact_resnet10", 40, "float32")
    seconds = {name: line[f"{name}_seconds"] for name in ("plain", "evaluation", "metrics")}
    assert line["evaluation_over_forward"] == pytest.approx(seconds["evaluation"] / seconds["plain"], rel=0.1)
    assert 0 < seconds["metrics"] < seconds["evaluation"]
    assert line["recall_at_1"] > 0.5  # the patterns tell the classes apart


@pytest.mark.slow
def test_data_wait(command):
    quick = (*RESNET, "--images=32", "--batch=8", "--rounds=1", "--steps=2")
    lines = command("data_wait", *quick, "--case=folder64")
    assert [line["case"] for line in lines] == ["folder64", "in_memory_folder64"]
    for line in lines:
        assert 0 < line["waiting_share"] < 1
        assert line["share_of_matrix_rate"] > 0
        assert line["step_seconds"] > 0


@pytest.mark.slow
def test_first_step(command):
    (line,) = command("first_step", "--rounds=1")
    for name in ("command", "plain"):
        parts = [line[f"{name}_{part}_seconds"] for part in ("imports", "building", "tracing", "step")]
        assert min(parts) > 0
        assert sum(parts) == pytest.approx(line[f"{name}_all_seconds"], rel=0.05)
    assert line["plain_step_at_matrix_rate_seconds"] > 0
    assert line["command_over_plain"] == pytest.approx(
        line["command_all_seconds"] / line["plain_all_seconds"], rel=0.01
    )


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("taskset") is None or len(os.sched_getaffinity(0)) < 2, reason="needs taskset and two cores"
)
def test_workers_speed(command):
    quick = ("--images=40", "--batch=8", "--size=8", "--epochs=2", "--rounds=1", "--at_most=300")
    (line,) = command("workers_speed", *RESNET, *quick)
    speeds = {name: line[f"{name}_images_per_second"] for name in ("together", "apart", "one")}
    assert line["together_over_one"] == pytest.approx(speeds["together"] / speeds["one"], abs=2e-3)
    assert line["communication_share"] == pytest.approx(1 - speeds["together"] / speeds["apart"], abs=2e-3)


@pytest.mark.slow
def test_network_speed(command):
    (line,) = command("network_speed", *RESNET, "--precision=float32", "--batch=2", "--rounds=1", "--against=keras")
    assert (line["network"], line["precision"], line["batch"], line["image"]) == ("preact_resnet10", "float32", 2, 32)
    speeds = line["fused_images_per_second"], line["keras_images_per_second"]
    assert line["times_as_fast_as_keras"] == pytest.approx(speeds[0] / speeds[1], rel=0.05)
    assert "torch_images_per_second" not in line


@pytest.mark.slow
def test_method_cost(command):
    methods = ("--method=CSKD", "--method=Distillation")
    lines = command("method_cost", *methods, *RESNET, "--images=4", "--steps=1")
    assert [(line["method"], line["theory"]) for line in lines] == [("CSKD", 1.333), ("Distillation", 1.333)]
    for line in lines:
        assert line["over_cross_entropy"] > 0
        memory = line["peak_memory_mib"], line["cross_entropy_peak_memory_mib"]
        assert line["peak_memory_over_cross_entropy"] == pytest.approx(memory[0] / memory[1], abs=1e-3)


@pytest.mark.slow
def test_pairing_speed(command):
    lines = command("pairing_speed", "--at_most=600", "--repeats=1")
    assert [(line["part"], line["images"]) for line in lines] == [("buckets", 600)] * 2 + [("first_batch", 600)] * 2
    assert [line["classes"] for line in lines[:2]] == [300, 300]
    assert [line["first_step"] for line in lines[2:]] == [0, 1_000_000]
    assert lines[2]["later_than_step_0"] == 0
    assert lines[3]["later_than_step_0"] == pytest.approx(lines[3]["seconds"] - lines[2]["seconds"], abs=2e-3)


@pytest.mark.slow
def test_recall_speed(command):
    (line,) = command("recall_speed", "--images=200", "--width=8", "--classes=10")
    assert line["equal"]
    assert line["ours_share_of_matrix_rate"] > 0
    assert 0.1 < line["ours_recall"] == line["scikit_learn_recall"] < 1


@pytest.mark.thorough
@pytest.mark.parametrize("case", ["arrays32", pytest.param("folder64", marks=pytest.mark.slow)])
def test_pipeline_speed(case, command):
    quick = ("--images=40", "--batch=8", "--rounds=1", "--seconds=0.1", "--warm_up=0")
    (line,) = command("pipeline_speed", f"--case={case}", *quick, results=f"pipeline_speed_{case}_plain")
    assert (line["images"], line["batch"], line["rounds"]) == (40, 8, 1)
    assert line["ratio"] == pytest.approx(line["pairs_per_second"] / line["usual_pairs_per_second"], rel=0.05)
    assert line["usual_workers"] in line["usual_workers_tried"]
    assert list(line["usual_workers_tried"]) == ["2 processes", "4 processes", "2 threads", "4 threads"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # on fewer than four cores
def test_pipeline_speed_against_pytorch(command):
    pytest.importorskip("torch")
    quick = ("--images=16", "--batch=4", "--rounds=1", "--seconds=0.1", "--warm_up=0", "--baseline=torch")
    (line,) = command("pipeline_speed", "--case=folder64", *quick, results="pipeline_speed_folder64_torch")
    assert list(line["usual_workers_tried"]) == ["torch, 2 workers", "torch, 4 workers"]
    assert line["in_memory_ratio"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "diverged"), [(0.1, 0), (1e6, 2)])  # 1e6 is the most there may be
def test_divergence(rate, diverged, command):
    config = ("--config.network.width=2", "--config.data.split.train_per_class=2", "--config.batch_size=10")
    quick = ("--weight=1", "--recipe=none", "--seeds=2", f"--first_epochs={10 if diverged else 1}")
    (line,) = command("divergence", *config, *quick, f"--config.schedule.learning_rate={rate}")
    assert (line["weight"], line["recipe"], line["diverged"], len(line["at_steps"])) == (
        1.0,
        "none",
        diverged,
        diverged,
    )
    assert set(line["at_steps"]) <= set(range(1, 21))
    # About ln 10, and what is between partners.
    assert line["mean_loss"] == (None if diverged else pytest.approx(3, abs=1))


@pytest.mark.slow
def test_narrow_networks_live_through_odd_batches(command):
    # Without `compute_right` every such process died, of 6 on a CPU with AVX-512.
    (line,) = command("narrow_networks", "--seeds=1", "--layers=60", "--networks=2")
    assert (line["processes"], line["layers"], line["networks"], line["died"]) == (1, 60, 2, {})


@pytest.mark.slow
@pytest.mark.parametrize("data", ["digits", "fashion_mnist"])
def test_digits(command, monkeypatch, tmp_path, data):
    monkeypatch.chdir(ROOT)  # where train_main.py is
    small = ["--config.epochs=1", "--config.data.split.train_per_class=4", "--config.network.width=2"]
    if data == "fashion_mnist":
        write_fashion_mnist(tmp_path / "files", per_class=200)
        small += ["--config.batch_size=8", f"--config.data.source.path={tmp_path / 'files'}"]
    options = (f"--data={data}", "--seeds=2", f"--workdir={tmp_path / 'runs'}")
    cross_entropy, cskd = command("digits", *options, "--", *small)
    assert (cross_entropy["methods"], cskd["methods"]) == ("cross-entropy", "CSKD(temperature=4, weight=1)")
    for line in (cross_entropy, cskd):
        assert line["runs"] == 2
        values = line["top1_error"]["values"]
        assert line["top1_error"]["mean"] == pytest.approx(np.mean(values))
        assert line["top1_error"]["deviation"] == pytest.approx(np.std(values, ddof=1))


KILLS = """
import pathlib, sys
from absl import app
from benchmarks import kills, results

results.RESULTS = pathlib.Path(sys.argv.pop(1))
app.run(kills.main)
"""


def kills(folder, *arguments):
    """In a process of its own, because it makes copies of itself, which one that runs TensorFlow cannot."""
    subprocess.run([sys.executable, "-c", KILLS, folder, *arguments], cwd=ROOT, check=True)
    return json.loads((folder / "kills.json").read_text())


@pytest.mark.slow
def test_precision(command, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    small = ("--config.epochs=1", "--config.data.split.train_per_class=4", "--config.network.width=2")
    lines = command("precision", "--seeds=2", f"--workdir={tmp_path / 'runs'}", "--", *small)
    runs, (single, half, difference) = lines[:4], lines[4:]
    assert [(line["precision"], line["seed"]) for line in runs] == [
        (precision, seed) for seed in (0, 1) for precision in ("float32", "mixed_bfloat16")
    ]
    assert half["nll"]["values"] == [runs[1]["nll"], runs[3]["nll"]] != single["nll"]["values"]
    assert difference["nll"]["mean"] == pytest.approx(half["nll"]["mean"] - single["nll"]["mean"])


@pytest.mark.slow
def test_jit_speed(command):
    quick = ("--network=preact_resnet10", "--precision=float32", "--batch=2", "--image=8", "--rounds=1", "--widths=2")
    (line,) = command("jit_speed", *quick)
    assert (line["network"], line["precision"], line["batch"], line["width"]) == ("preact_resnet10", "float32", 2, 2)
    speeds = line["jit_images_per_second"], line["no_jit_images_per_second"]
    assert line["times_as_fast_with_jit"] == pytest.approx(speeds[0] / speeds[1], rel=0.05)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_kills(tmp_path):
    line, count = kills(tmp_path, "--calls=rename", "--first=6", "--at_most=1")
    assert (line["case"], line["call"], line["killed_with"], line["same"]) == ("cskd", "rename", -9, True)
    assert (line["exit_code"], line["differing"], line["kills_of_this_run"]) == (0, [], 1)
    assert (count["killed"], count["same"], count["differing"]) == (1, 1, 0)


@pytest.mark.thorough
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("same", [True, False])
def test_kills_fail_where_a_killed_run_ends_otherwise(same, tmp_path):
    stubs = f"""
kills.whole_run = lambda case: ({{}}, {{"rename": [1]}})
kills.kill_and_go_on = lambda case, *_: [{{"case": case, "call": "rename", "of_the_run": True, "same": {same}}}]
app.run("""
    ended = subprocess.run([sys.executable, "-c", KILLS.replace("app.run(", stubs), tmp_path], cwd=ROOT)
    assert json.loads((tmp_path / "kills.json").read_text())[-1]["differing"] == (not same)
    assert ended.returncode == (not same)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_kills_at_random(tmp_path):
    cases = ("cskd", "pskd", "adacos", "byot", "mixup", "dropout")
    *lines, count = kills(tmp_path, "--random=20", "--chain=4", f"--case={','.join(cases)}")
    assert len({line["case"] for line in lines} & {*cases}) >= 5  # in turns, of four kills at most
    assert [line for line in lines if not line["same"]] == []
    assert (count["killed"], count["same"]) == (20, 20)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_kills_of_either_of_two_workers(tmp_path):
    kills(tmp_path, "--random=2", "--chain=2", "--case=second_worker")
    *lines, count = kills(tmp_path, "--random=4", "--chain=2", "--case=workers")  # beside those of the other case
    assert [line for line in lines if not line["same"]] == []
    assert [line["case"] for line in lines] == ["second_worker"] * 2 + ["workers"] * 4
    assert {line["call"] for line in lines[:2]} == {"sendmsg"}
    assert (count["killed"], count["same"]) == (6, 6)


@pytest.mark.slow
def test_soak(command):
    *lines, growth = command("soak", "--steps=40", "--every=20", "--width=2")
    assert [line["step"] for line in lines] == [20, 40]
    assert lines[0]["threads"] == lines[1]["threads"]
    assert lines[0]["open_files"] == lines[1]["open_files"]
    rss = lines[1]["rss_mib"] - lines[0]["rss_mib"]
    assert growth["rss_mib_per_1000_steps"] == pytest.approx(1000 * rss / 20, abs=0.01)
    assert (growth["beyond"], growth["too_short_for"]) == ([], ["rss_mib"])  # and it has ended by itself


def test_every_command_is_run_here():
    programs = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if "app.run(main)" in path.read_text()}
    tested = [name.removeprefix("test_") for name in globals()]
    left_out = {program for program in programs if not any(name.startswith(program) for name in tested)}
    assert left_out == {
        "detection",
        "few_images",
        "finetune",
        "mutations",
        "paper_cost",
        "tables",
    }  # which have files of their own


@pytest.mark.slow
def test_sizes(command, repository, monkeypatch):
    monkeypatch.setattr("benchmarks.sizes.ROOT", repository)  # in which building leaves files
    lines = command("sizes")
    assert [line["file"] for line in lines] == ["wheel", "source distribution"]
    assert all(1e5 < line["bytes"] < 1e6 for line in lines)


@pytest.mark.slow
def test_serving_latency(command):
    lines = command("serving_latency", "--network=preact_resnet18", "--width=2", "--classes=7", "--rounds=2")
    assert [(line["batch"], line["image"], line["larger"]) for line in lines] == [(1, 32, 64), (32, 32, 64)]
    for line in lines:
        for kind in ("keras_call", "keras_predict", "images", "large_images", "files"):
            assert line[f"{kind}_over_bare"] > 0
            assert line[f"{kind}_milliseconds"] > 0


@pytest.mark.runtimes
@pytest.mark.filterwarnings("default::DeprecationWarning")
def test_runtimes(command):
    if reason := browser.missing() or [package for form in FORMATS.values() for package in form.missing()]:
        pytest.skip(str(reason))
    lines = command("runtimes", "--network=preact_resnet10", "--width=16", "--image=16", "--epochs=8", "--rounds=2")
    assert [line["runtime"] for line in lines] == ["saved_model", *FORMATS]
    for line in lines:
        assert all(line[f"batch_{batch}_over_saved_model"] > 0 for batch in (1, 32))
        assert line.get("largest_difference", 0.0) < 1e-5
        assert line["bytes"] > 0
    assert lines[-1]["in_chromium"] < 1e-5
    assert 0 < lines[0]["resized_by_opencv"] < 1


@pytest.mark.slow
def test_equal_time(command):
    (line,) = command("equal_time", "--compared=cskd", "--rounds=1")
    assert (line["experiment"], line["network"], line["images"]) == ("cskd", "preact_resnet10", 32)
    assert line["over_cross_entropy"] > 0
    assert line["theory"] == pytest.approx(4 / 3, abs=1e-3)
