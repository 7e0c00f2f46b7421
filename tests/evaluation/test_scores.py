"""What metrics accept as scores and labels."""

import warnings

import numpy as np
import pytest
import tensorflow as tf

from cskd_tf import metrics
from cskd_tf.errors import UserError


def test_logits_of_a_collapsed_network_may_look_like_probabilities():
    collapsed = [[0.5, 0.5], [0.5, 0.5]]
    summary = metrics.summarize(collapsed, [0, 1], collapsed)
    assert summary["nll"] == pytest.approx(np.log(2))
    assert summary["ece"] == 0.0  # confidence .5, and half are right
    assert metrics.negative_log_likelihood([[0.9, 0.1]], [0]) == pytest.approx(np.log(1 + np.exp(-0.8)))


@pytest.mark.parametrize(
    "call",
    [
        lambda scores, labels: metrics.summarize(scores, labels, None)["nll"],
        metrics.negative_log_likelihood,
    ],
)
def test_what_looks_like_probabilities_is_warned_of_once_and_computed(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value = call([[0.9, 0.1], [0.2, 0.8]], [0, 1])
    (warning,) = caught
    assert warning.category is UserWarning
    assert "look like probabilities" in str(warning.message)
    assert "from_logits=False" in str(warning.message)
    assert warning.filename == __file__
    assert value == pytest.approx(np.log((1 + np.exp(-0.8)) * (1 + np.exp(-0.6))) / 2)


@pytest.mark.parametrize("classes", [3, 100, 1000])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_probabilities_of_two_bytes_are_probabilities(dtype, classes):
    logits = np.random.default_rng(0).normal(size=(256, classes)) * 3
    labels = np.arange(256) % classes
    probabilities = tf.nn.softmax(tf.cast(logits, dtype))
    exact = metrics.expected_calibration_error(logits, labels)
    rounded = metrics.expected_calibration_error(probabilities.numpy(), labels, from_logits=False)
    assert rounded == pytest.approx(exact, abs=0.01)
    with pytest.warns(UserWarning, match="look like probabilities"):  # cast since or not
        metrics.negative_log_likelihood(tf.cast(probabilities, tf.float32).numpy(), labels)
    with pytest.raises(UserError, match="Expected probabilities that sum to 1"):
        metrics.expected_calibration_error(1.05 * probabilities.numpy(), labels, from_logits=False)


@pytest.mark.parametrize("function", [metrics.expected_calibration_error, metrics.area_under_risk_coverage])
def test_every_metric_of_confidences_warns_of_probabilities(function):
    with pytest.warns(UserWarning, match="look like probabilities"):
        assert function([[0.9, 0.1], [0.2, 0.8]], [0, 1]) == function([[0.8, 0.0], [0.0, 0.6]], [0, 1])


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "uint64"])
def test_labels_of_every_integer_type(dtype):
    labels = np.array([0, 1, 1], dtype)
    logits = [[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]]
    assert metrics.summarize(logits, labels, logits) == metrics.summarize(logits, [0, 1, 1], logits)
    assert metrics.top_k_error(logits, labels) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.top_k_error([[0.0, 1.0]], [0, 1]), "shapes"),
        (lambda: metrics.top_k_error(np.zeros((0, 2)), []), "at least one image. Received: shapes .0, 2. and .0,."),
        (lambda: metrics.top_k_error([[0.0, 1.0]], [2]), "labels from 0 to 1"),
        (lambda: metrics.top_k_error([[0.0, 1.0]], [0.0]), "float64"),
        (lambda: metrics.top_k_error([[0.0, np.nan]], [0]), "NaN"),
        (lambda: metrics.top_k_error([[0.0, 1.0]], [[0]]), "shapes"),
        (lambda: metrics.expected_calibration_error([[3.0, 1.0]], [0], from_logits=False), "from_logits=True"),
        (lambda: metrics.negative_log_likelihood([[0.5, 0.498]], [0], from_logits=False), "from_logits=True"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
