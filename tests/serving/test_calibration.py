import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.errors import UserError
from cskd_tf.evaluation.conformal import ConformalSets
from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.evaluation.scaling import TemperatureScaling
from cskd_tf.serving.calibration import Calibration
from tests.helpers import random_split, softmax

BOTH = {"temperature": True, "coverage": 0.8}


def test_what_is_fitted_is_what_the_assessment_fits():
    logits, labels = random_split()
    logits += 2 * np.eye(6)[labels]  # so that they say something
    fitted = Calibration.fit(Predictions(logits, labels), **BOTH)
    assert fitted.temperature == TemperatureScaling.fit(logits, labels).temperature
    other = np.random.default_rng(7).normal(size=(50, 6))
    sets = ConformalSets.fit(logits, labels, kind="threshold", alpha=0.2).sets(other)
    np.testing.assert_array_equal(softmax(other) >= fitted.threshold, sets)
    assert (fitted.coverage, fitted.left_out) == (0.8, {})
    assert (softmax(logits) >= fitted.threshold)[np.arange(200), labels].mean() == pytest.approx(0.805, abs=0.005)


def test_rounding_takes_no_label_out_of_a_set():
    """As many hold theirs in float32 as the quantile promises, also where it is next to nothing."""
    for seed in range(20):
        generator = np.random.default_rng(seed)
        labels = generator.integers(0, 100, 200)
        noise = generator.normal(size=(200, 100))
        for scale in (1, 4, 15):
            logits = (scale * (noise + 3 * np.eye(100)[labels])).astype("float32")
            fitted = Calibration.fit(Predictions(logits, labels), temperature=False, coverage=0.98)
            held = (tf.nn.softmax(logits).numpy() >= np.float32(fitted.threshold))[np.arange(200), labels]
            assert 197 <= held.sum() <= 198  # of 201 places the 98 %


def test_what_is_not_asked_for_is_not_fitted():
    logits, labels = random_split()
    assert Calibration.fit(Predictions(logits, labels), temperature=False, coverage=0) == Calibration()
    assert Calibration.fit(None, temperature=False, coverage=0) == Calibration()


def test_why_something_is_left_out_is_said():
    nothing = Calibration.fit(None, **BOTH, why_no_validation="none are there")
    assert nothing == Calibration(left_out={"temperature": "none are there", "conformal_set": "none are there"})
    labels = np.arange(20) % 3
    right = Calibration.fit(Predictions(9 * np.eye(3)[labels], labels), **BOTH)
    assert (right.temperature, right.coverage) == (None, 0.8)
    assert "validation images of which some are wrong" in right.left_out["temperature"]
    three = Calibration.fit(Predictions(9 * np.eye(3), np.arange(3)), **BOTH)
    assert (three.temperature, three.threshold, three.coverage) == (None, None, None)
    assert three.left_out["temperature"] == "Expected at least 20 validation images for a temperature. Received: 3"
    assert three.left_out["conformal_set"] == (
        "Expected at least 4 validation images for a coverage of 0.8. Received: 3"
    )
    four = Calibration.fit(Predictions(9 * np.eye(3)[[0, 1, 2, 0]], [0, 1, 2, 0]), **BOTH)
    assert four.threshold == pytest.approx(np.exp(9) / (np.exp(9) + 2))


def test_a_temperature_of_few_images_is_left_out():
    logits, labels = random_split()
    logits += 2 * np.eye(6)[labels]
    fitted = {count: Calibration.fit(Predictions(logits[:count], labels[:count]), **BOTH) for count in (19, 20)}
    assert (fitted[19].temperature, fitted[20].left_out) == (None, {})
    assert fitted[20].temperature == TemperatureScaling.fit(logits[:20], labels[:20]).temperature


@pytest.mark.parametrize("coverage", [-0.1, 1, float("nan")])
def test_a_coverage_that_there_cannot_be_is_refused(coverage):
    with pytest.raises(UserError, match="Expected a coverage of at least 0, for no sets, and below 1. Received"):
        Calibration.fit(None, temperature=False, coverage=coverage)
