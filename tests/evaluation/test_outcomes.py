import math

import numpy as np
import pytest

from cskd_tf import metrics
from cskd_tf.evaluation.outcomes import ECE_BINS, Outcomes, metric_intervals
from tests.evaluation.cases import CASES, NAMES, ORDINARY


@pytest.mark.parametrize(("name", "logits", "labels"), CASES, ids=NAMES)
def test_each_metric_is_that_of_its_own_function(name, logits, labels):
    measured = Outcomes.of(logits, labels).metrics()
    expected = {
        "top1_error": metrics.top_k_error(logits, labels),
        "top5_error": metrics.top_k_error(logits, labels, k=5),
        "nll": metrics.negative_log_likelihood(logits, labels),
        "brier": metrics.brier_score(logits, labels),
        **{f"ece_{bins}": metrics.expected_calibration_error(logits, labels, bins=bins) for bins in ECE_BINS},
        "adaptive_ece": metrics.adaptive_calibration_error(logits, labels, bins=15),
        "mce": metrics.maximum_calibration_error(logits, labels, bins=15),
        "aurc": metrics.area_under_risk_coverage(logits, labels),
        "e_aurc": metrics.excess_area_under_risk_coverage(logits, labels),
        "augrc": metrics.area_under_generalized_risk_coverage(logits, labels),
        "coverage_at_5_risk": metrics.coverage_at_risk(logits, labels),
        "risk_at_80_coverage": metrics.risk_at_coverage(logits, labels),
    }
    assert measured == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_logits_that_differ_where_their_probabilities_do_not_rank_the_classes():
    outcomes = Outcomes.of([[1e-20, 2e-20], [2e-20, 1e-20]], [1, 0])
    assert outcomes.correct.all()
    assert outcomes.metrics()["aurc"] == outcomes.metrics()["top1_error"] == 0
    assert metrics.summarize([[1e-20, 2e-20], [2e-20, 1e-20]], [1, 0], None)["aurc"] == 0


def test_recalls_are_those_of_their_own_function():
    logits, labels = ORDINARY
    embeddings = np.round(logits, 1)  # some at equal distances
    measured = Outcomes.of(logits, labels, embeddings).metrics()
    for k in (1, 2, 4, 8):
        assert measured[f"recall_at_{k}"] == pytest.approx(metrics.recall_at_k(embeddings, labels, k=k), abs=1e-12)


def test_images_that_are_drawn_twice_count_twice():
    logits, labels = ORDINARY
    chosen = np.random.default_rng(0).integers(len(labels), size=len(labels))
    measured = Outcomes.of(logits, labels).metrics(chosen)
    assert measured == pytest.approx(Outcomes.of(logits[chosen], labels[chosen]).metrics(), abs=1e-12)


def test_what_images_alone_in_their_class_recall_is_undefined():
    outcomes = Outcomes.of(np.eye(3) * 2, [0, 1, 2], np.eye(3))
    measured = outcomes.metrics()
    assert [name for name in measured if name.startswith("recall")] == ["recall_at_1", "recall_at_2"]
    assert math.isnan(measured["recall_at_1"])
    two = Outcomes.of(np.eye(3) * 2, [0, 0, 2], np.eye(3)).metrics()
    assert two["recall_at_2"] == 1.0


def test_a_calibration_error_is_in_0_to_1_and_a_difference_is_not():
    drawn = {"ece_15": np.linspace(0.1, 0.3, 101)}
    assert metric_intervals(drawn, {"ece_15": 0.05})["ece_15"] == [0.0, pytest.approx(0.145)]
    assert metric_intervals(drawn, {"ece_15": 0.05}, differences=True)["ece_15"][0] < 0
