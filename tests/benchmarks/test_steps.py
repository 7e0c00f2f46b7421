"""What the commands time, without the processes around it: the same work on both sides, and as much as is said."""

import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.networks.layers import BatchNormalization
from tests.helpers import finished_run

SETTING = {"image": 8, "classes": 3, "batch": 2, "width": 2}


@pytest.mark.thorough
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_steps_of_a_network_with_either_batch_norm_are_the_same(precision, imported, monkeypatch):
    network_speed, _ = imported("network_speed")
    monkeypatch.setattr(BatchNormalization, "call", BatchNormalization.call)  # put back what the other kind replaces
    losses = []
    for fused in (True, False):
        keras.utils.set_random_seed(0)
        step = network_speed.keras_step("preact_resnet10", precision, SETTING, fused)
        losses.append([step() for _ in range(3)])
    assert losses[0][2] < losses[0][0]  # it trains
    np.testing.assert_allclose(losses[1], losses[0], rtol={"float32": 1e-4, "bfloat16": 0.05}[precision])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_step_of_pytorch_trains(precision, imported):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    network_speed, _ = imported("network_speed")
    step = network_speed.torch_step("preact_resnet10", precision, SETTING, "channels_last")
    losses = [step() for _ in range(4)]
    assert losses[3] < losses[0]


@pytest.mark.thorough
@pytest.mark.parametrize("case", ["CSKD", "Mixup + CSKD", "Distillation"])  # a view, mixing, and a teacher
def test_a_case_of_the_methods_costs_is_a_step_that_trains(case, imported):
    method_cost, _ = imported("method_cost")
    step = method_cost.method_step(method_cost.CASES[case], "preact_resnet10", 2, 4)
    losses = [step() for _ in range(4)]
    assert np.isfinite(losses).all()
    assert len(set(losses)) == 4


# Passes with gradient cost three units, others one, over cross-entropy's three.
@pytest.mark.parametrize(
    ("case", "units"),
    [
        ("CSKD", 4),
        ("CSKD, in the batch", 3),
        ("CSKD-E", 5),
        ("CSKD, ICLR form", 7),
        ("LabelSmoothing", 3),
        ("DDGSD", 6),
        ("Mixup + CSKD", 4),
        ("Distillation", 4),
        ("Distillation + CSKD", 5),
        ("PSKD", 3),
        ("PSKD, from the network", 4),
        ("TFKD, self", 4),
    ],
)
def test_the_theory_of_the_methods_costs(case, units, imported):
    method_cost, _ = imported("method_cost")
    assert method_cost.theory(method_cost.CASES[case]) == pytest.approx(units / 3)


@pytest.mark.thorough
def test_a_pairing_is_built_and_begun_late(imported):
    pairing_speed, _ = imported("pairing_speed")
    # Each image's place among its class' and back, and where each class begins.
    built = pairing_speed.build_buckets(600, 300)
    assert built["seconds"] > 0
    assert 8 <= built["bytes_per_image"] <= 24
    for step in pairing_speed.STEPS:
        assert pairing_speed.first_batch(600, 300, step)["seconds"] > 0
    source = pairing_speed.Stub(images=600, classes=300)
    assert np.bincount(source.labels).tolist() == [2] * 300
    assert source.load(np.array([3, 259]))[:, 0, 0, 0].numpy().tolist() == [3, 3]


@pytest.mark.slow
def test_a_step_that_xla_compiles_is_the_same_step(imported):
    jit_speed, _ = imported("jit_speed")
    losses = []
    for jit in (False, True):
        keras.utils.set_random_seed(0)
        step = jit_speed.jit_step("preact_resnet10", "float32", SETTING, jit)
        losses.append([step() for _ in range(2)])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3)


def test_precisions_are_compared_seed_by_seed(imported):
    precision, _ = imported("precision")
    names = precision.METRICS
    single = [dict.fromkeys(names, value) for value in (0.10, 0.20, 0.30)]
    half = [dict.fromkeys(names, value) for value in (0.11, 0.20, 0.34)]
    one, two, difference = precision.summaries({"float32": single, "mixed_bfloat16": half})
    assert (one["precision"], one["runs"], two["precision"]) == ("float32", 3, "mixed_bfloat16")
    assert (difference["precision"], difference["minus"]) == ("mixed_bfloat16", "float32")
    for name in names:
        assert one[name]["mean"] == pytest.approx(0.2)
        assert one[name]["deviation"] == pytest.approx(0.1)
        differences = np.array([0.01, 0.0, 0.04])
        assert difference[name]["mean"] == pytest.approx(differences.mean())
        assert difference[name]["standard_error"] == pytest.approx(differences.std(ddof=1) / np.sqrt(3))


def test_digits_are_summed_up_over_seeds(imported, tmp_path):
    seeded_runs, _ = imported("seeded_runs")
    labels = np.arange(30) % 3
    for seed in (1, 2, 3):
        finished_run(tmp_path / "runs" / str(seed), seed=seed, labels=labels)
    (line,) = seeded_runs.by_method(str(tmp_path / "runs"), benchmark="digits")
    assert (line["methods"], line["runs"], line["ece_bins"]) == ("CSKD(temperature=4, weight=1)", 3, 20)
    values = line["nll"]["values"]
    assert len(values) == 3
    assert line["nll"]["mean"] == pytest.approx(np.mean(values))
    assert line["nll"]["deviation"] == pytest.approx(np.std(values, ddof=1))


def test_a_wait_for_data_is_as_long_as_the_data_take(imported):
    data_wait, _ = imported("data_wait")

    def slow(number):
        time.sleep(0.05)
        return number

    data = tf.data.Dataset.range(6).map(lambda number: tf.numpy_function(slow, [number], tf.int64))
    waited = tf.Variable(0.0, dtype=tf.float64)
    start = time.monotonic()
    assert [int(number) for number in data_wait.clocked(data, waited)] == list(range(6))
    assert 6 * 0.05 <= float(waited) <= time.monotonic() - start + 0.01
    waited.assign(0)
    start, steps = time.monotonic(), 0
    for _ in data_wait.clocked(data, waited):
        time.sleep(0.1)  # a step, which is no wait for data
        steps += 1
    assert float(waited) <= time.monotonic() - start - 0.1 * steps + 0.01
