"""A precision that is left to the hardware: chosen by measuring, once for a run, whatever machine it goes on."""

import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.files import read_arrays
from cskd_tf.runs import evaluate, precision, train
from cskd_tf.runs.config import Config
from cskd_tf.runs.workdir import Workdir
from tests.runs.helpers import config_of


@pytest.mark.parametrize(("ratio", "expected"), [(1.49, "float32"), (1.51, "mixed_bfloat16"), (0.3, "float32")])
def test_bfloat16_is_chosen_where_it_is_faster_by_more_than_a_little(ratio, expected, monkeypatch, caplog):
    monkeypatch.setattr(precision, "measured", lambda strategy: ratio)
    with caplog.at_level("INFO", logger="absl"):
        assert precision.chosen(tf.distribute.get_strategy()) == expected
    (record,) = caplog.records
    assert f"precision=auto: {expected}, as products in bfloat16 take 1/{ratio:.2f} of the time" in record.getMessage()


def test_the_ratio_is_that_of_the_times(monkeypatch):
    """Of a hardware that takes two seconds for products in float32, and half a second in bfloat16."""
    now = [0.0]

    def program(strategy, kind, dtype):
        def run():
            now[0] += 2.0 if dtype == tf.float32 else 0.5

        return run

    monkeypatch.setattr(precision, "_program", program)
    monkeypatch.setattr(precision.time, "perf_counter", lambda: now[0])
    assert precision.measured(tf.distribute.get_strategy()) == pytest.approx(4.0)


@pytest.mark.thorough
def test_replicas_measure_and_agree(two_replicas):
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        assert 0.01 < precision.measured(strategy) < 100
        assert precision._agreed(strategy, 1.25) == 1.25


@pytest.fixture
def auto(config):
    config.precision, config.baseline, config.export.enabled = "auto", True, False
    return Config.read(config)


@pytest.mark.slow
def test_a_run_goes_on_with_the_precision_that_it_began_with(auto, config, monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(precision, "chosen", lambda strategy: "mixed_bfloat16")
    workdir = Workdir(tmp_path / "run")
    train.train(auto, workdir)
    baseline = Workdir(workdir.path / "cross_entropy")
    assert workdir.config().precision == baseline.config().precision == "mixed_bfloat16"
    before = read_arrays(workdir.predictions("test"), ["logits"])["logits"]

    # On a machine that would choose otherwise, as if both had been stopped in the second epoch.
    monkeypatch.setattr(precision, "chosen", lambda strategy: pytest.fail("measured again"))
    for run in (workdir, baseline):
        for path in run.checkpoints.glob("last/ckpt-2.*"):
            path.write_bytes(b"")
        (run.path / "metrics.json").unlink()
    with caplog.at_level("INFO", logger="absl"):
        train.train(auto, workdir)
    assert f"{workdir.path}: precision mixed_bfloat16, with which the run began" in caplog.text
    np.testing.assert_array_equal(read_arrays(workdir.predictions("test"), ["logits"])["logits"], before)
    evaluate.evaluate(workdir)

    config.precision = "float32"
    with pytest.raises(ValueError, match="precision: 'mixed_bfloat16' there, 'float32' here"):
        train.train(Config.read(config), workdir)
    config.precision = "mixed_bfloat16"
    workdir.check_owner(Config.read(config))


@pytest.mark.slow
def test_a_run_in_float16_goes_on_with_the_scale_that_it_had(config, tmp_path):
    config.precision, config.export.enabled = "mixed_float16", False
    workdir = Workdir(tmp_path / "run")
    train.train(Config.read(config), workdir)
    before = read_arrays(workdir.predictions("test"), ["logits"])["logits"]
    for path in workdir.checkpoints.glob("last/ckpt-2.*"):
        path.write_bytes(b"")
    (workdir.path / "metrics.json").unlink()
    train.train(Config.read(config), workdir)
    np.testing.assert_array_equal(read_arrays(workdir.predictions("test"), ["logits"])["logits"], before)


def test_a_workdir_says_nothing_of_a_precision_that_is_given():
    config = config_of({"precision": "mixed_float16"})
    assert Workdir("nowhere").settled(config) is config
